//! A quote whose values are the ones that were signed.

use core::fmt;

use crate::tpm::{SignedQuote, Tpm};
use crate::wire::quote::{Attest, AttestError, DumpError, HashAlg, PcrDump, PcrMask};
use crate::wire::text::Nonce;

/// The PCR that the transport key is bound to; software can reset it.
pub const KEY_PCR: u8 = 16;

/// How often a quote is tried: a PCR that moves between quote and read (IMA's 10) makes another try necessary.
const TRIES: u32 = 5;

/// A quote and its values.
pub(super) struct Quoted {
    pub(super) quote: SignedQuote,
    pub(super) dump: PcrDump,
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

/// Quotes the PCRs and [`KEY_PCR`], which is set to stand for the transport key.
///
/// # Cost
/// Up to five times reset, extend, quote and read.
pub(super) fn quote<T: Tpm>(
    tpm: &mut T,
    bank: HashAlg,
    nonce: &Nonce,
    mask: PcrMask,
) -> Result<Quoted, QuoteFailure<T::Error>> {
    let mask = mask.with(KEY_PCR);
    let key_digest = bank.digest([tpm.identity().transport_pem.as_bytes()]);
    for _ in 0..TRIES {
        tpm.pcr_reset(KEY_PCR).map_err(QuoteFailure::Tpm)?;
        tpm.pcr_extend(KEY_PCR, bank, &key_digest)
            .map_err(QuoteFailure::Tpm)?;
        let quote = tpm
            .quote(nonce.as_str().as_bytes(), bank, mask)
            .map_err(QuoteFailure::Tpm)?;
        let values = tpm.pcr_read(bank, mask).map_err(QuoteFailure::Tpm)?;
        let dump = PcrDump::new(bank, values).map_err(QuoteFailure::Dump)?;
        let attest = Attest::parse(&quote.attest).map_err(QuoteFailure::Attest)?;
        if dump.pcrs() == attest.pcrs && dump.digest(bank) == attest.pcr_digest {
            return Ok(Quoted { quote, dump });
        }
    }
    Err(QuoteFailure::Moving)
}
