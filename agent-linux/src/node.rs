//! What surrounds the agent's core on this machine: the TPM beside it under one lock, vaults, work, the log.

use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError, RwLock};

use agent_core::agent::{Agent, AgentConfig, Duty, Note};
use agent_core::drive::Shell;
use agent_core::revocation::{Verify, VerifyError};
use agent_core::tpm::Tpm;

use crate::memory::Vault;
use crate::notifier::Notifier;

/// The agent at work.
pub struct Node<T> {
    parts: Mutex<Parts<T>>,
    duties: SyncSender<Duty<Vault>>,
    notifier: RwLock<Option<Notifier>>,
}

struct Parts<T> {
    agent: Agent<Vault>,
    tpm: T,
}

impl<T: Tpm> Node<T> {
    /// An agent that hands its work to `duties`.
    #[must_use]
    pub fn new(config: AgentConfig, tpm: T, duties: SyncSender<Duty<Vault>>) -> Self {
        let agent = Agent::new(config);
        Self {
            parts: Mutex::new(Parts { agent, tpm }),
            duties,
            notifier: RwLock::new(None),
        }
    }

    /// From now on revocation notices are by this notifier, or by nobody.
    pub fn trust(&self, notifier: Option<Notifier>) {
        *self
            .notifier
            .write()
            .unwrap_or_else(PoisonError::into_inner) = notifier;
    }
}

impl<T> Verify for Node<T> {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let notifier = self.notifier.read().unwrap_or_else(PoisonError::into_inner);
        notifier
            .as_ref()
            .ok_or(VerifyError::NoAnchor)?
            .verify(message, signature)
    }
}

impl<T: Tpm> Shell for Node<T> {
    type Vault = Vault;
    type Tpm = T;

    fn with_agent<R>(&self, step: impl FnOnce(&mut Agent<Vault>, &mut T) -> R) -> R {
        // A step that panicked has left the agent as consistent as its own steps are small.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { agent, tpm } = &mut *parts;
        step(agent, tpm)
    }

    fn vault(&self, bytes: usize) -> Option<Vault> {
        match Vault::new(bytes) {
            Ok(vault) => {
                if !vault.is_locked() {
                    log::warn!("a payload's memory could not be locked: raise RLIMIT_MEMLOCK");
                }
                Some(vault)
            }
            Err(error) => {
                log::error!("no memory for a payload of {bytes} bytes: {error}");
                None
            }
        }
    }

    fn start(&self, duty: Duty<Vault>) {
        // The worker takes one after the other, and the agent gives none while it is at one: there is always room.
        if let Err(error) = self.duties.try_send(duty) {
            log::error!("work could not be started: {error}");
        }
    }

    fn note(&self, note: &Note) {
        if note.is_warning() {
            log::warn!("{note}");
        } else {
            log::info!("{note}");
        }
    }
}
