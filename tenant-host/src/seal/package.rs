//! The `--cert` package: a zip of the node's identity, then what was included.
//!
//! Source: Keylime's `ca_util.cmd_certpkg` has these names, this order and these modes.

use std::fs::File;
use std::io::{Cursor, Seek, Write};

use agent_core::wire::limits::{MAX_RATIO, RATIO_FREE_BYTES};
use zeroize::Zeroizing;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Entry, EntryKind, SealError};
use crate::ca::NodeIdentity;

/// Files of the package's own, at most.
pub(super) const OWN_FILES: usize = 8;

/// Where the node begins to read its revocation log.
///
/// Source: agent-core's `docs/revocation.md`.
const LOG_START: &str = "revocation_log.json";

/// Files smaller than this are stored: deflate gains nothing there.
const DEFLATE_FROM_BYTES: u64 = 256;

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
    if is_bomb(unpacked, zip.len() as u64) {
        return pack(uuid, identity, included, CompressionMethod::Stored);
    }
    Ok((zip, unpacked))
}

/// Packs what goes to a node into a file, which is empty before: the identity, if there is one, and the included entries.
/// Returns what it unpacks to, in bytes.
///
/// # Errors
/// As [`package`], and those of the entries that are read now.
pub fn package_into(
    mut file: &File,
    identity: Option<(&str, &NodeIdentity)>,
    included: &[Entry],
) -> Result<u64, SealError> {
    let own = identity.map(|(uuid, identity)| own_files(uuid, identity));
    let own = own.as_deref().unwrap_or_default();
    let io = zip::result::ZipError::from;
    let mut unpacked = write(file, own, included, CompressionMethod::Deflated)?.1;
    if is_bomb(unpacked, file.stream_position().map_err(io)?) {
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        unpacked = write(file, own, included, CompressionMethod::Stored)?.1;
    }
    Ok(unpacked)
}

/// Agents take what shrinks too well for a bomb.
const fn is_bomb(unpacked: u64, packed: u64) -> bool {
    unpacked > RATIO_FREE_BYTES.saturating_add(packed.saturating_mul(MAX_RATIO))
}

fn pack(
    uuid: &str,
    identity: &NodeIdentity,
    included: &[Entry],
    large_files: CompressionMethod,
) -> Result<(Zeroizing<Vec<u8>>, u64), SealError> {
    let own = own_files(uuid, identity);
    // Written once, never grown: growing would leave copies of secrets behind.
    let room = Cursor::new(Vec::with_capacity(room(&own, included)));
    let (zip, unpacked) = write(room, &own, included, large_files)?;
    Ok((Zeroizing::new(zip.into_inner()), unpacked))
}

fn write<W: Write + Seek>(
    out: W,
    own: &[(String, &[u8])],
    included: &[Entry],
    large_files: CompressionMethod,
) -> Result<(W, u64), SealError> {
    for entry in included {
        if own.iter().any(|(name, _)| *name == entry.name) {
            return Err(SealError::Taken {
                name: entry.name.clone(),
            });
        }
    }
    let mut writer = ZipWriter::new(out);
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut unpacked = 0;
    for (name, content) in own {
        writer.start_file(name.as_str(), stored.unix_permissions(0o600))?;
        writer
            .write_all(content)
            .map_err(zip::result::ZipError::from)?;
        unpacked += content.len() as u64;
    }
    for entry in included {
        let options = stored.unix_permissions(entry.mode);
        let name = entry.name.as_str();
        let size = entry.kind.size();
        let method = if size < DEFLATE_FROM_BYTES {
            CompressionMethod::Stored
        } else {
            large_files
        };
        let options_of_file = options.compression_method(method);
        match &entry.kind {
            EntryKind::Directory => writer.add_directory(name, options)?,
            EntryKind::File(content) => {
                writer.start_file(name, options_of_file)?;
                writer
                    .write_all(content)
                    .map_err(zip::result::ZipError::from)?;
            }
            EntryKind::Later(file) => {
                writer.start_file(name, options_of_file)?;
                file.write_to(&mut writer)?;
            }
        }
        unpacked += size;
    }
    Ok((writer.finish()?, unpacked))
}

/// Keylime's files in Keylime's order, then ours.
fn own_files<'a>(uuid: &str, identity: &'a NodeIdentity) -> Vec<(String, &'a [u8])> {
    let mut files = vec![
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
    ];
    if let Some(start) = &identity.log_start {
        files.push((LOG_START.to_owned(), start.as_bytes()));
    }
    files
}

/// What the zip takes at most. Deflate can grow what doesn't compress, by five bytes for each block of 16 KiB at worst.
fn room(own: &[(String, &[u8])], included: &[Entry]) -> usize {
    let sizes = own
        .iter()
        .map(|(name, content)| (name.len(), content.len()));
    let tree = included.iter().map(|entry| {
        let size = match &entry.kind {
            EntryKind::Directory | EntryKind::Later(_) => 0,
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
