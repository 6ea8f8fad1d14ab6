//! The file of known endorsement keys, like SSH's known hosts: the first key of a node is recorded, another one later is refused.
//!
//! One line for each node, `uuid hash`; lines that start with `#` are comments. Lines are added, never changed: an operator
//! takes one out when a node's TPM was replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agent_core::wire::text::Uuid;

/// The largest file that is read: about 100,000 nodes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Bytes of a hash in hexadecimal.
const HASH_CHARS: usize = 64;

/// Why the file of known keys stops a delivery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnownError {
    /// The file can't be read or written.
    #[error("can't {action} the file of known EKs {}: {source}. --known-eks names another", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A line isn't one.
    #[error("{}:{line}: not a line of known EKs, which is `uuid sha256-of-the-EK`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// The node came with another key than before.
    #[error(
        "{uuid} has another EK than before: {have}, known is {known}. Another machine has taken its name, or its TPM was replaced. If it was replaced, remove line {line} of {} and run this again",
        path.display()
    )]
    Changed {
        /// The node.
        uuid: String,
        /// The hash of the key it has now.
        have: String,
        /// The hash that is recorded.
        known: String,
        /// The file.
        path: PathBuf,
        /// The line that records it.
        line: usize,
    },
}

/// Whether a key was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// This node has had this key before.
    Already,
    /// It is the first key of this node; it is recorded now.
    First,
}

/// The hash of the key that is recorded for a node, if one is.
///
/// # Errors
/// [`KnownError::Io`], [`KnownError::Line`].
pub fn recorded(path: &Path, uuid: &Uuid) -> Result<Option<String>, KnownError> {
    match File::open(path).and_then(|mut file| read(&mut file)) {
        Ok(text) => Ok(find(path, &text, uuid)?.map(|(_, hash)| hash.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KnownError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Compares a node's key with the recorded one, and changes nothing.
///
/// # Errors
/// As [`check_or_record`].
pub fn check(path: &Path, uuid: &Uuid, hash: &str) -> Result<Known, KnownError> {
    let text = match File::open(path).and_then(|mut file| read(&mut file)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Known::First),
        Err(source) => {
            return Err(KnownError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    compare(path, &text, uuid, hash)
}

/// Compares a node's key with the recorded one, and records it if there is none.
///
/// # Errors
/// [`KnownError`]; nothing was recorded then.
pub fn check_or_record(path: &Path, uuid: &Uuid, hash: &str) -> Result<Known, KnownError> {
    let error = |action| {
        move |source| KnownError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(error("make the directory of"))?;
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    let mut file = file.map_err(error("open"))?;
    file.lock().map_err(error("lock"))?;
    let text = read(&mut file).map_err(error("read"))?;
    let known = compare(path, &text, uuid, hash)?;
    if known == Known::First {
        let gap = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        file.write_all(format!("{gap}{uuid} {hash}\n").as_bytes())
            .map_err(error("write"))?;
        file.sync_all().map_err(error("write"))?;
    }
    Ok(known)
}

fn compare(path: &Path, text: &str, uuid: &Uuid, hash: &str) -> Result<Known, KnownError> {
    match find(path, text, uuid)? {
        None => Ok(Known::First),
        Some((_, known)) if known == hash => Ok(Known::Already),
        Some((line, known)) => Err(KnownError::Changed {
            uuid: uuid.to_string(),
            have: hash.to_owned(),
            known: known.to_owned(),
            path: path.to_owned(),
            line,
        }),
    }
}

fn read(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 16 MiB",
        ));
    }
    Ok(text)
}

/// The line and hash of a node. Every line is checked: a damaged file is no empty file.
fn find<'a>(
    path: &Path,
    text: &'a str,
    uuid: &Uuid,
) -> Result<Option<(usize, &'a str)>, KnownError> {
    let mut found = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let pair = words
            .next()
            .zip(words.next())
            .filter(|(_, hash)| is_hash(hash) && words.next().is_none());
        let Some((name, hash)) = pair else {
            return Err(KnownError::Line {
                path: path.to_owned(),
                line: index + 1,
            });
        };
        if name == uuid.as_str() && found.is_none() {
            found = Some((index + 1, hash));
        }
    }
    Ok(found)
}

/// Whether a text is a SHA-256 in lowercase hexadecimal.
#[must_use]
pub fn is_hash(text: &str) -> bool {
    text.len() == HASH_CHARS
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use super::*;

    #[test]
    fn tenant_pins_the_ek() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state/known_eks");
        let (node, other) = (Uuid::parse("node").unwrap(), Uuid::parse("other").unwrap());
        let (one, two) = ("1".repeat(HASH_CHARS), "2".repeat(HASH_CHARS));
        assert_eq!(check(&path, &node, &one).unwrap(), Known::First);
        assert!(!path.exists());
        assert_eq!(check_or_record(&path, &node, &one).unwrap(), Known::First);
        assert_eq!(check_or_record(&path, &node, &one).unwrap(), Known::Already);
        assert_eq!(check(&path, &node, &one).unwrap(), Known::Already);
        assert!(matches!(
            check(&path, &node, &two),
            Err(KnownError::Changed { line: 1, .. })
        ));
        assert_eq!(check_or_record(&path, &other, &two).unwrap(), Known::First);
        let before = fs::read_to_string(&path).unwrap();
        assert!(matches!(
            check_or_record(&path, &node, &two),
            Err(KnownError::Changed { line: 1, .. })
        ));
        assert!(matches!(
            check_or_record(&path, &other, &one),
            Err(KnownError::Changed { line: 2, .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_file_is_not_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("known_eks");
        let node = Uuid::parse("node").unwrap();
        let hash = "a".repeat(HASH_CHARS);
        let rows = [
            ("one word", "node\n".to_owned()),
            ("short hash", "node abc\n".to_owned()),
            ("three words", format!("node {hash} more\n")),
            ("upper case", format!("node {}\n", "A".repeat(HASH_CHARS))),
        ];
        for (name, text) in rows {
            fs::write(&path, format!("# comment\n\n{text}")).unwrap();
            let result = check_or_record(&path, &node, &hash);
            assert!(
                matches!(result, Err(KnownError::Line { line: 3, .. })),
                "{name}: {result:?}"
            );
        }
        fs::write(&path, format!("# comment\n\nother {hash}")).unwrap();
        assert_eq!(check_or_record(&path, &node, &hash).unwrap(), Known::First);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("# comment\n\nother {hash}\nnode {hash}\n")
        );
    }
}
