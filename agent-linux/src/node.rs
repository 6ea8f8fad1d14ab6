//! What surrounds the agent's core on this machine: the TPM beside it under one lock, vaults, work, the log.

use std::sync::{Arc, Mutex, PoisonError};

use agent_core::agent::{Agent, AgentConfig, Duty, Note};
use agent_core::drive::{AllLent, Shell};
use agent_core::revocation::{
    Act, ActError, Each, Full, LogId, Message, Standing, Taken, Verify, VerifyError,
};
use agent_core::tpm::Tpm;
use agent_core::wire::log::LogKind;

use crate::logs::{Lent, Shelves};
use crate::memory::Vault;
use crate::net::stream::Io;
use crate::queue::Inlet;
use crate::revocations::Revocations;

/// The agent at work.
pub struct Node<T> {
    parts: Mutex<Parts<T>>,
    work: Inlet,
    revocations: Arc<Revocations>,
    logs: Shelves,
}

struct Parts<T> {
    agent: Agent<Vault>,
    tpm: T,
}

impl<T: Tpm> Node<T> {
    /// An agent that hands payloads to this queue, and revocation notices to their journal.
    #[must_use]
    pub fn new(config: AgentConfig, tpm: T, work: Inlet, revocations: Arc<Revocations>) -> Self {
        let agent = Agent::new(config);
        Self {
            parts: Mutex::new(Parts { agent, tpm }),
            work,
            revocations,
            logs: Shelves::default(),
        }
    }

    /// The same with these logs of the boot, which belong to quotes.
    #[must_use]
    pub fn with_logs(self, logs: Shelves) -> Self {
        Self { logs, ..self }
    }
}

impl<T> Verify for Node<T> {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        self.revocations.verify(message, signature)
    }
}

impl<T> Act for Node<T> {
    fn act(&self, message: &Message, text: &str) -> Result<Taken, ActError> {
        self.revocations.act(message, text)
    }

    fn keep(&self, text: &str, signature: &[u8]) -> Result<(), Full> {
        self.revocations.keep(text, signature)
    }

    fn standing(&self, of: Option<&LogId>) -> Standing {
        self.revocations.standing(of)
    }

    fn outcomes(&self, of: &LogId, after: u64, each: &mut Each<'_>) {
        self.revocations.outcomes(of, after, each);
    }
}

impl<T: Tpm> Shell for Node<T> {
    type Vault = Vault;
    type Tpm = T;
    type Log = Io<Lent>;

    fn log(&self, kind: LogKind) -> Result<Option<Io<Lent>>, AllLent> {
        Ok(self.logs.lend(kind)?.map(Io))
    }

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
        let Duty::Unpack(payload) = duty;
        // The agent gives none while it is at one, and there is always room for one: only a dead worker takes none.
        if self.work.payload(payload).is_err() {
            log::error!("work could not be started");
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
