//! The files of an initramfs image: cpio archives one after another, packed or not, as the kernel reads them.
//!
//! Source: `unpack_to_rootfs` in `init/initramfs.c` of Linux.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

use agent_core::wire::quote::Digest;

use super::archive::ArchiveError;
use super::cpio::{Content, Cpio, Entry, Kind};
use super::hash::FileHash;
use super::links::resolve;
use super::unpack::Packing;
use super::{MAX_PATH_BYTES, as_measured};

/// The first bytes of an archive that isn't packed.
const CPIO: &[u8] = b"0707";

/// What shows how an archive is packed.
const MAGIC_BYTES: usize = 6;

/// The most files and links of an image; a distribution's has some thousands.
const MAX_ENTRIES: usize = 1 << 20;

/// The files of an image by their paths on the running system, each with the digest that the last archive gives it.
///
/// # Errors
/// [`ArchiveError`], by its place in the archive that it is in.
pub fn read(
    image: &mut (impl BufRead + Seek),
    hash: FileHash,
) -> Result<BTreeMap<String, Digest>, ArchiveError> {
    let mut root = Root {
        hash,
        files: BTreeMap::new(),
        links: BTreeMap::new(),
        linked: BTreeMap::new(),
    };
    let mut archives = 0_u64;
    loop {
        let offset = skip_zeros(image)?;
        let mut first = Vec::new();
        image
            .by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut first)?;
        image.seek(SeekFrom::Start(offset))?;
        if first.is_empty() {
            break;
        }
        archives = archives.saturating_add(1);
        if first.starts_with(CPIO) {
            root.unpack(image, offset, &[])?;
        } else {
            let packing = Packing::of(&first).ok_or(ArchiveError::Expected {
                what: "cpio archive, packed or not",
                offset,
            })?;
            root.unpack_all(&mut *packing.open(image)?)?;
        }
    }
    if archives == 0 {
        return Err(ArchiveError::Missing("archive"));
    }
    Ok(root.files)
}

/// Goes to the first byte that isn't zero.
fn skip_zeros(image: &mut (impl BufRead + Seek)) -> io::Result<u64> {
    loop {
        let bytes = image.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let done = zeros < bytes.len() || bytes.is_empty();
        image.consume(zeros);
        if done {
            return image.stream_position();
        }
    }
}

/// The file system that the kernel would have.
struct Root {
    hash: FileHash,
    files: BTreeMap<String, Digest>,
    links: BTreeMap<String, String>,
    /// Paths of one file in the present archive.
    linked: BTreeMap<(u32, u32, u32), Vec<String>>,
}

impl Root {
    /// All archives of a packed stream, which is read to its end.
    fn unpack_all(&mut self, stream: &mut dyn Read) -> Result<(), ArchiveError> {
        let mut offset = 0_u64;
        let mut byte = [0];
        while read_one(stream, &mut byte)? {
            if byte != [0] {
                offset = self.unpack(stream, offset, &byte)?;
            } else {
                offset = offset.saturating_add(1);
            }
        }
        Ok(())
    }

    /// One archive, whose first bytes may have been read already. Returns where it ends.
    fn unpack(
        &mut self,
        source: &mut dyn Read,
        offset: u64,
        first: &[u8],
    ) -> Result<u64, ArchiveError> {
        // Inodes mean something within one archive alone.
        self.linked.clear();
        let mut archive = Cpio::new(source, offset);
        let mut first = first;
        while let Some(entry) = archive.next(first)? {
            first = &[];
            let size = entry.size;
            self.take(entry, &mut archive.content(size))?;
            archive.advance(size)?;
            if self.files.len() + self.links.len() > MAX_ENTRIES {
                let offset = archive.offset();
                return Err(ArchiveError::Expected {
                    what: "end after a million files",
                    offset,
                });
            }
        }
        Ok(archive.offset())
    }

    fn take(&mut self, entry: Entry, content: &mut Content<'_>) -> Result<(), ArchiveError> {
        let target = |path: &str| self.links.get(path).cloned();
        let path = resolve(&entry.name, &target);
        let (Some(path), Kind::Regular | Kind::Link) = (path, entry.kind) else {
            io::copy(content, &mut io::sink())?;
            return Ok(());
        };
        if entry.kind == Kind::Link {
            let mut leads_to = Vec::new();
            content
                .take(MAX_PATH_BYTES as u64)
                .read_to_end(&mut leads_to)?;
            io::copy(content, &mut io::sink())?;
            self.files.remove(&as_measured(&path));
            if let Ok(leads_to) = String::from_utf8(leads_to) {
                self.links.insert(path, leads_to);
            }
            return Ok(());
        }
        let (digest, _) = self.hash.of(content)?;
        self.links.remove(&path);
        let path = as_measured(&path);
        let Some(file) = entry.file else {
            self.files.insert(path, digest);
            return Ok(());
        };
        // Only one of the hard links has the content, often the last one.
        let paths = self.linked.entry(file).or_default();
        let known = paths.first().and_then(|path| self.files.get(path)).cloned();
        paths.push(path);
        let digest = match known {
            Some(known) if entry.size == 0 => known,
            _ => digest,
        };
        for path in paths {
            self.files.insert(path.clone(), digest.clone());
        }
        Ok(())
    }
}

fn read_one(stream: &mut dyn Read, byte: &mut [u8; 1]) -> io::Result<bool> {
    loop {
        match stream.read(byte) {
            Ok(have) => return Ok(have == 1),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
