//! Revocation lists of the tenant's authority: read, checked, and put in the place of older ones.
//!
//! A list counts if its issuer is the authority, and its signature too, or that of a certificate to which the authority has
//! given this right. It replaces a list with a lower number and no other, so that an old one can't come back. Dates are not
//! asked for: a node's clock may be wrong, and nothing is taken back by a list that is too old.

mod list;
mod place;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::files;
pub(crate) use list::Certificate;
use list::List;

/// The authority's certificate in a payload.
///
/// Source: Keylime's `--cert` package.
pub const CA_FILE: &str = "cacert.crt";

/// The list in a payload, as DER and as PEM.
///
/// Source: Keylime's `--cert` package.
pub const LIST_FILES: [&str; 2] = ["cacrl.der", "cacrl.pem"];

/// Whose lists are taken, and where they go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRules {
    /// The authority's certificate, if it isn't the payload's.
    pub authority: Option<PathBuf>,
    /// A file beside the payload's.
    pub file: Option<PathBuf>,
}

/// A list that has come, in DER.
pub(crate) struct Offered {
    /// It.
    pub(crate) list: Vec<u8>,
    /// The certificate of its signer, if that isn't the authority.
    pub(crate) signer: Option<Vec<u8>>,
}

impl ListRules {
    /// Puts a list in its places: how many of them hold an older one, or none.
    ///
    /// # Errors
    /// [`ListError`]: it doesn't count, or can't be written to one of them.
    pub(crate) fn update(&self, unzipped: &Path, offered: &Offered) -> Result<usize, ListError> {
        let configured = self.authority.as_deref();
        let path = unzipped.join(configured.unwrap_or(CA_FILE.as_ref()));
        let text = files::read(&path, MAX_CERTIFICATE_BYTES);
        let text = text.map_err(|error| ListError::Read(path.clone(), error))?;
        let authority = CertificateDer::from_pem_slice(&text).ok();
        let authority = authority.as_deref().and_then(Certificate::read);
        let authority = authority.ok_or(ListError::NoAuthority(path))?;
        let list = List::read(&offered.list).ok_or(ListError::Malformed("the list"))?;
        let signer = match &offered.signer {
            None => authority,
            Some(der) => Certificate::read(der)
                .ok_or(ListError::Malformed("its signer's certificate"))?
                .delegated_by(&authority)?,
        };
        list.check(&authority, &signer)?;

        let mut places: Vec<PathBuf> = Vec::new();
        if unzipped.is_dir() {
            places.extend(LIST_FILES.map(|name| unzipped.join(name)));
        }
        places.extend(self.file.clone());
        if places.is_empty() {
            return Err(ListError::NoPlace);
        }
        let (mut written, mut fault) = (0, None);
        for path in places {
            // One that can't be written keeps no other from being written.
            match place::put(&path, &list, &offered.list) {
                Ok(is_newer) => written += usize::from(is_newer),
                Err(error) => fault = Some(ListError::Write(path, error)),
            }
        }
        fault.map_or(Ok(written), Err)
    }
}

/// Why a list isn't in its places.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListError {
    /// The authority's certificate can't be read.
    Read(PathBuf, io::Error),
    /// It isn't one.
    NoAuthority(PathBuf),
    /// This isn't what it should be.
    Malformed(&'static str),
    /// Its issuer is another than the authority.
    Issuer,
    /// The authority hasn't given its signer the right.
    Signer,
    /// Its signature isn't the signer's, or by an algorithm that this build doesn't know.
    Signature,
    /// There is neither a payload nor a configured file.
    NoPlace,
    /// A file can't be written.
    Write(PathBuf, io::Error),
}

impl ListError {
    /// The exit code that says so: 1 for a list that doesn't count, 2 for one that can't be written.
    pub(crate) const fn code(&self) -> i32 {
        match self {
            Self::NoPlace | Self::Write(..) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{} can't be read: {error}", path.display()),
            Self::NoAuthority(path) => write!(f, "{} is no certificate", path.display()),
            Self::Malformed(what) => write!(f, "{what} can't be read"),
            Self::Issuer => f.write_str("the list's issuer isn't the authority"),
            Self::Signer => f.write_str("the authority hasn't allowed the signer to sign lists"),
            Self::Signature => {
                f.write_str("the list's signature isn't the authority's, or of an unknown kind")
            }
            Self::NoPlace => f.write_str("there is no payload, and no crl_path is set"),
            Self::Write(path, error) => write!(f, "{} can't be written: {error}", path.display()),
        }
    }
}

impl std::error::Error for ListError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) | Self::Write(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Room for a certificate in PEM.
pub(crate) const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
