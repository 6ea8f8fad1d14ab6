//! The payload's script.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::fs::{Mode, chmod};

use crate::job::{Ended, Identity, Interpreter, Job, JobError, OutputPolicy};

/// A script in an unpacked payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    path: PathBuf,
    directory: PathBuf,
}

impl Script {
    /// The script of this name in the payload, or `None` if the payload has none.
    ///
    /// # Errors
    /// [`ScriptError::NotAFile`], or the kernel's.
    pub fn find(unzipped: &Path, name: &str) -> Result<Option<Self>, ScriptError> {
        let path = unzipped.join(name);
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => Ok(Some(Self {
                path,
                directory: unzipped.to_owned(),
            })),
            Ok(_) => Err(ScriptError::NotAFile { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JobError::Start { path, error }.into()),
        }
    }

    /// Runs the script in the payload's directory, without input; see [`Job::run`].
    ///
    /// # Errors
    /// [`ScriptError::Job`].
    pub fn run(
        &self,
        identity: Identity<'_>,
        timeout: Duration,
        output: OutputPolicy,
        cancel: &AtomicBool,
    ) -> Result<Ended, ScriptError> {
        // Archives made without modes have scripts that nobody may run.
        chmod(&self.path, Mode::RWXU).map_err(|errno| JobError::Start {
            path: self.path.clone(),
            error: errno.into(),
        })?;
        let job = Job {
            interpreter: Interpreter::SHELL,
            file: &self.path,
            arguments: &[],
            directory: &self.directory,
            input: Stdio::null(),
            identity,
            timeout,
            output,
        };
        Ok(job.run(cancel)?)
    }
}

/// Why a script wasn't run, or not to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScriptError {
    /// There is something of that name, but no file.
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It can't be run.
    Job(JobError),
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile { path } => {
                write!(f, "{} isn't a file, so it isn't run", path.display())
            }
            Self::Job(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ScriptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotAFile { .. } => None,
            Self::Job(error) => error.source(),
        }
    }
}

impl From<JobError> for ScriptError {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}
