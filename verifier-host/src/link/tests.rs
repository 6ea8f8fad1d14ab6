//! A link against servers that do right, and servers that don't.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::pki::{ServerTrust, client_config, server_config};
use crate::testing::{Leaf, Running, TestCa, endpoint, self_signed};

const SHORT: Limits = Limits {
    connect: Duration::from_millis(300),
    answer: Duration::from_millis(300),
    answer_bytes: 1000,
};

fn echo() -> Router {
    Router::new()
        .route("/v2.6/thing", get(async || "{\"code\": 200}"))
        .route("/v2.6/back", post(async |body: Body| body))
}

#[tokio::test]
async fn servers_are_told_apart() {
    let ca = TestCa::new();
    let other = TestCa::new();
    let (pinned, own) = self_signed(Leaf::default());
    let (_, lookalike) = self_signed(Leaf::default());
    let here = Leaf {
        names: &["127.0.0.1"],
        ..Leaf::default()
    };
    let as_keylime = Leaf {
        names: &["server"],
        rsa: true,
        ..Leaf::default()
    };
    let elsewhere = Leaf {
        names: &["client"],
        ..Leaf::default()
    };
    let client = Leaf {
        purposes: &[ClientAuth],
        ..here
    };
    let server = Leaf {
        purposes: &[ServerAuth],
        ..here
    };
    let expired = Leaf {
        expired: true,
        ..here
    };
    let rows = [
        (
            "the pinned one",
            own,
            ServerTrust::Pinned(pinned.clone()),
            true,
        ),
        (
            "one like the pinned one",
            lookalike,
            ServerTrust::Pinned(pinned),
            false,
        ),
        ("under the CA", ca.issue(here), ca.trust(), true),
        ("for servers", ca.issue(server), ca.trust(), true),
        (
            "as Keylime's CA makes it",
            ca.issue(as_keylime),
            ca.trust(),
            true,
        ),
        ("under another CA", other.issue(here), ca.trust(), false),
        ("of another name", ca.issue(elsewhere), ca.trust(), false),
        ("for clients", ca.issue(client), ca.trust(), false),
        ("expired", ca.issue(expired), ca.trust(), false),
    ];
    for (name, credentials, trust, wanted) in rows {
        let config = server_config(&credentials, &[ca.certificate()]).unwrap();
        let server = Running::start(echo(), Some(config)).await;
        let result = server.over_tls(&trust, None).get("/v2.6/thing").await;
        match result {
            Ok(answer) => assert!(wanted && answer.status == 200, "{name}"),
            Err(LinkError::WrongCertificate { .. }) => assert!(!wanted, "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[tokio::test]
async fn clients_are_told_apart() {
    let ca = TestCa::new();
    let server = Running::start(echo(), Some(ca.server())).await;
    let other = TestCa::new();
    let leaf = Leaf::default();
    let expired = Leaf {
        expired: true,
        ..leaf
    };
    let for_servers = Leaf {
        purposes: &[ServerAuth],
        ..leaf
    };
    let as_keylime = Leaf {
        names: &["client"],
        rsa: true,
        ..leaf
    };
    let rows = [
        ("none", None, true),
        ("under the CA", Some(ca.issue(leaf)), true),
        ("as Keylime's CA makes it", Some(ca.issue(as_keylime)), true),
        ("a node's", Some(self_signed(leaf).1), false),
        ("under another CA", Some(other.issue(leaf)), false),
        ("expired", Some(ca.issue(expired)), false),
        ("for servers", Some(ca.issue(for_servers)), false),
    ];
    for (name, credentials, wanted) in rows {
        let mut link = server.over_tls(&ca.trust(), credentials.as_ref());
        match link.get("/v2.6/thing").await {
            Ok(answer) => assert!(wanted && answer.status == 200, "{name}"),
            Err(LinkError::ClientCertificate { .. }) => assert!(!wanted, "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// A listener that answers each connection with these bytes, after it has read a request, and closes it.
async fn answering(bytes: &'static [u8]) -> (Endpoint, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = endpoint(listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.unwrap_or(0) > 0 {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _closed = stream.write_all(bytes).await;
                }
            });
        }
    });
    (peer, requests)
}

#[tokio::test]
async fn bad_peers_are_told_apart() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        endpoint(listener.local_addr().unwrap())
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (endpoint(silent.local_addr().unwrap()), silent);
    let (garbage, _) = answering(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    let (large, _) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n").await;
    let (endless, _) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await;
    let unknown = Endpoint {
        host: "no-such-host.invalid".to_owned(),
        port: 1,
    };
    let tls = client_config(&TestCa::new().trust(), None).unwrap();
    let link = |peer: &Endpoint, tls| Link::new(peer.clone(), tls, SHORT);

    let error = link(&nobody, None).get("/").await.unwrap_err();
    assert!(matches!(error, LinkError::Connect { .. }), "{error}");
    let error = link(&silent.0, None).get("/").await.unwrap_err();
    assert!(
        matches!(error, LinkError::Timeout { what: "answer", .. }),
        "{error}"
    );
    let error = link(&silent.0, Some(tls.clone()))
        .connect()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            LinkError::Timeout {
                what: "connection",
                ..
            }
        ),
        "{error}"
    );
    let error = link(&garbage, None).get("/").await.unwrap_err();
    assert!(matches!(error, LinkError::Broken { .. }), "{error}");
    let error = link(&garbage, Some(tls)).get("/").await.unwrap_err();
    assert!(matches!(error, LinkError::Tls { .. }), "{error}");
    let error = link(&large, None).get("/").await.unwrap_err();
    assert!(
        matches!(error, LinkError::TooLarge { limit: 1000, .. }),
        "{error}"
    );
    let error = link(&endless, None).get("/").await.unwrap_err();
    assert!(matches!(error, LinkError::Broken { .. }), "{error}");
    let error = link(&unknown, None).get("/").await.unwrap_err();
    assert!(
        matches!(error, LinkError::Resolve { .. } | LinkError::Timeout { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn stale_connection_is_replaced() {
    let (peer, requests) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let mut link = Link::new(peer, None, SHORT);
    for round in 1..=3 {
        assert_eq!(link.get("/").await.unwrap().status, 200, "round {round}");
        assert_eq!(requests.load(Ordering::SeqCst), round);
    }
}

#[tokio::test]
async fn request_that_may_have_been_acted_on_is_not_repeated() {
    let (peer, requests) = answering(b"").await;
    for method in [Method::POST, Method::GET] {
        let before = requests.load(Ordering::SeqCst);
        let mut link = Link::new(peer.clone(), None, SHORT);
        let error = link
            .send(method, "/", Some(Bytes::from_static(b"{}")))
            .await;
        assert!(matches!(error, Err(LinkError::Broken { .. })), "{error:?}");
        assert_eq!(requests.load(Ordering::SeqCst), before + 1);
    }
}

#[tokio::test]
async fn connection_is_kept() {
    let ca = TestCa::new();
    let server = Running::start(echo(), Some(ca.server())).await;
    let mut link = server.over_tls(&ca.trust(), None);
    link.connect().await.unwrap();
    let body = Some(&serde_json::json!({"key": "value"}));
    for _ in 0..20 {
        let answer = link
            .request(Method::POST, "/v2.6/back", body)
            .await
            .unwrap();
        assert_eq!(
            answer.json::<Value>().unwrap(),
            serde_json::json!({"key": "value"})
        );
    }
}

#[tokio::test]
async fn answers_without_delayed_ack() {
    let server = Running::start(echo(), None).await;
    let mut link = server.plain();
    link.connect().await.unwrap();
    let start = std::time::Instant::now();
    for _ in 0..50 {
        link.get("/v2.6/thing").await.unwrap();
    }
    // A stall is 40 ms; fifty of them take two seconds.
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn reasons_are_short_and_printable() {
    let rows: [(&'static [u8], &str); 4] = [
        (
            b"{\"code\": 400, \"status\": \"no\\u001b[31m such\\n\"}",
            "no[31m such",
        ),
        (b"{\"errors\": [{\"detail\": \"not you\"}]}", "not you"),
        (b"[]", ""),
        (b"<html>", ""),
    ];
    for (body, wanted) in rows {
        let answer = Answer {
            status: 400,
            body: Bytes::from_static(body),
            peer: Endpoint {
                host: "a".to_owned(),
                port: 1,
            },
        };
        assert_eq!(answer.reason(), wanted);
    }
}

#[test]
fn endpoints_are_written_as_in_urls() {
    for (host, wanted) in [("127.0.0.1", "127.0.0.1:9002"), ("::1", "[::1]:9002")] {
        let peer = Endpoint {
            host: host.to_owned(),
            port: 9002,
        };
        assert_eq!(peer.to_string(), wanted);
    }
}

#[tokio::test]
async fn an_upload_is_read_while_it_goes() {
    let content: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let size = async |body: axum::body::Bytes| format!("\"{}\"", body.len());
    let router = Router::new().route("/x", axum::routing::put(size));
    let server = Running::start(router, None).await;
    let mut link = server.plain();
    for (name, length, wanted) in [
        ("whole", 300_000, true),
        ("a reader that ends early", 300_001, false),
    ] {
        let (reader, sent) = (io::Cursor::new(content.clone()), Sent::default());
        let result = link.upload(Method::PUT, "/x", reader, length, &sent).await;
        assert_eq!(result.is_ok(), wanted, "{name}");
        if let Ok(answer) = result {
            assert_eq!(answer.json::<String>().unwrap(), "300000");
            assert_eq!(sent.bytes(), 300_000);
        }
    }
    // The link goes on with a new connection.
    assert_eq!(link.get("/nothing").await.unwrap().status, 404);
}

#[tokio::test]
async fn an_upload_that_nobody_reads_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _idle = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    });
    let mut link = Link::new(endpoint(address), None, SHORT);
    let reader = io::repeat(7);
    let result = link
        .upload(Method::PUT, "/x", reader, 1 << 30, &Sent::default())
        .await;
    assert!(matches!(
        result,
        Err(LinkError::Timeout { what: "answer", .. })
    ));
}
