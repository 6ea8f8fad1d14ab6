//! Why nothing is installed, or not all.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::exit::Exit;

/// Why nothing is installed, or not all.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// The system beneath this directory has neither dracut nor initramfs-tools.
    NoMaker(PathBuf),
    /// It has both.
    TwoMakers(PathBuf),
    /// These are there, and this command didn't write them.
    Foreign(Vec<PathBuf>),
    /// A file can't be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
}

impl InstallError {
    /// How the program ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NoMaker(_) | Self::TwoMakers(_) => Exit::Usage,
            Self::Foreign(_) | Self::File { .. } => Exit::Internal,
        }
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMaker(root) => write!(
                f,
                "{} has neither dracut nor initramfs-tools; write --dracut or --initramfs-tools to install for it all the same",
                root.display()
            ),
            Self::TwoMakers(root) => write!(
                f,
                "{} has dracut and initramfs-tools; write --dracut or --initramfs-tools, or both",
                root.display()
            ),
            Self::Foreign(paths) => {
                f.write_str("nothing is installed: these files aren't what install-initramfs wrote, and --force would replace them:")?;
                paths
                    .iter()
                    .try_for_each(|path| write!(f, "\n  {}", path.display()))
            }
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for InstallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoMaker(_) | Self::TwoMakers(_) | Self::Foreign(_) => None,
            Self::File { error, .. } => Some(error),
        }
    }
}
