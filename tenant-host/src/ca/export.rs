//! Handing a certificate out: the files that a server or a client is configured with.

use std::path::{Path, PathBuf};

use super::leaf::{CERTIFICATE, PRIVATE};
use super::{CaError, CaFiles, Passphrase, exists, keyfile, names, read_text};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// `NAME.crt`: the certificate, then the CA's.
    pub certificate: PathBuf,
    /// `NAME.key`: the private key, mode 0600.
    pub private_key: PathBuf,
    /// `ca.crt`: the CA's certificate.
    pub ca: PathBuf,
    /// `ca.crl`: the revocation list as it is now.
    pub list: PathBuf,
    /// Whether the key is encrypted.
    pub is_encrypted: bool,
}

impl CaFiles {
    /// Writes a certificate, its key, the CA's certificate and the list into a directory, all in PEM. With `decrypt`, the key is
    /// in clear there; else it is as it is here.
    ///
    /// # Errors
    /// [`CaError::Unknown`] if there is no such certificate; [`CaError::Io`] where a file is there already and isn't to be
    /// replaced.
    pub fn export(
        &self,
        name: &str,
        directory: &Path,
        decrypt: Option<Option<&Passphrase>>,
        replace: bool,
    ) -> Result<Exported, CaError> {
        let source = |suffix: &str| self.path().join(format!("{name}{suffix}"));
        let (certificate, private) = (source(CERTIFICATE), source(PRIVATE));
        // A name that leads elsewhere is none of a certificate.
        if name.contains('/') || !exists(&certificate)? {
            return Err(CaError::Unknown {
                which: name.to_owned(),
            });
        }
        let chain = format!("{}{}", read_text(&certificate)?, self.certificate_pem());
        let key = match decrypt {
            Some(passphrase) => keyfile::clear_pem(&keyfile::read_private(&private, passphrase)?)?,
            None => read_text(&private)?.into(),
        };
        std::fs::create_dir_all(directory)
            .map_err(|source| CaError::io("make the directory", directory, source))?;
        let target = |name: &str| directory.join(name);
        let exported = Exported {
            certificate: target(&format!("{name}.crt")),
            private_key: target(&format!("{name}.key")),
            ca: target("ca.crt"),
            list: target("ca.crl"),
            is_encrypted: key.contains("BEGIN ENCRYPTED"),
        };
        let list = read_text(&self.path().join(names::CRL_PEM))?;
        let rows = [
            (&exported.certificate, chain.as_str(), 0o644),
            (&exported.private_key, key.as_str(), 0o600),
            (&exported.ca, self.certificate_pem(), 0o644),
            (&exported.list, &list, 0o644),
        ];
        for (path, _, _) in rows {
            if !replace && exists(path)? {
                return Err(CaError::InTheWay { path: path.clone() });
            }
        }
        for (path, text, mode) in rows {
            let write = match replace {
                true => keyfile::write_atomically,
                false => keyfile::write_new,
            };
            write(path, text.as_bytes(), mode)
                .map_err(|source| CaError::io("write", path, source))?;
        }
        Ok(exported)
    }
}
