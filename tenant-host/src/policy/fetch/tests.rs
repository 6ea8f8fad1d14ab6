#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(5),
    answer_bytes: 0,
};

/// A server that answers one request, over TLS if it has a certificate. Returns its port.
fn serve(answer: &'static str, tls: Option<Arc<ServerConfig>>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        match tls {
            None => reply(stream, answer),
            Some(tls) => {
                let connection = ServerConnection::new(tls).unwrap();
                reply(StreamOwned::new(connection, stream), answer);
            }
        }
    });
    port
}

/// A client that doesn't believe the server leaves without a request: no error here.
fn reply(mut stream: impl Read + Write, answer: &str) {
    let mut request = [0; 4096];
    if stream.read(&mut request).is_ok_and(|size| size > 0) {
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.flush();
    }
}

/// A certificate for `localhost` and the server that shows it.
fn localhost() -> (CertificateDer<'static>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (certificate, Arc::new(config))
}

fn run(url: &str, protected: bool, roots: RootCertStore) -> Result<String, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bytes = runtime.block_on(fetch(url, protected, LIMITS, 8, || Ok(roots)))?;
    Ok(String::from_utf8(bytes).unwrap())
}

fn link_error(result: &Result<String, FetchError>) -> Option<&LinkError> {
    match result {
        Err(FetchError::Link(error)) => Some(error),
        _ => None,
    }
}

#[test]
fn plain_http_needs_protection() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npolicy";
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n";
    let large = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npolicies!";
    let none = RootCertStore::empty;
    let url = |answer| format!("http://127.0.0.1:{}/p?x=1", serve(answer, None));
    assert_eq!(run(&url(ok), true, none()).unwrap(), "policy");
    let refused = run("http://127.0.0.1:9/p", false, none());
    assert!(
        matches!(refused, Err(FetchError::Unprotected)),
        "{refused:?}"
    );
    let refused = run(&url(moved), true, none());
    assert!(
        matches!(refused, Err(FetchError::Status { status: 302 })),
        "{refused:?}"
    );
    let refused = run(&url(large), true, none());
    let too_large = |error: &LinkError| matches!(error, LinkError::TooLarge { limit: 8, .. });
    assert!(link_error(&refused).is_some_and(too_large), "{refused:?}");
}

#[test]
fn https_believes_the_given_roots_alone() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npolicy";
    let (certificate, server) = localhost();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let url = |host| format!("https://{host}:{}/p", serve(ok, Some(Arc::clone(&server))));
    assert_eq!(
        run(&url("localhost"), false, roots.clone()).unwrap(),
        "policy"
    );
    for (name, host, roots) in [
        ("another name", "127.0.0.1", roots),
        ("another CA", "localhost", {
            let mut other = RootCertStore::empty();
            other.add(localhost().0).unwrap();
            other
        }),
    ] {
        let refused = run(&url(host), true, roots);
        let wrong = |error: &LinkError| matches!(error, LinkError::WrongCertificate { .. });
        let error = link_error(&refused);
        assert!(error.is_some_and(wrong), "{name}: {refused:?}");
    }
}

#[test]
fn urls_are_read_strictly() {
    let place = |secure, host: &str, port, path: &str| {
        Some(Place {
            secure,
            server: Endpoint {
                host: host.to_owned(),
                port,
            },
            path: path.to_owned(),
        })
    };
    let rows = [
        ("https://h/p.json", place(true, "h", 443, "/p.json")),
        ("http://h", place(false, "h", 80, "/")),
        ("https://h:8443/a?b=c", place(true, "h", 8443, "/a?b=c")),
        ("https://[::1]/p", place(true, "::1", 443, "/p")),
        ("https://[::1]:4/p", place(true, "::1", 4, "/p")),
        ("ftp://h/p", None),
        ("file:///etc/passwd", None),
        ("h/p", None),
        ("/p", None),
        ("", None),
        ("https://", None),
        ("https://user:word@h/p", None),
        ("https://h/p#x", None),
        ("https://h:/p", None),
        ("https://h:99999/p", None),
        ("https://h/a b", None),
        ("https://h/a\r\nHost: x", None),
    ];
    for (url, wanted) in rows {
        assert_eq!(Place::parse(url).ok(), wanted, "{url}");
    }
}
