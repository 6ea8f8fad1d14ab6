//! Registration with registrars that answer well, badly, late, or not at all.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/node.rs"]
mod node;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use agent_core::drive::Shell;
use agent_core::wire::route::{ApiVersion, ApiVersions};
use agent_linux::net::call::Caller;
use agent_linux::register::{Contact, RegisterError, register};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A registrar that answers its requests with these, one after the other, and tells what was asked.
fn registrar(listener: TcpListener, answers: Vec<String>) -> Receiver<String> {
    let (asked, requests) = mpsc::channel();
    thread::spawn(move || {
        let mut answers = answers.into_iter();
        let mut connection: Option<TcpStream> = None;
        for answer in &mut answers {
            let mut socket = match connection.take() {
                Some(socket) => socket,
                None => listener.accept().unwrap().0,
            };
            asked.send(request(&mut socket)).unwrap();
            socket.write_all(answer.as_bytes()).unwrap();
            // An answer that isn't whole, or says so, ends the connection.
            if answer.contains("Content-Length") && !answer.contains("close") {
                connection = Some(socket);
            }
        }
    });
    requests
}

/// Reads a request: its first line and its body.
fn request(socket: &mut TcpStream) -> String {
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body).unwrap();
    let line = text.lines().next().unwrap();
    format!("{line}\n{}", String::from_utf8(body).unwrap())
}

fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn versions(versions: &str) -> String {
    answer(
        200,
        &format!(r#"{{"code":200,"status":"Success","results":{versions}}}"#),
    )
}

/// The credential `A` x 32, for the TPM of the node.
fn blob() -> String {
    let (node, _work) = node::node(None);
    let secret = node.with_agent(|_, tpm| tpm.encrypt(&[b'A'; 32]));
    let mut blob = vec![0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1, 0, 1, 7];
    blob.extend(u16::try_from(secret.len()).unwrap().to_be_bytes());
    blob.extend(&secret);
    let blob = STANDARD.encode(blob);
    answer(
        200,
        &format!(r#"{{"code":200,"status":"Success","results":{{"blob":"{blob}"}}}}"#),
    )
}

fn done() -> String {
    answer(200, r#"{"code":200,"status":"Success","results":{}}"#)
}

/// Registers with a registrar that answers with these; the result, and what was asked.
fn run(answers: Vec<String>) -> (Result<(), RegisterError>, Vec<String>) {
    run_with(ApiVersions::all(), answers)
}

fn run_with(
    versions: ApiVersions,
    answers: Vec<String>,
) -> (Result<(), RegisterError>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = registrar(listener, answers);
    let (node, _work) = node::node(None);
    let contact = Contact {
        uuid: node::uuid(),
        ip: "192.0.2.7".to_owned(),
        port: 9002,
        tls_certificate: "PEM".to_owned(),
    };
    let mut caller = Caller::new("127.0.0.1", port);
    let result = register(&mut caller, versions, &contact, &*node);
    (result, requests.into_iter().collect())
}

fn first_lines(requests: &[String]) -> Vec<&str> {
    requests
        .iter()
        .filter_map(|request| request.lines().next())
        .collect()
}

const AGENT: &str = "agents/d432fbb3-d2f1-4a97-9ef7-75bd81c00000 HTTP/1.1";

#[test]
fn a_registrar_as_keylimes() {
    let current = versions(r#"{"current_version":"2.6","supported_versions":["1.0","2.6","3.0"]}"#);
    let (result, requests) = run(vec![current, blob(), done()]);
    result.unwrap();
    let lines = [
        "GET /version HTTP/1.1".to_owned(),
        format!("POST /v2.6/{AGENT}"),
        format!("PUT /v2.6/{AGENT}"),
    ];
    assert_eq!(first_lines(&requests), lines);
    let body = requests[1].lines().nth(1).unwrap();
    assert_eq!(
        body,
        r#"{"aik_tpm":"AAIBAQ==","ek_tpm":"AAEB","ekcert":null,"iak_cert":null,"idevid_cert":null,"ip":"192.0.2.7","port":9002,"mtls_cert":"PEM"}"#
    );
    // hmac.new(base64.b64encode(b"A" * 32), uuid, "sha384").hexdigest() in Python.
    let tag = "7b1230247cf3b45b97c8ab3af3743e495468f1a03c846b57380cc80d4f1e6ecc617f9e4b8beb7e8e0bdbfd67e69ee523";
    assert_eq!(
        requests[2].lines().nth(1),
        Some(&*format!(r#"{{"auth_tag":"{tag}"}}"#))
    );
}

#[test]
fn only_enabled_versions_are_tried() {
    let version = |text| ApiVersion::parse(text).unwrap();
    let ours = ApiVersions::only(version("2.1")).with(version("2.3"));
    let current = versions(r#"{"current_version":"2.6","supported_versions":["2.1","2.3","2.6"]}"#);
    let (result, requests) = run_with(ours, vec![current, blob(), done()]);
    result.unwrap();
    assert_eq!(first_lines(&requests)[1], format!("POST /v2.3/{AGENT}"));

    let unknown = answer(404, "");
    let answers = vec![unknown.clone(), unknown, blob(), done()];
    let (result, requests) = run_with(ours, answers);
    result.unwrap();
    let lines = first_lines(&requests);
    assert_eq!(lines[1], format!("POST /v2.3/{AGENT}"));
    assert_eq!(lines[2], format!("POST /v2.1/{AGENT}"));
}

#[test]
fn the_version_is_agreed_on() {
    let old = versions(r#"{"supported_versions":["1.0","2.3","2.1"]}"#);
    let (result, requests) = run(vec![old, blob(), done()]);
    result.unwrap();
    assert_eq!(first_lines(&requests)[1], format!("POST /v2.3/{AGENT}"));

    let silent = answer(404, "");
    let unknown = answer(
        400,
        r#"{"code":400,"status":"API version not supported","results":{}}"#,
    );
    let (result, requests) = run(vec![silent, unknown, answer(404, ""), blob(), done()]);
    result.unwrap();
    let tried = ["2.6", "2.5", "2.4"].map(|version| format!("POST /v{version}/{AGENT}"));
    assert_eq!(first_lines(&requests)[1..4], tried);
}

#[test]
fn a_refusal_is_final() {
    let refused = answer(403, r#"{"code":403,"status":"Forbidden","results":{}}"#);
    let (result, requests) = run(vec![versions(r#"{"current_version":"2.6"}"#), refused]);
    let error = result.unwrap_err();
    assert!(error.is_final());
    assert!(error.to_string().contains("regdelete"), "{error}");
    assert_eq!(requests.len(), 2);
}

#[test]
fn whatever_else_happens_is_tried_again() {
    let version = versions(r#"{"current_version":"2.6"}"#);
    let short = |blob: &str| answer(200, &format!(r#"{{"results":{{"blob":"{blob}"}}}}"#));
    let bad = [
        ("no http", vec!["nonsense\r\n\r\n".to_owned()]),
        ("nothing", vec![String::new()]),
        ("cut head", vec!["HTTP/1.1 200 OK\r\nConte".to_owned()]),
        (
            "cut body",
            vec!["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{".to_owned()],
        ),
        (
            "chunked",
            vec!["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()],
        ),
        (
            "endless",
            vec![format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 99999 close\r\n\r\n"
            )],
        ),
        ("no json", vec![answer(200, "<html>")]),
        ("server error", vec![version.clone(), answer(500, "")]),
        ("empty blob", vec![version.clone(), short("")]),
        ("short blob", vec![version.clone(), short("utzA3gAAAAE=")]),
        (
            "foreign blob",
            vec![version.clone(), short("utzA3gAAAAEAAQcAAggJ")],
        ),
        (
            "activation fails",
            vec![version.clone(), blob(), answer(400, "")],
        ),
    ];
    for (name, mut answers) in bad {
        answers.extend([version.clone(), blob(), done()]);
        let (result, _) = run(answers);
        assert!(result.is_ok(), "{name}: {result:?}");
    }
}

#[test]
fn servers_come_up_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (node, _work) = node::node(None);
    let registering = thread::spawn(move || {
        let contact = Contact {
            uuid: node::uuid(),
            ip: "192.0.2.7".to_owned(),
            port: 9002,
            tls_certificate: "PEM".to_owned(),
        };
        register(
            &mut Caller::new("127.0.0.1", address.port()),
            ApiVersions::all(),
            &contact,
            &*node,
        )
    });
    thread::sleep(Duration::from_millis(300));
    let listener = TcpListener::bind(address).unwrap();
    let current = versions(r#"{"current_version":"2.6"}"#);
    let requests = registrar(listener, vec![current, blob(), done()]);
    registering.join().unwrap().unwrap();
    assert_eq!(requests.into_iter().count(), 3);
}
