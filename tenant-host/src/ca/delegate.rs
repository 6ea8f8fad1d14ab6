//! A key that signs revocation lists in the CA's name, for a verifier that has to do it at once.

use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::index::{Revoked, whole_seconds};
use super::{
    CaDirectory, CaError, KeyType, Reason, exists, issue, keyfile, names, read_text,
    with_certificate,
};
use crate::ca::files::serial_of;

/// How long such a key may sign, unless the operator says otherwise.
const LIFE: Duration = Duration::days(90);

/// The certificate and the key.
pub struct ListSigner {
    /// PEM.
    pub certificate_pem: String,
    /// PKCS#8 in PEM, in clear.
    pub private_pem: Zeroizing<String>,
    /// Its serial number.
    pub serial: u64,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

impl ListSigner {
    /// Writes both into a directory, made if there is none, where there are no files of their names.
    ///
    /// # Errors
    /// [`CaError::Io`].
    pub fn write(&self, directory: &std::path::Path) -> Result<(), CaError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| CaError::io("make the directory", directory, source))?;
        let rows = [
            (
                names::LIST_SIGNER_PRIVATE,
                self.private_pem.as_bytes(),
                0o600,
            ),
            (
                names::LIST_SIGNER_CERT,
                self.certificate_pem.as_bytes(),
                0o644,
            ),
        ];
        for (name, bytes, mode) in rows {
            let path = directory.join(name);
            keyfile::write_new(&path, bytes, mode)
                .map_err(|source| CaError::io("write", &path, source))?;
        }
        Ok(())
    }
}

/// Whether a list signer can be written into a directory.
///
/// # Errors
/// [`CaError::InTheWay`] if a file of its names is there.
pub fn has_room_for_signer(directory: &std::path::Path) -> Result<(), CaError> {
    for name in [names::LIST_SIGNER_PRIVATE, names::LIST_SIGNER_CERT] {
        let path = directory.join(name);
        if exists(&path)? {
            return Err(CaError::InTheWay { path });
        }
    }
    Ok(())
}

impl CaDirectory {
    /// Makes a key that may sign revocation lists, and nothing else. The directory keeps its certificate alone; that of an older
    /// one counts as superseded.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn list_signer(
        &self,
        life: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<ListSigner, CaError> {
        let superseded = "superseded".parse().unwrap_or(Reason::UNSPECIFIED);
        self.end_list_signer(superseded, now)?;
        let (serial, mut index) = self.begin_issue()?;
        let key = KeyType::P256.generate()?;
        // Whoever looks for the issuer's name in a list has to find it.
        let name = self.files.name()?;
        let mut params = issue::list_signer(&name, serial, now, life.unwrap_or(LIFE));
        params.not_after = params.not_after.min(self.files.end()?);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let path = self.path().join(names::LIST_SIGNER_CERT);
        keyfile::write_atomically(&path, certificate.pem().as_bytes(), 0o644)
            .map_err(|source| CaError::io("write", &path, source))?;
        let issued = self.note(&mut index, &name, serial, &params)?;
        Ok(ListSigner {
            certificate_pem: certificate.pem(),
            private_pem: Zeroizing::new(key.serialize_pem()),
            serial,
            not_after: issued.not_after,
        })
    }

    /// Revokes the certificate of the present list signer. False if there is none.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn end_list_signer(&self, reason: Reason, now: OffsetDateTime) -> Result<bool, CaError> {
        let path = self.path().join(names::LIST_SIGNER_CERT);
        if !exists(&path)? {
            return Ok(false);
        }
        let serial = with_certificate(&path, &read_text(&path)?, |found| Ok(serial_of(found)))?;
        let mut index = self.files.full_index()?;
        let at = whole_seconds(now);
        let ended = index.revoke(serial, Revoked { at, reason });
        index.write(self.path())?;
        Ok(ended)
    }
}
