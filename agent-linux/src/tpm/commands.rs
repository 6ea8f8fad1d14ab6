//! The commands of a TPM that the agent uses.

use agent_core::secret::Secret;
use agent_core::tpm::{MAX_PUBLIC_BYTES, Opened, SignedQuote};
use agent_core::wire::quote::{Digest, HashAlg, PcrMask};

use super::error::TpmError;
use super::name::TctiName;

/// A key's public part as the TPM gives it: a marshalled `TPM2B_PUBLIC`.
pub type PublicArea = heapless::Vec<u8, MAX_PUBLIC_BYTES>;

/// What an NV index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvPublic {
    /// Bytes of its contents.
    pub size: usize,
    /// `TPMA_NV`.
    pub attributes: u32,
}

/// Which of the TPM's hierarchies a primary key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Who the machine is: the same for the machine's life.
    Endorsement,
    /// Whoever owns it now: `TPM2_Clear` ends it.
    Owner,
}

/// One way to a TPM: a method sends one command, again while the TPM is only busy, with a password session (no key of the
/// agent has a password) where the command wants one.
///
/// Nothing is flushed here that the method didn't load itself; a method that fails has loaded nothing.
///
/// # Errors
/// Each method: [`TpmError::Command`], and [`TpmError::Malformed`] or [`TpmError::Size`] for an answer, or a value to be sent,
/// that isn't what it must be.
///
/// Source: TPM 2.0 Library part 3, the section of each command.
#[expect(clippy::missing_errors_doc, reason = "the same for all: above")]
pub trait Commands: Sized {
    /// A loaded object.
    type Handle: Copy;
    /// A session.
    type Session: Copy;
    /// A saved object: only this boot of this TPM can load it.
    type Context;

    /// Opens the way. Whether anyone answers shows with the first command.
    fn open(name: &TctiName) -> Result<Self, TpmError>;

    /// Whether a resource manager stands before the TPM, so that each user has places of its own for objects.
    fn is_shared(&self) -> bool;

    /// `TPM2_Startup(CLEAR)`.
    fn startup(&mut self) -> Result<(), TpmError>;

    /// The handles in use from `first` on, at most `count` (`TPM2_GetCapability`).
    fn handles(&mut self, first: u32, count: u32) -> Result<Vec<u32>, TpmError>;

    /// Makes a primary key; `template` is a marshalled `TPMT_PUBLIC`.
    fn create_primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &[u8],
    ) -> Result<(Self::Handle, PublicArea), TpmError>;

    /// The key at a persistent handle (`TPM2_ReadPublic`).
    fn persistent(&mut self, handle: u32) -> Result<(Self::Handle, PublicArea), TpmError>;

    /// Ends the use of what [`Commands::persistent`] gave; the key stays where it is.
    fn forget(&mut self, handle: Self::Handle) -> Result<(), TpmError>;

    /// `TPM2_ContextSave`.
    fn context_save(&mut self, handle: Self::Handle) -> Result<Self::Context, TpmError>;

    /// `TPM2_ContextLoad`.
    fn context_load(&mut self, context: &Self::Context) -> Result<Self::Handle, TpmError>;

    /// `TPM2_FlushContext` of an object that this process loaded.
    fn flush(&mut self, handle: Self::Handle) -> Result<(), TpmError>;

    /// `TPM2_FlushContext` of a session that this process started.
    fn flush_session(&mut self, session: Self::Session) -> Result<(), TpmError>;

    /// `TPM2_FlushContext` of what another process left behind.
    fn flush_foreign(&mut self, handle: u32) -> Result<(), TpmError>;

    /// `TPM2_StartAuthSession`: a policy session with SHA-256, neither salted nor bound.
    fn start_policy_session(&mut self) -> Result<Self::Session, TpmError>;

    /// `TPM2_PolicySecret(TPM_RH_ENDORSEMENT)`.
    fn policy_secret(&mut self, session: Self::Session) -> Result<(), TpmError>;

    /// `TPM2_ActivateCredential`: a password session for the AK, this session for the EK. `id_object` and `secret` are
    /// the contents of a `TPM2B_ID_OBJECT` and of a `TPM2B_ENCRYPTED_SECRET`.
    fn activate_credential(
        &mut self,
        ak: Self::Handle,
        ek: Self::Handle,
        session: Self::Session,
        id_object: &[u8],
        secret: &[u8],
    ) -> Result<Opened, TpmError>;

    /// `TPM2_Quote` with the key's own scheme.
    fn quote(
        &mut self,
        ak: Self::Handle,
        nonce: &[u8],
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<SignedQuote, TpmError>;

    /// `TPM2_PCR_Read`: the update counter, and the values of those of the PCRs that the bank has and one answer takes, in their order.
    fn pcr_read(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<(u32, Vec<Digest>), TpmError>;

    /// `TPM2_PCR_Extend` of one bank: `digest` has its size, `pcr` is below 24.
    fn pcr_extend(&mut self, pcr: u8, bank: HashAlg, digest: &[u8]) -> Result<(), TpmError>;

    /// `TPM2_PCR_Reset`: `pcr` is below 24.
    fn pcr_reset(&mut self, pcr: u8) -> Result<(), TpmError>;

    /// `TPM2_RSA_Decrypt` with OAEP, SHA-1, no label.
    fn oaep_decrypt(&mut self, key: Self::Handle, ciphertext: &[u8]) -> Result<Opened, TpmError>;

    /// `TPM2_HMAC` with the key's own hash, SHA-256.
    fn hmac(&mut self, key: Self::Handle, text: &[u8]) -> Result<Secret<32>, TpmError>;

    /// `TPM2_GetRandom`: fills the start of `out`, which isn't empty; how much, at least one byte.
    fn random(&mut self, out: &mut [u8]) -> Result<usize, TpmError>;

    /// What an NV index is (`TPM2_NV_ReadPublic`).
    fn nv_public(&mut self, index: u32) -> Result<NvPublic, TpmError>;

    /// `TPM2_NV_Read`: fills `piece`, with the index's own empty password.
    fn nv_read(&mut self, index: u32, offset: u16, piece: &mut [u8]) -> Result<(), TpmError>;
}
