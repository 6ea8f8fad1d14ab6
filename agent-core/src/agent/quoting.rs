//! A quote whose values are the ones that were signed.

use core::fmt;

use crate::tpm::{SignedQuote, Tpm};
use crate::wire::quote::{Attest, AttestError, DumpError, HashAlg, PcrDump, PcrMask};
use crate::wire::text::Nonce;

/// The PCR that the transport key is bound to; software can reset it.
pub const KEY_PCR: u8 = 16;

/// How often a quote is tried: a PCR that moves between quote and read (IMA's 10) makes another try necessary.
const TRIES: u32 = 5;

/// A quote and its values, in memory that is lent: together they are too large to be handed around.
pub(super) struct Quoted {
    pub(super) quote: SignedQuote,
    pub(super) dump: PcrDump,
}

impl Quoted {
    /// Room for a quote of this bank.
    pub(super) fn empty(bank: HashAlg) -> Self {
        Self {
            quote: SignedQuote::default(),
            dump: PcrDump::empty(bank),
        }
    }

    fn is_consistent(&self, bank: HashAlg) -> Result<bool, AttestError> {
        let attest = Attest::parse(&self.quote.attest)?;
        Ok(self.dump.pcrs() == attest.pcrs && self.dump.digest(bank) == attest.pcr_digest)
    }
}

/// Why there is no quote just now.
#[derive(Debug)]
pub(super) enum QuoteFailure<E> {
    /// The TPM refused.
    Tpm(E),
    /// The TPM's quote can't be read.
    Attest(AttestError),
    /// The TPM's values make no dump.
    Dump(DumpError),
    /// The values moved at each try.
    Moving,
}

impl<E: fmt::Display> fmt::Display for QuoteFailure<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tpm(error) => write!(out, "{error}"),
            Self::Attest(error) => write!(out, "the TPM's quote is malformed: {error:?}"),
            Self::Dump(error) => write!(out, "the TPM's PCR values are malformed: {error:?}"),
            Self::Moving => write!(out, "the PCRs changed during each of {TRIES} quotes"),
        }
    }
}

/// Quotes the PCRs and [`KEY_PCR`], which is set to stand for the transport key, into `quoted`. On `Err` that holds nothing
/// of use.
///
/// # Cost
/// Up to five times reset, extend, quote and read.
pub(super) fn quote<T: Tpm>(
    tpm: &mut T,
    bank: HashAlg,
    nonce: &Nonce,
    mask: PcrMask,
    quoted: &mut Quoted,
) -> Result<(), QuoteFailure<T::Error>> {
    let mask = mask.with(KEY_PCR);
    for _ in 0..TRIES {
        bind_key(tpm, bank).map_err(QuoteFailure::Tpm)?;
        sign(tpm, bank, nonce, mask, &mut quoted.quote).map_err(QuoteFailure::Tpm)?;
        read(tpm, bank, mask, &mut quoted.dump)?;
        if quoted.is_consistent(bank).map_err(QuoteFailure::Attest)? {
            return Ok(());
        }
    }
    Err(QuoteFailure::Moving)
}

// What follows is never inlined: each of them holds large values for a moment, and the stack shall hold one at a time.

#[inline(never)]
fn bind_key<T: Tpm>(tpm: &mut T, bank: HashAlg) -> Result<(), T::Error> {
    let key_digest = bank.digest([tpm.identity().transport_pem.as_bytes()]);
    tpm.pcr_reset(KEY_PCR)?;
    tpm.pcr_extend(KEY_PCR, bank, &key_digest)
}

#[inline(never)]
fn sign<T: Tpm>(
    tpm: &mut T,
    bank: HashAlg,
    nonce: &Nonce,
    mask: PcrMask,
    quote: &mut SignedQuote,
) -> Result<(), T::Error> {
    *quote = tpm.quote(nonce.as_str().as_bytes(), bank, mask)?;
    Ok(())
}

#[inline(never)]
fn read<T: Tpm>(
    tpm: &mut T,
    bank: HashAlg,
    mask: PcrMask,
    dump: &mut PcrDump,
) -> Result<(), QuoteFailure<T::Error>> {
    let values = tpm.pcr_read(bank, mask).map_err(QuoteFailure::Tpm)?;
    *dump = PcrDump::new(bank, values).map_err(QuoteFailure::Dump)?;
    Ok(())
}
