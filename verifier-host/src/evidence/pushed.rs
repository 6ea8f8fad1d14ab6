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
/// had not saved. Such a clock should not be called safe, but software TPMs (libtpms) call it so again after four seconds
/// without having saved it since their start: a machine whose power was cut would be shut out. The counters alone say which boot
/// came later.
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
    if got.clock_ms < previous.clock_ms && same_reset {
        return Err(QuoteError::ClockWentBack { previous, got });
    }
    Ok(false)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use agent_core::wire::quote::MAX_DUMP_BYTES;

    use super::*;
    use crate::evidence::certify::{self, ProofError};
    use crate::evidence::software::{SoftwareTpm, attest, values};

    const CHALLENGE: [u8; 16] = [0xC4; 16];
    const CLOCK: ClockInfo = ClockInfo {
        clock_ms: 1000,
        reset_count: 5,
        restart_count: 3,
        safe: true,
    };

    fn asked(pcrs: &[u8]) -> Asked<'static> {
        Asked {
            challenge: &CHALLENGE,
            bank: HashAlg::Sha256,
            pcrs: pcrs
                .iter()
                .fold(PcrMask::EMPTY, |mask, pcr| mask.with(*pcr)),
            previous: None,
        }
    }

    /// Message, signature and values of a quote of PCRs 7, 16 and 23.
    fn quote(tpm: &SoftwareTpm, challenge: &[u8], clock: ClockInfo) -> [Vec<u8>; 3] {
        let values = values(HashAlg::Sha256, &[(7, 1), (23, 2)], "key");
        let message = attest(challenge, &values, tpm.ak().hash_alg(), clock);
        let signature = tpm.signature(&message);
        let mut room = [0; MAX_DUMP_BYTES];
        let dump = values.encode(&mut room).to_vec();
        [message, signature, dump]
    }

    fn parts([message, signature, subject_data]: &[Vec<u8>; 3]) -> Parts<'_> {
        Parts {
            message,
            signature,
            subject_data,
        }
    }

    #[test]
    fn every_flipped_field_fails() {
        for tpm in [SoftwareTpm::new(), SoftwareTpm::with_rsa_ak()] {
            let ak = tpm.ak();
            let good = quote(&tpm, &CHALLENGE, CLOCK);
            check(&ak, parts(&good), &asked(&[7, 16])).unwrap();
            for part in 0..good.len() {
                for byte in 0..good[part].len() {
                    let mut flipped = good.clone();
                    flipped[part][byte] ^= 1 << (byte % 8);
                    let result = check(&ak, parts(&flipped), &asked(&[7, 16]));
                    assert!(result.is_err(), "part {part}, byte {byte}");
                    let mut cut = good.clone();
                    cut[part].truncate(byte);
                    let result = check(&ak, parts(&cut), &asked(&[7, 16]));
                    assert!(result.is_err(), "part {part}, cut at {byte}");
                }
            }
        }
    }

    #[test]
    fn superset_is_taken_and_less_is_not() {
        let tpm = SoftwareTpm::new();
        let good = quote(&tpm, &CHALLENGE, CLOCK);
        for (pcrs, holds) in [
            (&[7, 16, 23][..], true),
            (&[23], true),
            (&[], true),
            (&[7, 8], false),
        ] {
            let result = check(&tpm.ak(), parts(&good), &asked(pcrs));
            assert_eq!(result.is_ok(), holds, "{pcrs:?}");
        }
        let mut other = asked(&[7]);
        other.bank = HashAlg::Sha384;
        assert!(
            check(&tpm.ak(), parts(&good), &other).is_err(),
            "another bank"
        );
        let replayed = quote(&tpm, &[1; 16], CLOCK);
        let result = check(&tpm.ak(), parts(&replayed), &asked(&[7]));
        assert_eq!(result, Err(QuoteError::Nonce));
    }

    #[test]
    fn clock_rules() {
        let tpm = SoftwareTpm::new();
        let clock = |reset_count, restart_count, clock_ms, safe| ClockInfo {
            clock_ms,
            reset_count,
            restart_count,
            safe,
        };
        for (name, got, wanted) in [
            ("later", clock(5, 3, 1001, true), Some(false)),
            ("same", CLOCK, Some(false)),
            ("not safe", clock(5, 3, 1001, false), Some(false)),
            ("back in one boot", clock(5, 3, 999, true), None),
            ("back in one boot, not safe", clock(5, 3, 999, false), None),
            ("power cut", clock(6, 0, 10, false), Some(false)),
            (
                "power cut of a software TPM",
                clock(6, 0, 10, true),
                Some(false),
            ),
            ("resumed", clock(5, 4, 1001, true), Some(false)),
            ("restarts back", clock(5, 2, 1001, true), Some(true)),
            ("cleared", clock(0, 0, 5, true), Some(true)),
        ] {
            let good = quote(&tpm, &CHALLENGE, got);
            let asked = Asked {
                previous: Some(CLOCK),
                ..asked(&[7])
            };
            let result = check(&tpm.ak(), parts(&good), &asked);
            assert_eq!(result.ok().map(|pushed| pushed.went_back), wanted, "{name}");
        }
    }

    #[test]
    fn proof_of_possession_flips_fail() {
        for tpm in [SoftwareTpm::new(), SoftwareTpm::with_rsa_ak()] {
            let ak = tpm.ak();
            let message = tpm.certify(&CHALLENGE);
            let signature = tpm.signature(&message);
            certify::check(&ak, &message, &signature, &CHALLENGE).unwrap();
            for byte in 0..message.len() {
                // Signed again, so that more than the signature has to notice.
                let mut flipped = message.clone();
                flipped[byte] ^= 1;
                let signed = tpm.signature(&flipped);
                let result = certify::check(&ak, &flipped, &signature, &CHALLENGE);
                assert_eq!(result, Err(ProofError::Signature), "byte {byte}");
                let ignored = (8..42).contains(&byte) || byte >= message.len() - 34;
                let ignored = ignored || (60..85).contains(&byte);
                let result = certify::check(&ak, &flipped, &signed, &CHALLENGE);
                assert_eq!(result.is_ok(), ignored, "byte {byte}: {result:?}");
            }
            let quote = quote(&tpm, &CHALLENGE, CLOCK);
            let result = certify::check(&ak, &quote[0], &quote[1], &CHALLENGE);
            assert_eq!(result, Err(ProofError::Type { got: 0x8018 }));
        }
    }
}
