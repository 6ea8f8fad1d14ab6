//! Where an action's file is: the node's own directory before the payload's, the name as it stands before the name with `.py`.
//!
//! What is found first is what counts: a file that may not be run is refused, and no other one is run in its place.

use std::fmt;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::list::Name;

/// Where actions may lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<'a> {
    /// The node's own, which the operator has installed.
    pub(super) installed: &'a Path,
    /// The payload's, if it may bring any.
    pub(super) payload: Option<&'a Path>,
}

/// The file of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Whether it came with the payload.
    pub(super) is_payloads: bool,
}

impl Found {
    /// Whether it is a Python module, to be started through the shim.
    pub(super) fn is_python(&self) -> bool {
        self.path.extension().is_some_and(|end| end == "py")
    }
}

impl Places<'_> {
    /// Finds an action. It is a file, no link; one of the node's own belongs, like its directory, to root or to the agent's
    /// user, and nobody else can write to either. The directories above are the operator's care.
    ///
    /// # Errors
    /// [`FindError`].
    pub(super) fn find(&self, name: &Name) -> Result<Found, FindError> {
        let names = [name.as_str().to_owned(), format!("{}.py", name.as_str())];
        for name in &names {
            if let Some(path) = look(self.installed, name)? {
                check_writers(self.installed, &self.installed.metadata())?;
                check_writers(&path, &path.symlink_metadata())?;
                return Ok(Found {
                    path,
                    is_payloads: false,
                });
            }
            if let Some(payload) = self.payload
                && let Some(path) = look(payload, name)?
            {
                return Ok(Found {
                    path,
                    is_payloads: true,
                });
            }
        }
        Err(FindError::Missing)
    }
}

/// The file of this name, if the directory has one.
fn look(directory: &Path, name: &str) -> Result<Option<PathBuf>, FindError> {
    let path = directory.join(name);
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(path)),
        Ok(_) => Err(FindError::NotAFile { path }),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(FindError::Unreadable { path, error }),
    }
}

fn check_writers(path: &Path, found: &io::Result<Metadata>) -> Result<(), FindError> {
    let path = path.to_owned();
    match found {
        Err(error) => Err(FindError::Unreadable {
            path,
            error: error.kind().into(),
        }),
        Ok(found) => {
            let (owner, mode) = (found.uid(), found.mode() & 0o7777);
            let is_ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
            if is_ours && mode & 0o022 == 0 {
                Ok(())
            } else {
                Err(FindError::Exposed { path, owner, mode })
            }
        }
    }
}

/// Why there is no action of a name.
#[derive(Debug)]
#[non_exhaustive]
pub enum FindError {
    /// No directory has it.
    Missing,
    /// There is something of that name, but no file.
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Others could have written it.
    Exposed {
        /// The file, or the directory that it is in.
        path: PathBuf,
        /// The user that it belongs to.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// It can't be looked at.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "no such file in revocation_actions_dir, nor in the payload where that may bring actions",
            ),
            Self::NotAFile { path } => write!(f, "{} isn't a file", path.display()),
            Self::Exposed { path, owner, mode } => write!(
                f,
                "{} belongs to user {owner} with mode {mode:04o}, others could write to it; make it root's own, chmod go-w",
                path.display()
            ),
            Self::Unreadable { path, error } => {
                write!(f, "{} can't be looked at: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for FindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use tempfile::TempDir;

    /// Two directories, `installed` and `payload`, with these files.
    fn lay_out(files: &[&str]) -> TempDir {
        let root = TempDir::new().unwrap();
        for directory in ["installed", "payload"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        for file in files {
            let path = root.path().join(file);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        root
    }

    fn find(root: &TempDir, name: &str) -> Result<String, FindError> {
        let payload = root.path().join("payload");
        let places = Places {
            installed: &root.path().join("installed"),
            payload: Some(&payload),
        };
        let found = places.find(&Name::parse(name).unwrap())?;
        assert_eq!(found.is_payloads, found.path.starts_with(&payload));
        let inside = found.path.strip_prefix(root.path()).unwrap();
        Ok(inside.to_str().unwrap().to_owned())
    }

    #[test]
    fn order() {
        let all = ["installed/a", "payload/a", "installed/a.py", "payload/a.py"];
        for first in 0..all.len() {
            let root = lay_out(&all[first..]);
            assert_eq!(find(&root, "a").unwrap(), all[first]);
        }
        let root = lay_out(&["payload/a.py", "payload/local_action_b.py"]);
        for (name, path) in [
            ("a.py", "payload/a.py"),
            ("local_action_b", "payload/local_action_b.py"),
            ("local_action_b.py", "payload/local_action_b.py"),
        ] {
            assert_eq!(find(&root, name).unwrap(), path);
        }
        assert!(matches!(find(&root, "b"), Err(FindError::Missing)));
        let places = Places {
            installed: &root.path().join("nowhere"),
            payload: None,
        };
        let found = places.find(&Name::parse("a").unwrap());
        assert!(matches!(found, Err(FindError::Missing)), "{found:?}");
    }

    #[test]
    fn action_path_stays_inside() {
        for name in ["../a", "/a", "..", ".", "a/../../b", "./a", ".a", ""] {
            assert!(Name::parse(name).is_err(), "{name:?}");
        }
        let root = lay_out(&["installed/c", "payload/c", "payload/target", "outside"]);
        for link in ["installed/a", "payload/b"] {
            symlink(root.path().join("outside"), root.path().join(link)).unwrap();
        }
        symlink("target", root.path().join("payload/inside")).unwrap();
        fs::create_dir(root.path().join("payload/directory")).unwrap();
        for name in ["a", "b", "inside", "directory"] {
            let found = find(&root, name);
            assert!(matches!(found, Err(FindError::NotAFile { .. })), "{name}");
        }
        // Not the payload's, though its file of that name could be run.
        for (path, mode) in [("installed/c", 0o664), ("installed/c", 0o646)] {
            fs::set_permissions(root.path().join(path), Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(find(&root, "c"), Err(FindError::Exposed { mode: found, .. }) if found == mode)
            );
        }
        fs::set_permissions(
            root.path().join("installed/c"),
            Permissions::from_mode(0o600),
        )
        .unwrap();
        assert_eq!(find(&root, "c").unwrap(), "installed/c");
        fs::set_permissions(root.path().join("installed"), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(find(&root, "c"), Err(FindError::Exposed { .. })));
        assert_eq!(find(&root, "target").unwrap(), "payload/target");
    }

    #[test]
    fn python_by_its_name() {
        for (name, is_python) in [
            ("a.py", true),
            ("a", false),
            ("a.pyc", false),
            ("py", false),
        ] {
            let path = PathBuf::from("/x").join(name);
            let found = Found {
                path,
                is_payloads: true,
            };
            assert_eq!(found.is_python(), is_python, "{name}");
        }
    }
}
