#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use agent_core::wire::text::Uuid;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use verifier_host::link::{Endpoint, Limits, Link};

use super::PolicyKind::{MeasuredBoot, Runtime as RuntimePolicy};
use super::*;
use crate::client::{Caller, Enrolled, enrolment};

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    answer_bytes: 4096,
};

/// A verifier without TLS that gives one answer, and the request that it gets.
fn verifier(status: u16, body: &str) -> (Verifier, JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let mut size = 0;
        while !is_whole(&request[..size]) {
            size += stream.read(&mut request[size..]).unwrap();
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request[..size].to_vec()).unwrap()
    });
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let caller = Caller {
        peer: Peer::Verifier,
        link: Link::new(endpoint, None, LIMITS),
    };
    (Verifier(caller), server)
}

/// Whether the body is there too, if one is announced.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let announced = head.split("content-length: ").nth(1);
    let length = announced.and_then(|rest| rest.lines().next()?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn web() -> PolicyName {
    PolicyName::parse("web:1".to_owned()).unwrap()
}

/// Answers: those of Keylime 7.14.3's verifier, of one without the routes, and of a failing one.
#[test]
fn answers_are_told_apart() {
    use PolicyAnswer::{Absent, Conflict, Done, NotKept};
    let no = |reason: &str| json!({ "code": 0, "status": reason, "results": {} }).to_string();
    let there = "Runtime policy with name web:1 already exists";
    let in_use = "Can't delete allowlist as it's currently in use by agent a";
    let conflict = |reason: &str| Some(Conflict(reason.to_owned()));
    let rows = [
        ("added", "add", 201, no("Created"), Some(Done(()))),
        ("there", "add", 409, no(there), conflict(there)),
        (
            "bad",
            "add",
            400,
            no("Runtime policy is malformatted"),
            None,
        ),
        ("no route", "add", 404, String::new(), Some(NotKept)),
        (
            "no method",
            "add",
            405,
            no("Not Implemented"),
            Some(NotKept),
        ),
        ("replaced", "replace", 201, no("Created"), Some(Done(()))),
        (
            "not there",
            "replace",
            404,
            no("does not already exist"),
            Some(Absent),
        ),
        (
            "not there, boot",
            "replace",
            409,
            no("does not already exist"),
            Some(Absent),
        ),
        ("deleted", "delete", 204, String::new(), Some(Done(()))),
        ("in use", "delete", 409, no(in_use), conflict(in_use)),
        (
            "gone",
            "delete",
            404,
            no("Runtime policy web:1 not found"),
            Some(Absent),
        ),
        ("broken", "delete", 500, no("Database error"), None),
    ];
    for (name, action, status, body, wanted) in rows {
        let (mut verifier, server) = verifier(status, &body);
        let policy = json!({ "mb_policy": "{}" });
        let answer = runtime().block_on(async {
            match action {
                "add" => verifier.add_policy(RuntimePolicy, &web(), &policy).await,
                "replace" => {
                    verifier
                        .replace_policy(RuntimePolicy, &web(), &policy)
                        .await
                }
                _ => verifier.delete_policy(RuntimePolicy, &web()).await,
            }
        });
        server.join().unwrap();
        assert_eq!(answer.ok(), wanted, "{name}");
    }
}

#[test]
fn requests_are_keylimes() {
    let created = r#"{"code": 201, "status": "Created", "results": {}}"#;
    let (mut added, server) = verifier(201, created);
    let body = json!({ "mb_policy": "{}" });
    let answer = runtime().block_on(added.add_policy(MeasuredBoot, &web(), &body));
    assert_eq!(answer.unwrap(), PolicyAnswer::Done(()));
    let request = server.join().unwrap();
    assert!(
        request.starts_with("POST /v2.6/mbpolicies/web:1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.ends_with(r#"{"mb_policy":"{}"}"#), "{request}");

    let names =
        r#"{"code": 200, "status": "Success", "results": {"runtimepolicy names": ["a", "b"]}}"#;
    let (mut listed, server) = verifier(200, names);
    let answer = runtime()
        .block_on(listed.policy_names(RuntimePolicy))
        .unwrap();
    assert_eq!(
        answer,
        PolicyAnswer::Done(vec!["a".to_owned(), "b".to_owned()])
    );
    let request = server.join().unwrap();
    assert!(
        request.starts_with("GET /v2.6/allowlists/ HTTP/1.1\r\n"),
        "{request}"
    );

    let policy =
        r#"{"code": 200, "status": "Success", "results": {"name": "web:1", "mb_policy": "{}"}}"#;
    let (mut shown, server) = verifier(200, policy);
    let answer = runtime()
        .block_on(shown.policy(MeasuredBoot, &web()))
        .unwrap();
    assert_eq!(
        answer,
        PolicyAnswer::Done(json!({ "name": "web:1", "mb_policy": "{}" }))
    );
    assert!(
        server
            .join()
            .unwrap()
            .starts_with("GET /v2.6/mbpolicies/web:1 ")
    );
}

#[test]
fn a_refused_policy_of_a_node_comes_with_the_reason() {
    let uuid = Uuid::parse("node").unwrap();
    let refused = r#"{"code": 400, "status": "mb_policy is set, and this verifier can't evaluate it", "results": {}}"#;
    let (mut refusing, server) = verifier(400, refused);
    let error = runtime().block_on(refusing.enrol(&uuid, &enrolment()));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("400 (mb_policy is set, and this verifier"),
        "{error}"
    );
    server.join().unwrap();

    let there =
        r#"{"code": 409, "status": "IMA policy with name web already exists", "results": {}}"#;
    let (mut there, server) = verifier(409, there);
    let answer = runtime()
        .block_on(there.enrol(&uuid, &enrolment()))
        .unwrap();
    let reason = "IMA policy with name web already exists".to_owned();
    assert_eq!(answer, Enrolled::Exists(reason));
    server.join().unwrap();
}
