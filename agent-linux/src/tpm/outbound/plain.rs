//! A TPM without any key of the agent's: for what has to work when nothing else does.

use std::time::Instant;

use super::commands::OutboundCommands;
use super::counter;
use crate::tpm::error::TpmError;
use crate::tpm::name::TctiName;
use crate::tpm::node::wake_until;
use crate::tpm::pcr;

/// A TPM that answers. Nothing is made in it: an endorsement hierarchy with a password is no hindrance.
pub struct PlainTpm<C: OutboundCommands>(C);

impl<C: OutboundCommands> PlainTpm<C> {
    /// Opens the TPM, and waits until this moment for it to appear.
    ///
    /// # Errors
    /// [`TpmError::Open`]: nothing answers there.
    pub fn open(name: &TctiName, until: Instant) -> Result<Self, TpmError> {
        wake_until(name, until).map(Self)
    }

    /// Extends one PCR in every bank that is allocated, each by its own hash of the text.
    ///
    /// # Errors
    /// The TPM's.
    pub fn extend_all_banks(&mut self, pcr: u8, text: &[u8]) -> Result<(), TpmError> {
        self.0.pcr_event(pcr::number(pcr)?, text)
    }

    /// The value of an NV counter, or `None` if there is none at that index.
    ///
    /// # Errors
    /// The TPM's; [`TpmError::NoCounter`].
    pub fn counter(&mut self, index: u32) -> Result<Option<u64>, TpmError> {
        counter::read(&mut self.0, index)
    }

    /// Makes an NV counter, by the owner's empty password, and returns its value. One that is there already stays as it is.
    ///
    /// # Errors
    /// The TPM's; [`TpmError::OwnerPassword`]; [`TpmError::NoCounter`] if something else is at that index.
    pub fn create_counter(&mut self, index: u32) -> Result<u64, TpmError> {
        counter::create(&mut self.0, index)
    }
}
