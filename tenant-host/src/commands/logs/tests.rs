#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::{Cursor, Read as _};

use clap::Parser as _;
use verifier_host::link::{Endpoint, Limits};
use verifier_host::pki::{Credentials, ServerTrust, client_config, read_certificates};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};
use zip::ZipArchive;

use super::*;
use crate::ca::LeafWish;
use crate::seal::{package, read_tree};

#[expect(dead_code, reason = "the scenarios use all of it")]
#[path = "../../../tests/fake/mod.rs"]
mod fake;

use fake::{Answer, Fake, Log, Request};

/// A CA with a certificate for `old`, and what `add` was asked.
struct Place {
    root: tempfile::TempDir,
    arguments: Arguments,
    settings: Arc<Settings>,
}

impl Place {
    fn new(words: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let ca = CaDirectory::open_or_create(&root.path().join("ca"), None, now()).unwrap();
        let wish = LeafWish {
            name: "old".to_owned(),
            ..LeafWish::default()
        };
        ca.make(&wish, None, now()).unwrap();
        std::fs::create_dir(root.path().join("payload")).unwrap();
        std::fs::write(root.path().join("payload/autorun.sh"), "").unwrap();
        let arguments = Arguments::try_parse_from([&["t"], words].concat()).unwrap();
        Self {
            settings: Arc::new(Settings::read(&arguments).unwrap()),
            arguments,
            root,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn source(&self) -> PayloadSource {
        PayloadSource::Package {
            ca: self.path("ca"),
            include: Some(self.path("payload")),
        }
    }

    fn log(&self) -> Log {
        let ca = CaDirectory::open(&self.path("ca"), None).unwrap();
        Log::of(&self.path("ca"), &ca.files().anchor().unwrap())
    }

    async fn begin(&self, fake: &Fake) -> Result<Option<Beginning>, Failure> {
        let group = self.arguments.revocation.group().unwrap();
        let mut verifier = self.verifier(fake);
        let source = self.source();
        begin(
            &mut verifier,
            &source,
            group,
            &self.arguments,
            &self.settings,
        )
        .await
    }

    fn verifier(&self, fake: &Fake) -> Verifier {
        let tls = self.path("tls");
        let file = |name: &str| tls.join(name);
        let credentials =
            Credentials::read(&file("client-cert.crt"), &file("client-private.pem")).unwrap();
        let trust = ServerTrust::Ca(read_certificates(&file("cacert.crt")).unwrap());
        let config = client_config(&trust, Some(&credentials)).unwrap();
        let limit = std::time::Duration::from_secs(10);
        let limits = Limits {
            connect: limit,
            answer: limit,
            answer_bytes: 1 << 20,
        };
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: fake.port(),
        };
        Verifier::new(endpoint, config, limits)
    }

    /// What is in the package of a node, by name.
    fn package(&self, beginning: &Beginning) -> (NodeIdentity, Vec<(String, Vec<u8>)>) {
        let uuid = Uuid::parse("new").unwrap();
        let mut ca = CaDirectory::open(&self.path("ca"), None).unwrap();
        let identity = beginning.identity(&mut ca, &uuid, &self.settings).unwrap();
        let tree = read_tree(&self.path("payload")).unwrap();
        let (zip, _) = package("new", &identity, &tree).unwrap();
        let mut archive = ZipArchive::new(Cursor::new(zip.as_slice())).unwrap();
        let files = (0..archive.len()).map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().to_owned(), content)
        });
        let files = files.collect();
        (identity, files)
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[tokio::test]
async fn a_package_begins_where_the_log_is() {
    let place = Place::new(&["--group", "web", "--crl-url", "http://lists.example/c"]);
    let mut log = place.log();
    log.add("old", "3", "it failed");
    let (digest, log_id, anchor) = ("ab".repeat(32), log.log_id.clone(), log.anchor.clone());
    let head = json!({ "log_id": log_id, "number": 1, "previous": digest, "crl_number": null });
    let shown = json!({ "log_id": log_id, "anchor": anchor, "group": "web", "number": 1, "crl_number": null });
    let answer = move |request: &Request| match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/v2.6/revocations") => Answer::done(head.clone()),
        ("GET", "/v2.6/revocations") => Answer::done(json!({ "logs": [shown] })),
        _ => Answer::done(json!({ "entries": log.entries })),
    };
    let fake = Fake::start(&place.path("tls"), answer);
    let beginning = place.begin(&fake).await.unwrap().unwrap();
    let asked = fake.bodies("PUT", "/v2.6/revocations");
    assert_eq!(asked, [json!({ "anchor": anchor, "group": "web" })]);
    let (identity, files) = place.package(&beginning);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[6..],
        [
            "RevocationNotifier-cert.crt",
            "revocation_log.json",
            "autorun.sh"
        ]
    );
    let start: Value = serde_json::from_slice(&files[7].1).unwrap();
    let wanted = json!({ "log_id": log_id, "number": 1, "previous": digest });
    assert_eq!(start, wanted);
    // What was said before the payload isn't acted on by its node: the list in it has it.
    let (_, list) = CertificateRevocationList::from_der(&identity.crl_der).unwrap();
    let serials: Vec<_> = list.iter_revoked_certificates().collect();
    assert_eq!(serials.len(), 1);
    let metadata: Value = serde_json::from_str(&beginning.metadata(&identity)).unwrap();
    let wanted = json!({ "cert_serial": 4, "subject": "CN=new", "group": "web" });
    assert_eq!(metadata, wanted);
    assert_eq!(group_in(&metadata.to_string()).as_deref(), Some("web"));
    let pem = x509_parser::pem::parse_x509_pem(identity.certificate_pem.as_bytes());
    let der = pem.unwrap().1.contents;
    let url = b"http://lists.example/c";
    assert!(der.windows(url.len()).any(|part| part == url));
}

#[tokio::test]
async fn keylimes_verifier_has_no_log() {
    for code in [400, 404, 405] {
        let place = Place::new(&[]);
        let fake = Fake::start(&place.path("tls"), move |_| Answer::no(code, "no"));
        let beginning = place.begin(&fake).await.unwrap().unwrap();
        let (identity, files) = place.package(&beginning);
        let has_start = files.iter().any(|(name, _)| name == "revocation_log.json");
        assert!(!has_start, "{code}");
        let metadata: Value = serde_json::from_str(&beginning.metadata(&identity)).unwrap();
        assert_eq!(metadata, json!({ "cert_serial": 4, "subject": "CN=new" }));
    }
}

#[tokio::test]
async fn a_head_that_is_not_the_cas_is_refused() {
    let place = Place::new(&[]);
    let other = "cd".repeat(32);
    let head = json!({
        "log_id": format!("{other}-0123456789abcdef"), "number": 1, "previous": other, "crl_number": null,
    });
    let fake = Fake::start(&place.path("tls"), move |_| Answer::done(head.clone()));
    let refused = place.begin(&fake).await.err();
    assert!(matches!(
        refused,
        Some(Failure::Ca(crate::ca::CaError::Log { .. }))
    ));
    let busy = Fake::start(&place.path("tls"), |_| Answer::no(500, "busy"));
    let failed = place.begin(&busy).await.err();
    assert!(
        matches!(failed, Some(Failure::Client(_))),
        "no package without its log"
    );
    std::fs::write(place.path("payload/action_list"), "local_action_none").unwrap();
    let refused = place.begin(&fake).await.err();
    assert!(
        matches!(refused, Some(Failure::Seal(_))),
        "an action that isn't there"
    );
    let asked = fake.bodies("PUT", "/v2.6/revocations");
    assert_eq!(asked.len(), 1, "nothing was asked for that");
    std::fs::remove_dir_all(place.path("payload")).unwrap();
    std::fs::remove_dir_all(place.path("ca")).unwrap();
    assert!(place.begin(&busy).await.is_err());
    assert!(
        !place.path("ca").exists(),
        "a missing directory makes no CA"
    );
}
