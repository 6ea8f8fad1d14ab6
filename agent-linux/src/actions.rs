//! What a revocation notice sets off: actions of this node and of its payload, one after the other.
//!
//! A notice says that another node has failed; an action is what the operator wants done about it here: take its key out of
//! `authorized_keys`, its address out of a firewall. Notices are verified before they come here, but their text is still
//! another machine's: an action gets it as data, never in its command line or its environment.
//!
//! Each action is a job of its own, with its own time; whatever becomes of one, the next runs. Files that others could have
//! written aren't run. All run as the agent's user, in the Keylime directory. One is built in: [`UPDATE_CRL`].

mod find;
mod list;
mod message;
mod python;
mod update_crl;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_core::revocation::{ACTION_LIST_FILE, Kind};
use rustix::fs::{Mode, chmod};

use crate::crl::ListRules;
use crate::job::{End, Ended, Identity, Interpreter, Job, JobError, OutputPolicy, SEARCH_PATH};
pub use find::FindError;
use find::{Found, Places};
use list::Entry;
pub use list::ListError;
use message::MessageFile;
pub use update_crl::UPDATE_CRL;

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
    /// What becomes of revocation lists.
    pub lists: ListRules,
}

/// What is acted on: a verified message.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Its text.
    pub text: &'a str,
    /// What it is about, if it is an entry of a log.
    pub kind: Option<Kind>,
}

/// Follows the actions of one notice, and may have begun them in an earlier life.
pub trait Progress {
    /// Whether this one was begun before: then it isn't run again.
    fn is_begun(&self, name: &str) -> bool;

    /// One is about to begin.
    ///
    /// # Errors
    /// [`Hold`]: it must not.
    fn begin(&mut self, name: &str) -> Result<(), Hold>;

    /// It has ended, or wasn't run.
    fn ended(&mut self, outcome: Outcome);
}

/// Why an action must not begin.
#[derive(Debug)]
pub enum Hold {
    /// Nothing may begin now: this one and those after it have their turn later.
    Later,
    /// This one can't be followed, so it isn't run.
    Unrecorded(io::Error),
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
    /// Until when all has to be over, if anything says so.
    pub deadline: Option<Instant>,
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
    /// Runs all actions that are wanted and weren't begun before, in order, and says in the log what became of each. Whether
    /// it came to the last one: once `cancel` is set, or there is no time left, no other one is begun.
    ///
    /// # Cost
    /// Blocks for as long as they run: at most [`MAX_ACTIONS`](agent_core::revocation::MAX_ACTIONS) times the time limit and the
    /// little that ending one takes.
    pub fn carry_out(
        &self,
        notice: &Notice<'_>,
        cancel: &AtomicBool,
        progress: &mut dyn Progress,
    ) -> bool {
        let payload = self.rules.allow_payload.then_some(self.payload);
        let places = Places {
            installed: &self.rules.installed,
            payload,
        };
        let mut paths = Vec::new();
        for Entry { text, name } in self.wanted(notice, payload) {
            let found = match name {
                Ok(name) if name.as_str() == UPDATE_CRL => Ok(None),
                Ok(name) => places.find(&name).map(Some).map_err(ActionError::Find),
                Err(error) => Err(ActionError::List(error)),
            };
            if let Ok(Some(found)) = &found {
                // Two names of one file, with and without `.py`.
                if paths.contains(&found.path) {
                    continue;
                }
                paths.push(found.path.clone());
            }
            if progress.is_begun(&text) {
                continue;
            }
            if cancel.load(Ordering::SeqCst) || self.left().is_zero() {
                log::warn!("revocation action {text} and those after it wait: there is no time");
                return false;
            }
            let ended = match (found, progress.begin(&text)) {
                (_, Err(Hold::Later)) => return false,
                (_, Err(Hold::Unrecorded(error))) => Err(ActionError::Unrecorded(error)),
                (Err(error), Ok(())) => Err(error),
                (Ok(found), Ok(())) => {
                    log::info!("running revocation action {text}");
                    match found {
                        None => Ok(update_crl::run(self, notice.text)),
                        Some(found) => self.run(&found, notice.text, cancel),
                    }
                }
            };
            match &ended {
                Ok(ended) => ended.log(&format!("revocation action {text}")),
                Err(error) => log::error!("revocation action {text}: {error}"),
            }
            let is_cut_off = matches!(&ended, Ok(ended) if ended.end == End::Cancelled);
            progress.ended(Outcome { name: text, ended });
            if is_cut_off {
                return false;
            }
        }
        true
    }

    /// What this notice sets off.
    fn wanted(&self, notice: &Notice<'_>, payload: Option<&Path>) -> Vec<Entry> {
        let mut wanted = list::wanted(&self.rules.configured, payload);
        wanted.retain(|entry| {
            let is_list = notice.kind == Some(Kind::Crl);
            let is_about_lists =
                entry.text.starts_with(LIST_ACTIONS) || entry.text == ACTION_LIST_FILE;
            // The built-in one has its own place.
            (is_about_lists || !is_list) && entry.text != UPDATE_CRL
        });
        if notice.kind.is_some() && update_crl::is_wanted(notice.text) {
            wanted.insert(0, Entry::named(UPDATE_CRL));
        }
        wanted
    }

    /// Time until the deadline; long if there is none.
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
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
            timeout: self.rules.timeout.min(self.left()),
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
    /// Its start can't be written down, so that it might run twice.
    Unrecorded(io::Error),
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
            Self::Unrecorded(error) => {
                write!(f, "its start can't be written to the landing zone: {error}")
            }
        }
    }
}

impl std::error::Error for ActionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::List(error) => error.source(),
            Self::Find(error) => error.source(),
            Self::NoPython => None,
            Self::Message(error) | Self::Unrecorded(error) => Some(error),
            Self::Job(error) => error.source(),
        }
    }
}

impl From<JobError> for ActionError {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

/// How the actions are called that a new revocation list sets off, where no node has failed.
///
/// Source: `agent-core/docs/revocation.md`.
const LIST_ACTIONS: &str = "crl_";
