//! The `--cert` package: a zip of the node's identity, then what was included.
//!
//! Source: Keylime's `ca_util.cmd_certpkg` has these names, this order and these modes.

use std::io::{Cursor, Write};

use agent_core::wire::limits::{MAX_RATIO, RATIO_FREE_BYTES};
use zeroize::Zeroizing;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Entry, EntryKind, SealError};
use crate::ca::NodeIdentity;

/// Files of the package's own.
pub(super) const OWN_FILES: usize = 7;

/// Files smaller than this are stored: deflate gains nothing there.
const DEFLATE_FROM_BYTES: usize = 256;

/// Room for an entry's two headers beside its content and its name, twice; zip's are 30 and 46 bytes, with extra fields.
const HEADER_BYTES: usize = 256;

/// Packs the identity and the included tree. Returns the zip and what it unpacks to, in bytes.
///
/// # Errors
/// [`SealError::Taken`] if the tree has a file of the package's own; [`SealError::Zip`].
pub fn package(
    uuid: &str,
    identity: &NodeIdentity,
    included: &[Entry],
) -> Result<(Zeroizing<Vec<u8>>, u64), SealError> {
    let (zip, unpacked) = pack(uuid, identity, included, CompressionMethod::Deflated)?;
    // Agents take what shrinks too well for a bomb.
    if unpacked > RATIO_FREE_BYTES.saturating_add((zip.len() as u64).saturating_mul(MAX_RATIO)) {
        return pack(uuid, identity, included, CompressionMethod::Stored);
    }
    Ok((zip, unpacked))
}

fn pack(
    uuid: &str,
    identity: &NodeIdentity,
    included: &[Entry],
    large_files: CompressionMethod,
) -> Result<(Zeroizing<Vec<u8>>, u64), SealError> {
    let own = own_files(uuid, identity);
    for entry in included {
        if own.iter().any(|(name, _)| *name == entry.name) {
            return Err(SealError::Taken {
                name: entry.name.clone(),
            });
        }
    }
    // Written once, never grown: growing would leave copies of secrets behind.
    let mut writer = ZipWriter::new(Cursor::new(Vec::with_capacity(room(&own, included))));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut unpacked = 0;
    for (name, content) in &own {
        writer.start_file(name.as_str(), stored.unix_permissions(0o600))?;
        writer
            .write_all(content)
            .map_err(zip::result::ZipError::from)?;
        unpacked += content.len();
    }
    for entry in included {
        let options = stored.unix_permissions(entry.mode);
        match &entry.kind {
            EntryKind::Directory => writer.add_directory(entry.name.as_str(), options)?,
            EntryKind::File(content) => {
                let method = if content.len() < DEFLATE_FROM_BYTES {
                    CompressionMethod::Stored
                } else {
                    large_files
                };
                writer.start_file(entry.name.as_str(), options.compression_method(method))?;
                writer
                    .write_all(content)
                    .map_err(zip::result::ZipError::from)?;
                unpacked += content.len();
            }
        }
    }
    let zip = Zeroizing::new(writer.finish()?.into_inner());
    Ok((zip, unpacked as u64))
}

fn own_files<'a>(uuid: &str, identity: &'a NodeIdentity) -> [(String, &'a [u8]); OWN_FILES] {
    [
        (format!("{uuid}-public.pem"), identity.public_pem.as_bytes()),
        (
            format!("{uuid}-cert.crt"),
            identity.certificate_pem.as_bytes(),
        ),
        (
            format!("{uuid}-private.pem"),
            identity.private_pem.as_bytes(),
        ),
        (
            "cacert.crt".to_owned(),
            identity.ca_certificate_pem.as_bytes(),
        ),
        ("cacrl.der".to_owned(), &identity.crl_der),
        ("cacrl.pem".to_owned(), &identity.crl_pem),
        (
            "RevocationNotifier-cert.crt".to_owned(),
            identity.notifier_certificate_pem.as_bytes(),
        ),
    ]
}

/// What the zip takes at most. Deflate can grow what doesn't compress, by five bytes for each block of 16 KiB at worst.
fn room(own: &[(String, &[u8])], included: &[Entry]) -> usize {
    let sizes = own
        .iter()
        .map(|(name, content)| (name.len(), content.len()));
    let tree = included.iter().map(|entry| {
        let size = match &entry.kind {
            EntryKind::Directory => 0,
            EntryKind::File(content) => content.len() + content.len() / 1024,
        };
        (entry.name.len(), size)
    });
    sizes
        .chain(tree)
        .map(|(name, content)| 2 * name + content + HEADER_BYTES)
        .sum::<usize>()
        + HEADER_BYTES
}
