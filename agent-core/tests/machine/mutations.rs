//! Well-formed input with a few bytes changed: it is read or refused, never a panic, and a good request still works after.

use agent_core::http::head::{AnswerHead, RequestHead};
use agent_core::tpm::{FakeTpm, Tpm};
use agent_core::wire::quote::{
    Attest, HashAlg, MAX_DUMP_BYTES, PcrDump, PcrMask, QuoteBuffer, QuoteText, QuoteWriter,
    Signature,
};
use agent_core::wire::register::{CredentialBlob, MAX_BLOB_BYTES, version_from_answer};
use agent_core::wire::route::ApiVersions;

use crate::bench::{Bench, Delivery, post};
use crate::dice::Dice;

/// Mutations of each sample.
const ROUNDS: usize = 3000;

fn each_mutation(sample: &[u8], mut read: impl FnMut(&[u8])) {
    let mut dice = Dice(sample.len() as u64);
    read(sample);
    for _ in 0..ROUNDS {
        read(&dice.mutate(sample));
    }
}

#[test]
fn fuzz_requests_then_a_good_add() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    let samples = [
        post("/v2.6/keys/ukey", &bench.ukey_body(&delivery)),
        post("/v2.6/keys/vkey", r#"{"encrypted_key":"AQI="}"#),
        post(
            "/v2.6/notifications/revocation",
            r#"{"msg":"{\"a\":\"\u00e9\"}","signature":"Z29vZA=="}"#,
        ),
        "GET /v2.6/quotes/integrity?nonce=abc&mask=0x400&partial=1 HTTP/1.1\r\nHost: x\r\n\r\n"
            .to_owned(),
    ];
    for sample in samples {
        each_mutation(sample.as_bytes(), |request| {
            let (answers, _) = bench.connection(request);
            assert!(
                answers
                    .iter()
                    .all(|answer| (200..600).contains(&answer.status))
            );
            assert!(bench.vaults.get() <= 1);
        });
    }
    bench.work();
    assert_eq!(bench.ukey(&delivery).status, 200);
    assert_eq!(bench.vkey(&delivery).status, 200);
    assert_eq!(bench.opened(), [delivery.payload.unwrap()]);
}

#[test]
fn fuzz_registrar_answers() {
    // The header, an ID object of one byte, a secret of two.
    let answer =
        br#"{"code": 200, "status": "Success", "results": {"blob": "utzA3gAAAAEAAQcAAggJ"}}"#;
    each_mutation(answer, |body| {
        let mut buffer = [0; MAX_BLOB_BYTES];
        let _ = CredentialBlob::from_answer(body, &mut buffer);
    });
    let blob = [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1, 0, 1, 7, 0, 2, 8, 9];
    each_mutation(&blob, |bytes| {
        if let Ok(blob) = CredentialBlob::parse(bytes) {
            let whole = [&bytes[..8], blob.id_object, blob.secret].concat();
            assert_eq!(whole, bytes);
        }
    });
    let versions = br#"{"results":{"current_version":"2.6","supported_versions":["1.0","2.6"]}}"#;
    each_mutation(versions, |body| {
        let _ = version_from_answer(body, ApiVersions::all());
    });
    each_mutation(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        |bytes| {
            let _ = AnswerHead::parse(bytes);
        },
    );
    each_mutation(
        b"POST /a?b=c HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        |bytes| {
            let _ = RequestHead::parse(bytes);
        },
    );
}

#[test]
fn fuzz_quotes() {
    let mut tpm = FakeTpm::new(1);
    let mask = PcrMask::from_bits(0x1_0401).unwrap();
    let quote = tpm.quote(b"nonce", HashAlg::Sha256, mask).unwrap();
    let values = tpm.pcr_read(HashAlg::Sha256, mask).unwrap();
    let dump = PcrDump::new(HashAlg::Sha256, values).unwrap();
    let mut room = [0; MAX_DUMP_BYTES];
    let dumped = dump.encode(&mut room).to_vec();

    each_mutation(&quote.attest, |bytes| drop(Attest::parse(bytes)));
    each_mutation(&quote.signature, |bytes| drop(Signature::parse(bytes)));
    each_mutation(&dumped, |bytes| {
        if let Ok(dump) = PcrDump::parse(bytes) {
            assert_eq!(dump.encode(&mut room), bytes);
        }
    });
    let writer = QuoteWriter {
        attest: &quote.attest,
        signature: &quote.signature,
        dump: &dump,
    };
    each_mutation(writer.to_string().as_bytes(), |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        let mut buffer = QuoteBuffer::default();
        if let Ok(read) = QuoteText::parse(text, &mut buffer) {
            // Base64 has one form for each value, so what is read is written the same.
            let part = text[1..].split(':').nth(1).unwrap();
            let signature =
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, part);
            let again = QuoteWriter {
                attest: read.attest_bytes,
                signature: &signature.unwrap(),
                dump: &read.dump,
            };
            assert_eq!(again.to_string(), text);
        }
    });
}
