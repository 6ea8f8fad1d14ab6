//! Certificates that the CA gives out: a node's, and any other's.

use std::net::IpAddr;
use std::path::PathBuf;

use agent_core::wire::text::Uuid;
use rcgen::{CertificateParams, KeyPair, SanType};
use time::{Duration, OffsetDateTime};

use super::files::serial_of;
use super::index::{Index, Issued, whole_seconds};
use super::issue::{self, LEAF_LIFE, Leaf, Usage};
use super::{
    CaDirectory, CaError, KeyType, NodeIdentity, Passphrase, exists, is_reserved, keyfile, names,
    read_text, signing_key, spki, with_certificate,
};

/// A certificate that has less than this left is issued anew.
const RENEW_BEFORE_END: Duration = Duration::days(30);

/// The longest common name.
///
/// Source: RFC 5280, appendix A.1, `ub-common-name`.
const MAX_NAME_CHARS: usize = 64;

/// What a certificate is to be for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafWish {
    /// Its name: the CN, and the names of its files.
    pub name: String,
    /// Its side of a connection.
    pub usage: Usage,
    /// The host names that it is good for.
    pub dns: Vec<String>,
    /// The addresses that it is good for.
    pub addresses: Vec<IpAddr>,
    /// How long it is valid; none is a year.
    pub life: Option<Duration>,
    /// Its key.
    pub key_type: KeyType,
}

/// A certificate that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What it is.
    pub issued: Issued,
    /// `NAME-cert.crt`.
    pub certificate: PathBuf,
    /// `NAME-private.pem`.
    pub private_key: PathBuf,
    /// Where it says that the revocation list is.
    pub list_url: Option<String>,
}

impl CaDirectory {
    /// The identity of a node: the one it has, or a new key and certificate if there is none, its end is near, or it was revoked.
    ///
    /// # Errors
    /// [`CaError`]; a serial number may be spent then, nothing else.
    pub fn identity(
        &self,
        uuid: &Uuid,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<NodeIdentity, CaError> {
        if is_reserved(uuid.as_str()) {
            return Err(CaError::ReservedName {
                name: uuid.to_string(),
            });
        }
        if !self.is_current(uuid.as_str(), now)? {
            let wish = LeafWish {
                name: uuid.to_string(),
                ..LeafWish::default()
            };
            self.issue(&wish, &[], passphrase, now)?;
        }
        let certificate_path = self.path_of(uuid.as_str(), CERTIFICATE);
        let private_path = self.path_of(uuid.as_str(), PRIVATE);
        let certificate_pem = read_text(&certificate_path)?;
        let private = keyfile::read_private(&private_path, passphrase)?;
        let key = signing_key(&private_path, private.as_bytes())?;
        let (serial, subject) =
            with_certificate(&certificate_path, &certificate_pem, |certificate| {
                if certificate.public_key().raw != spki(&key).as_slice() {
                    return Err(CaError::certificate(
                        &certificate_path,
                        "isn't of the private key beside it",
                    ));
                }
                Ok((serial_of(certificate), certificate.subject().to_string()))
            })?;
        let notifier =
            keyfile::read_private(&self.path().join(names::NOTIFIER_PRIVATE), passphrase)?;
        let list = self.list(0, now)?;
        Ok(NodeIdentity {
            public_pem: key.public_key_pem(),
            certificate_pem,
            private_pem: keyfile::clear_pem(&private)?,
            ca_certificate_pem: self.files.certificate_pem().to_owned(),
            crl_der: list.der,
            crl_pem: list.pem,
            notifier_certificate_pem: self.files.notifier_pem()?,
            notifier_private_pem: keyfile::clear_pem(&notifier)?,
            log_start: None,
            serial,
            subject,
        })
    }

    /// Makes a certificate and its key: `NAME-cert.crt`, `NAME-private.pem` and `NAME-public.pem`.
    ///
    /// # Errors
    /// [`CaError::StillValid`] if there is one of that name that hasn't ended and isn't revoked, [`CaError::Taken`] where
    /// other files have those names; they stay as they are.
    pub fn make(
        &self,
        wish: &LeafWish,
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<Certificate, CaError> {
        check_name(&wish.name)?;
        if self.is_current(&wish.name, now)? {
            return Err(CaError::StillValid {
                name: wish.name.clone(),
            });
        }
        let hosts = hosts(wish)?;
        let issued = self.issue(wish, &hosts, passphrase, now)?;
        Ok(Certificate {
            issued,
            certificate: self.path_of(&wish.name, CERTIFICATE),
            private_key: self.path_of(&wish.name, PRIVATE),
            list_url: self.list_url.clone(),
        })
    }

    fn path_of(&self, name: &str, suffix: &str) -> PathBuf {
        self.path().join(format!("{name}{suffix}"))
    }

    /// Whether there is a certificate of that name by this CA which has some time left and isn't revoked.
    fn is_current(&self, name: &str, now: OffsetDateTime) -> Result<bool, CaError> {
        let path = self.path_of(name, CERTIFICATE);
        if !exists(&path)? {
            return Ok(false);
        }
        let pem = read_text(&path)?;
        if !self
            .files
            .lasts_until(&path, &pem, now + RENEW_BEFORE_END)?
        {
            return Ok(false);
        }
        let serial = with_certificate(&path, &pem, |certificate| Ok(serial_of(certificate)))?;
        Ok(!self.files.index()?.is_revoked(serial))
    }

    /// Issues a certificate. Where there is none of that name yet, no file is replaced.
    fn issue(
        &self,
        wish: &LeafWish,
        hosts: &[SanType],
        passphrase: Option<&Passphrase>,
        now: OffsetDateTime,
    ) -> Result<Issued, CaError> {
        let is_new = !exists(&self.path_of(&wish.name, CERTIFICATE))?;
        for suffix in [PRIVATE, PUBLIC] {
            let path = self.path_of(&wish.name, suffix);
            if is_new && exists(&path)? {
                return Err(CaError::Taken { path });
            }
        }
        let (serial, mut index) = self.begin_issue()?;
        let key = wish.key_type.generate()?;
        let leaf = Leaf {
            name: &wish.name,
            usage: wish.usage,
            hosts,
            life: wish.life.unwrap_or(LEAF_LIFE),
            ca_end: self.files.end()?,
            is_rsa: matches!(wish.key_type, KeyType::Rsa(_)),
            list_url: self.list_url.as_deref(),
        };
        let params = issue::leaf(&leaf, serial, now);
        self.keep(&params, &wish.name, &key, passphrase)?;
        // Noted once its files are there, before anybody gets it.
        self.note(&mut index, &wish.name, serial, &params)
    }

    fn keep(
        &self,
        params: &CertificateParams,
        name: &str,
        key: &KeyPair,
        passphrase: Option<&Passphrase>,
    ) -> Result<(), CaError> {
        let certificate = params.signed_by(key, &self.issuer)?;
        let private = self.path_of(name, PRIVATE);
        keyfile::write_private(&private, key.serialized_der(), passphrase)?;
        for (path, text) in [
            (self.path_of(name, PUBLIC), key.public_key_pem()),
            (self.path_of(name, CERTIFICATE), certificate.pem()),
        ] {
            keyfile::write_atomically(&path, text.as_bytes(), 0o644)
                .map_err(|source| CaError::io("write", &path, source))?;
        }
        Ok(())
    }

    /// A serial number, and the index that the certificate is to be noted in.
    pub(super) fn begin_issue(&self) -> Result<(u64, Index), CaError> {
        let index = self.files.index()?;
        Ok((self.take_serial(&index)?, index))
    }

    /// Notes a certificate in the index.
    pub(super) fn note(
        &self,
        index: &mut Index,
        name: &str,
        serial: u64,
        params: &CertificateParams,
    ) -> Result<Issued, CaError> {
        let issued = Issued {
            serial,
            name: name.to_owned(),
            not_after: whole_seconds(params.not_after),
            revoked: None,
        };
        index.add(issued.clone());
        index.write(self.path())?;
        Ok(issued)
    }
}

pub(super) const CERTIFICATE: &str = "-cert.crt";
pub(super) const PRIVATE: &str = "-private.pem";
const PUBLIC: &str = "-public.pem";

/// A name that is a file's, a certificate's and an option's value without doubt.
fn check_name(name: &str) -> Result<(), CaError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if is_reserved(name) {
        return Err(CaError::ReservedName {
            name: name.to_owned(),
        });
    }
    let is_name = (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(['.', '-']);
    match is_name {
        true => Ok(()),
        false => Err(CaError::BadName {
            name: name.to_owned(),
        }),
    }
}

/// The names and addresses that a certificate is good for. Without any, a server's is good for its own name: TLS clients look at
/// nothing else.
fn hosts(wish: &LeafWish) -> Result<Vec<SanType>, CaError> {
    let mut hosts = Vec::new();
    let dns = |name: &str| match name.try_into() {
        Ok(text) if is_host(name) => Ok(SanType::DnsName(text)),
        _ => Err(CaError::BadHost {
            name: name.to_owned(),
        }),
    };
    for name in &wish.dns {
        hosts.push(dns(name)?);
    }
    hosts.extend(wish.addresses.iter().copied().map(SanType::IpAddress));
    if hosts.is_empty() && wish.usage != Usage::Client {
        match wish.name.parse() {
            Ok(address) => hosts.push(SanType::IpAddress(address)),
            Err(_) if is_host(&wish.name) => hosts.push(dns(&wish.name)?),
            Err(_) => {}
        }
    }
    Ok(hosts)
}

/// Source: RFC 1123 section 2.1; one `*` may stand for the first label (RFC 6125 section 6.4.3).
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    rest.len() <= 253 && rest.split('.').all(label)
}
