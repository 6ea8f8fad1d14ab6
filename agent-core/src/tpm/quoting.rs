//! A quote whose values are the ones that were signed, and whose PCR 16 says what the agent wants to have said.

use core::fmt;

use super::{SignedQuote, Tpm};
use crate::wire::quote::{Attest, AttestError, Digest, DumpError, HashAlg, PcrDump, PcrMask};
use crate::wire::statement::{STATEMENT_PCR, pcr_value};

/// How often a quote is tried: a PCR that moves between quote and read (IMA's 10) makes another try necessary.
const TRIES: u32 = 5;

/// What a quote is of.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// What becomes the attest's `extraData`.
    pub(crate) nonce: &'a [u8],
    /// The bank.
    pub(crate) bank: HashAlg,
    /// The PCRs; 16 is always among them.
    pub(crate) pcrs: PcrMask,
    /// What PCR 16 is reset and extended with.
    pub(crate) statement: &'a Digest,
}

/// A quote and its values, in memory that is lent: together they are too large to be handed around.
pub(crate) struct Quoted {
    pub(crate) quote: SignedQuote,
    pub(crate) dump: PcrDump,
}

impl Quoted {
    /// Room for a quote of this bank.
    pub(crate) fn empty(bank: HashAlg) -> Self {
        Self {
            quote: SignedQuote::default(),
            dump: PcrDump::empty(bank),
        }
    }

    /// Another program may have reset PCR 16 meanwhile: values that were signed and don't hold the statement are none.
    fn is_consistent(&self, subject: &Subject<'_>) -> Result<bool, AttestError> {
        let attest = Attest::parse(&self.quote.attest)?;
        let stated = pcr_value(subject.bank, subject.statement);
        Ok(self.dump.pcrs() == attest.pcrs
            && self.dump.digest(subject.bank) == attest.pcr_digest
            && self.dump.value(STATEMENT_PCR) == Some(stated.as_slice()))
    }
}

/// Why there is no quote just now.
#[derive(Debug)]
pub(crate) enum QuoteFailure<E> {
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

/// Quotes the PCRs and [`STATEMENT_PCR`], which is set to hold the statement, into `quoted`. On `Err` that holds nothing of
/// use.
///
/// # Cost
/// Up to five times reset, extend, quote and read.
pub(crate) fn quote<T: Tpm>(
    tpm: &mut T,
    subject: &Subject<'_>,
    quoted: &mut Quoted,
) -> Result<(), QuoteFailure<T::Error>> {
    let subject = Subject {
        pcrs: subject.pcrs.with(STATEMENT_PCR),
        ..*subject
    };
    for _ in 0..TRIES {
        state(tpm, &subject).map_err(QuoteFailure::Tpm)?;
        sign(tpm, &subject, &mut quoted.quote).map_err(QuoteFailure::Tpm)?;
        read(tpm, &subject, &mut quoted.dump)?;
        if quoted
            .is_consistent(&subject)
            .map_err(QuoteFailure::Attest)?
        {
            return Ok(());
        }
    }
    Err(QuoteFailure::Moving)
}

// What follows is never inlined: each of them holds large values for a moment, and the stack shall hold one at a time.

#[inline(never)]
fn state<T: Tpm>(tpm: &mut T, subject: &Subject<'_>) -> Result<(), T::Error> {
    tpm.pcr_reset(STATEMENT_PCR)?;
    tpm.pcr_extend(STATEMENT_PCR, subject.bank, subject.statement)
}

#[inline(never)]
fn sign<T: Tpm>(
    tpm: &mut T,
    subject: &Subject<'_>,
    quote: &mut SignedQuote,
) -> Result<(), T::Error> {
    *quote = tpm.quote(subject.nonce, subject.bank, subject.pcrs)?;
    Ok(())
}

#[inline(never)]
fn read<T: Tpm>(
    tpm: &mut T,
    subject: &Subject<'_>,
    dump: &mut PcrDump,
) -> Result<(), QuoteFailure<T::Error>> {
    let values = tpm
        .pcr_read(subject.bank, subject.pcrs)
        .map_err(QuoteFailure::Tpm)?;
    *dump = PcrDump::new(subject.bank, values).map_err(QuoteFailure::Dump)?;
    Ok(())
}
