//! Work that the agent hands over: an opened payload becomes files, then its script runs; a revocation notice sets off its
//! actions, once no script runs. One after the other; the agent answers meanwhile.

mod land;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use agent_core::agent::{Clipped, OpenedPayload, ScriptEnd, ScriptReport};
use agent_core::drive::Shell;
use agent_core::payload::zip::Limits;
use agent_core::tpm::Tpm;
use signal_hook::consts::SIGTERM;

use crate::actions::{ActionRules, Actions};
use crate::job::{End, Ended, Identity, OutputPolicy};
use crate::landing::Zone;
use crate::memory::Vault;
use crate::node::Node;
use crate::privilege::Account;
use crate::queue::Outlet;
use crate::revocations::Revocations;
use crate::script::{Script, ScriptError};
use crate::threads;
use land::Landing;

/// Does the agent's work, one thing after the other: a payload's script and actions never run side by side.
pub struct Worker<T> {
    /// The agent, to report to.
    pub node: Arc<Node<T>>,
    /// What is known of revocations.
    pub revocations: Arc<Revocations>,
    /// Where files go.
    pub zone: Zone,
    /// What an archive may hold; with none, archives aren't unpacked.
    pub archives: Option<Limits>,
    /// The file that a payload becomes which isn't unpacked.
    pub plain_file: String,
    /// The agent's identifier, for the environment of what is run.
    pub uuid: String,
    /// The user that runs it.
    pub account: Account,
    /// Which script of a payload is run.
    pub script: ScriptRules,
    /// What a revocation notice sets off.
    pub actions: ActionRules,
    /// What becomes of their output; the tenant is told the end of a script's if the log is.
    pub output: OutputPolicy,
    /// How the work is ended early.
    pub stop: Arc<Stop>,
}

/// Which script of a payload runs, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRules {
    /// Its name in the payload; none runs nothing.
    pub name: Option<String>,
    /// How long it may run.
    pub timeout: Duration,
}

/// Ends the work, and waits for its end.
#[derive(Default)]
pub struct Stop {
    cancel: AtomicBool,
    /// How many run, which is one at most, but for a moment.
    running: Mutex<usize>,
    idle: Condvar,
}

impl Stop {
    /// Cancels a running script or action, lets no other one start, and waits until it has ended, at most this long.
    pub fn stop(&self, at_most: Duration) {
        self.cancel.store(true, Ordering::Relaxed);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .idle
            .wait_timeout_while(running, at_most, |running| *running > 0);
        if waited.is_ok_and(|(_, wait)| wait.timed_out()) {
            log::warn!("a script did not end in time; the kernel ends it with the agent");
        }
    }

    fn set_running(&self, now: bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = if now {
            *running + 1
        } else {
            running.saturating_sub(1)
        };
        drop(running);
        self.idle.notify_all();
    }

    fn is_set(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

impl<T: Tpm> Worker<T> {
    /// Works until nobody can hand anything over any more.
    pub fn run(mut self, work: &Outlet) {
        let revocations = Arc::clone(&self.revocations);
        let act = self.acting();
        threads::beside("actions", &act, &mut || {
            while let Some(payload) = work.next() {
                revocations.hold();
                self.deliver(payload);
                revocations.release();
            }
            revocations.stop();
        });
    }

    /// What acts on revocations until it is stopped, in a thread of its own.
    fn acting(&self) -> impl Fn() + Sync + use<T> {
        let (rules, output) = (self.actions.clone(), self.output);
        let (uuid, account) = (self.uuid.clone(), self.account.clone());
        let (payload, private) = (self.zone.unzipped(), self.zone.path().to_owned());
        let (revocations, stop) = (Arc::clone(&self.revocations), Arc::clone(&self.stop));
        move || {
            let actions = Actions {
                rules: &rules,
                payload: &payload,
                private: &private,
                identity: identity(&uuid, &account),
                output,
                deadline: None,
            };
            revocations.work(&actions, &stop.cancel, &|now| stop.set_running(now));
        }
    }

    fn deliver(&mut self, payload: OpenedPayload<Vault>) {
        let number = payload.number();
        let landing = Landing {
            zone: &mut self.zone,
            archives: self.archives.as_ref(),
            plain_file: &self.plain_file,
        };
        if let Err(error) = landing.land(payload) {
            log::error!("the payload was not unpacked, nothing of it is kept: {error}");
            self.node
                .with_agent(|agent, _| agent.failed(number, &error));
            return;
        }
        self.node.with_agent(|agent, _| agent.unpacked(number));
        let unzipped = self.zone.unzipped();
        log::info!("payload unpacked to {}", unzipped.display());
        self.revocations.land();
        self.stop.set_running(true);
        let ended = self.run_script(&unzipped);
        self.stop.set_running(false);
        self.node.with_agent(|agent, _| match ended {
            Ok(report) => agent.finished(number, report),
            Err(error) => agent.failed(number, &error),
        });
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
                script.run(
                    self.identity(),
                    self.script.timeout,
                    self.output,
                    &self.stop.cancel,
                )
            }
            Ok(None) => {
                log::info!("the payload has no {name}");
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(ended) => {
                ended.log(name);
                Ok(Some(self.report(&ended)))
            }
            Err(error) => {
                log::error!("{name} failed: {error}");
                Err(error)
            }
        }
    }

    fn identity(&self) -> Identity<'_> {
        identity(&self.uuid, &self.account)
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
            output_tail: (self.output == OutputPolicy::Log).then(|| {
                let text = String::from_utf8_lossy(&ended.tail);
                Clipped::tail(&text)
            }),
        }
    }
}

fn identity<'a>(uuid: &'a str, account: &'a Account) -> Identity<'a> {
    Identity {
        uuid,
        user: account.name(),
        home: account.home(),
    }
}
