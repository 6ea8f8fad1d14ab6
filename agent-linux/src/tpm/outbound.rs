//! What an agent that calls its verifier asks of its TPM beside all that others do.

mod commands;
mod counter;
mod kept;
mod plain;

use agent_core::secret::Secret;
use agent_core::tpm::{OutboundTpm, SignedQuote};
use agent_core::wire::quote::{HashAlg, PcrMask};

use super::error::TpmError;
use super::key::Key;
use super::node::NodeTpm;
use super::pcr;
use super::room::with_room;
use super::template::Template;
use crate::memory::wipe_stack;
pub use commands::OutboundCommands;
pub use kept::Kept;
pub use plain::PlainTpm;

impl<C: OutboundCommands> NodeTpm<C> {
    /// Makes an NV counter, by the owner's empty password, and returns its value. One that is there already stays as it is.
    ///
    /// # Errors
    /// The TPM's; [`TpmError::OwnerPassword`]; [`TpmError::NoCounter`] if something else is at that index.
    pub fn create_counter(&mut self, index: u32) -> Result<u64, TpmError> {
        counter::create(&mut self.tpm, index)
    }

    /// The TPM, and the key beneath which copies are kept: made when the first one asks for it.
    fn storage(&mut self) -> Result<(&mut C, &mut Key<C>), TpmError> {
        let Self { tpm, storage, .. } = self;
        let key = match storage {
            Some(key) => key,
            None => storage.insert(Key::create(tpm, "storage key", Template::storage())?),
        };
        Ok((tpm, key))
    }
}

impl<C: OutboundCommands> OutboundTpm for NodeTpm<C> {
    fn certify_ak(&mut self, qualifying: &[u8]) -> Result<SignedQuote, TpmError> {
        super::node::at_most_a_nonce("the qualifying data", qualifying)?;
        let Self { tpm, ak, .. } = self;
        with_room(tpm, |tpm| {
            ak.with(tpm, |tpm, ak| tpm.certify(ak, ak, qualifying))
        })
    }

    fn extend_all_banks(&mut self, pcr: u8, text: &[u8]) -> Result<(), TpmError> {
        self.tpm.pcr_event(pcr::number(pcr)?, text)
    }

    fn counter(&mut self, index: u32) -> Result<Option<u64>, TpmError> {
        counter::read(&mut self.tpm, index)
    }

    fn raise_counter(&mut self, index: u32) -> Result<(), TpmError> {
        self.tpm.nv_increment(index)
    }

    fn keep(
        &mut self,
        bank: HashAlg,
        pcrs: PcrMask,
        secret: &Secret<32>,
        out: &mut [u8],
    ) -> Result<usize, TpmError> {
        kept::check_room(out)?;
        let policy = kept::policy(bank, pcrs, &pcr::read(&mut self.tpm, bank, pcrs)?);
        let (tpm, parent) = self.storage()?;
        let template = Template::sealed(&policy);
        let kept = with_room(tpm, |tpm| {
            parent.with(tpm, |tpm, parent| {
                tpm.create(parent, template.area(), secret)
            })
        });
        // The library's command, which can't be wiped, had the secret in it.
        wipe_stack();
        kept?.write(out)
    }

    fn recall(
        &mut self,
        bank: HashAlg,
        pcrs: PcrMask,
        kept: &[u8],
    ) -> Result<Secret<32>, TpmError> {
        let kept = Kept::read(kept)?;
        let (tpm, parent) = self.storage()?;
        with_room(tpm, |tpm| {
            parent.with(tpm, |tpm, parent| {
                kept::open(tpm, parent, bank, pcrs, &kept)
            })
        })
    }
}
