//! Requests that must be answered exactly, and those that must be refused.

use crate::bench::{Answer, Bench, post};
use agent_core::agent::Peer;
use agent_core::drive::Served;
use agent_core::wire::quote::{HashAlg, PcrMask, QuoteBuffer, QuoteText};
use agent_core::wire::route::{ApiVersion, ApiVersions};

#[test]
fn refusals_say_which_and_why() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n\r\n");
    let cases = [
        ("version", get("/v2.7/quotes/identity?nonce=a"), 400, "API version not supported", Served::Gone),
        ("3.0", get("/v3.0/agents"), 400, "API version not supported", Served::Gone),
        ("unknown", get("/nowhere"), 404, "no such route", Served::Gone),
        ("method", "PUT /version HTTP/1.1\r\n\r\n".into(), 405, "another method", Served::Gone),
        ("nonce", get("/v2.6/quotes/identity?nonce=a-b"), 400, "nonce", Served::Gone),
        ("mask", get("/v2.6/quotes/integrity?nonce=a&mask=x&partial=0"), 400, "mask", Served::Gone),
        ("no length", "POST /v2.6/keys/vkey HTTP/1.1\r\n\r\n".into(), 411, "Content-Length", Served::Gone),
        ("body of a get", "GET /version HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".into(), 400, "no body", Served::CloseUnread),
        ("too large", "POST /v2.6/keys/vkey HTTP/1.1\r\nContent-Length: 73729\r\n\r\n".into(), 413, "larger", Served::CloseUnread),
        ("endless", "POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n".into(), 413, "larger", Served::CloseUnread),
        ("chunked", "POST /v2.6/keys/ukey HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 411, "transfer encoding", Served::CloseUnread),
        ("chunked and sized", "POST /v2.6/keys/ukey HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n".into(), 411, "transfer encoding", Served::CloseUnread),
        ("sized twice", "POST /v2.6/keys/vkey HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".into(), 400, "doubled", Served::CloseUnread),
        ("no http", "\u{16}\u{3}\u{1}\r\n\r\n".into(), 400, "malformed", Served::CloseUnread),
        ("http 2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "HTTP/1.1", Served::CloseUnread),
        ("fields without number", format!("GET /version HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(33)), 431, "header is too large", Served::CloseUnread),
        ("a field without end", format!("GET /version HTTP/1.1\r\na: {}", "b".repeat(9000)), 431, "header is too large", Served::CloseUnread),
        ("a target without end", format!("GET /{}", "b".repeat(9000)), 431, "header is too large", Served::CloseUnread),
    ];
    for (name, request, status, word, after) in cases {
        let bench = Bench::new();
        let (answers, served) = bench.connection(request.as_bytes());
        assert_eq!(answers.len(), 1, "{name}");
        let answer = &answers[0];
        assert_eq!((answer.status, served), (status, after), "{name}");
        assert_eq!(answer.closes, after == Served::CloseUnread, "{name}");
        assert!(
            answer
                .body
                .starts_with(&format!(r#"{{"code":{status},"status":""#)),
            "{name}"
        );
        assert!(
            answer.text("status").contains(word),
            "{name}: {}",
            answer.body
        );
        assert!(answer.body.ends_with(r#","results":{}}"#), "{name}");
    }
}

#[test]
fn version_and_info() {
    let bench = Bench::new();
    assert_eq!(
        bench.get("/version").body,
        r#"{"code":200,"status":"Success","results":{"supported_version":"2.6","supported_versions":["2.1","2.2","2.3","2.4","2.5","2.6"]}}"#
    );
    let info = r#"{"agent_uuid":"d432fbb3-d2f1-4a97-9ef7-75bd81c00000","tpm_hash_alg":"sha256","tpm_enc_alg":"ALG","tpm_sign_alg":"ecdsa","ak_handle":0,"max_sealed_bytes":1024,"max_unpacked_bytes":4096}"#;
    for (version, algorithm) in [
        ("2.2", "rsa"),
        ("2.4", "rsa"),
        ("2.5", "rsa2048"),
        ("2.6", "rsa2048"),
    ] {
        let answer = bench.get(&format!("/v{version}/agent/info"));
        assert!(
            answer.body.contains(&info.replace("ALG", algorithm)),
            "{}",
            answer.body
        );
    }
}

#[test]
fn versions_that_are_off_are_not_spoken() {
    let version = |text| ApiVersion::parse(text).unwrap();
    let bench = Bench::speaking(ApiVersions::only(version("2.1")).with(version("2.4")));
    assert_eq!(
        bench.get("/version").body,
        r#"{"code":200,"status":"Success","results":{"supported_version":"2.4","supported_versions":["2.1","2.4"]}}"#
    );
    assert_eq!(bench.get("/v2.4/agent/info").status, 200);
    for off in ["/v2.2/agent/info", "/v2.6/quotes/identity?nonce=a"] {
        let answer = bench.get(off);
        let said = answer.text("status");
        assert_eq!((answer.status, &*said), (400, "API version not supported"));
    }
}

#[test]
fn peers_may_what_they_may() {
    let cases = [
        (Peer::Tenant, "/v2.6/keys/ukey", 400, "is missing"),
        (Peer::Other, "/v2.6/keys/ukey", 403, "only the tenant"),
        (Peer::Unknown, "/v2.6/keys/ukey", 403, "plain HTTP"),
        (Peer::Other, "/v2.6/keys/vkey", 400, "is missing"),
        (Peer::Unknown, "/v2.6/keys/vkey", 400, "is missing"),
    ];
    for (peer, target, status, word) in cases {
        let bench = Bench::new();
        let request = post(target, "{}");
        let (answers, _) = bench.connection_of(peer, request.as_bytes(), usize::MAX);
        let said = answers[0].text("status");
        assert_eq!(answers[0].status, status, "{peer:?} {target}: {said}");
        assert!(said.contains(word), "{peer:?} {target}: {said}");
    }
}

#[test]
fn connections_are_kept_and_closed() {
    let bench = Bench::new();
    let get = "GET /version HTTP/1.1\r\n\r\n";
    let last = "GET /version HTTP/1.1\r\nConnection: close\r\n\r\n";
    let old = "GET /version HTTP/1.0\r\n\r\n";
    let statuses = |answers: &[Answer]| {
        answers
            .iter()
            .map(|a| (a.status, a.closes))
            .collect::<Vec<_>>()
    };

    let (answers, served) = bench.connection(format!("{get}{get}{last}{get}").as_bytes());
    assert_eq!(
        statuses(&answers),
        [(200, false), (200, false), (200, true)]
    );
    assert_eq!(served, Served::Close);

    let (answers, served) = bench.connection(old.as_bytes());
    assert_eq!(
        (statuses(&answers), served),
        (vec![(200, true)], Served::Close)
    );

    // A body that was read whole, however wrong, leaves the connection usable.
    let bad = post("/v2.6/keys/vkey", "{}");
    let (answers, _) = bench.connection(format!("{bad}{get}").as_bytes());
    assert_eq!(statuses(&answers), [(400, false), (200, false)]);
}

#[test]
fn continue_is_said_where_it_is_waited_for() {
    let bench = Bench::new();
    let head = "POST /v2.6/keys/vkey HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let statuses = |sent: &str, piece| {
        let (answers, _) =
            bench.connection_of(agent_core::agent::Peer::Tenant, sent.as_bytes(), piece);
        answers
            .iter()
            .map(|answer| answer.status)
            .collect::<Vec<_>>()
    };
    assert_eq!(statuses(&format!("{head}{{}}"), head.len()), [100, 400]);
    let refused = head.replace("vkey", "nokey");
    assert_eq!(statuses(&refused, refused.len()), [404]);
}

#[test]
fn quotes_carry_what_was_asked() {
    let cases = [
        (
            "/v2.6/quotes/identity?nonce=Nonce1",
            PcrMask::EMPTY,
            "rsa2048",
            true,
        ),
        (
            "/v2.4/quotes/identity?nonce=Nonce1",
            PcrMask::EMPTY,
            "rsa",
            true,
        ),
        (
            "/v2.6/quotes/integrity?nonce=Nonce1&mask=0x401&partial=0&ima_ml_entry=0",
            PcrMask::from_bits(0x401).unwrap(),
            "rsa2048",
            true,
        ),
        (
            "/v2.6/quotes/integrity?nonce=Nonce1&mask=ffffff&partial=1",
            PcrMask::from_bits(0xFF_FFFF).unwrap(),
            "rsa2048",
            false,
        ),
    ];
    let bench = Bench::new();
    let pem = bench.tpm(|tpm| agent_core::tpm::Tpm::identity(tpm).transport_pem.clone());
    let sha256 = HashAlg::Sha256;
    let bound = sha256.digest([&[0; 32][..], &sha256.digest([pem.as_bytes()])]);
    for (target, mask, algorithm, with_key) in cases {
        let answer = bench.get(target);
        assert_eq!(answer.status, 200, "{target}");
        let mut buffer = QuoteBuffer::default();
        let text = answer.text("quote");
        let quote = QuoteText::parse(&text, &mut buffer).unwrap();
        assert_eq!(quote.attest.extra_data, b"Nonce1", "{target}");
        assert_eq!(quote.attest.pcrs, mask.with(16), "{target}");
        assert_eq!(quote.dump.pcrs(), mask.with(16), "{target}");
        assert_eq!(
            quote.dump.digest(sha256),
            quote.attest.pcr_digest,
            "{target}"
        );
        assert_eq!(quote.dump.value(16), Some(&bound[..]), "{target}");
        assert_eq!(answer.text("hash_alg"), "sha256");
        assert_eq!(answer.text("enc_alg"), algorithm, "{target}");
        assert_eq!(answer.text("sign_alg"), "ecdsa");
        assert_eq!(answer.body.contains("pubkey"), with_key, "{target}");
        if with_key {
            assert_eq!(answer.text("pubkey"), pem.as_str());
        }
    }
    assert_eq!(bench.get("/v2.6/keys/pubkey").text("pubkey"), pem.as_str());
}

#[test]
fn quotes_that_move_are_tried_again_but_not_for_ever() {
    let target = "/v2.6/quotes/integrity?nonce=a&mask=0x400&partial=1";
    for (moving, status) in [(0, 200), (1, 200), (4, 200), (5, 500), (100, 500)] {
        let bench = Bench::new();
        bench.tpm(|tpm| tpm.moving = moving);
        assert_eq!(bench.get(target).status, status, "{moving}");
    }
}

#[test]
fn a_tpm_that_fails_is_a_500_that_tells_nothing() {
    let bench = Bench::new();
    bench.tpm(|tpm| tpm.broken = true);
    let answer = bench.get("/v2.6/quotes/identity?nonce=a");
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains("fake"), "{}", answer.body);
    let notes = bench.notes.borrow();
    assert!(
        notes[0]
            .to_string()
            .contains("the fake TPM is told to fail")
    );
}
