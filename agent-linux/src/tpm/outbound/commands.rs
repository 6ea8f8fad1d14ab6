//! The commands of a TPM that only an agent that calls its verifier uses.

use agent_core::secret::Secret;
use agent_core::tpm::SignedQuote;
use agent_core::wire::quote::{HashAlg, PcrMask};

use super::kept::Kept;
use crate::tpm::commands::Commands;
use crate::tpm::error::TpmError;

/// One way to a TPM, as [`Commands`] says, with what [`agent_core::tpm::OutboundTpm`] takes.
///
/// # Errors
/// Each method: as those of [`Commands`].
///
/// Source: TPM 2.0 Library part 3, the section of each command.
#[expect(clippy::missing_errors_doc, reason = "the same for all: above")]
pub trait OutboundCommands: Commands {
    /// `TPM2_Certify` of an object by a key, with the key's own scheme.
    fn certify(
        &mut self,
        object: Self::Handle,
        key: Self::Handle,
        qualifying: &[u8],
    ) -> Result<SignedQuote, TpmError>;

    /// `TPM2_PCR_Event`: extends a PCR in every allocated bank by the bank's own hash of the text; `pcr` is below 24, the text
    /// has at most 1024 bytes. A way that lacks the command has the TPM hash for each bank and extends all in one.
    fn pcr_event(&mut self, pcr: u8, text: &[u8]) -> Result<(), TpmError>;

    /// `TPM2_NV_DefineSpace` by the owner's empty password: eight bytes with these attributes, and an empty password.
    fn nv_define_counter(&mut self, index: u32, attributes: u32) -> Result<(), TpmError>;

    /// `TPM2_NV_Increment`, with the index's own empty password.
    fn nv_increment(&mut self, index: u32) -> Result<(), TpmError>;

    /// `TPM2_Create` of a sealed object beneath a storage key; `template` is a marshalled `TPMT_PUBLIC`.
    fn create(
        &mut self,
        parent: Self::Handle,
        template: &[u8],
        secret: &Secret<32>,
    ) -> Result<Kept, TpmError>;

    /// `TPM2_Load` of what [`OutboundCommands::create`] made.
    fn load_kept(&mut self, parent: Self::Handle, kept: &Kept) -> Result<Self::Handle, TpmError>;

    /// `TPM2_PolicyPCR` with the present values.
    fn policy_pcr(
        &mut self,
        session: Self::Session,
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<(), TpmError>;

    /// `TPM2_Unseal` in a policy session.
    fn unseal(
        &mut self,
        object: Self::Handle,
        session: Self::Session,
    ) -> Result<Secret<32>, TpmError>;
}
