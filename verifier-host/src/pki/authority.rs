//! The directory `cv_ca`: a CA, and the certificates of this verifier as a server and as a client, under Keylime's file names.
//!
//! It is made whole or not at all, and what exists is never changed or deleted.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::tls::SERVER_ROLE;
use super::{
    Credentials, PkiError, ServerTrust, client_config, file, read_certificates, server_config,
};

/// Where a server is reached, for its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By an address. One that stands for all addresses (`0.0.0.0`, `::`) is left out.
    Address(IpAddr),
    /// By a host name. One that no certificate can have is left out.
    Host(String),
}

/// A complete `cv_ca`.
pub struct Authority {
    dir: PathBuf,
    ca: Vec<CertificateDer<'static>>,
    server: Credentials,
    client: Credentials,
}

impl Authority {
    /// Opens the directory; makes it first if it doesn't exist or is empty. The new server's certificate is valid for
    /// `localhost`, `127.0.0.1`, `::1`, this machine's name and `places`.
    ///
    /// # Errors
    /// [`PkiError::Incomplete`] if only some of the files are there; files that can't be read or written.
    pub fn open_or_create(dir: &Path, places: &[Place]) -> Result<Self, PkiError> {
        if is_absent_or_empty(dir)? {
            create(dir, places)?;
        }
        Self::open(dir)
    }

    /// Opens the directory.
    ///
    /// # Errors
    /// As [`Authority::open_or_create`].
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        for name in [
            CA_CERT,
            SERVER.cert,
            SERVER.private,
            CLIENT.cert,
            CLIENT.private,
        ] {
            let there = dir.join(name).try_exists();
            if !there.map_err(|source| file(&dir.join(name), source))? {
                return Err(PkiError::Incomplete {
                    dir: dir.to_owned(),
                    missing: name,
                });
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            ca: read_certificates(&dir.join(CA_CERT))?,
            server: Credentials::read(&dir.join(SERVER.cert), &dir.join(SERVER.private))?,
            client: Credentials::read(&dir.join(CLIENT.cert), &dir.join(CLIENT.private))?,
        })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration of registrar and verifier as servers, whose clients have certificates of this CA or none.
    ///
    /// # Errors
    /// [`PkiError`]: certificates that can't be used.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, PkiError> {
        server_config(&self.server, &self.ca)
    }

    /// The configuration of a client with this CA's client certificate.
    ///
    /// # Errors
    /// [`PkiError`]: certificates that can't be used.
    pub fn client_config(&self, trust: &ServerTrust) -> Result<Arc<ClientConfig>, PkiError> {
        client_config(trust, Some(&self.client))
    }

    /// Trust in the servers of this CA.
    #[must_use]
    pub fn server_trust(&self) -> ServerTrust {
        ServerTrust::Ca(self.ca.clone())
    }
}

fn is_absent_or_empty(dir: &Path) -> Result<bool, PkiError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(file(dir, source)),
    }
}

/// Makes everything in a directory beside `dir`, then renames it there. If another process was first, its directory stays.
fn create(dir: &Path, places: &[Place]) -> Result<(), PkiError> {
    let files = make(places)?;
    let draft = draft_of(dir);
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir.parent().unwrap_or(dir));
    made.map_err(|source| file(dir, source))?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&draft)
        .map_err(|source| file(&draft, source))?;

    let written = write(&draft, &files).and_then(|()| match fs::rename(&draft, dir) {
        Ok(()) => sync_parent(dir),
        Err(source) => Err(file(dir, source)),
    });
    if written.is_err() {
        discard(&draft, &files);
    }
    match written {
        Err(PkiError::File { source, .. }) if source.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Ok(())
        }
        other => other,
    }
}

fn draft_of(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    dir.with_file_name(name)
}

fn write(draft: &Path, files: &[MadeFile]) -> Result<(), PkiError> {
    for made in files {
        let path = draft.join(made.name);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(made.mode)
            .open(&path)
            .and_then(|mut out| {
                out.write_all(made.text.as_bytes())?;
                out.sync_all()
            })
            .map_err(|source| file(&path, source))?;
    }
    Ok(())
}

fn sync_parent(dir: &Path) -> Result<(), PkiError> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|source| file(parent, source))
}

/// Removes the draft and nothing that this process didn't write; what can't be removed stays, and does no harm.
fn discard(draft: &Path, files: &[MadeFile]) {
    for made in files {
        let _left = fs::remove_file(draft.join(made.name));
    }
    let _left = fs::remove_dir(draft);
}

/// A file of the new directory.
struct MadeFile {
    name: &'static str,
    mode: u32,
    text: Zeroizing<String>,
}

/// The names of a certificate's files.
struct Names {
    cert: &'static str,
    private: &'static str,
    public: &'static str,
}

fn make(places: &[Place]) -> Result<Vec<MadeFile>, PkiError> {
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params("keyhalf verifier CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = params.self_signed(&ca_key)?;
    let mut files = files(&CA, &ca.pem(), &ca_key);
    let issuer = Issuer::new(params, ca_key);

    for (names, purpose, sans) in [
        (
            &SERVER,
            ExtendedKeyUsagePurpose::ServerAuth,
            server_names(places),
        ),
        (
            &CLIENT,
            ExtendedKeyUsagePurpose::ClientAuth,
            client_names()?,
        ),
    ] {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = self::params(names.role());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.subject_alt_names = sans;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;
        files.extend(self::files(names, &certificate.pem(), &key));
    }
    Ok(files)
}

impl Names {
    /// The common name of the certificate, as Keylime has it.
    fn role(&self) -> &'static str {
        self.cert.strip_suffix("-cert.crt").unwrap_or(self.cert)
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "keyhalf");
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    (params.not_before, params.not_after) = validity();
    params
}

/// From long ago, so that a clock that is slow doesn't matter, until ten years after now, or after this code was written where
/// this machine's clock is the slow one.
fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc().max(date_time_ymd(2026, 1, 1));
    (date_time_ymd(2000, 1, 1), now + TEN_YEARS)
}

fn files(names: &Names, certificate: &str, key: &KeyPair) -> Vec<MadeFile> {
    let public = |name, text: String| MadeFile {
        name,
        mode: 0o644,
        text: Zeroizing::new(text),
    };
    vec![
        public(names.cert, certificate.to_owned()),
        public(names.public, key.public_key_pem()),
        MadeFile {
            name: names.private,
            mode: 0o600,
            text: Zeroizing::new(key.serialize_pem()),
        },
    ]
}

fn server_names(places: &[Place]) -> Vec<SanType> {
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = [
        Place::Host(SERVER_ROLE.to_owned()),
        Place::Host("localhost".to_owned()),
        Place::Address([127, 0, 0, 1].into()),
        Place::Address(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
        Place::Host(host_name.trim().to_owned()),
    ];
    let mut names = Vec::new();
    for place in own.iter().chain(places) {
        let name = match place {
            Place::Address(address) if address.is_unspecified() => None,
            Place::Address(address) => Some(SanType::IpAddress(*address)),
            Place::Host(host) if rustls::pki_types::DnsName::try_from(host.as_str()).is_err() => {
                None
            }
            Place::Host(host) => host.as_str().try_into().ok().map(SanType::DnsName),
        };
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

fn client_names() -> Result<Vec<SanType>, PkiError> {
    Ok(vec![SanType::DnsName("client".try_into()?)])
}

const CA_CERT: &str = "cacert.crt";
const CA: Names = Names {
    cert: CA_CERT,
    private: "ca-private.pem",
    public: "ca-public.pem",
};
const SERVER: Names = Names {
    cert: "server-cert.crt",
    private: "server-private.pem",
    public: "server-public.pem",
};
const CLIENT: Names = Names {
    cert: "client-cert.crt",
    private: "client-private.pem",
    public: "client-public.pem",
};

const TEN_YEARS: Duration = Duration::days(3652);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    fn files_of(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        let read = |entry: fs::DirEntry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let name = entry.file_name().into_string().unwrap();
            (name, (mode, fs::read(entry.path()).unwrap()))
        };
        entries.map(read).collect()
    }

    #[test]
    fn made_whole_with_keys_for_the_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keylime/cv_ca");
        Authority::open_or_create(&dir, &[]).unwrap();
        let modes: Vec<_> = files_of(&dir)
            .into_iter()
            .map(|(name, (mode, _))| (name, mode))
            .collect();
        let wanted = [
            ("ca-private.pem", 0o600),
            ("ca-public.pem", 0o644),
            ("cacert.crt", 0o644),
            ("client-cert.crt", 0o644),
            ("client-private.pem", 0o600),
            ("client-public.pem", 0o644),
            ("server-cert.crt", 0o644),
            ("server-private.pem", 0o600),
            ("server-public.pem", 0o644),
        ];
        assert_eq!(modes, wanted.map(|(name, mode)| (name.to_owned(), mode)));
        let mode = fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        assert_eq!(
            fs::read_dir(home.path().join("keylime")).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn ca_init_never_deletes() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cv_ca");
        Authority::open_or_create(&dir, &[]).unwrap();
        let made = files_of(&dir);
        Authority::open_or_create(&dir, &[]).unwrap();
        assert_eq!(files_of(&dir), made, "a second start changes nothing");

        for missing in [
            CA_CERT,
            SERVER.cert,
            SERVER.private,
            CLIENT.cert,
            CLIENT.private,
        ] {
            let path = dir.join(missing);
            let kept = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let left = files_of(&dir);
            let error = Authority::open_or_create(&dir, &[]).err().unwrap();
            assert!(error.to_string().contains(missing), "{error}");
            assert_eq!(files_of(&dir), left, "without {missing}");
            fs::write(&path, kept).unwrap();
        }

        let foreign = home.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("notes.pem"), "mine").unwrap();
        let error = Authority::open_or_create(&foreign, &[]).err().unwrap();
        assert!(matches!(error, PkiError::Incomplete { .. }), "{error}");
        assert_eq!(files_of(&foreign).len(), 1);
    }

    #[test]
    fn two_at_once_agree() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cv_ca");
        let files = make(&[]).unwrap();
        create(&dir, &[]).unwrap();
        let made = files_of(&dir);
        create(&dir, &[]).unwrap();
        assert_eq!(
            files_of(&dir),
            made,
            "the second one uses what the first one made"
        );
        assert_eq!(files.len(), made.len());
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn cert_valid_on_slow_clock() {
        let (from, until) = validity();
        assert!(from <= date_time_ymd(2000, 1, 1));
        assert!(until >= OffsetDateTime::now_utc() + Duration::days(3650));
        for made in make(&[])
            .unwrap()
            .iter()
            .filter(|made| made.name.ends_with(".crt"))
        {
            let der = rustls::pki_types::pem::PemObject::from_pem_slice(made.text.as_bytes());
            let der: CertificateDer<'_> = der.unwrap();
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            let from = certificate.validity().not_before.to_datetime();
            assert_eq!(from.year(), 2000, "{}", made.name);
        }
    }

    #[test]
    fn servers_names() {
        let places = [
            Place::Address([10, 0, 0, 7].into()),
            Place::Address([0, 0, 0, 0].into()),
            Place::Address([127, 0, 0, 1].into()),
            Place::Host("verifier.example".to_owned()),
            Place::Host("not a name".to_owned()),
        ];
        let names = server_names(&places);
        let has = |place: &str| names.iter().any(|name| format!("{name:?}").contains(place));
        for (place, wanted) in [
            ("\"server\"", true),
            ("\"localhost\"", true),
            ("10.0.0.7", true),
            ("verifier.example", true),
            ("0.0.0.0", false),
            ("not a name", false),
        ] {
            assert_eq!(has(place), wanted, "{place} in {names:?}");
        }
        let loopback = |name: &&SanType| **name == SanType::IpAddress([127, 0, 0, 1].into());
        assert_eq!(names.iter().filter(loopback).count(), 1);
    }

    #[test]
    fn encrypted_key_is_named() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cv_ca");
        Authority::open_or_create(&dir, &[]).unwrap();
        let pem =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        fs::write(dir.join(SERVER.private), pem).unwrap();
        let error = Authority::open(&dir).err().unwrap();
        assert!(matches!(error, PkiError::EncryptedKey { .. }), "{error}");
    }
}
