//! Whether a quote that a node brought by itself (API 3.0) answers its challenge.
//!
//! It differs from a polled one in three things: its challenge is bytes, it may cover more PCRs than were asked for, and it
//! comes from machines that lose power. So a clock that isn't safe is recorded, not refused, and boot counters that went back
//! are reported to who decides about secrets.

use agent_core::wire::quote::{
    Attest, ClockInfo, HashAlg, PcrDump, PcrMask, QuoteError as Malformed, QuoteText, Signature,
};
use subtle::ConstantTimeEq as _;

use super::public::AkPublic;
use super::quote::{QuoteError, check_signature, check_values};

/// What the quote has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The challenge, decoded: what `extraData` must be.
    pub challenge: &'a [u8],
    /// The bank that was asked for.
    pub bank: HashAlg,
    /// The PCRs that it must cover.
    pub pcrs: PcrMask,
    /// The clock of the last quote that held when the challenge was made.
    pub previous: Option<ClockInfo>,
}

/// The parts as the TPM and the agent wrote them.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Marshalled `TPMS_ATTEST`.
    pub message: &'a [u8],
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
    /// The PCR dump.
    pub subject_data: &'a [u8],
}

/// What a quote says that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The values of all PCRs that it covers.
    pub pcrs: PcrDump,
    /// The TPM's clock and boot counters.
    pub clock: ClockInfo,
    /// The boot counters are below the last ones: the TPM was cleared, or it is another one.
    pub went_back: bool,
}

/// Checks a quote against the registered key and the challenge.
///
/// # Errors
/// [`QuoteError`]: the first thing that doesn't hold; nothing of the quote may be used then.
pub fn check(ak: &AkPublic, parts: Parts<'_>, asked: &Asked<'_>) -> Result<Pushed, QuoteError> {
    let quote = parse(parts).map_err(QuoteError::Malformed)?;
    check_signature(ak, &quote)?;
    if !bool::from(quote.attest.extra_data.ct_eq(asked.challenge)) {
        return Err(QuoteError::Nonce);
    }
    let got = (quote.attest.bank, quote.attest.pcrs);
    let want = (asked.bank, asked.pcrs);
    if got.0 != want.0 || got.1.bits() & want.1.bits() != want.1.bits() {
        return Err(QuoteError::Selection { got, want });
    }
    check_values(ak, &quote)?;
    let clock = quote.attest.clock;
    Ok(Pushed {
        pcrs: quote.dump,
        clock,
        went_back: went_back(clock, asked.previous)?,
    })
}

fn parse(parts: Parts<'_>) -> Result<QuoteText<'_>, Malformed> {
    Ok(QuoteText {
        attest_bytes: parts.message,
        attest: Attest::parse(parts.message).map_err(Malformed::Attest)?,
        signature: Signature::parse(parts.signature).map_err(Malformed::Signature)?,
        dump: PcrDump::parse(parts.subject_data).map_err(Malformed::Dump)?,
    })
}

/// Whether the boot counters went back. In one boot the clock can't; after a loss of power it may be set back by what the TPM
/// had not saved, and isn't called safe then.
///
/// Source: TPM 2.0 Library part 1, section 36.3.
const fn went_back(got: ClockInfo, previous: Option<ClockInfo>) -> Result<bool, QuoteError> {
    let Some(previous) = previous else {
        return Ok(false);
    };
    let resets_back = got.reset_count < previous.reset_count;
    let same_reset = got.reset_count == previous.reset_count;
    if resets_back || same_reset && got.restart_count < previous.restart_count {
        return Ok(true);
    }
    let may_go_back = !got.safe && !same_reset;
    if got.clock_ms < previous.clock_ms && !may_go_back {
        return Err(QuoteError::ClockWentBack { previous, got });
    }
    Ok(false)
}
