//! Who gets through the agent's TLS, with certificates as openssl and Keylime make them.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent_core::secret::Secret;
use agent_core::wire::text::Uuid;
use agent_linux::identity::TlsIdentity;
use agent_linux::net::tls::{ClientAuthorities, TlsError, peer_certificate, server_config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, Stream,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

/// A directory of authorities and client certificates.
struct Pki(TempDir);

impl Pki {
    fn new() -> Self {
        let pki = Self(TempDir::new().unwrap());
        pki.authority("ca");
        pki.authority("other-ca");
        // As Keylime's: RSA, no extendedKeyUsage, no basicConstraints.
        pki.leaf(
            "keylime",
            "ca",
            &["-days", "365"],
            "subjectKeyIdentifier=hash\n",
        );
        pki.leaf(
            "other",
            "other-ca",
            &["-days", "365"],
            "subjectKeyIdentifier=hash\n",
        );
        pki.leaf(
            "expired",
            "ca",
            &[
                "-not_before",
                "20200101000000Z",
                "-not_after",
                "20200201000000Z",
            ],
            "subjectKeyIdentifier=hash\n",
        );
        pki.leaf(
            "server-only",
            "ca",
            &["-days", "365"],
            "extendedKeyUsage=serverAuth\n",
        );
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn authority(&self, name: &str) {
        let subject = format!("/CN={name}");
        let (key, out) = (format!("{name}.key"), format!("{name}.crt"));
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &out,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]);
    }

    fn leaf(&self, name: &str, authority: &str, dates: &[&str], extensions: &str) {
        let file = |suffix: &str| format!("{name}.{suffix}");
        std::fs::write(self.path(&file("ext")), extensions).unwrap();
        let subject = format!("/CN={name}");
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &subject,
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
        ]);
        let database = self.path(&file("db"));
        std::fs::write(&database, "").unwrap();
        std::fs::write(
            self.path(&file("cnf")),
            format!(
                "[ca]\ndefault_ca=x\n[x]\ndatabase={}\nnew_certs_dir={}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nemail_in_dn=no\n[p]\ncommonName=supplied\n",
                database.display(),
                self.0.path().display()
            ),
        )
        .unwrap();
        let (config, extensions, csr, out) = (file("cnf"), file("ext"), file("csr"), file("crt"));
        let (ca, key) = (format!("{authority}.crt"), format!("{authority}.key"));
        let mut arguments: Vec<&str> = vec![
            "ca",
            "-batch",
            "-notext",
            "-config",
            &config,
            "-extfile",
            &extensions,
        ];
        arguments.extend(["-cert", &ca, "-keyfile", &key, "-in", &csr, "-out", &out]);
        let dates: Vec<String> = dates
            .iter()
            .map(|word| {
                word.replace("-not_before", "-startdate")
                    .replace("-not_after", "-enddate")
            })
            .collect();
        arguments.extend(dates.iter().map(String::as_str));
        self.openssl(&arguments);
    }

    fn openssl(&self, arguments: &[&str]) {
        let out = Command::new("openssl")
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }

    fn client(
        &self,
        who: Option<&str>,
        agent_pem: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(agent_pem.as_bytes()).unwrap())
            .unwrap();
        let builder =
            ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        match who {
            None => builder.with_no_client_auth(),
            Some(name) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap()],
                    PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap(),
                )
                .unwrap(),
        }
    }
}

fn identity() -> TlsIdentity {
    TlsIdentity::derive(
        &Secret::copy_of(&[3; 32]),
        &Uuid::parse("node").unwrap(),
        "127.0.0.1",
    )
    .unwrap()
}

/// One connection: what the server saw of the client, and whether the client got its answer.
fn converse(
    config: Arc<rustls::ServerConfig>,
    client: ClientConfig,
) -> (io::Result<Vec<u8>>, io::Result<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept()?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        assert_eq!(peer_certificate(&connection), None);
        let mut stream = Stream::new(&mut connection, &mut socket);
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
        stream.flush()?;
        Ok(peer_certificate(&connection).unwrap().to_vec())
    });
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut connection = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    let got = stream
        .write_all(b"?")
        .and_then(|()| stream.read_exact(&mut [0]));
    drop(socket);
    (server.join().unwrap(), got)
}

#[test]
fn every_client_certificate() {
    let pki = Pki::new();
    let agent = identity();
    let config = server_config(
        &agent,
        &ClientAuthorities::read(&[pki.path("ca.crt")]).unwrap(),
    )
    .unwrap();
    let rows: [(&str, Option<&str>, bool); 5] = [
        ("Keylime's own kind", Some("keylime"), true),
        ("none", None, false),
        ("another authority's", Some("other"), false),
        ("expired", Some("expired"), false),
        ("for servers only", Some("server-only"), false),
    ];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (name, who, let_in) in rows {
            let client = pki.client(who, agent.pem(), &[version]);
            let (seen, got) = converse(Arc::clone(&config), client);
            assert_eq!(seen.is_ok(), let_in, "{name}, {version:?}: {seen:?}");
            assert_eq!(got.is_ok(), let_in, "{name}, {version:?}: {got:?}");
            if let (Ok(seen), Some(who)) = (seen, who) {
                let own = CertificateDer::from_pem_file(pki.path(&format!("{who}.crt"))).unwrap();
                assert_eq!(seen, own.as_ref(), "{name}");
            }
        }
    }
}

#[test]
fn several_authorities_in_one_file_or_two() {
    let pki = Pki::new();
    let agent = identity();
    let both = [
        std::fs::read(pki.path("ca.crt")).unwrap(),
        std::fs::read(pki.path("other-ca.crt")).unwrap(),
    ]
    .concat();
    std::fs::write(pki.path("both.crt"), both).unwrap();
    for files in [&["both.crt"][..], &["ca.crt", "other-ca.crt"]] {
        let files: Vec<_> = files.iter().map(|file| pki.path(file)).collect();
        let clients = ClientAuthorities::read(&files).unwrap();
        let config = server_config(&agent, &clients).unwrap();
        for who in ["keylime", "other"] {
            let (seen, got) = converse(
                Arc::clone(&config),
                pki.client(Some(who), agent.pem(), rustls::ALL_VERSIONS),
            );
            assert!(seen.is_ok() && got.is_ok(), "{who}: {seen:?} {got:?}");
        }
    }
}

#[test]
fn authorities_that_cannot_be_used() {
    let pki = Pki::new();
    let good = pki.path("ca.crt");
    let directory = TempDir::new().unwrap();
    let file = |name: &str, contents: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let rows = [
        ("missing", directory.path().join("missing"), "can't be read"),
        ("empty", file("empty", b""), "holds no certificate"),
        ("not PEM", file("text", b"hello"), "holds no certificate"),
        (
            "cut off",
            file("cut", b"-----BEGIN CERTIFICATE-----\nAAAA"),
            "isn't PEM",
        ),
        (
            "no certificate",
            file(
                "junk",
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
            "no authority",
        ),
        ("huge", file("huge", &vec![b'\n'; (1 << 20) + 1]), "larger"),
    ];
    for (name, path, text) in rows {
        // A good file beside it doesn't help.
        let error = ClientAuthorities::read(&[&good, &path]).unwrap_err();
        assert!(
            matches!(error, TlsError::Authorities { .. }) && error.to_string().contains(text),
            "{name}: {error}"
        );
    }
}

/// Keylime's clients are Python's; its strictest default looks at more than rustls does.
#[test]
fn openssl_takes_the_agents_certificate_strictly() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("agent.crt");
    std::fs::write(&path, identity().pem()).unwrap();
    assert!(verified_by_openssl(&path));
}

fn verified_by_openssl(path: &Path) -> bool {
    let arguments = [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_ip",
        "127.0.0.1",
        "-CAfile",
    ];
    Command::new("openssl")
        .args(arguments)
        .arg(path)
        .arg(path)
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success()
}
