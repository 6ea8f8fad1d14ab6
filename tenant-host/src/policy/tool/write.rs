//! Files that tools write: whole or not at all, and never over another one unasked.

use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::NamedTempFile;

use super::ToolError;

/// Where a tool's result goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Target {
    /// Write to this file [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace the file if it is there.
    #[arg(long, requires = "output")]
    pub force: bool,
}

impl Target {
    /// Refuses early what [`Target::write`] would refuse after the work.
    ///
    /// # Errors
    /// [`ToolError::Exists`].
    pub fn check(&self) -> Result<(), ToolError> {
        match &self.output {
            Some(path) if !self.force && is_file(path) => {
                Err(ToolError::Exists { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Writes the file, readable for all, and returns nothing; without a file, returns the text.
    ///
    /// # Errors
    /// [`ToolError::Exists`], [`ToolError::Write`].
    pub fn write(
        &self,
        content: &dyn Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Option<Vec<u8>>, ToolError> {
        let Some(path) = &self.output else {
            let mut bytes = Vec::new();
            content(&mut bytes).map_err(writing(Path::new("standard output")))?;
            return Ok(Some(bytes));
        };
        self.check()?;
        if path.exists() && !is_file(path) {
            // A pipe or a terminal can't be replaced.
            let mut file = fs::OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(writing(path))?;
            content(&mut file).map_err(writing(path))?;
            return Ok(None);
        }
        write_whole(path, 0o644, self.force, content)?;
        Ok(None)
    }
}

/// Writes a file whole or not at all, with this mode.
pub(in crate::policy) fn write_whole(
    path: &Path,
    mode: u32,
    replace: bool,
    content: &dyn Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ToolError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let written = || {
        let mut file = NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
        let mut buffer = BufWriter::new(&mut file);
        content(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    let file = written().map_err(writing(path))?;
    let persisted = match replace {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    match persisted {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ToolError::Exists {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(writing(path)(error.error)),
    }
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn writing(path: &Path) -> impl FnOnce(io::Error) -> ToolError {
    let path = path.to_owned();
    move |source| ToolError::Write { path, source }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("policy.json");
        let target = |force| Target {
            output: Some(path.clone()),
            force,
        };
        let write = |force, text: &str| target(force).write(&|out| out.write_all(text.as_bytes()));
        write(false, "first").unwrap();
        assert!(matches!(
            target(false).check(),
            Err(ToolError::Exists { .. })
        ));
        assert!(matches!(
            write(false, "second"),
            Err(ToolError::Exists { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        write(true, "third").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        let broken = target(true).write(&|out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(broken, Err(ToolError::Write { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        let shown = Target::default()
            .write(&|out| out.write_all(b"text"))
            .unwrap();
        assert_eq!(shown.unwrap(), b"text");
    }
}
