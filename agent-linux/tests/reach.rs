//! Which verifier the agent comes to, whom it takes for one, and whose manifests count.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_linux::net::reach::{Clock, Reach, ServerAddress, ServerFailure, ServerTrust};
use agent_linux::trust::{Pin, Pinned, verify_manifest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SigningKey, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// An authority, and the file with its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2000, 1, 1);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A server's certificate that is good in these years.
    fn leaf(&self, names: &[&str], years: (i32, i32)) -> Leaf {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key: key.serialize_der(),
        }
    }
}

#[derive(Clone)]
struct Leaf {
    der: Vec<u8>,
    pem: String,
    key: Vec<u8>,
}

impl Leaf {
    fn pin(&self) -> Pin {
        Pin::Sha256(Sha256::digest(&self.der).into())
    }

    /// Serves with this certificate: answers each connection's first bytes with as many.
    fn serve(&self, at: &str) -> SocketAddr {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone().into()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, socket.unwrap());
                thread::spawn(move || {
                    let mut bytes = [0; 4];
                    if stream.read_exact(&mut bytes).is_ok() {
                        let _ = stream.write_all(&bytes);
                    }
                });
            }
        });
        address
    }
}

fn server(text: &str) -> ServerAddress {
    text.parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Whether a client with this trust and clock gets its answer.
fn talks(servers: Vec<ServerAddress>, trust: &ServerTrust, clock: Clock) -> bool {
    let mut reach = Reach::new(servers, trust, clock).unwrap();
    let Ok(mut stream) = reach.connect(soon()) else {
        return false;
    };
    let mut answer = [0; 4];
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut answer).unwrap();
    stream.close();
    answer == *b"ping"
}

const NOW: (i32, i32) = (2020, 2090);

#[test]
fn who_is_a_verifier() {
    let (ours, other) = (Authority::new(), Authority::new());
    let good = ours.leaf(&["localhost", "127.0.0.1", "::1"], NOW);
    let named = ours.leaf(&["verifier.example"], NOW);
    let expired = ours.leaf(&["localhost"], (2001, 2002));
    let unborn = ours.leaf(&["localhost"], (2089, 2090));
    let stranger = other.leaf(&["localhost"], NOW);
    let file = ours.directory.path().join("pinned.pem");
    fs::write(&file, format!("{}{}", expired.pem, named.pem)).unwrap();
    let by_file = ServerTrust::Pinned(vec![Pin::File(file)]);
    let vouched = ServerTrust::Authorities(vec![ours.file()]);
    let either = ServerTrust::Authorities(vec![other.file(), ours.file()]);
    let pin = |leaf: &Leaf| ServerTrust::Pinned(vec![leaf.pin()]);
    let rows = [
        ("its name", &good, "localhost", &vouched, true),
        ("its address", &good, "127.0.0.1", &vouched, true),
        ("its IPv6 address", &good, "[::1]", &vouched, true),
        ("one of two authorities", &good, "localhost", &either, true),
        ("another's name", &named, "localhost", &vouched, false),
        ("expired", &expired, "localhost", &vouched, false),
        ("not yet", &unborn, "localhost", &vouched, false),
        ("another authority", &stranger, "localhost", &vouched, false),
        ("pinned", &stranger, "localhost", &pin(&stranger), true),
        (
            "pinned, another name",
            &named,
            "127.0.0.1",
            &pin(&named),
            true,
        ),
        ("pinned, expired", &expired, "localhost", &by_file, true),
        ("pinned in a file", &named, "localhost", &by_file, true),
        ("another is pinned", &good, "localhost", &pin(&named), false),
        (
            "another file is pinned",
            &good,
            "localhost",
            &by_file,
            false,
        ),
    ];
    for (name, leaf, host, trust, wanted) in rows {
        let at = if host == "[::1]" {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        let port = leaf.serve(at).port();
        let servers = vec![server(&format!("https://{host}:{port}"))];
        assert_eq!(talks(servers, trust, Clock::system()), wanted, "{name}");
    }
}

#[test]
fn a_pinned_certificate_needs_its_key() {
    let ours = Authority::new();
    let (good, other) = (ours.leaf(&["localhost"], NOW), ours.leaf(&["x"], NOW));
    let thief = Leaf {
        key: other.key,
        ..good.clone()
    };
    // rustls' own server would notice; one that doesn't is refused by the agent.
    let key = PrivateKeyDer::try_from(thief.key.clone()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    assert!(
        config
            .with_single_cert(vec![thief.der.into()], key)
            .is_err()
    );
    let pin = ServerTrust::Pinned(vec![good.pin()]);
    let port = good.serve("127.0.0.1:0").port();
    let servers = vec![server(&format!("https://localhost:{port}"))];
    assert!(talks(servers, &pin, Clock::system()));
}

#[test]
fn clock_at_1970() {
    let ours = Authority::new();
    let first = || Clock::by(|| UNIX_EPOCH);
    let vouched = ServerTrust::Authorities(vec![ours.file()]);
    let image = |year: u64| {
        let time = UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_557_600);
        let file = fs::File::options().write(true).open(ours.file()).unwrap();
        file.set_modified(time).unwrap();
    };
    let rows = [
        ("good since long", NOW, 1970, true),
        ("over since long", (2001, 2002), 1970, false),
        ("made after the program", (2080, 2090), 1970, false),
        (
            "made after the program, before the image",
            (2080, 2090),
            2085,
            true,
        ),
        ("over when the image was made", (2020, 2084), 2086, false),
    ];
    for (name, years, written, wanted) in rows {
        image(written);
        let port = ours.leaf(&["localhost"], years).serve("127.0.0.1:0").port();
        let servers = vec![server(&format!("https://localhost:{port}"))];
        assert_eq!(talks(servers, &vouched, first()), wanted, "{name}");
    }
    let late = Clock::by(|| SystemTime::now() + Duration::from_secs(100 * 31_557_600));
    image(1970);
    let port = ours.leaf(&["localhost"], NOW).serve("127.0.0.1:0").port();
    let servers = vec![server(&format!("https://localhost:{port}"))];
    assert!(
        !talks(servers, &vouched, late),
        "a clock that is later counts"
    );
}

#[test]
fn verifiers_are_tried_in_turn() {
    let ours = Authority::new();
    let trust = ServerTrust::Authorities(vec![ours.file()]);
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let stranger = Authority::new().leaf(&["localhost"], NOW);
    let stranger = stranger.serve("127.0.0.1:0").port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = ours.leaf(&["localhost"], NOW).serve("127.0.0.1:0").port();
    let servers = [
        "https://no-such-name.invalid".to_owned(),
        format!("https://localhost:{refused}"),
        format!("https://localhost:{stranger}"),
        format!("https://{}", silent.local_addr().unwrap()),
        format!("https://localhost:{good}"),
    ];
    let servers = servers.iter().map(|text| server(text)).collect();
    let mut reach = Reach::new(servers, &trust, Clock::system()).unwrap();
    let stream = reach.connect(soon()).unwrap();
    assert_eq!(stream.server().port(), good);
    // The one that answered is the first to be asked again.
    let start = Instant::now();
    let stream = reach.connect(soon()).unwrap();
    assert_eq!(stream.server().port(), good);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn no_network_meets_deadline() {
    let ours = Authority::new();
    let trust = ServerTrust::Authorities(vec![ours.file()]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("https://{}", silent.local_addr().unwrap());
    // An address of which nobody answers, not even that there is nobody.
    for text in [silent.as_str(), "https://192.0.2.1:1"] {
        let mut reach = Reach::new(vec![server(text); 3], &trust, Clock::system()).unwrap();
        let start = Instant::now();
        let error = reach.connect(start + Duration::from_millis(300)).err();
        let error = error.unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{text}");
        assert!(!error.failures.is_empty(), "{error}");
    }
    let refused = vec![server("https://127.0.0.1:1")];
    let mut reach = Reach::new(refused, &trust, Clock::system()).unwrap();
    let error = reach.connect(soon()).err().unwrap();
    assert!(!error.is_late);
    assert!(matches!(&*error.failures, [(_, ServerFailure::Connect(_))]));
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn a_stream_ends_at_its_deadline() {
    let ours = Authority::new();
    let trust = ServerTrust::Authorities(vec![ours.file()]);
    let port = ours.leaf(&["localhost"], NOW).serve("127.0.0.1:0").port();
    let servers = vec![server(&format!("https://localhost:{port}"))];
    let mut reach = Reach::new(servers, &trust, Clock::system()).unwrap();
    let mut stream = reach.connect(soon()).unwrap();
    stream.until(Instant::now() + Duration::from_millis(50));
    let start = Instant::now();
    assert!(stream.read(&mut [0]).is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn whose_manifest_counts() {
    let make = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Nobody asks for the dates.
        params.not_after = date_time_ymd(2001, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().to_vec(), certificate.pem(), key)
    };
    let (der, pem, key) = make(&PKCS_ECDSA_P256_SHA256);
    let signature = key.sign(b"manifest").unwrap();
    let changed = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let (other, _, _) = make(&PKCS_ECDSA_P256_SHA256);
    let rows = [
        ("good", verify_manifest(&der, b"manifest", &signature), true),
        (
            "another manifest",
            verify_manifest(&der, b"manifesT", &signature),
            false,
        ),
        (
            "another signer",
            verify_manifest(&other, b"manifest", &signature),
            false,
        ),
        (
            "another signature",
            verify_manifest(&der, b"manifest", &changed(&signature, signature.len() - 1)),
            false,
        ),
        (
            "no signature",
            verify_manifest(&der, b"manifest", &[]),
            false,
        ),
        (
            "no signer",
            verify_manifest(&[], b"manifest", &signature),
            false,
        ),
        (
            "half a signer",
            verify_manifest(&der[..99], b"manifest", &signature),
            false,
        ),
    ];
    for (name, got, wanted) in rows {
        assert_eq!(got, wanted, "{name}");
    }
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let (der, _, key) = make(algorithm);
        let signature = key.sign(b"manifest").unwrap();
        assert!(
            !verify_manifest(&der, b"manifest", &signature),
            "{algorithm:?}"
        );
    }

    let directory = TempDir::new().unwrap();
    let file = directory.path().join("signer.pem");
    fs::write(&file, &pem).unwrap();
    let hex: String = Sha256::digest(&der)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    for pin in [Pin::File(file.clone()), Pin::digest(&hex).unwrap()] {
        let pinned = Pinned::read(&[pin]).unwrap();
        assert!(pinned.has(&der) && !pinned.has(&other) && !pinned.has(&[]));
    }
    fs::write(&file, "nothing").unwrap();
    for pins in [
        vec![],
        vec![Pin::File(file)],
        vec![Pin::File("/nowhere".into())],
    ] {
        assert!(Pinned::read(&pins).is_err(), "{pins:?}");
    }
    assert_eq!(Pin::digest(&hex[1..]), None);
}
