//! Making a CA: all of it in a directory beside its place, then one rename.
//!
//! Where the place already holds other files, ours are linked in one by one (which never replaces anything), the certificate
//! last; what was linked is taken back if one can't be.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{Issuer, SubjectPublicKeyInfo};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey};
use time::OffsetDateTime;

use super::keyfile::{self, Passphrase};
use super::{CaError, KeyType, crl, exists, issue, lock, names};

/// The CA's own serial number, the notifier's, and the first one of a node.
const SERIALS: (u64, u64, u64) = (1, 2, 3);

/// Bits of the notifier's RSA key; Keylime's receivers check revocations with RSA-PSS alone.
const NOTIFIER_BITS: usize = 2048;

/// Makes a CA at `directory`. False if another tenant was faster and it is there now.
///
/// # Errors
/// [`CaError::Half`] if some files of a CA are there without its certificate; [`CaError::Io`] where files can't be made.
pub(super) fn create(
    directory: &Path,
    key_type: KeyType,
    passphrase: Option<&Passphrase>,
    now: OffsetDateTime,
) -> Result<bool, CaError> {
    let parent = directory
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent)
        .map_err(|source| CaError::io("make the directory", parent, source))?;
    if is_missing_or_empty(directory)? {
        let staging = staging_in(parent)?;
        fill(staging.path(), key_type, passphrase, now)?;
        return move_into_place(staging, directory);
    }
    let _lock = lock(directory)?;
    if exists(&directory.join(names::CA_CERT))? {
        return Ok(false);
    }
    refuse_half(directory)?;
    let staging = staging_in(directory)?;
    fill(staging.path(), key_type, passphrase, now)?;
    link_into(staging.path(), directory)?;
    Ok(true)
}

fn is_missing_or_empty(directory: &Path) -> Result<bool, CaError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(CaError::io("read", directory, source)),
    }
}

/// A directory that nobody else can read, removed with all that is in it unless it was moved away.
fn staging_in(parent: &Path) -> Result<tempfile::TempDir, CaError> {
    tempfile::Builder::new()
        .prefix(".keyhalf-ca-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|source| CaError::io("write into", parent, source))
}

fn move_into_place(staging: tempfile::TempDir, directory: &Path) -> Result<bool, CaError> {
    match fs::rename(staging.path(), directory) {
        Ok(()) => {
            // It is the CA now: nothing is left to remove.
            let _moved: PathBuf = staging.keep();
            Ok(true)
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            Ok(false)
        }
        Err(source) => Err(CaError::io("make the directory", directory, source)),
    }
}

fn refuse_half(directory: &Path) -> Result<(), CaError> {
    let mut found = Vec::new();
    for name in names::ALL.into_iter().chain([names::KEYLIME_KEYS]) {
        if exists(&directory.join(name))? {
            found.push(name);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(CaError::Half {
        directory: directory.to_owned(),
        found,
    })
}

fn link_into(staging: &Path, directory: &Path) -> Result<(), CaError> {
    let mut linked: Vec<PathBuf> = Vec::new();
    for name in names::ALL {
        let target = directory.join(name);
        if let Err(source) = fs::hard_link(staging.join(name), &target) {
            for ours in &linked {
                // Ours, linked a moment ago; if it can't go, the next start reports half a CA.
                let _ = fs::remove_file(ours);
            }
            return Err(CaError::io("make", &target, source));
        }
        linked.push(target);
    }
    Ok(())
}

/// Makes all keys and certificates of a new CA in an empty directory.
fn fill(
    directory: &Path,
    key_type: KeyType,
    passphrase: Option<&Passphrase>,
    now: OffsetDateTime,
) -> Result<(), CaError> {
    let (ca_serial, notifier_serial, first_leaf) = SERIALS;
    let path = |name: &str| directory.join(name);
    let public = |name: &str, bytes: &[u8]| {
        keyfile::write_atomically(&path(name), bytes, 0o644)
            .map_err(|source| CaError::io("write", &path(name), source))
    };

    let key = key_type.generate()?;
    let params = issue::ca(ca_serial, now);
    let certificate = params.self_signed(&key)?;
    keyfile::write_private(&path(names::CA_PRIVATE), key.serialized_der(), passphrase)?;
    public(names::CA_PUBLIC, key.public_key_pem().as_bytes())?;
    let issuer = Issuer::new(params, key);

    let notifier = rsa::PrivateKey::new(&mut rand::rngs::SysRng, NOTIFIER_BITS)
        .map_err(|error| CaError::Issue(error.to_string()))?;
    let notifier_pkcs8 = notifier
        .to_pkcs8_der()
        .map_err(|error| CaError::Issue(error.to_string()))?;
    let notifier_spki = notifier
        .as_public_key()
        .to_public_key_der()
        .map_err(|error| CaError::Issue(error.to_string()))?;
    let notifier_certificate = issue::notifier(notifier_serial, now).signed_by(
        &SubjectPublicKeyInfo::from_der(notifier_spki.as_bytes())?,
        &issuer,
    )?;
    keyfile::write_private(
        &path(names::NOTIFIER_PRIVATE),
        notifier_pkcs8.as_bytes(),
        passphrase,
    )?;
    public(names::NOTIFIER_CERT, notifier_certificate.pem().as_bytes())?;

    crl::write(
        directory,
        &crl::sign(&issuer, 1, Vec::new(), crl::LIFE, now)?,
    )?;
    public(names::SERIAL, format!("{first_leaf}\n").as_bytes())?;
    public(names::CA_CERT, certificate.pem().as_bytes())
}
