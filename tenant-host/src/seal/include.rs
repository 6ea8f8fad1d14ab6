//! Reading the tree of `--include`: every file and directory with its mode, nothing else, in a fixed order.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use agent_core::wire::limits::{MAX_COMPONENT_BYTES, MAX_ENTRIES, MAX_PATH_BYTES, MAX_PATH_DEPTH};
use zeroize::Zeroizing;

use super::package::OWN_FILES;
use super::{MAX_INPUT_BYTES, SealError, read_open};

/// What may be included beside the package's own files.
const MAX_INCLUDED: usize = MAX_ENTRIES - OWN_FILES;

/// Permission bits that travel; set-user-ID and the like never do.
const MODE_BITS: u32 = 0o777;

/// One file or directory of the tree.
pub struct Entry {
    /// Its path below the included directory, with `/`.
    pub name: String,
    /// Its permission bits.
    pub mode: u32,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file with this content.
    File(Zeroizing<Vec<u8>>),
}

/// Reads the tree below `root`, parents before children and names in order.
///
/// # Errors
/// [`SealError`]: the first entry that can't be delivered, by its path. Symbolic links are refused rather than followed: they
/// could name anything on the tenant's machine.
pub fn read_tree(root: &Path) -> Result<Vec<Entry>, SealError> {
    let metadata = fs::metadata(root).map_err(|source| read_error(root, source))?;
    if !metadata.is_dir() {
        return Err(SealError::NotADirectory {
            path: root.to_owned(),
        });
    }
    let mut tree = Tree {
        entries: Vec::new(),
        bytes_left: MAX_INPUT_BYTES,
    };
    tree.read_directory(root, "", 1)?;
    Ok(tree.entries)
}

struct Tree {
    entries: Vec<Entry>,
    bytes_left: u64,
}

impl Tree {
    fn read_directory(
        &mut self,
        directory: &Path,
        prefix: &str,
        depth: usize,
    ) -> Result<(), SealError> {
        let mut paths = fs::read_dir(directory)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<io::Result<Vec<_>>>()
            })
            .map_err(|source| read_error(directory, source))?;
        paths.sort_unstable();
        for path in paths {
            let name = checked_name(&path, prefix, depth)?;
            if self.entries.len() >= MAX_INCLUDED {
                return Err(SealError::TooMany {
                    limit: MAX_INCLUDED,
                });
            }
            let metadata =
                fs::symlink_metadata(&path).map_err(|source| read_error(&path, source))?;
            let mode = metadata.permissions().mode() & MODE_BITS;
            if metadata.is_dir() {
                let kind = EntryKind::Directory;
                self.entries.push(Entry {
                    name: name.clone(),
                    mode,
                    kind,
                });
                self.read_directory(&path, &format!("{name}/"), depth + 1)?;
            } else if metadata.is_file() {
                let content = self.read_content(&path, &metadata)?;
                let kind = EntryKind::File(content);
                self.entries.push(Entry { name, mode, kind });
            } else {
                let kind = kind_name(metadata.file_type());
                return Err(SealError::Special { path, kind });
            }
        }
        Ok(())
    }

    fn read_content(
        &mut self,
        path: &Path,
        seen: &fs::Metadata,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let file = File::open(path).map_err(|source| read_error(path, source))?;
        let opened = file.metadata().map_err(|source| read_error(path, source))?;
        if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
            return Err(SealError::Changed {
                path: path.to_owned(),
            });
        }
        let content = read_open(path, file, opened.len(), self.bytes_left)?;
        self.bytes_left = self.bytes_left.saturating_sub(opened.len());
        Ok(content)
    }
}

/// The entry's name in the package, checked against what agents accept.
fn checked_name(path: &Path, prefix: &str, depth: usize) -> Result<String, SealError> {
    let refuse = |problem| {
        Err(SealError::Name {
            path: path.to_owned(),
            problem,
        })
    };
    let Some(component) = path.file_name().and_then(|name| name.to_str()) else {
        return refuse("has a name that isn't UTF-8");
    };
    if component.contains(|character: char| character.is_control() || character == '\\') {
        return refuse("has a control character or a backslash in its name");
    }
    let name = format!("{prefix}{component}");
    if component.len() > MAX_COMPONENT_BYTES || name.len() > MAX_PATH_BYTES {
        return refuse("has a longer path than agents take");
    }
    if depth > MAX_PATH_DEPTH {
        return refuse("lies deeper than agents take");
    }
    Ok(name)
}

fn kind_name(kind: fs::FileType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn read_error(path: &Path, source: io::Error) -> SealError {
    SealError::Read {
        path: path.to_owned(),
        source,
    }
}
