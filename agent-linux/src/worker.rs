//! Work that the agent hands over: an opened payload becomes files, then its script runs. The agent answers meanwhile.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use agent_core::agent::{Clipped, Duty, OpenedPayload, ScriptEnd, ScriptReport};
use agent_core::drive::Shell;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{self, Limits, UnpackError};
use agent_core::tpm::Tpm;
use signal_hook::consts::SIGTERM;

use crate::landing::{LandingError, Zone};
use crate::memory::Vault;
use crate::node::Node;
use crate::notifier::Notifier;
use crate::script::{End, Ended, OutputPolicy, Script, ScriptError};

/// Does the agent's work, one payload after the other.
pub struct Worker<T> {
    /// The agent, to report to.
    pub node: Arc<Node<T>>,
    /// Where files go.
    pub zone: Zone,
    /// What an archive may hold; with none, archives aren't unpacked.
    pub archives: Option<Limits>,
    /// The file that a payload becomes which isn't unpacked.
    pub plain_file: String,
    /// What is run.
    pub script: ScriptRules,
    /// How the work is ended early.
    pub stop: Arc<Stop>,
}

/// Which script of a payload runs, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRules {
    /// Its name in the payload; none runs nothing.
    pub name: Option<String>,
    /// The agent's identifier, for the script's environment.
    pub uuid: String,
    /// How long it may run.
    pub timeout: Duration,
    /// Whether tenant and log get its output.
    pub report_output: bool,
}

/// Ends the work, and waits for its end.
#[derive(Default)]
pub struct Stop {
    cancel: AtomicBool,
    running: Mutex<bool>,
    idle: Condvar,
}

impl Stop {
    /// Cancels a running script, lets no other one start, and waits until it has ended, at most this long.
    pub fn stop(&self, at_most: Duration) {
        self.cancel.store(true, Ordering::Relaxed);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .idle
            .wait_timeout_while(running, at_most, |running| *running);
        if waited.is_ok_and(|(_, wait)| wait.timed_out()) {
            log::warn!(
                "the payload's script did not end in time; the kernel ends it with the agent"
            );
        }
    }

    fn set_running(&self, now: bool) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.idle.notify_all();
    }

    fn is_set(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Why a payload didn't become files.
#[derive(Debug)]
enum PayloadError {
    Unpack(UnpackError<LandingError>),
    Landing(LandingError),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpack(error) => error.fmt(f),
            Self::Landing(error) => error.fmt(f),
        }
    }
}

impl From<LandingError> for PayloadError {
    fn from(error: LandingError) -> Self {
        Self::Landing(error)
    }
}

impl<T: Tpm> Worker<T> {
    /// Works until nobody can hand anything over any more.
    pub fn run(mut self, duties: &Receiver<Duty<Vault>>) {
        while let Ok(Duty::Unpack(payload)) = duties.recv() {
            let number = payload.number();
            if let Err(error) = self.land(payload) {
                log::error!("the payload was not unpacked, nothing of it is kept: {error}");
                self.node
                    .with_agent(|agent, _| agent.failed(number, &error));
                continue;
            }
            self.node.with_agent(|agent, _| agent.unpacked(number));
            let unzipped = self.zone.unzipped();
            log::info!("payload unpacked to {}", unzipped.display());
            self.node.trust(Notifier::of_payload(&unzipped));
            self.stop.set_running(true);
            let ended = self.run_script(&unzipped);
            self.stop.set_running(false);
            self.node.with_agent(|agent, _| match ended {
                Ok(report) => agent.finished(number, report),
                Err(error) => agent.failed(number, &error),
            });
        }
    }

    /// Runs the payload's script, if it has one.
    fn run_script(&self, unzipped: &Path) -> Result<Option<ScriptReport>, ScriptError> {
        let Some(name) = self.script.name.as_deref() else {
            return Ok(None);
        };
        let found = Script::find(unzipped, name);
        let ended = match found {
            Ok(Some(_)) if self.stop.is_set() => return Ok(None),
            Ok(Some(script)) => {
                log::info!("running {name}");
                let policy = if self.script.report_output {
                    OutputPolicy::Log
                } else {
                    OutputPolicy::Quiet
                };
                let rules = &self.script;
                script.run(&rules.uuid, rules.timeout, policy, &self.stop.cancel)
            }
            Ok(None) => {
                log::info!("the payload has no {name}");
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(ended) => {
                log_end(name, &ended);
                Ok(Some(self.report(&ended)))
            }
            Err(error) => {
                log::error!("{name} failed: {error}");
                Err(error)
            }
        }
    }

    fn report(&self, ended: &Ended) -> ScriptReport {
        ScriptReport {
            end: match ended.end {
                End::Exit(code) => ScriptEnd::Exited { code },
                End::Signal(signal) => ScriptEnd::Killed { signal },
                End::TimedOut => ScriptEnd::TimedOut,
                End::Cancelled => ScriptEnd::Killed { signal: SIGTERM },
            },
            duration_ms: u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
            output_tail: self.script.report_output.then(|| {
                let text = String::from_utf8_lossy(&ended.tail);
                Clipped::tail(&text)
            }),
        }
    }

    /// Writes a payload into the landing zone, all or nothing; its vault is wiped on every way out.
    fn land(&mut self, payload: OpenedPayload<Vault>) -> Result<(), PayloadError> {
        let plaintext = payload.plaintext();
        let mut unpacking = self.zone.begin()?;
        match &self.archives {
            Some(limits) if zip::is_archive(plaintext) => {
                let mut inflater = Box::<Inflater>::default();
                zip::unpack(plaintext, limits, &mut inflater, &mut unpacking)
                    .map_err(PayloadError::Unpack)?;
            }
            _ => {
                let size = u64::try_from(plaintext.len()).unwrap_or(u64::MAX);
                unpacking.file(&self.plain_file, 0o600, size)?;
                unpacking.data(plaintext)?;
                unpacking.end()?;
            }
        }
        drop(payload);
        Ok(unpacking.commit()?)
    }
}

fn log_end(name: &str, ended: &Ended) {
    let after = ended.duration.as_secs_f32();
    match ended.end {
        End::Exit(0) => log::info!("{name} ended well after {after:.3} s"),
        End::Exit(code) => log::warn!("{name} ended with exit code {code} after {after:.3} s"),
        End::Signal(signal) => {
            log::warn!("{name} was killed by signal {signal} after {after:.3} s")
        }
        End::TimedOut => log::warn!("{name} took longer than it may ({after:.3} s) and was ended"),
        End::Cancelled => {
            log::warn!("{name} was ended after {after:.3} s, because the agent stops")
        }
    }
    if ended.left_behind > 0 {
        let count = ended.left_behind;
        log::warn!("{count} processes that {name} left running were ended");
    }
}
