//! What tenants and verifiers send to an agent, and what an agent is at.

use agent_core::payload::halves::Key;
use agent_core::tpm::FakeTpm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{UUID, save, with_first};

pub(super) fn heads() -> std::io::Result<()> {
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

pub(super) fn bodies() -> std::io::Result<()> {
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

pub(super) fn json() -> std::io::Result<()> {
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
pub(super) fn revocations() -> std::io::Result<()> {
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

pub(super) fn steps() -> std::io::Result<()> {
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

fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
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
