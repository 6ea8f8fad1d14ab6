//! A list in its place: the whole of a newer one, or the one that was there.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use super::list::List;
use crate::{files, pem};

/// Writes a list, unless one of the same issuer is there whose number is as high: whether it was written.
pub(super) fn put(path: &Path, list: &List<'_>, der: &[u8]) -> io::Result<bool> {
    let is_der = path.extension().is_some_and(|end| end == "der");
    let there = match files::read(path, MAX_LIST_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        there => there?,
    };
    let there = if is_der {
        there
    } else {
        // What can't be read is no list that counts.
        CertificateRevocationListDer::from_pem_slice(&there)
            .map_or_else(|_| Vec::new(), |list| list.to_vec())
    };
    if let Some(there) = List::read(&there)
        && there.issuer == list.issuer
        && !list.number.is_above(there.number)
    {
        return Ok(false);
    }
    if is_der {
        files::replace(path, der, MODE)?;
    } else {
        let text = pem::encode("X509 CRL", der);
        files::replace(path, text.as_bytes(), MODE)?;
    }
    Ok(true)
}

/// The longest list that is read from a file; what travels in an entry is far shorter.
const MAX_LIST_BYTES: usize = 16 << 20;
/// A list is for everyone.
const MODE: u32 = 0o644;
