//! Reading the tree of `--include`: every file and directory with its mode, nothing else, in a fixed order. Files are read at
//! once, or when they are packed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agent_core::wire::limits::{MAX_COMPONENT_BYTES, MAX_ENTRIES, MAX_PATH_BYTES, MAX_PATH_DEPTH};
use zeroize::Zeroizing;

use super::package::OWN_FILES;
use super::{MAX_INPUT_BYTES, SealError, read_open};

/// What may be included beside the package's own files, and an `action_list` that is written for it.
const MAX_INCLUDED: usize = MAX_ENTRIES - OWN_FILES - 1;

/// What all streamed files may have together: as much as a zip of the plain format can hold.
const MAX_STREAMED_BYTES: u64 = (1 << 32) - (1 << 26);

/// How much of a streamed file is in memory.
const COPY_BYTES: usize = 64 << 10;

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
    /// A file that is read when it is packed.
    Later(Unread),
}

impl EntryKind {
    /// Bytes of content.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Directory => 0,
            Self::File(content) => content.len() as u64,
            Self::Later(file) => file.size,
        }
    }

    /// The content as text, read now if it has to be. `None` for a directory, beyond `limit` bytes, and if it isn't UTF-8.
    ///
    /// # Errors
    /// [`SealError::Read`], [`SealError::Changed`].
    pub(super) fn text(&self, limit: u64) -> Result<Option<Zeroizing<String>>, SealError> {
        if self.size() > limit {
            return Ok(None);
        }
        let mut read = Zeroizing::new(Vec::new());
        let bytes = match self {
            Self::Directory => return Ok(None),
            Self::File(content) => content,
            Self::Later(file) => {
                file.write_to(&mut *read)?;
                &read
            }
        };
        let text = std::str::from_utf8(bytes).ok();
        Ok(text.map(|text| Zeroizing::new(text.to_owned())))
    }
}

/// A file that was seen, and is to be the same when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    path: PathBuf,
    size: u64,
    device: u64,
    inode: u64,
}

impl Unread {
    fn new(path: PathBuf, seen: &fs::Metadata) -> Self {
        Self {
            path,
            size: seen.len(),
            device: seen.dev(),
            inode: seen.ino(),
        }
    }

    /// Writes the content, all of it or an error.
    ///
    /// # Errors
    /// [`SealError::Changed`] if it isn't the file that was seen, or has another size; [`SealError::Read`]; what the writer
    /// says, as [`SealError::Zip`].
    pub(super) fn write_to(&self, out: &mut impl io::Write) -> Result<(), SealError> {
        use io::Read as _;
        let changed = || SealError::Changed {
            path: self.path.clone(),
        };
        let read = |source| read_error(&self.path, source);
        let file = File::open(&self.path).map_err(read)?;
        let opened = file.metadata().map_err(read)?;
        if Self::new(self.path.clone(), &opened) != *self {
            return Err(changed());
        }
        let mut file = file.take(self.size.saturating_add(1));
        let mut buffer = Zeroizing::new(vec![0; COPY_BYTES]);
        let mut left = self.size;
        loop {
            let have = file.read(&mut buffer).map_err(read)?;
            let Some((bytes, _)) = buffer.split_at_checked(have).filter(|_| have > 0) else {
                break;
            };
            left = left.checked_sub(have as u64).ok_or_else(changed)?;
            out.write_all(bytes).map_err(zip::result::ZipError::from)?;
        }
        if left == 0 { Ok(()) } else { Err(changed()) }
    }
}

/// Reads the tree below `root`, parents before children and names in order.
///
/// # Errors
/// [`SealError`]: the first entry that can't be delivered, by its path. Symbolic links are refused rather than followed: they
/// could name anything on the tenant's machine.
pub fn read_tree(root: &Path) -> Result<Vec<Entry>, SealError> {
    walk(root, false, MAX_INPUT_BYTES)
}

/// Lists the tree below `root` as [`read_tree`] does, with files that are read when they are packed.
///
/// # Errors
/// As [`read_tree`].
pub fn list_tree(root: &Path) -> Result<Vec<Entry>, SealError> {
    walk(root, true, MAX_STREAMED_BYTES)
}

/// One file, as the tree of a directory that holds nothing else.
///
/// # Errors
/// As [`read_tree`]; the name must be one that agents take.
pub fn list_file(path: &Path) -> Result<Entry, SealError> {
    let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
    if !metadata.is_file() {
        return Err(SealError::NotAFile {
            path: path.to_owned(),
        });
    }
    if metadata.len() > MAX_STREAMED_BYTES {
        return Err(SealError::TooLarge {
            path: path.to_owned(),
            limit: MAX_STREAMED_BYTES,
        });
    }
    Ok(Entry {
        name: checked_name(path, "", 1)?,
        mode: metadata.permissions().mode() & MODE_BITS,
        kind: EntryKind::Later(Unread::new(path.to_owned(), &metadata)),
    })
}

fn walk(root: &Path, later: bool, limit: u64) -> Result<Vec<Entry>, SealError> {
    let metadata = fs::metadata(root).map_err(|source| read_error(root, source))?;
    if !metadata.is_dir() {
        return Err(SealError::NotADirectory {
            path: root.to_owned(),
        });
    }
    let mut tree = Tree {
        entries: Vec::new(),
        limit,
        bytes_left: limit,
        later,
    };
    tree.read_directory(root, "", 1)?;
    Ok(tree.entries)
}

struct Tree {
    entries: Vec<Entry>,
    limit: u64,
    bytes_left: u64,
    later: bool,
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
                let kind = if self.later {
                    self.note(&path, &metadata)?
                } else {
                    EntryKind::File(self.read_content(&path, &metadata)?)
                };
                self.entries.push(Entry { name, mode, kind });
            } else {
                let kind = kind_name(metadata.file_type());
                return Err(SealError::Special { path, kind });
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &Path, seen: &fs::Metadata) -> Result<EntryKind, SealError> {
        let left = self.bytes_left.checked_sub(seen.len());
        self.bytes_left = left.ok_or_else(|| SealError::TooLarge {
            path: path.to_owned(),
            limit: self.limit,
        })?;
        Ok(EntryKind::Later(Unread::new(path.to_owned(), seen)))
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
