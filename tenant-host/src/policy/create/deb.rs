//! The files of a Debian package, without installing it.
//!
//! Source: deb(5).

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use agent_core::wire::quote::Digest;

use super::archive::ArchiveError;
use super::as_measured;
use super::cpio::Content;
use super::hash::FileHash;
use super::links::resolve;
use super::tar::{Kind, Tar};
use super::unpack::Packing;

const MAGIC: &[u8] = b"!<arch>\n";

/// The most files and links of a package.
const MAX_ENTRIES: usize = 1 << 20;

/// Directories that are links into `/usr` on today's systems, while packages may still name them.
///
/// Source: Debian's usrmerge.
const MERGED: [&str; 6] = ["/bin/", "/lib/", "/lib32/", "/lib64/", "/libx32/", "/sbin/"];

/// The files of a package by their paths. One below `/bin` and its like is also listed below `/usr`, where it really is on a
/// system whose `/usr` is merged.
///
/// # Errors
/// [`ArchiveError`].
pub fn read(
    package: &mut dyn BufRead,
    hash: FileHash,
) -> Result<BTreeMap<String, Digest>, ArchiveError> {
    let mut magic = [0; MAGIC.len()];
    package.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(ArchiveError::Expected {
            what: "Debian package",
            offset: 0,
        });
    }
    let mut offset = MAGIC.len() as u64;
    while let Some((name, size)) = member(package, offset)? {
        if let Some(suffix) = name.strip_prefix("data.tar") {
            let mut data = BufReader::new(Content::new(package, size));
            return match packing(suffix)? {
                Some(packing) => files(&mut *packing.open(&mut data)?, hash),
                None => files(&mut data, hash),
            };
        }
        // Members begin at even places.
        let size = size.saturating_add(size % 2);
        io::copy(&mut Content::new(package, size), &mut io::sink())?;
        offset = offset.saturating_add(60).saturating_add(size);
    }
    Err(ArchiveError::Missing("data.tar: is it a Debian package?"))
}

/// The next member's name and size.
fn member(package: &mut dyn BufRead, offset: u64) -> Result<Option<(String, u64)>, ArchiveError> {
    if package.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut header = [0; 60];
    package.read_exact(&mut header)?;
    let text = std::str::from_utf8(&header)
        .ok()
        .filter(|text| text.ends_with("`\n"));
    let text = text.ok_or(ArchiveError::Expected {
        what: "header of a member",
        offset,
    })?;
    let part = |start, end| text.get(start..end).unwrap_or_default().trim_end();
    let size = part(48, 58).parse().map_err(|_| ArchiveError::Number {
        field: "size",
        offset,
    })?;
    let name = part(0, 16).trim_end_matches('/');
    Ok(Some((name.to_owned(), size)))
}

fn packing(suffix: &str) -> Result<Option<Packing>, ArchiveError> {
    const TOOL: &str = "dpkg-deb -x FILE DIR";
    match suffix {
        "" => Ok(None),
        ".gz" => Ok(Some(Packing::Gzip)),
        ".xz" => Ok(Some(Packing::Xz)),
        ".zst" => Ok(Some(Packing::Zstd)),
        ".bz2" => Err(ArchiveError::Packed {
            with: "bzip2",
            tool: TOOL,
        }),
        ".lzma" => Err(ArchiveError::Packed {
            with: "lzma",
            tool: TOOL,
        }),
        _ => Err(ArchiveError::Packed {
            with: "an unknown format",
            tool: TOOL,
        }),
    }
}

fn files(data: &mut dyn Read, hash: FileHash) -> Result<BTreeMap<String, Digest>, ArchiveError> {
    let mut files = BTreeMap::new();
    let mut links = BTreeMap::new();
    let mut archive = Tar::new(data);
    let mut offset = 0_u64;
    while let Some(entry) = archive.next()? {
        offset = offset.saturating_add(1);
        let real = |name: &str| resolve(name, &|path| links.get(path).cloned());
        let path = real(&entry.name);
        match (entry.kind, path) {
            (Kind::Regular(size), Some(path)) => {
                let (digest, _) = hash.of(&mut archive.content(size))?;
                archive.advance(size)?;
                files.insert(path, digest);
            }
            (Kind::Regular(size) | Kind::Other(size), _) => {
                io::copy(&mut archive.content(size), &mut io::sink())?;
                archive.advance(size)?;
            }
            (Kind::HardLink(first), Some(path)) => {
                let digest = real(&first).and_then(|first| files.get(&first).cloned());
                let what = "earlier file that a hard link is to";
                let digest: Digest = digest.ok_or(ArchiveError::Expected { what, offset })?;
                files.insert(path, digest);
            }
            (Kind::Link(leads_to), Some(path)) => drop(links.insert(path, leads_to)),
            (Kind::HardLink(_) | Kind::Link(_), None) => {}
        }
        if files.len() + links.len() > MAX_ENTRIES {
            return Err(ArchiveError::Expected {
                what: "end after a million files",
                offset,
            });
        }
    }
    // Only the end of what is packed has its checksum.
    io::copy(data, &mut io::sink())?;
    let merged = |path: &String| MERGED.iter().any(|directory| path.starts_with(directory));
    let below_usr = files.iter().filter(|(path, _)| merged(path));
    let below_usr: Vec<_> = below_usr
        .map(|(path, digest)| (format!("/usr{path}"), digest.clone()))
        .collect();
    let all = files.into_iter().chain(below_usr);
    Ok(all
        .map(|(path, digest)| (as_measured(&path), digest))
        .collect())
}
