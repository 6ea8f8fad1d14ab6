//! Who may ask what, and what is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use verifier_host::link::{Endpoint, Limits, Link, LinkError, Method};
use verifier_host::pki::{Authority, Credentials, ServerTrust, client_config};

use crate::agent::{Agent, KEYS};
use crate::program::{V, Verifier, addition};
use crate::tpm::AK_ATTRIBUTES;

/// A client with these credentials, or with none.
fn client(verifier: &Verifier, credentials: Option<&Credentials>) -> Link {
    let authority = Authority::open(&verifier.cv_ca()).unwrap();
    let tls = client_config(&authority.server_trust(), credentials).unwrap();
    let peer = Endpoint {
        host: verifier.address().ip().to_string(),
        port: verifier.address().port(),
    };
    Link::new(peer, Some(tls), Limits::default())
}

/// Under the verifier's CA, but of the year 2001.
fn expired(verifier: &Verifier) -> Credentials {
    let read = |name| std::fs::read_to_string(verifier.cv_ca().join(name)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca-private.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("cacert.crt"), ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Credentials::new(vec![certificate.der().clone()], key)
}

fn self_signed() -> Credentials {
    let made = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    Credentials::new(vec![made.cert.der().clone()], key)
}

/// An administrator of another verifier.
fn foreign(dir: &std::path::Path) -> Credentials {
    Authority::open_or_create(dir, &[]).unwrap();
    Credentials::read(
        &dir.join("client-cert.crt"),
        &dir.join("client-private.pem"),
    )
    .unwrap()
}

#[tokio::test]
async fn every_route_by_every_credential() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let body = addition(&agent);
    assert_eq!(verifier.add("node", &body).await.0, 200);
    let elsewhere = tempfile::tempdir().unwrap();

    let routes = [
        (Method::GET, "/v2.6/agents/"),
        (Method::GET, "/v2.6/agents"),
        (Method::GET, "/v2.6/agents/?bulk=true"),
        (Method::GET, "/v2.6/agents/node"),
        (Method::POST, "/v2.6/agents/other"),
        (Method::DELETE, "/v2.6/agents/node"),
        (Method::PUT, "/v2.6/agents/node/reactivate"),
        (Method::PUT, "/v2.6/agents/node/stop"),
        (Method::GET, "/v2.6/agents/node/evidence"),
        (Method::GET, "/v2.6/allowlists/"),
        (Method::GET, "/v2.6/allowlists/name"),
        (Method::POST, "/v2.6/allowlists/name"),
        (Method::PUT, "/v2.6/allowlists/name"),
        (Method::DELETE, "/v2.6/allowlists/name"),
        (Method::GET, "/v2.6/mbpolicies/"),
        (Method::GET, "/v2.6/mbpolicies/name"),
        (Method::POST, "/v2.6/mbpolicies/name"),
        (Method::PUT, "/v2.6/mbpolicies/name"),
        (Method::DELETE, "/v2.6/mbpolicies/name"),
        (Method::GET, "/v2.6/revocations"),
        (Method::PUT, "/v2.6/revocations"),
        (Method::POST, "/v2.6/revocations"),
        (Method::POST, "/v2.6/revocations/crl"),
        (Method::PUT, "/v2.6/revocations/crl-signer"),
        (Method::DELETE, "/v2.6/revocations/crl-signer"),
        (Method::GET, "/v2.6/revocations/log"),
        (Method::GET, "/v2.6/revocations/log/peers"),
        (Method::GET, "/v2.6/revocations/log/1"),
        (Method::GET, "/v3.0/agents/node/revocations"),
        (Method::POST, "/v3.0/agents/node/revocations/outcomes"),
        (Method::PUT, "/v3.0/agents/node/payload"),
        (Method::GET, "/v3.0/agents/node/payload"),
        (Method::POST, "/v3.0/agents/node/payload/release"),
        (Method::POST, "/v3.0/agents/node/attestations"),
    ];
    for (who, credentials) in [
        ("nobody", None),
        ("an agent", Some(self_signed())),
        (
            "another verifier's administrator",
            Some(foreign(&elsewhere.path().join("cv_ca"))),
        ),
        ("an administrator of long ago", Some(expired(&verifier))),
    ] {
        for (method, path) in &routes {
            let answer = client(&verifier, credentials.as_ref())
                .request(method.clone(), path, Some(&body))
                .await;
            match (&credentials, answer) {
                (None, Ok(answer)) => {
                    assert_eq!(answer.status, 401, "{who}: {method} {path}");
                    let body: Value = answer.json().unwrap();
                    assert_eq!(body["errors"][0]["status"], "401", "{body}");
                }
                (Some(_), Err(LinkError::ClientCertificate { .. } | LinkError::Broken { .. })) => {}
                (_, other) => panic!("{who}: {method} {path}: {other:?}"),
            }
        }
    }
    let view = verifier.view("node").await;
    assert_ne!(view["operational_state"], 10, "nothing of it was done");

    // An administrator who also shows a token is none.
    let mut stream = administrators_stream(&verifier).await;
    stream
        .write_all(b"GET /v2.6/agents/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(
        client(&verifier, None)
            .get("/version")
            .await
            .unwrap()
            .status,
        200
    );
}

async fn administrators_stream(verifier: &Verifier) -> tokio_rustls::client::TlsStream<TcpStream> {
    let authority = Authority::open(&verifier.cv_ca()).unwrap();
    let tls = authority.client_config(&authority.server_trust()).unwrap();
    let stream = TcpStream::connect(verifier.address()).await.unwrap();
    let name = verifier.address().ip().into();
    tokio_rustls::TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .unwrap()
}

/// Tries additions that differ from a good one in one field; each must be refused with these words, and leave nothing.
async fn refused(verifier: &Verifier, good: &Value, rows: Vec<(&str, &str, Value, &str)>) {
    for (name, field, value, said) in rows {
        let mut body = good.clone();
        body[field] = value;
        let (status, reason) = verifier.add("node", &body).await;
        assert_eq!(status, 400, "{name}: {reason}");
        assert!(reason.contains(said), "{name}: {reason}");
        let view = verifier.view("node").await;
        assert!(
            view["operational_state"].is_null(),
            "{name}: added nevertheless"
        );
    }
}

#[tokio::test]
async fn unrestricted_ak_is_refused() {
    let verifier = Verifier::start().await;
    let agent = Agent::absent(&verifier.cv_ca(), &verifier.agent_ip(1), 1);
    let good = addition(&agent);
    let ak = |attributes| {
        agent.lock().tpm.attributes = attributes;
        Value::from(agent.lock().tpm.ak())
    };
    let rows = vec![
        (
            "not restricted",
            "ak_tpm",
            ak(AK_ATTRIBUTES & !0x0001_0000),
            "restricted",
        ),
        (
            "not fixed to its TPM",
            "ak_tpm",
            ak(AK_ATTRIBUTES & !0x0000_0002),
            "fixedTPM",
        ),
        (
            "not fixed to its parent",
            "ak_tpm",
            ak(AK_ATTRIBUTES & !0x0000_0010),
            "fixedParent",
        ),
        (
            "made outside",
            "ak_tpm",
            ak(AK_ATTRIBUTES & !0x0000_0020),
            "sensitiveDataOrigin",
        ),
        (
            "doesn't sign",
            "ak_tpm",
            ak(AK_ATTRIBUTES & !0x0004_0000),
            "sign",
        ),
        (
            "decrypts",
            "ak_tpm",
            ak(AK_ATTRIBUTES | 0x0002_0000),
            "decrypt",
        ),
        ("no key", "ak_tpm", "AAAA".into(), "ak_tpm"),
    ];
    refused(&verifier, &good, rows).await;
}

#[tokio::test]
async fn additions_that_are_refused() {
    let verifier = Verifier::start().await;
    let agent = Agent::absent(&verifier.cv_ca(), &verifier.agent_ip(1), 1);
    let good = addition(&agent);
    let short = BASE64_STANDARD.encode([0; 15]);
    let rows = vec![
        (
            "reserved PCR",
            "tpm_policy",
            r#"{"10": ["00"]}"#.into(),
            "PCR 10",
        ),
        (
            "transport PCR",
            "tpm_policy",
            r#"{"16": ["00"]}"#.into(),
            "PCR 16",
        ),
        (
            "Python's quotes",
            "tpm_policy",
            "{'22': 'x'}".into(),
            "not a JSON object",
        ),
        ("policy isn't text", "tpm_policy", json!({}), "wrong type"),
        (
            "no way to give V",
            "mtls_cert",
            "disabled".into(),
            "deposit its",
        ),
        ("no certificate", "mtls_cert", "x".into(), "mtls_cert"),
        ("V too short", "v", short.into(), "v is not"),
        ("V no base64", "v", "*".into(), "v is not"),
        ("no address", "cloudagent_ip", "a b".into(), "cloudagent_ip"),
        ("no port", "cloudagent_port", 0.into(), "cloudagent_port"),
        (
            "port too large",
            "cloudagent_port",
            65_536.into(),
            "wrong type",
        ),
        (
            "other version",
            "supported_version",
            "3.0".into(),
            "supported_version",
        ),
        ("no key", "revocation_key", "x".into(), "revocation_key"),
        (
            "no group",
            "metadata",
            r#"{"group": "a b"}"#.into(),
            "group",
        ),
        (
            "null list",
            "accept_tpm_hash_algs",
            Value::Null,
            "wrong type",
        ),
    ];
    refused(&verifier, &good, rows).await;
    for (body, said) in [
        (json!({}), "the body lacks v, cloudagent_ip"),
        (json!([]), "not the JSON object"),
    ] {
        let (status, reason) = verifier.add("node", &body).await;
        assert_eq!(status, 400, "{reason}");
        assert!(reason.contains(said), "{reason}");
    }
    for id in ["a%2Fb", "a%20b", "..%2f"] {
        let (status, _) = verifier.add(id, &good).await;
        assert!(matches!(status, 400 | 404), "{id}: {status}");
    }
    assert_eq!(verifier.add("node", &good).await.0, 200);
    assert_eq!(verifier.add("node", &good).await.0, 409);
    let mut null_v = good.clone();
    null_v["v"] = Value::Null;
    assert_eq!(verifier.add("without-payload", &null_v).await.0, 200);
    let view = verifier.view("without-payload").await;
    assert_eq!(view["v_provided"], Value::Null);
}

#[tokio::test]
async fn unknown_agents() {
    let verifier = Verifier::start().await;
    for (method, path, expected) in [
        (Method::GET, "/v2.6/agents/nobody", 404),
        (Method::DELETE, "/v2.6/agents/nobody", 404),
        (Method::PUT, "/v2.6/agents/nobody/reactivate", 400),
        (Method::PUT, "/v2.6/agents/nobody/stop", 400),
        (Method::GET, "/v2.7/agents/", 400),
        (Method::GET, "/v2.6/nothing", 404),
        (Method::PATCH, "/v2.6/agents/nobody", 405),
    ] {
        let answer = verifier.ask(method.clone(), path, None).await;
        assert_eq!(answer.status, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn lists_have_keylimes_shape() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    for id in ["b", "a"] {
        assert_eq!(verifier.add(id, &addition(&agent)).await.0, 200);
    }
    let results = async |path: &str| -> Value {
        let answer: Value = verifier.ask(Method::GET, path, None).await.json().unwrap();
        answer["results"].clone()
    };
    assert_eq!(
        results("/v2.6/agents/").await,
        json!({ "uuids": [["a"], ["b"]] })
    );
    assert_eq!(
        results("/v2.6/agents/?verifier=default").await,
        json!({ "uuids": [["a"], ["b"]] })
    );
    assert_eq!(
        results("/v2.6/agents/?verifier=other").await,
        json!({ "uuids": [] })
    );
    let bulk = results("/v2.6/agents/?bulk=true&verifier=default").await;
    assert_eq!(bulk["a"]["ip"], agent.address().ip().to_string());
    assert_eq!(bulk.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn node_without_a_policy_is_shown_as_such() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let mut body = addition(&agent);
    body["tpm_policy"] = r#"{"mask": "0x0"}"#.into();
    assert_eq!(verifier.add("node", &body).await.0, 200);
    let view = verifier.until_status("node", "PASS").await;
    let warning = view["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("no policy is set"), "{warning}");
    body["tpm_policy"] = addition(&agent)["tpm_policy"].clone();
    assert_eq!(verifier.add("other", &body).await.0, 200);
    assert_eq!(verifier.view("other").await["warnings"], json!([]));
}

#[tokio::test]
async fn no_secret_in_logs_db_or_core() {
    let mut verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let mut body = addition(&agent);
    let pem = KEYS[1].to_pkcs8_pem(LineEnding::LF).unwrap();
    body["revocation_key"] = pem.as_str().into();
    assert_eq!(verifier.add("node", &body).await.0, 200);
    let view = verifier
        .until("node", |view| view["v_provided"] == true)
        .await;
    // A refused addition must not quote what it refuses.
    let mut torn = body.clone();
    torn["cloudagent_port"] = body["v"].clone();
    let (_, reason) = verifier.add("torn", &torn).await;
    agent.lock().tpm.measure(7, b"changed");
    verifier.until_status("node", "FAIL").await;
    crate::program::until("the revocation", || !agent.lock().revocations.is_empty()).await;

    let hex: String = V.iter().map(|byte| format!("{byte:02x}")).collect();
    let canaries = [
        V.to_vec(),
        BASE64_STANDARD.encode(V).into_bytes(),
        hex.into_bytes(),
        pem.lines().nth(5).unwrap().as_bytes().to_vec(),
    ];
    let search = |verifier: &Verifier| {
        let mut places = vec![
            ("GET".to_owned(), view.to_string().into_bytes()),
            ("400".into(), reason.clone().into()),
        ];
        for entry in std::fs::read_dir(verifier.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
        assert!(
            places.len() >= 5,
            "log, database, journal and key were searched"
        );
        for (place, bytes) in places {
            for canary in &canaries {
                assert!(
                    !bytes.windows(canary.len()).any(|part| part == canary),
                    "a secret in {place}"
                );
            }
        }
    };
    search(&verifier);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", verifier.pid())).unwrap();
    let core: Vec<_> = limits
        .lines()
        .filter(|line| line.starts_with("Max core file size"))
        .collect();
    assert_eq!(
        core[0].split_whitespace().collect::<Vec<_>>()[4..6],
        ["0", "0"]
    );
    verifier.terminate();
    search(&verifier);
}

#[tokio::test]
async fn slow_client_blocks_nobody() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(verifier.address()).await.unwrap();
        if number % 2 == 0 {
            // A handshake that begins and never goes on.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
        }
        idle.push(stream);
    }
    let mut slow = administrators_stream(&verifier).await;
    slow.write_all(b"POST /v2.6/agents/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        .await
        .unwrap();
    let done = async {
        assert_eq!(verifier.add("node", &addition(&agent)).await.0, 200);
        verifier.until_status("node", "PASS").await;
    };
    tokio::time::timeout(Duration::from_secs(5), done)
        .await
        .unwrap();
}

#[tokio::test]
async fn requests_that_are_no_requests() {
    let verifier = Verifier::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000));
    let headers = format!("GET /version HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for (name, request, expected) in [
        ("not HTTP", "\0\0\0\0\r\n\r\n", &["HTTP/1.1 400", ""][..]),
        ("endless line", &long, &["HTTP/1.1 414", "HTTP/1.1 431", ""]),
        ("too many headers", &headers, &["HTTP/1.1 431", ""]),
        (
            "larger than allowed",
            "POST /v2.6/agents/x HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\nConnection: close\r\n\r\n",
            &["HTTP/1.1 413"],
        ),
        (
            "two lengths",
            "POST /v2.6/agents/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            &["HTTP/1.1 400", ""],
        ),
    ] {
        let mut stream = administrators_stream(&verifier).await;
        // The server may end the connection before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.get(..12).unwrap_or_default();
        assert!(expected.contains(&status), "{name}: {answer}");
    }
    assert_eq!(
        verifier.ask(Method::GET, "/version", None).await.status,
        200
    );
}

#[tokio::test]
async fn other_server_certificate_is_not_believed() {
    let verifier = Verifier::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open_or_create(&elsewhere.path().join("cv_ca"), &[]).unwrap();
    let ServerTrust::Ca(cas) = other.server_trust() else {
        panic!("a CA is trusted");
    };
    let tls = client_config(&ServerTrust::Ca(cas), None).unwrap();
    let peer = Endpoint {
        host: verifier.address().ip().to_string(),
        port: verifier.address().port(),
    };
    let refused = Link::new(peer, Some(tls), Limits::default())
        .get("/version")
        .await;
    assert!(
        matches!(refused, Err(LinkError::WrongCertificate { .. })),
        "{refused:?}"
    );
}

/// A client that goes away in the middle leaves no node half added or half deleted.
#[tokio::test]
async fn vanishing_administrator_leaves_nothing_half_done() {
    let verifier = Verifier::start().await;
    let agent = verifier.agent(1).await;
    let body = addition(&agent).to_string();
    let send = async |method: &str, id: &str, body: &str, wait: u64| {
        let length = body.len();
        let request = format!(
            "{method} /v2.6/agents/{id} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = administrators_stream(&verifier).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // Finer than the runtime's timer.
        std::thread::sleep(Duration::from_micros(wait));
    };
    let ids: Vec<String> = (0..60).map(|number| format!("node-{number}")).collect();
    for (number, id) in (0..).zip(&ids) {
        send("POST", id, &body, number * 30).await;
    }
    for (number, id) in (0..).zip(&ids) {
        if number % 2 == 0 {
            send("DELETE", id, "", number * 30).await;
        }
    }
    for id in &ids {
        let (status, _) = verifier.add(id, &addition(&agent)).await;
        assert!(matches!(status, 200 | 409), "{id}: {status}");
        verifier.until_passes(id, 2).await;
    }
}
