//! The TPM as the agent needs it.
//!
//! One implementation a world: over the TSS, over raw marshalling, and in memory for tests of the machine.

#[cfg(feature = "fake-tpm")]
mod fake;
pub(crate) mod quoting;

#[cfg(feature = "fake-tpm")]
pub use fake::{FakeError, FakeTpm};

use sha2::{Digest as _, Sha256};

use crate::secret::Secret;
use crate::wire::manifest::NAME_BYTES;
use crate::wire::quote::{Digest, HashAlg, PcrMask, PcrValues};

pub use crate::wire::quote::{MAX_ATTEST_BYTES, MAX_SIGNATURE_BYTES};

/// A marshalled `TPM2B_PUBLIC` of an RSA-2048 key takes 316 bytes; P-256 takes less.
pub const MAX_PUBLIC_BYTES: usize = 512;

/// A PEM `SubjectPublicKeyInfo` of an RSA-2048 key takes 451 bytes.
pub const MAX_PEM_BYTES: usize = 512;

/// A credential or a key half that the TPM gives back: at most one SHA-256 digest.
pub const MAX_CREDENTIAL_BYTES: usize = 32;

/// Who this TPM is. The same TPM gives the same identity at each start; nothing of it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Endorsement key, marshalled `TPM2B_PUBLIC`.
    pub ek_public: heapless::Vec<u8, MAX_PUBLIC_BYTES>,
    /// Attestation key, marshalled `TPM2B_PUBLIC`.
    pub ak_public: heapless::Vec<u8, MAX_PUBLIC_BYTES>,
    /// Transport key for key halves, PEM `SubjectPublicKeyInfo` with its final newline: the text whose hash goes into PCR 16.
    pub transport_pem: heapless::String<MAX_PEM_BYTES>,
}

/// The name of an object whose name algorithm is SHA-256, as all keys of the agent have it: from its marshalled
/// `TPM2B_PUBLIC`.
///
/// Source: TPM 2.0 Library part 1, section 16 (names).
#[must_use]
pub fn name_of(public: &[u8]) -> [u8; NAME_BYTES] {
    let area = public.get(2..).unwrap_or_default();
    let mut name = [0; NAME_BYTES];
    let parts = SHA256_ID.into_iter().chain(Sha256::digest(area));
    for (to, from) in name.iter_mut().zip(parts) {
        *to = from;
    }
    name
}

/// `TPM_ALG_SHA256`.
const SHA256_ID: [u8; 2] = [0x00, 0x0B];

/// A quote as the TPM gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedQuote {
    /// Marshalled `TPMS_ATTEST`.
    pub attest: heapless::Vec<u8, MAX_ATTEST_BYTES>,
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: heapless::Vec<u8, MAX_SIGNATURE_BYTES>,
}

/// Bytes that the TPM decrypted: wiped on drop.
pub struct Opened {
    /// The bytes, `len` of them valid.
    pub bytes: Secret<MAX_CREDENTIAL_BYTES>,
    /// How many are valid, at most [`MAX_CREDENTIAL_BYTES`].
    pub len: usize,
}

/// What the agent asks of a TPM 2.0.
///
/// Each call leaves no transient object or session behind, on error too.
pub trait Tpm {
    /// What can go wrong; `Display` names the command and the response code, never a secret.
    type Error: core::fmt::Display + core::fmt::Debug;

    /// Public parts of the keys.
    fn identity(&self) -> &Identity;

    /// The EK certificate's DER from NV storage into `out`; its length, or `None` if the TPM has none.
    ///
    /// # Errors
    /// The TPM's; a certificate that is larger than `out`.
    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, Self::Error>;

    /// `TPM2_ActivateCredential` with EK and AK: `id_object` is a marshalled `TPM2B_ID_OBJECT`, `secret` a marshalled
    /// `TPM2B_ENCRYPTED_SECRET`.
    ///
    /// # Errors
    /// The TPM's, among them that the credential is for another EK or AK.
    fn activate_credential(
        &mut self,
        id_object: &[u8],
        secret: &[u8],
    ) -> Result<Opened, Self::Error>;

    /// Quotes the selected PCRs of the bank with the AK; `nonce` becomes the attest's `extraData`.
    ///
    /// # Errors
    /// The TPM's.
    fn quote(
        &mut self,
        nonce: &[u8],
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<SignedQuote, Self::Error>;

    /// Values of the selected PCRs.
    ///
    /// # Errors
    /// The TPM's; a PCR that the bank doesn't have.
    fn pcr_read(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<PcrValues, Self::Error>;

    /// Extends one PCR of one bank.
    ///
    /// # Errors
    /// The TPM's.
    fn pcr_extend(&mut self, pcr: u8, bank: HashAlg, digest: &Digest) -> Result<(), Self::Error>;

    /// Resets a resettable PCR (16 or 23).
    ///
    /// # Errors
    /// The TPM's.
    fn pcr_reset(&mut self, pcr: u8) -> Result<(), Self::Error>;

    /// RSA-OAEP (SHA-1, empty label, as Keylime has it) with the transport key.
    ///
    /// # Errors
    /// The TPM's, among them a ciphertext that isn't for this key; a plaintext above [`MAX_CREDENTIAL_BYTES`].
    fn oaep_decrypt(&mut self, ciphertext: &[u8]) -> Result<Opened, Self::Error>;

    /// Fills `out` with the TPM's random bytes.
    ///
    /// # Errors
    /// The TPM's.
    fn random(&mut self, out: &mut [u8]) -> Result<(), Self::Error>;
}

/// The longest blob of [`OutboundTpm::keep`]: a sealed object's public and private part.
pub const MAX_KEPT_BYTES: usize = 512;

/// What an agent that calls its verifier asks of a TPM beside [`Tpm`].
///
/// As there, each call leaves no transient object or session behind, on error too.
pub trait OutboundTpm: Tpm {
    /// `TPM2_Certify` of the AK by itself; `qualifying` becomes the attest's `extraData`. What comes back is a certification:
    /// no verifier takes it for a quote.
    ///
    /// # Errors
    /// The TPM's.
    fn certify_ak(&mut self, qualifying: &[u8]) -> Result<SignedQuote, Self::Error>;

    /// Extends one PCR in every bank that is allocated, of whatever hash, each by its own hash of the text.
    ///
    /// # Errors
    /// The TPM's. An error may leave some banks extended.
    fn extend_all_banks(&mut self, pcr: u8, text: &[u8]) -> Result<(), Self::Error>;

    /// The value of an NV counter, or `None` if there is none at that index.
    ///
    /// # Errors
    /// The TPM's; an index that is no counter.
    fn counter(&mut self, index: u32) -> Result<Option<u64>, Self::Error>;

    /// Raises an NV counter by one.
    ///
    /// # Errors
    /// The TPM's.
    fn raise_counter(&mut self, index: u32) -> Result<(), Self::Error>;

    /// Seals a secret to the present values of these PCRs of one bank: the length of what only this TPM gives back, and only
    /// while they have these values, written to `out`.
    ///
    /// # Errors
    /// The TPM's; less room than [`MAX_KEPT_BYTES`].
    fn keep(
        &mut self,
        bank: HashAlg,
        pcrs: PcrMask,
        secret: &Secret<32>,
        out: &mut [u8],
    ) -> Result<usize, Self::Error>;

    /// Gives back what [`OutboundTpm::keep`] sealed.
    ///
    /// # Errors
    /// The TPM's, among them that the PCRs have other values now.
    fn recall(
        &mut self,
        bank: HashAlg,
        pcrs: PcrMask,
        kept: &[u8],
    ) -> Result<Secret<32>, Self::Error>;
}
