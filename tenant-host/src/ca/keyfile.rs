//! Private keys on disk: PKCS#8 in PEM, mode 0600, encrypted (PBES2: scrypt and AES-256-CBC) when there is a passphrase.
//!
//! The format is the standard's so that `openssl pkey` opens it too; nothing of ours has to be believed.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pkcs8::der::pem::PemLabel;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

use super::CaError;

/// What protects the private keys of a CA directory: wiped on drop, never shown.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes the text; one newline at its end, as files have it, doesn't belong to it. `None` if nothing is left.
    #[must_use]
    pub fn new(mut text: Zeroizing<String>) -> Option<Self> {
        if text.ends_with('\n') {
            text.pop();
        }
        if text.ends_with('\r') {
            text.pop();
        }
        (!text.is_empty()).then_some(Self(text))
    }
}

/// Writes a private key (PKCS#8 DER) as PEM, readable by its owner alone; an older file of that name is replaced in one step.
///
/// # Errors
/// [`CaError::Io`] if the file can't be written, [`CaError::Key`] if the key isn't PKCS#8.
pub(super) fn write_private(
    path: &Path,
    pkcs8: &[u8],
    passphrase: Option<&Passphrase>,
) -> Result<(), CaError> {
    let pem = encode(path, pkcs8, passphrase)?;
    write_atomically(path, pem.as_bytes(), 0o600)
        .map_err(|source| CaError::io("write", path, source))
}

/// Writes a private key as [`write_private`] does, where there is no file of that name.
///
/// # Errors
/// As [`write_private`]; [`CaError::Io`] if there is such a file, which stays as it is.
pub(super) fn write_new_private(
    path: &Path,
    pkcs8: &[u8],
    passphrase: Option<&Passphrase>,
) -> Result<(), CaError> {
    let pem = encode(path, pkcs8, passphrase)?;
    write_new(path, pem.as_bytes(), 0o600).map_err(|source| CaError::io("write", path, source))
}

fn encode(
    path: &Path,
    pkcs8: &[u8],
    passphrase: Option<&Passphrase>,
) -> Result<Zeroizing<String>, CaError> {
    let info =
        PrivateKeyInfoRef::try_from(pkcs8).map_err(|_| CaError::key(path, "isn't PKCS#8"))?;
    match passphrase {
        Some(passphrase) => info.encrypt(passphrase.0.as_bytes()).and_then(|document| {
            Ok(document.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)?)
        }),
        None => SecretDocument::encode_msg(&info)
            .and_then(|document| document.to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF))
            .map_err(pkcs8::Error::from),
    }
    .map_err(|_| CaError::key(path, "can't be encoded"))
}

/// Reads a private key back as PKCS#8 DER.
///
/// # Errors
/// [`CaError::PassphraseNeeded`] and [`CaError::PassphraseWrong`] for an encrypted key, [`CaError::NotEncrypted`] for a clear
/// one that a passphrase is given for, [`CaError::Key`] for anything that
/// isn't a PKCS#8 key in PEM.
pub(super) fn read_private(
    path: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<SecretDocument, CaError> {
    let pem = Zeroizing::new(
        std::fs::read_to_string(path).map_err(|source| CaError::io("read", path, source))?,
    );
    let (label, document) = SecretDocument::from_pem(&pem)
        .map_err(|_| CaError::key(path, "isn't a private key in PEM"))?;
    if label == PrivateKeyInfoRef::PEM_LABEL {
        if passphrase.is_some() {
            return Err(CaError::NotEncrypted {
                path: path.to_owned(),
            });
        }
        return Ok(document);
    }
    if label != EncryptedPrivateKeyInfoRef::PEM_LABEL {
        return Err(CaError::key(
            path,
            "isn't PKCS#8 (`openssl pkcs8 -topk8` converts it)",
        ));
    }
    let passphrase = passphrase.ok_or_else(|| CaError::PassphraseNeeded {
        path: path.to_owned(),
    })?;
    EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|_| CaError::key(path, "is damaged"))?
        .decrypt(passphrase.0.as_bytes())
        .map_err(|_| CaError::PassphraseWrong {
            path: path.to_owned(),
        })
}

/// Writes a file whole or not at all, with this mode.
pub(super) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    staged(path, bytes, mode)?.persist(path)?;
    Ok(())
}

/// Writes a file whole or not at all, and only where there is none of its name.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    staged(path, bytes, mode)?.persist_noclobber(path)?;
    Ok(())
}

fn staged(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// The key as PEM in clear, for the package of the node it belongs to.
pub(super) fn clear_pem(key: &SecretDocument) -> Result<Zeroizing<String>, CaError> {
    key.to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .map_err(|error| CaError::Issue(error.to_string()))
}
