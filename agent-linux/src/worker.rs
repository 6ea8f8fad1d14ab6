//! Work that the agent hands over: an opened payload becomes files, then its script runs. The agent answers meanwhile.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use agent_core::agent::{Duty, OpenedPayload};
use agent_core::drive::Shell;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{self, Limits, UnpackError};
use agent_core::tpm::Tpm;

use crate::landing::{LandingError, Zone};
use crate::memory::Vault;
use crate::node::Node;
use crate::notifier::Notifier;

/// The file that a payload becomes which is no archive.
///
/// Source: Keylime's `dec_payload_file`.
pub const PLAIN_FILE: &str = "decrypted_payload";

/// Does the agent's work, one payload after the other.
pub struct Worker<T> {
    /// The agent, to report to.
    pub node: Arc<Node<T>>,
    /// Where files go.
    pub zone: Zone,
    /// What an archive may hold.
    pub limits: Limits,
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
    pub fn run(self, duties: &Receiver<Duty<Vault>>) {
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
            self.node
                .with_agent(|agent, _| agent.finished(number, None));
        }
    }

    /// Writes a payload into the landing zone, all or nothing; its vault is wiped on every way out.
    fn land(&self, payload: OpenedPayload<Vault>) -> Result<(), PayloadError> {
        let plaintext = payload.plaintext();
        let mut unpacking = self.zone.begin()?;
        if zip::is_archive(plaintext) {
            let mut inflater = Box::<Inflater>::default();
            zip::unpack(plaintext, &self.limits, &mut inflater, &mut unpacking)
                .map_err(PayloadError::Unpack)?;
        } else {
            let size = u64::try_from(plaintext.len()).unwrap_or(u64::MAX);
            unpacking.file(PLAIN_FILE, 0o600, size)?;
            unpacking.data(plaintext)?;
            unpacking.end()?;
        }
        drop(payload);
        Ok(unpacking.commit()?)
    }
}
