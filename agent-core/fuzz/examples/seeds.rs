//! Writes the seeds of each target's corpus: `cargo run --example seeds`. What a fuzzer found beside them stays.
//!
//! Seeds are the project's own vectors, and requests, quotes and keys that are made here from fixed numbers, so that a second
//! run writes the same.

use std::fs;
use std::path::{Path, PathBuf};

use agent_core::payload::halves::Key;
use agent_core::tpm::{FakeTpm, Tpm};
use agent_core::wire::quote::{Digest, HashAlg, MAX_DUMP_BYTES, PcrDump, PcrMask, QuoteWriter};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const UUID: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";

fn main() -> std::io::Result<()> {
    heads()?;
    bodies()?;
    json()?;
    archives()?;
    payloads()?;
    steps()?;
    event_logs()?;
    registrar()?;
    revocations()?;
    verifier()?;
    deposits()?;
    structures()?;
    quotes()?;
    ima()?;
    policies()
}

fn save(target: &str, name: &str, seed: impl AsRef<[u8]>) -> std::io::Result<()> {
    let directory = here().join("corpus").join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), seed)
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn with_first(byte: u8, rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&[byte], rest.as_ref()].concat()
}

fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn heads() -> std::io::Result<()> {
    // As Python's requests, which Keylime's tenant uses, and as tornado's and reqwest's clients send them.
    let rows = [
        (
            "get",
            "GET /version HTTP/1.1\r\nHost: 127.0.0.1:9002\r\n\r\n",
        ),
        (
            "requests",
            "GET /v2.6/quotes/identity?nonce=hxlaYl6NEVXHAWPj1jV4 HTTP/1.1\r\nHost: 127.0.0.1:9002\r\nUser-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
        ),
        (
            "tornado",
            "GET /v2.6/quotes/integrity?nonce=abc&mask=0x400&partial=1&ima_ml_entry=0 HTTP/1.1\r\nConnection: close\r\nHost: 127.0.0.1:9002\r\nUser-Agent: Tornado/6.4\r\nAccept-Encoding: gzip\r\n\r\n",
        ),
        (
            "post",
            "POST /v2.6/keys/vkey HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\ncontent-length: 12\r\nExpect: 100-continue\r\n\r\n{\"a\":\"bcde\"}",
        ),
        ("http-1.0", "GET /v2.1/keys/pubkey HTTP/1.0\r\n\r\n"),
        (
            "verify",
            "GET /v2.6/keys/verify?challenge=abc HTTP/1.1\r\nHost: [::1]:9002\r\n\r\n",
        ),
        (
            "chunked",
            "POST /v2.6/keys/ukey HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "two-lengths",
            "POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            "lines-without-cr",
            "GET / HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
        ),
        (
            "answer",
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\nabc",
        ),
        (
            "answer-of-tornado",
            "HTTP/1.1 404 Not Found\r\nServer: TornadoServer/6.4\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ),
        ("answer-without-length", "HTTP/1.0 200 OK\r\n\r\nabc"),
    ];
    rows.iter()
        .try_for_each(|(name, head)| save("http_head", name, head))
}

/// The body of `keys/ukey` that the tests' agent takes, as the tests' tenant makes it.
fn ukey_body() -> String {
    let key = Key::from_slice(&[1 ^ 109; 32]).expect("32 bytes");
    let mut text = b"payload 1".to_vec();
    let tag = agent_core::payload::seal::seal_single(&key, &[9; 16], &mut text).expect("short");
    let sealed = STANDARD.encode([&[9; 16][..], &text, &tag].concat());
    let half = STANDARD.encode(FakeTpm::new(1).encrypt(&[1; 32]));
    let tag = key.auth_tag(UUID.as_bytes());
    let tag = agent_core::wire::text::Hex(&tag);
    format!(r#"{{"encrypted_key":"{half}","auth_tag":"{tag}","payload":"{sealed}"}}"#)
}

fn vkey_body() -> String {
    let half = STANDARD.encode(FakeTpm::new(1).encrypt(&[109; 32]));
    format!(r#"{{"encrypted_key":"{half}"}}"#)
}

const NOTICE: &str =
    r#"{"msg":"{\"type\":\"revocation\",\"ip\":\"10.0.0.1\"}","signature":"Z29vZA=="}"#;

fn bodies() -> std::io::Result<()> {
    let ukey = post("/v2.6/keys/ukey", &ukey_body());
    let vkey = post("/v2.6/keys/vkey", &vkey_body());
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let rows = [
        ("ukey-vkey", 3, format!("{ukey}{vkey}")),
        ("vkey-ukey-in-pieces", 40 * 4 + 3, format!("{vkey}{ukey}")),
        ("ukey-of-a-stranger", 0, ukey.clone()),
        ("ukey-of-nobody", 1, ukey.clone()),
        (
            "ukey-expecting",
            3,
            ukey.replacen("Host: x", "Expect: 100-continue", 1),
        ),
        ("ukey-cut", 3, ukey[..ukey.len() - 9].to_owned()),
        (
            "delivery-checked",
            3,
            [
                &vkey,
                &ukey,
                &get("/v2.6/keys/verify?challenge=abc"),
                &get("/v2.6/payload/outcome"),
            ]
            .map(String::as_str)
            .concat(),
        ),
        (
            "notices",
            3,
            format!("{0}{0}", post("/v2.6/notifications/revocation", NOTICE)),
        ),
        (
            "quotes",
            7,
            [
                get("/v2.6/quotes/identity?nonce=abc"),
                get("/v2.5/quotes/integrity?nonce=abc&mask=0x10401&partial=0"),
            ]
            .concat(),
        ),
        (
            "questions",
            3,
            [
                get("/version"),
                get("/v2.2/agent/info"),
                get("/v2.1/keys/pubkey"),
                get("/v3.0/agent/info"),
            ]
            .concat(),
        ),
        (
            "two-requests-and-a-half",
            3,
            format!("{}{}{}", get("/version"), get("/version"), "GET /ver"),
        ),
    ];
    rows.iter()
        .try_for_each(|(name, first, sent)| save("http_body", name, with_first(*first, sent)))
}

fn json() -> std::io::Result<()> {
    let rows = [
        ("ukey", ukey_body()),
        ("vkey", vkey_body()),
        ("notice", NOTICE.to_owned()),
        (
            "silence",
            r#"{"type":"comm_error","ip":"10.0.0.1","port":9002}"#.to_owned(),
        ),
        (
            "null-payload",
            r#"{"encrypted_key":"AQI=","auth_tag":"00","payload":null}"#.to_owned(),
        ),
        (
            "escapes",
            r#"{"a":"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"}"#.to_owned(),
        ),
        (
            "literals",
            r#" { "a" : null , "b" : true , "c" : false , "d" : -1.5e3 , "e" : 0 } "#.to_owned(),
        ),
        (
            "doubled",
            r#"{"encrypted_key":"AQI=","encrypted_key":"AQI="}"#.to_owned(),
        ),
        ("nested", r#"{"a":{"b":[]}}"#.to_owned()),
        ("empty", "{}".to_owned()),
    ];
    for (name, body) in rows {
        save("json_requests", name, with_first(255, &body))?;
        save(
            "json_requests",
            &format!("{name}-in-pieces"),
            with_first(2, &body),
        )?;
    }
    Ok(())
}

/// A log's texts, and its steps: in order, with a gap, forked, of too many logs, over several landings.
fn revocations() -> std::io::Result<()> {
    let zeros = "0".repeat(64);
    let log = format!("{}-{}", "ab".repeat(32), "01".repeat(8));
    let place = |number: u64| format!(r#""log_id":"{log}","number":{number},"previous":"{zeros}""#);
    let first = format!(
        r#"{{"type":"revocation","ip":"10.0.0.7","context":{{}},{}}}"#,
        place(1)
    );
    let list = first.replace("revocation", "crl").replace("{}", "[1]");
    let answer = format!(
        r#"{{"data": {{"type": "revocations", "attributes": {{"log_id": "{log}", "last": 2, "entries": [{{"msg": "{}", "signature": "AQI="}}, {{"signature": "Aw==", "msg": ""}}]}}}}}}"#,
        first.replace('"', "\\\"")
    );
    let without = r#"{"data": {"attributes": {"log_id": null, "last": 0, "entries": []}}}"#;
    let texts = [
        (0, "entry", first.as_str()),
        (0, "list", &list),
        (0, "half", r#"{"type":"revocation","number":1}"#),
        (0, "silence", r#"{"type":"comm_error","port":9002}"#),
        (0, "plain", r#"{"type":"revocation"}"#),
        (1, "head", &format!("{{{}}}", place(0))),
        (2, "answer", &answer),
        (2, "without-log", without),
    ];
    for (kind, name, text) in texts {
        save("revocations", name, with_first(kind, text))?;
    }
    let steps: [(&str, &[u8]); 3] = [
        (
            "in-order",
            &[0, 70, 7, 6, 7, 7, 7, 9, 1, 7, 5, 8, 7, 8, 2, 9, 3, 1],
        ),
        (
            "too-many-logs",
            &[0, 0, 7, 0, 7, 16, 7, 32, 7, 48, 7, 64, 0, 0, 7, 64, 6, 0],
        ),
        (
            "unnumbered",
            &[3, 1, 0, 0, 3, 1, 3, 1, 3, 2, 7, 1, 7, 0, 0, 64, 3, 1],
        ),
    ];
    steps
        .iter()
        .try_for_each(|(name, steps)| save("revocations", name, with_first(3, steps)))
}

/// The archives of the tests, those that unpack and those that must not.
fn archives() -> std::io::Result<()> {
    for directory in ["zip", "hostile"] {
        for entry in fs::read_dir(here().join("../tests/vectors").join(directory))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "zip") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                save("zip", &name, fs::read(&path)?)?;
            }
        }
    }
    // RFC 1951: a stored block, a fixed block with a match, and the empty stream.
    save(
        "zip",
        "stream-stored",
        [1, 5, 0, 0xFA, 0xFF, b'h', b'e', b'l', b'l', b'o'],
    )?;
    save("zip", "stream-match", [0x4B, 0x4C, 0x44, 0x07, 0x00])?;
    save("zip", "stream-empty", [3, 0])
}

fn payloads() -> std::io::Result<()> {
    let archive = fs::read(here().join("../tests/vectors/zip/python-stored.zip"))?;
    save(
        "payload_open",
        "archive",
        [&[0, 0, 0, 0], &archive[..]].concat(),
    )?;
    save(
        "payload_open",
        "archive-damaged",
        [&[0, 77, 1, 2], &archive[..]].concat(),
    )?;
    save(
        "payload_open",
        "script",
        b"\x00\x00\x00\x03#!/bin/sh\necho hi\n",
    )?;
    save(
        "payload_open",
        "tag-damaged",
        b"\x00\x2F\x80\x00sixteen bytes it",
    )?;
    save("payload_open", "empty", [0; 4])
}

fn steps() -> std::io::Result<()> {
    let rows: [(&str, &[u8]); 7] = [
        ("delivery", &[0, 0, 5, 0, 15, 0]),
        (
            "entries",
            &[
                14, 65, 14, 67, 14, 64, 14, 1, 14, 192, 14, 1, 14, 68, 14, 68, 14, 193, 14, 1,
            ],
        ),
        ("v-first", &[5, 1, 0, 1, 15, 1]),
        (
            "two-tenants",
            &[0, 0, 0, 1, 5, 0, 5, 1, 0, 2, 15, 0, 0, 2, 5, 2],
        ),
        ("damaged", &[4, 0, 5, 0, 0, 0, 5, 0, 15, 1]),
        ("refused", &[10, 0, 11, 0, 12, 9, 13, 0, 9, 0, 14, 1, 14, 1]),
        ("key-alone", &[3, 0, 5, 0, 12, 200, 0, 0, 12, 3, 5, 0]),
    ];
    rows.iter()
        .try_for_each(|(name, steps)| save("agent_steps", name, steps))
}

fn verifier() -> std::io::Result<()> {
    // As Keylime's verifier in push mode and ours answer.
    let blob = STANDARD.encode([7; 40]);
    let wrapped = STANDARD.encode([7; 80]);
    let rows = [
        (
            "session",
            r#"{"data": {"type": "session", "id": "2a5b", "attributes": {"agent_id": "a", "authentication_requested": [{"authentication_class": "pop", "authentication_type": "tpm_pop", "chosen_parameters": {"challenge": "AAECAwQFBgcICQoLDA0ODw=="}}], "created_at": "2026-01-01T00:00:00+00:00", "challenges_expire_at": "2026-01-01T00:01:00+00:00"}}}"#.to_owned(),
        ),
        (
            "token",
            r#"{"data": {"type": "session", "id": "2a5b", "attributes": {"agent_id": "a", "evaluation": "pass", "token": "2a5b.QUJD_-x", "authentication": [{"data": {"message": "/1RDRw==", "signature": "ABgACw=="}}], "token_expires_at": null}}}"#.to_owned(),
        ),
        (
            "not-enrolled",
            r#"{"data":{"id":"s","attributes":{"evaluation":"fail","failure_code":"not-enrolled"}}}"#.to_owned(),
        ),
        (
            "chosen",
            r#"{"data": {"type": "attestation", "attributes": {"stage": "awaiting_evidence", "evidence_requested": [{"evidence_class": "certification", "evidence_type": "tpm_quote", "chosen_parameters": {"signature_scheme": "rsassa", "challenge": "AAECAwQFBgcICQoLDA0ODw==", "hash_algorithm": "sha256", "selected_subjects": {"sha256": [0, 15, 16]}, "certification_key": {"key_size": 2048}}}]}, "links": {"self": "/v3.0/agents/a/attestations/0"}}}"#.to_owned(),
        ),
        (
            "taken",
            r#"{"data": {"attributes": {"stage": "evaluating_evidence"}}, "meta": {"seconds_to_next_attestation": 60}}"#.to_owned(),
        ),
        (
            "verdict",
            r#"{"data":{"attributes":{"evaluation":"fail","failure_reason":"PCR 0"}}}"#.to_owned(),
        ),
        (
            "error",
            r#"{"errors":[{"status":"403","code":"capped","title":"Forbidden","detail":"PCR 15"}]}"#.to_owned(),
        ),
        (
            "deposit",
            format!(r#"{{"payload_id":"0102030405060708","manifest":"{blob}","signature":"{blob}","signer":"{blob}","u_blob":"{blob}"}}"#),
        ),
        (
            "release",
            format!(r#"{{"payload_id":"0102030405060708","v":"{wrapped}"}}"#),
        ),
        ("deep", ["[".repeat(40), "]".repeat(40)].concat()),
    ];
    rows.iter()
        .try_for_each(|(name, body)| save("verifier_answers", name, body))
}

fn deposits() -> std::io::Result<()> {
    let (hash, name, tag) = (
        "01".repeat(32),
        "000b".to_owned() + &"02".repeat(32),
        "03".repeat(48),
    );
    let manifest = format!(
        r#"{{"format":1,"agent":"{UUID}","ek_name":"{name}","ak_name":"{name}","payload_id":"0102030405060708","floor":3,"sealed_sha256":"{hash}","sealed_bytes":1000,"auth_tag":"{tag}","u_blob_sha256":"{hash}","policy_sha256":"{hash}","cap_pcr":15,"cap_bank":"sha256","cap_values":["{hash}"],"deliver":"until","until":1900000000,"script":"autorun.sh","sealed_at":1800000000,"last_good_seconds":null}}"#
    );
    let receipt = format!(
        r#"{{"format":1,"agent":"{UUID}","payload_id":"0102030405060708","stage":"finished","exit_code":0,"signal":null,"timed_out":false,"duration_ms":12,"error":null}}"#
    );
    let rows = [("manifest", manifest), ("receipt", receipt)];
    rows.iter()
        .try_for_each(|(name, text)| save("manifest_receipt", name, text))
}

fn registrar() -> std::io::Result<()> {
    let blob = [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1, 0, 1, 7, 0, 2, 8, 9];
    let body = format!(
        r#"{{"code": 200, "status": "Success", "results": {{"blob": "{}"}}}}"#,
        STANDARD.encode(blob)
    );
    let versions = r#"{"code":200,"status":"Success","results":{"current_version":"2.6","supported_versions":["1.0","2.0","2.1","2.6","3.0"]}}"#;
    let answer = |body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let rows = [
        ("blob", blob.to_vec()),
        ("body", body.clone().into()),
        ("versions", versions.into()),
        ("answer", answer(&body).into()),
        ("answer-of-versions", answer(versions).into()),
        (
            "answer-without-length",
            format!("HTTP/1.0 200 OK\r\n\r\n{body}").into(),
        ),
        (
            "refusal",
            answer(r#"{"code": 403, "status": "Forbidden", "results": {}}"#).into(),
        ),
    ];
    rows.iter()
        .try_for_each(|(name, bytes)| save("registrar_answers", name, with_first(6, bytes)))
}

fn quoted() -> (Vec<u8>, Vec<u8>, PcrDump) {
    let mut tpm = FakeTpm::new(1);
    let mask = PcrMask::from_bits(0x1_0401).expect("PCRs");
    let quote = tpm
        .quote(b"hxlaYl6NEVXHAWPj1jV4", HashAlg::Sha256, mask)
        .expect("fake");
    let values = tpm.pcr_read(HashAlg::Sha256, mask).expect("fake");
    let dump = PcrDump::new(HashAlg::Sha256, values).expect("in order");
    (quote.attest.to_vec(), quote.signature.to_vec(), dump)
}

fn rsa_signature() -> Vec<u8> {
    [&[0, 0x14, 0, 0x0B, 1, 0][..], &[0x55; 256]].concat()
}

/// Nine values, so that they take two lists.
fn long_dump() -> PcrDump {
    let digest = |pcr: u8| Digest::from_slice(&[pcr; 48]).expect("48 bytes");
    let values = (0..9).map(|pcr| (pcr, digest(pcr))).collect();
    PcrDump::new(HashAlg::Sha384, values).expect("in order")
}

fn structures() -> std::io::Result<()> {
    let (attest, signature, dump) = quoted();
    let mut room = [0; MAX_DUMP_BYTES];
    save("tpm_structures", "attest", attest)?;
    save("tpm_structures", "signature-ecdsa", signature)?;
    save("tpm_structures", "signature-rsassa", rsa_signature())?;
    save("tpm_structures", "dump", dump.encode(&mut room))?;
    save(
        "tpm_structures",
        "dump-of-two-lists",
        long_dump().encode(&mut room),
    )?;
    for (name, area) in areas() {
        save("tpm_structures", name, area)?;
    }
    Ok(())
}

/// Public areas of an AK and an EK of each kind, by the TCG's templates.
///
/// Source: TPM 2.0 Library part 2, section 12.2; TCG EK Credential Profile 2.5, sections B.3.3 and B.3.4.
fn areas() -> [(&'static str, Vec<u8>); 4] {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("short");
        [&length.to_be_bytes(), bytes].concat()
    };
    let point = p256_generator();
    let modulus = rsa_modulus();
    let area = |kind: u16, attributes: u32, policy: &[u8], parameters: &[u8], unique: &[u8]| {
        let head = [kind.to_be_bytes(), [0, 0x0B]].concat();
        sized(
            &[
                &head,
                &attributes.to_be_bytes()[..],
                &sized(policy),
                parameters,
                unique,
            ]
            .concat(),
        )
    };
    const AK: u32 = 0x0005_0472;
    const EK: u32 = 0x0003_00B2;
    let policy = [0x83; 32];
    let aes = [0, 6, 0, 128, 0, 0x43, 0, 0x10];
    let unique = sized(&modulus);
    [
        (
            "ak-p256",
            area(
                0x23,
                AK,
                &[],
                &[0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10],
                &point,
            ),
        ),
        (
            "ak-rsa",
            area(
                1,
                AK,
                &[],
                &[0, 0x10, 0, 0x14, 0, 0x0B, 8, 0, 0, 0, 0, 0],
                &unique,
            ),
        ),
        (
            "ek-p256",
            area(
                0x23,
                EK,
                &policy,
                &[&aes[..], &[0, 3, 0, 0x10]].concat(),
                &point,
            ),
        ),
        (
            "ek-rsa",
            area(
                1,
                EK,
                &policy,
                &[&aes[..], &[8, 0, 0, 0, 0, 0]].concat(),
                &unique,
            ),
        ),
    ]
}

/// The generator of P-256, marshalled.
///
/// Source: NIST SP 800-186, section 3.2.1.3.
fn p256_generator() -> Vec<u8> {
    const X: &str = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    const Y: &str = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let number = |hex| agent_core::wire::text::parse_hex::<32>(str::as_bytes(hex)).expect("hex");
    [&[0, 32], &number(X)[..], &[0, 32], &number(Y)].concat()
}

/// A number as a modulus looks, of which nobody has to know the factors.
fn rsa_modulus() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..256).map(|at| (at * 37 + 11) as u8).collect();
    (bytes[0], bytes[255]) = (0xC5, 0x0D);
    bytes
}

/// Real logs: made by firmware, and published ones.
fn event_logs() -> std::io::Result<()> {
    let vectors = here().join("../../verifier-host/tests/vectors/eventlog");
    for name in [
        "cel-example",
        "ovmf-efi-stub",
        "ovmf-shim-grub",
        "ovmf-uki",
        "tss-hcrtm",
    ] {
        let log = fs::read(vectors.join(format!("{name}.bin")))?;
        save("event_log", name, log)?;
    }
    Ok(())
}

fn quotes() -> std::io::Result<()> {
    let (attest, signature, dump) = quoted();
    let rsa = rsa_signature();
    let writer = QuoteWriter {
        attest: &attest,
        signature: &signature,
        dump: &dump,
    };
    save("quote_strings", "ecdsa", writer.to_string())?;
    let writer = QuoteWriter {
        signature: &rsa,
        ..writer
    };
    save("quote_strings", "rsassa", writer.to_string())?;
    let long = long_dump();
    let writer = QuoteWriter {
        dump: &long,
        ..writer
    };
    save("quote_strings", "two-lists", writer.to_string())?;
    save("quote_strings", "no-parts", "r::")?;
    save(
        "quote_strings",
        "made",
        b"\x01\x04\x01\x07hxlaYl6NEVXHAWPj1jV4",
    )
}

/// What verifier-host has as vectors.
fn copy(target: &str, vectors: &str, names: &[(&str, &str)]) -> std::io::Result<()> {
    let vectors = here().join("../../verifier-host").join(vectors);
    names
        .iter()
        .try_for_each(|(name, file)| save(target, name, fs::read(vectors.join(file))?))
}

fn ima() -> std::io::Result<()> {
    let lists = [
        ("published", "keylime.txt"),
        ("guest", "guest.txt"),
        ("guest-binary", "guest.bin"),
    ];
    copy("ima_list", "tests/vectors/ima", &lists)
}

fn policies() -> std::io::Result<()> {
    let vectors = "src/policy/runtime/vectors";
    copy("runtime_policy", vectors, &[("signed", "policy.json")])?;
    save("runtime_policy", "every-part", EVERY_PART)?;
    let signed = [
        ("p256", "signed-p256.json"),
        ("p384", "signed-p384.json"),
        ("x509", "signed-x509.json"),
        ("key", "p256.pem"),
        ("certificate", "certificate.pem"),
    ];
    copy("dsse", vectors, &signed)
}

/// A policy with something in each part; the key is the generator of P-256.
const EVERY_PART: &str = r#"{"meta":{"version":1,"generator":2},"release":0,"digests":{"/a":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"excludes":["/tmp/.*","/b(c|[^d-f]+)?$"],"keyrings":{".ima":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"ima":{"ignored_keyrings":[".evm"],"log_hash_alg":"sha1","dm_policy":null},"ima-buf":{"kexec-cmdline":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"verification-keys":"{\"keyids\":[7],\"pubkeys\":[\"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\"]}"}"#;
