#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use tempfile::TempDir;

use super::*;

/// An authority, or who signs lists for one.
struct Signer {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

impl Signer {
    fn params(name: &str, usages: &[KeyUsagePurpose]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = usages.to_vec();
        params
    }

    fn authority(name: &str, key: KeyPair) -> Self {
        let usages = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let params = Self::params(name, &usages);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    fn new(name: &str) -> Self {
        Self::authority(name, KeyPair::generate().unwrap())
    }

    /// One to whom this authority has given these rights.
    fn delegate(&self, name: &str, usages: &[KeyUsagePurpose]) -> Self {
        let (params, key) = (Self::params(name, usages), KeyPair::generate().unwrap());
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self { params, key, der }
    }

    fn pem(&self) -> String {
        crate::pem::encode("CERTIFICATE", &self.der)
    }

    fn list(&self, number: u64) -> Vec<u8> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 2, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(3_u64),
                revocation_time: date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        // The library doesn't sign where the certificate doesn't allow it.
        let mut signer = self.params.clone();
        signer.key_usages = vec![KeyUsagePurpose::CrlSign];
        let issuer = Issuer::from_params(&signer, &self.key);
        params.signed_by(&issuer).unwrap().der().to_vec()
    }
}

/// A node with a payload, whose authority's certificate is this.
struct Node {
    root: TempDir,
    rules: ListRules,
}

impl Node {
    fn new(authority: &Signer) -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("unzipped")).unwrap();
        fs::write(root.path().join("unzipped/cacert.crt"), authority.pem()).unwrap();
        Self {
            root,
            rules: ListRules::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn update(&self, list: Vec<u8>) -> Result<usize, String> {
        self.update_by(list, None)
    }

    fn update_by(&self, list: Vec<u8>, signer: Option<&Signer>) -> Result<usize, String> {
        let signer = signer.map(|signer| signer.der.clone());
        let offered = Offered { list, signer };
        self.rules
            .update(&self.path("unzipped"), &offered)
            .map_err(|error| format!("{} {error}", error.code()))
    }

    /// The numbers of the lists in their places.
    fn numbers(&self) -> Vec<Option<u8>> {
        let mut paths = LIST_FILES
            .map(|name| self.path("unzipped").join(name))
            .to_vec();
        paths.extend(self.rules.file.clone());
        let number = |path: &PathBuf| {
            let bytes = fs::read(path).ok()?;
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o644, "{}", path.display());
            let der = match path.extension() {
                Some(end) if end == "der" => bytes,
                _ => {
                    use rustls::pki_types::CertificateRevocationListDer;
                    let list = CertificateRevocationListDer::from_pem_slice(&bytes);
                    list.unwrap().to_vec()
                }
            };
            let list = List::read(&der).unwrap();
            Some(list.number.last_byte())
        };
        paths.iter().map(number).collect()
    }
}

fn refused(update: Result<usize, String>, code: char, words: &str) {
    let text = update.unwrap_err();
    assert!(text.starts_with(code) && text.contains(words), "{text}");
}

#[test]
fn a_newer_list_takes_the_place_of_an_older_one() {
    let authority = Signer::new("CA");
    let mut node = Node::new(&authority);
    node.rules.file = Some(node.path("list.pem"));
    assert_eq!(node.numbers(), [None, None, None]);
    for (number, written, there) in [(3, 3, 3), (2, 0, 3), (3, 0, 3), (4, 3, 4), (200, 3, 200)] {
        assert_eq!(node.update(authority.list(number)), Ok(written), "{number}");
        assert_eq!(node.numbers(), [Some(there); 3], "{number}");
    }
    // Each place for itself.
    fs::remove_file(node.path("unzipped/cacrl.der")).unwrap();
    fs::write(node.path("list.pem"), "no list").unwrap();
    fs::set_permissions(node.path("list.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(node.update(authority.list(5)), Ok(2));
    assert_eq!(node.numbers(), [Some(5), Some(200), Some(5)]);
    node.rules.file = Some(node.path("list.der"));
    assert_eq!(node.update(authority.list(201)), Ok(3));
    assert_eq!(node.numbers(), [Some(201); 3]);
    let names = fs::read_dir(node.path("unzipped")).unwrap().count();
    assert_eq!(names, 3, "nothing half written stays");
    // One that can't be written keeps no other from being written.
    node.rules.file = Some(node.path("nowhere/list.pem"));
    refused(node.update(authority.list(202)), '2', "nowhere/list.pem");
    assert_eq!(node.numbers()[..2], [Some(202); 2]);
}

#[test]
fn numbers_are_longer_than_a_word() {
    let number = |bytes| list::Number::read(bytes);
    let (small, large) = (number(&[0x7F]).unwrap(), number(&[0, 0x80]).unwrap());
    let huge = number(&[1; 20]).unwrap();
    assert!(large.is_above(small) && huge.is_above(large) && !small.is_above(small));
    assert!(number(&[0x80]).is_none() && number(&[]).is_none());
}

#[test]
fn only_the_authoritys_lists_count() {
    let authority = Signer::new("CA");
    let node = Node::new(&authority);
    refused(node.update(Signer::new("other").list(9)), '1', "issuer");
    refused(node.update(Signer::new("CA").list(9)), '1', "signature");
    refused(node.update(Vec::new()), '1', "the list");
    let good = authority.list(9);
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        refused(node.update(flipped), '1', "");
        refused(node.update(good[..at].to_vec()), '1', "the list");
    }
    refused(node.update([&good[..], &[0]].concat()), '1', "the list");
    assert_eq!(node.numbers(), [None, None]);
    assert_eq!(node.update(good), Ok(2));
}

#[test]
fn the_authority_may_let_another_sign() {
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};

    let authority = Signer::new("CA");
    let node = Node::new(&authority);
    let rows = [
        (
            "without the right",
            authority.delegate("CA", &[KeyCertSign, DigitalSignature]),
        ),
        ("without any usage", authority.delegate("CA", &[])),
        ("by another name", authority.delegate("signer", &[CrlSign])),
        ("by itself", Signer::new("CA")),
        (
            "another authority's",
            Signer::new("CA").delegate("CA", &[CrlSign]),
        ),
    ];
    for (name, signer) in rows {
        let update = node.update_by(signer.list(9), Some(&signer));
        assert!(update.unwrap_err().contains("allowed"), "{name}");
    }
    let signer = authority.delegate("CA", &[CrlSign]);
    refused(node.update(signer.list(9)), '1', "signature");
    refused(
        node.update_by(authority.list(9), Some(&signer)),
        '1',
        "signature",
    );
    assert_eq!(node.update_by(signer.list(9), Some(&signer)), Ok(2));
    assert_eq!(node.update(authority.list(10)), Ok(2));
}

#[test]
fn an_rsa_authority_counts_too() {
    let place = TempDir::new().unwrap();
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-out", "key"])
        .current_dir(place.path())
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let key = fs::read_to_string(place.path().join("key")).unwrap();
    let authority = Signer::authority("CA", KeyPair::from_pem(&key).unwrap());
    let node = Node::new(&authority);
    let good = authority.list(9);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    refused(node.update(flipped), '1', "signature");
    assert_eq!(node.update(good), Ok(2));
}

#[test]
fn a_node_without_a_payload_names_authority_and_place() {
    let authority = Signer::new("CA");
    let mut node = Node::new(&authority);
    fs::rename(node.path("unzipped/cacert.crt"), node.path("ca.crt")).unwrap();
    fs::remove_dir(node.path("unzipped")).unwrap();
    refused(
        node.update(authority.list(1)),
        '1',
        "cacert.crt can't be read",
    );
    node.rules.authority = Some(node.path("ca.crt"));
    refused(node.update(authority.list(1)), '2', "crl_path");
    node.rules.file = Some(node.path("list.pem"));
    assert_eq!(node.update(authority.list(1)), Ok(1));
    fs::write(node.path("ca.crt"), "no certificate").unwrap();
    refused(node.update(authority.list(2)), '1', "no certificate");
}
