//! What surrounds the agent's core on this machine: the TPM beside it under one lock, vaults, work, the log.

use std::sync::{Mutex, PoisonError, RwLock};

use agent_core::agent::{Agent, AgentConfig, Duty, Note};
use agent_core::drive::{AllLent, Shell};
use agent_core::revocation::{
    Act, ActError, Each, Full, Ledger, LogId, Message, Offer, Standing, Taken, Verify, VerifyError,
};
use agent_core::tpm::Tpm;
use agent_core::wire::log::LogKind;

use crate::logs::{Lent, Shelves};
use crate::memory::Vault;
use crate::net::stream::Io;
use crate::notifier::Notifier;
use crate::queue::Inlet;

/// The agent at work.
pub struct Node<T> {
    parts: Mutex<Parts<T>>,
    work: Inlet,
    notifier: RwLock<Option<Notifier>>,
    logs: Shelves,
    ledger: Mutex<Ledger>,
}

struct Parts<T> {
    agent: Agent<Vault>,
    tpm: T,
}

impl<T: Tpm> Node<T> {
    /// An agent that hands its work to this queue.
    #[must_use]
    pub fn new(config: AgentConfig, tpm: T, work: Inlet) -> Self {
        let agent = Agent::new(config);
        let mut ledger = Ledger::new();
        ledger.land(None);
        Self {
            parts: Mutex::new(Parts { agent, tpm }),
            work,
            notifier: RwLock::new(None),
            logs: Shelves::default(),
            ledger: Mutex::new(ledger),
        }
    }

    /// The same with these logs of the boot, which belong to quotes.
    #[must_use]
    pub fn with_logs(self, logs: Shelves) -> Self {
        Self { logs, ..self }
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

impl<T> Act for Node<T> {
    fn act(&self, message: &Message, text: &str) -> Result<Taken, ActError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let anchor = match message {
            Message::Entry(entry) => entry.log_id.anchor(),
            _ => "",
        };
        match ledger.offer(anchor, message).map_err(ActError::Refused)? {
            Offer::Take => {
                self.work.notice(text).map_err(|Full| ActError::Full)?;
                ledger.take(message);
                Ok(Taken::Acting)
            }
            Offer::Known => Ok(Taken::Known),
            Offer::Ahead => Ok(Taken::Ahead),
            Offer::Early => Ok(Taken::Early),
        }
    }

    fn keep(&self, _: &str, _: &[u8]) -> Result<(), Full> {
        Err(Full)
    }

    fn standing(&self, of: Option<&LogId>) -> Standing {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.standing(of)
    }

    fn outcomes(&self, _: &LogId, _: u64, _: &mut Each<'_>) {}
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
