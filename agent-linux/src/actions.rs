//! What a revocation notice sets off: actions of this node and of its payload, one after the other.
//!
//! A notice says that another node has failed; an action is what the operator wants done about it here: take its key out of
//! `authorized_keys`, its address out of a firewall. Notices are verified before they come here, but their text is still
//! another machine's: an action gets it as data, never in its command line or its environment.
//!
//! Each action is a job of its own, with its own time; whatever becomes of one, the next runs. Files that others could have
//! written aren't run. All run as the agent's user, in the Keylime directory.

mod find;
mod list;
mod message;
mod python;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, chmod};

use crate::job::{End, Ended, Identity, Interpreter, Job, JobError, OutputPolicy, SEARCH_PATH};
pub use find::FindError;
use find::{Found, Places};
use list::Entry;
pub use list::{LIST_FILE, ListError, MAX_ACTIONS, MAX_LIST_BYTES};
use message::MessageFile;

/// Which actions a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRules {
    /// The node's own list.
    pub configured: String,
    /// The directory of the node's own actions.
    pub installed: PathBuf,
    /// Whether a payload may name and bring actions.
    pub allow_payload: bool,
    /// Where they are run.
    pub directory: PathBuf,
    /// How long each may run.
    pub timeout: Duration,
}

/// The actions of the payload that is there now, and of the node.
pub struct Actions<'a> {
    /// What the operator allows.
    pub rules: &'a ActionRules,
    /// The unpacked payload, which need not be there.
    pub payload: &'a Path,
    /// A directory that nobody else can look into, for the message.
    pub private: &'a Path,
    /// Who they are, for their environment.
    pub identity: Identity<'a>,
    /// What becomes of their output.
    pub output: OutputPolicy,
}

/// What became of one action.
pub struct Outcome {
    /// Its name in the list.
    pub name: String,
    /// Its end, or why it wasn't run.
    pub ended: Result<Ended, ActionError>,
}

impl Outcome {
    /// Whether it was run, and returned without an error.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(&self.ended, Ok(ended) if ended.end == End::Exit(0))
    }
}

impl Actions<'_> {
    /// Runs all actions that are wanted, in order, and says in the log what became of each. Once `cancel` is set, no other one
    /// is begun.
    ///
    /// # Cost
    /// Blocks for as long as they run: at most [`MAX_ACTIONS`] times the time limit and the little that ending one takes.
    pub fn carry_out(&self, message: &str, cancel: &AtomicBool) -> Vec<Outcome> {
        let payload = self.rules.allow_payload.then_some(self.payload);
        let places = Places {
            installed: &self.rules.installed,
            payload,
        };
        let mut outcomes = Vec::new();
        let mut begun = Vec::new();
        for Entry { text, name } in list::wanted(&self.rules.configured, payload) {
            if cancel.load(Ordering::SeqCst) {
                log::warn!(
                    "the agent stops: revocation action {text} and those after it are not run"
                );
                break;
            }
            let found = name
                .map_err(ActionError::List)
                .and_then(|name| places.find(&name).map_err(ActionError::Find));
            if let Ok(found) = &found {
                // Two names of one file, with and without `.py`.
                if begun.contains(&found.path) {
                    continue;
                }
                begun.push(found.path.clone());
            }
            let ended = found.and_then(|found| {
                log::info!("running revocation action {text}");
                self.run(&found, message, cancel)
            });
            match &ended {
                Ok(ended) => ended.log(&format!("revocation action {text}")),
                Err(error) => log::error!("revocation action {text}: {error}"),
            }
            outcomes.push(Outcome { name: text, ended });
        }
        outcomes
    }

    fn run(&self, found: &Found, message: &str, cancel: &AtomicBool) -> Result<Ended, ActionError> {
        if found.is_payloads {
            // Archives made without modes have programs that nobody may run.
            chmod(&found.path, Mode::RWXU).map_err(|errno| JobError::Start {
                path: found.path.clone(),
                error: errno.into(),
            })?;
        }
        let python = found
            .is_python()
            .then(|| python::interpreter(SEARCH_PATH).ok_or(ActionError::NoPython))
            .transpose()?;
        // Written anew for each: one action can't spoil it for the next.
        let file = MessageFile::write(self.private, message).map_err(ActionError::Message)?;
        let job = Job {
            interpreter: match &python {
                Some(program) => Interpreter {
                    program,
                    arguments: &python::ARGUMENTS,
                },
                None => Interpreter::SHELL,
            },
            file: &found.path,
            arguments: &[file.path().as_os_str()],
            directory: &self.rules.directory,
            input: Stdio::from(file.open().map_err(ActionError::Message)?),
            identity: self.identity,
            timeout: self.rules.timeout,
            output: self.output,
        };
        Ok(job.run(cancel)?)
    }
}

/// Why an action wasn't run, or not to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ActionError {
    /// Its name, or its list, is no good.
    List(ListError),
    /// There is no such action, or none that may be run.
    Find(FindError),
    /// It is a Python module, and there is no Python.
    NoPython,
    /// The message can't be written to a file for it.
    Message(io::Error),
    /// It can't be run.
    Job(JobError),
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(error) => error.fmt(f),
            Self::Find(error) => error.fmt(f),
            Self::NoPython => write!(
                f,
                "it is a Python module, and there is no python3 in {SEARCH_PATH}: install it, or write the action as a program"
            ),
            Self::Message(error) => {
                write!(
                    f,
                    "the notice can't be written to the landing zone: {error}"
                )
            }
            Self::Job(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ActionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::List(error) => error.source(),
            Self::Find(error) => error.source(),
            Self::NoPython => None,
            Self::Message(error) => Some(error),
            Self::Job(error) => error.source(),
        }
    }
}

impl From<JobError> for ActionError {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}
