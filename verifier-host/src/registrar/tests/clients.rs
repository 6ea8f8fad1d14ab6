//! Who is let in, and what a hostile client may cost.

use super::*;

#[tokio::test]
async fn every_route_by_every_credential() {
    let here = Here::start().await;
    assert_eq!(
        register(&mut here.plain.plain(), UUID, &SoftwareTpm::new()).await,
        200
    );
    let expired = Leaf {
        expired: true,
        ..Leaf::default()
    };
    let credentials: [(&str, Option<Credentials>); 5] = [
        ("none", None),
        ("an administrator's", Some(here.ca.issue(Leaf::default()))),
        ("a node's", Some(self_signed(Leaf::default()).1)),
        ("another CA's", Some(TestCa::new().issue(Leaf::default()))),
        ("an expired one", Some(here.ca.issue(expired))),
    ];
    let routes = [
        (Method::GET, "/version".to_owned(), 200, 200),
        (Method::GET, "/crl.der".to_owned(), 404, 404),
        (
            Method::GET,
            "/crl.der?ca=0123456789abcdef".to_owned(),
            404,
            404,
        ),
        (Method::GET, "/crl.der?ca=01".to_owned(), 400, 400),
        (
            Method::GET,
            "/crl.der?ca=0123456789ABCDEF".to_owned(),
            400,
            400,
        ),
        (Method::POST, "/crl.der".to_owned(), 405, 405),
        (Method::GET, "/v2.6/agents/".to_owned(), 401, 200),
        (Method::GET, "/v2.6/agents".to_owned(), 401, 200),
        (Method::GET, path(UUID), 401, 200),
        (Method::POST, path(UUID), 400, 400),
        (Method::PUT, path(UUID), 400, 400),
        (Method::PUT, path(UUID) + "/activate", 400, 400),
        (Method::POST, path(UUID) + "/activate", 400, 400),
        (Method::DELETE, path(UUID), 401, 200),
    ];
    for (method, path, anyone, administrator) in &routes {
        let answer = here
            .plain
            .plain()
            .send(method.clone(), path, None)
            .await
            .unwrap();
        assert_eq!(answer.status, *anyone, "plain: {method} {path}");
        for (name, credentials) in &credentials {
            let mut link = here.tls.over_tls(&here.ca.trust(), credentials.as_ref());
            let result = link.send(method.clone(), path, None).await;
            match (*name, result) {
                ("none", Ok(answer)) => {
                    assert_eq!(answer.status, *anyone, "{name}: {method} {path}");
                    if *anyone == 401 {
                        let body: Value = answer.json().unwrap();
                        assert_eq!(body["errors"][0]["status"], "401");
                        assert!(body["errors"][0]["detail"].is_string());
                    }
                }
                ("an administrator's", Ok(answer)) => {
                    assert_eq!(answer.status, *administrator, "{name}: {method} {path}");
                }
                (_, Err(LinkError::ClientCertificate { .. })) => {}
                (_, other) => panic!("{name}: {method} {path}: {other:?}"),
            }
        }
    }
}

/// Sends a head with its own words, and returns the answer's status line.
async fn raw(here: &Here, head: &str) -> String {
    let mut stream = TcpStream::connect(here.plain.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
    answer.truncate(read.unwrap().unwrap_or(0));
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn hostile_heads_are_refused() {
    let here = Here::start().await;
    let start = "POST /v2.6/agents/a HTTP/1.1\r\nhost: a\r\n";
    let many: String = (0..200)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    let rows = [
        (
            "two lengths",
            format!("{start}content-length: 1\r\ncontent-length: 2\r\n\r\n{{}}"),
            "400",
        ),
        (
            "no number",
            format!("{start}content-length: -1\r\n\r\n"),
            "400",
        ),
        (
            "announced too large",
            format!("{start}content-length: 99999999\r\n\r\n"),
            "413",
        ),
        ("many headers", format!("{start}{many}\r\n"), "431"),
        (
            "long header",
            format!("{start}x: {}\r\n\r\n", "y".repeat(64 << 10)),
            "431",
        ),
        ("no HTTP", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), "400"),
    ];
    for (name, head, wanted) in rows {
        let line = raw(&here, &head).await;
        assert!(line.contains(wanted), "{name}: {line}");
    }
    assert_eq!(
        here.plain.plain().get("/version").await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn slow_client_blocks_nobody() {
    let here = Here::start().await;
    let mut slow = Vec::new();
    for number in 0..100 {
        let address = if number % 2 == 0 {
            here.plain.address
        } else {
            here.tls.address
        };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let begun = [
            &b""[..],
            b"\x16\x03\x01",
            b"POST /v2.6/agents/a HTTP/1.1\r\ncontent-length: 9\r\n\r\n{",
        ];
        stream.write_all(begun[number % 3]).await.unwrap();
        slow.push(stream);
    }
    let quick = async {
        assert_eq!(
            here.plain.plain().get("/version").await.unwrap().status,
            200
        );
        let mut administrator = here.administrator();
        assert_eq!(
            administrator.get("/v2.6/agents/").await.unwrap().status,
            200
        );
    };
    tokio::time::timeout(Duration::from_secs(5), quick)
        .await
        .unwrap();
}
