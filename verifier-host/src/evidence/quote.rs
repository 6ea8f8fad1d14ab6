//! Whether a quote is this node's answer to this nonce, and what it says about the node's PCRs.
//!
//! Nothing of a quote is used before all of it has been checked: signature, nonce, selection, digest of the values, and the
//! transport key in PCR 16.

use agent_core::wire::quote::{
    self as wire, ClockInfo, HashAlg, PcrDump, PcrMask, QuoteBuffer, QuoteText, SignAlg,
};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::public::AkPublic;
use super::signature;

/// The PCR that holds the transport key's hash; it is in every quote.
pub const TRANSPORT_PCR: u8 = 16;

/// What a quote has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The nonce that was sent, as text.
    pub nonce: &'a str,
    /// The PCR bank that was agreed on.
    pub bank: HashAlg,
    /// The PCRs that were asked for; [`TRANSPORT_PCR`] is added.
    pub pcrs: PcrMask,
    /// PEM text of the node's transport key: what the node sent with this quote, else what it sent before.
    pub transport_pem: &'a str,
    /// The clock of the last quote that held, if there was one.
    pub previous: Option<ClockInfo>,
}

/// What a quote says that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The values of the PCRs that were asked for, and of [`TRANSPORT_PCR`].
    pub pcrs: PcrDump,
    /// The TPM's clock and boot counters.
    pub clock: ClockInfo,
}

/// Why a quote doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// It isn't what the protocol says a quote is.
    #[error("the quote is malformed: {0:?}")]
    Malformed(wire::QuoteError),
    /// It is signed with another scheme or hash than the registered key's.
    #[error(
        "the quote is signed with {} and {}, the registered key signs with {} and {}",
        .got.0.name(), .got.1.name(), .want.0.name(), .want.1.name()
    )]
    Algorithms {
        /// The quote's.
        got: (SignAlg, HashAlg),
        /// The key's.
        want: (SignAlg, HashAlg),
    },
    /// The registered key didn't sign it, or it was changed since.
    #[error("the quote's signature is not the registered attestation key's")]
    Signature,
    /// It answers another nonce.
    #[error("the quote answers another nonce: it is a replay, or not for this verifier")]
    Nonce,
    /// Other PCRs or another bank than asked for.
    #[error(
        "the quote covers PCRs 0x{:06x} of bank {}, asked for were 0x{:06x} of bank {}",
        .got.1.bits(), .got.0.name(), .want.1.bits(), .want.0.name()
    )]
    Selection {
        /// What it covers.
        got: (HashAlg, PcrMask),
        /// What was asked for.
        want: (HashAlg, PcrMask),
    },
    /// The values beside the quote are of other PCRs than it covers.
    #[error("the PCR values sent are of PCRs 0x{:06x}, the quote covers 0x{:06x}", .got.bits(), .want.bits())]
    Values {
        /// Whose values came.
        got: PcrMask,
        /// What the quote covers.
        want: PcrMask,
    },
    /// The values beside the quote aren't those that the TPM signed.
    #[error("the PCR values sent are not the ones that the TPM signed")]
    Digest,
    /// PCR 16 doesn't hold this transport key.
    #[error("PCR 16 holds {got}, for the node's transport key it must hold {want}")]
    TransportKey {
        /// What it holds, hex.
        got: String,
        /// What it must hold, hex.
        want: String,
    },
    /// The TPM lost power without a shutdown, and its clock may have gone back.
    #[error(
        "the TPM's clock is not safe: it lost power without a shutdown; it becomes safe again by itself (after up to 70 \
         minutes), or when its owner sets it forward (tpm2_setclock)"
    )]
    ClockUnsafe,
    /// Boot counters or clock went back: another TPM, or one that was cleared.
    #[error("the TPM went back from {} to {}: it was cleared, or it is another one", Clock(.previous), Clock(.got))]
    ClockWentBack {
        /// The last quote's.
        previous: ClockInfo,
        /// This quote's.
        got: ClockInfo,
    },
}

struct Clock<'a>(&'a ClockInfo);

impl std::fmt::Display for Clock<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ClockInfo {
            clock_ms,
            reset_count,
            restart_count,
            ..
        } = self.0;
        write!(
            f,
            "reset {reset_count}, restart {restart_count}, clock {clock_ms} ms"
        )
    }
}

/// Checks the text of a quote against the registered key and the challenge.
///
/// # Errors
/// [`QuoteError`]: the first thing that doesn't hold; nothing of the quote may be used then.
pub fn check(ak: &AkPublic, text: &str, challenge: &Challenge<'_>) -> Result<Quoted, QuoteError> {
    let mut buffer = QuoteBuffer::default();
    let quote = QuoteText::parse(text, &mut buffer).map_err(QuoteError::Malformed)?;
    check_signature(ak, &quote)?;
    check_answer(&quote, challenge)?;
    check_values(ak, &quote)?;
    check_transport_key(&quote.dump, challenge)?;
    let clock = quote.attest.clock;
    check_clock(clock, challenge.previous)?;
    Ok(Quoted {
        pcrs: quote.dump,
        clock,
    })
}

/// Whether the registered key signed the quote, with its own scheme and hash.
pub(super) fn check_signature(ak: &AkPublic, quote: &QuoteText<'_>) -> Result<(), QuoteError> {
    let got = (quote.signature.scheme(), quote.signature.hash());
    let want = (ak.sign_alg(), ak.hash_alg());
    if got != want {
        return Err(QuoteError::Algorithms { got, want });
    }
    if signature::holds(ak, quote.attest_bytes, &quote.signature) {
        Ok(())
    } else {
        Err(QuoteError::Signature)
    }
}

fn check_answer(quote: &QuoteText<'_>, challenge: &Challenge<'_>) -> Result<(), QuoteError> {
    let same_nonce = quote.attest.extra_data.ct_eq(challenge.nonce.as_bytes());
    if !bool::from(same_nonce) {
        return Err(QuoteError::Nonce);
    }
    let got = (quote.attest.bank, quote.attest.pcrs);
    let want = (challenge.bank, challenge.pcrs.with(TRANSPORT_PCR));
    if got == want {
        Ok(())
    } else {
        Err(QuoteError::Selection { got, want })
    }
}

/// Whether the values beside the quote are those that the TPM signed.
pub(super) fn check_values(ak: &AkPublic, quote: &QuoteText<'_>) -> Result<(), QuoteError> {
    let got = quote.dump.pcrs();
    let want = quote.attest.pcrs;
    if quote.dump.bank() != quote.attest.bank || got != want {
        return Err(QuoteError::Values { got, want });
    }
    // The TPM hashes the values by its signing scheme's hash, whatever the bank.
    let digest = quote.dump.digest(ak.hash_alg());
    if digest.as_slice() == quote.attest.pcr_digest {
        Ok(())
    } else {
        Err(QuoteError::Digest)
    }
}

fn check_transport_key(pcrs: &PcrDump, challenge: &Challenge<'_>) -> Result<(), QuoteError> {
    let want = transport_pcr_value(pcrs.bank(), challenge.transport_pem);
    let got = pcrs.value(TRANSPORT_PCR).unwrap_or_default();
    if got == want.as_slice() {
        Ok(())
    } else {
        let (got, want) = (hex(got), hex(&want));
        Err(QuoteError::TransportKey { got, want })
    }
}

/// What PCR 16 holds after a reset and one extend with the hash of the PEM text.
fn transport_pcr_value(bank: HashAlg, pem: &str) -> wire::Digest {
    let zeros = [0; wire::MAX_DIGEST_BYTES];
    let measured = bank.digest([pem.as_bytes()]);
    bank.digest([&zeros[..bank.digest_bytes()], measured.as_slice()])
}

/// The boot counters go together: `restart_count` starts again at 0 with each reset. The clock may stand still, since a TPM may
/// tick slower than quotes come; the nonce already says that a quote is new.
const fn check_clock(got: ClockInfo, previous: Option<ClockInfo>) -> Result<(), QuoteError> {
    if !got.safe {
        return Err(QuoteError::ClockUnsafe);
    }
    let Some(previous) = previous else {
        return Ok(());
    };
    let resets_back = got.reset_count < previous.reset_count;
    let restarts_back =
        got.reset_count == previous.reset_count && got.restart_count < previous.restart_count;
    if resets_back || restarts_back || got.clock_ms < previous.clock_ms {
        return Err(QuoteError::ClockWentBack { previous, got });
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    agent_core::wire::text::Hex(bytes).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;
    use crate::evidence::software::{SoftwareTpm, attest, values};

    const NONCE: &str = "hxlaYl6NEVXHAWPj1jV4";
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nnot looked into\n-----END PUBLIC KEY-----\n";
    const CLOCK: ClockInfo = ClockInfo {
        clock_ms: 1000,
        reset_count: 5,
        restart_count: 3,
        safe: true,
    };

    fn challenge(bank: HashAlg) -> Challenge<'static> {
        Challenge {
            nonce: NONCE,
            bank,
            pcrs: PcrMask::EMPTY.with(7).with(23),
            transport_pem: PEM,
            previous: None,
        }
    }

    #[test]
    fn good_quotes_hold() {
        for (name, tpm) in [
            ("ecdsa", SoftwareTpm::new()),
            ("rsassa", SoftwareTpm::with_rsa_ak()),
        ] {
            for bank in [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
                let values = values(bank, &[(7, 1), (23, 2)], PEM);
                let text = tpm.quote(NONCE, &values, CLOCK);
                let quoted = check(&tpm.ak(), &text, &challenge(bank)).unwrap();
                assert_eq!(quoted.pcrs, values, "{name}, {}", bank.name());
                assert_eq!(quoted.clock, CLOCK);
            }
        }
    }

    #[test]
    fn every_flipped_field_fails() {
        for tpm in [SoftwareTpm::new(), SoftwareTpm::with_rsa_ak()] {
            let ak = tpm.ak();
            let values = values(HashAlg::Sha256, &[(7, 1), (23, 2)], PEM);
            let text = tpm.quote(NONCE, &values, CLOCK);
            let challenge = challenge(HashAlg::Sha256);
            check(&ak, &text, &challenge).unwrap();

            let parts: Vec<Vec<u8>> = text[1..]
                .split(':')
                .map(|part| BASE64.decode(part).unwrap())
                .collect();
            for part in 0..parts.len() {
                for byte in 0..parts[part].len() {
                    let mut flipped = parts.clone();
                    flipped[part][byte] ^= 1 << (byte % 8);
                    let encoded: Vec<String> =
                        flipped.iter().map(|part| BASE64.encode(part)).collect();
                    let text = format!("r{}", encoded.join(":"));
                    assert!(
                        check(&ak, &text, &challenge).is_err(),
                        "part {part}, byte {byte}"
                    );
                }
            }
            for at in 0..text.len() {
                let mut cut = text.clone();
                cut.truncate(at);
                assert!(check(&ak, &cut, &challenge).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_signed_must_answer() {
        let tpm = SoftwareTpm::new();
        let bank = HashAlg::Sha256;
        let good = values(bank, &[(7, 1), (23, 2)], PEM);
        let quote = |values: &PcrDump| tpm.quote(NONCE, values, CLOCK);
        let wanted = PcrMask::EMPTY.with(7).with(23).with(16);
        let asked = challenge(bank);
        let rows = [
            (
                "replay of another nonce",
                tpm.quote("Ov0OT3Vq7UD3ZdGqXVHH", &good, CLOCK),
                QuoteError::Nonce,
            ),
            ("no nonce", tpm.quote("", &good, CLOCK), QuoteError::Nonce),
            (
                "a PCR less",
                quote(&values(bank, &[(7, 1)], PEM)),
                QuoteError::Selection {
                    got: (bank, PcrMask::EMPTY.with(7).with(16)),
                    want: (bank, wanted),
                },
            ),
            (
                "a PCR more",
                quote(&values(bank, &[(7, 1), (9, 0), (23, 2)], PEM)),
                QuoteError::Selection {
                    got: (bank, wanted.with(9)),
                    want: (bank, wanted),
                },
            ),
            (
                "another bank",
                quote(&values(HashAlg::Sha384, &[(7, 1), (23, 2)], PEM)),
                QuoteError::Selection {
                    got: (HashAlg::Sha384, wanted),
                    want: (bank, wanted),
                },
            ),
            (
                "values that weren't signed",
                tpm.sign(
                    &attest(NONCE, &good, bank, CLOCK),
                    &values(bank, &[(7, 1), (23, 3)], PEM),
                ),
                QuoteError::Digest,
            ),
            (
                "values of other PCRs",
                tpm.sign(
                    &attest(NONCE, &good, bank, CLOCK),
                    &values(bank, &[(7, 1), (22, 2)], PEM),
                ),
                QuoteError::Values {
                    got: PcrMask::EMPTY.with(7).with(22).with(16),
                    want: wanted,
                },
            ),
            (
                "another TPM",
                SoftwareTpm::new().quote(NONCE, &good, CLOCK),
                QuoteError::Signature,
            ),
            (
                "another scheme",
                SoftwareTpm::with_rsa_ak().quote(NONCE, &good, CLOCK),
                QuoteError::Algorithms {
                    got: (SignAlg::Rsassa, bank),
                    want: (SignAlg::Ecdsa, bank),
                },
            ),
        ];
        for (name, text, error) in rows {
            assert_eq!(check(&tpm.ak(), &text, &asked), Err(error), "{name}");
        }
    }

    #[test]
    fn transport_key_must_be_in_pcr_16() {
        let tpm = SoftwareTpm::new();
        let swapped = values(HashAlg::Sha256, &[(7, 1), (23, 2)], "another key\n");
        let text = tpm.quote(NONCE, &swapped, CLOCK);
        let error = check(&tpm.ak(), &text, &challenge(HashAlg::Sha256)).unwrap_err();
        assert!(matches!(error, QuoteError::TransportKey { .. }), "{error}");
    }

    #[test]
    fn clock_rules() {
        let clock = |reset_count, restart_count, clock_ms| ClockInfo {
            clock_ms,
            reset_count,
            restart_count,
            safe: true,
        };
        let tpm = SoftwareTpm::new();
        let ak = tpm.ak();
        let values = values(HashAlg::Sha256, &[(7, 1), (23, 2)], PEM);
        for (name, previous, got, holds) in [
            ("first quote", None, CLOCK, true),
            ("later", Some(CLOCK), clock(5, 3, 1001), true),
            ("in the same millisecond", Some(CLOCK), CLOCK, true),
            ("rebooted", Some(CLOCK), clock(6, 0, 2000), true),
            ("resumed", Some(CLOCK), clock(5, 4, 2000), true),
            ("clock back", Some(CLOCK), clock(5, 3, 999), false),
            (
                "clock back over a reboot",
                Some(CLOCK),
                clock(6, 0, 999),
                false,
            ),
            ("restarts back", Some(CLOCK), clock(5, 2, 2000), false),
            ("cleared", Some(CLOCK), clock(0, 0, 2000), false),
            (
                "power lost",
                Some(CLOCK),
                ClockInfo {
                    safe: false,
                    ..clock(6, 0, 2000)
                },
                false,
            ),
        ] {
            let asked = Challenge {
                previous,
                ..challenge(HashAlg::Sha256)
            };
            let text = tpm.quote(NONCE, &values, got);
            let result = check(&ak, &text, &asked);
            assert_eq!(result.is_ok(), holds, "{name}: {result:?}");
        }
    }
}
