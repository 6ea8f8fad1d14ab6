//! `TPMS_ATTEST` of a quote: what the TPM signed.

use super::{HashAlg, MAX_DIGEST_BYTES, PcrMask};
use crate::wire::bytes::{Reader, Truncated};

/// A `TPMS_ATTEST` never takes more with the sizes that this protocol uses: 4 magic, 2 type, 2 + 66 name, 2 + 64 extra data,
/// 17 clock, 8 firmware, 10 selection, 2 + 64 digest are 241 bytes; the rest is room for longer extra data.
pub const MAX_ATTEST_BYTES: usize = 512;

/// What a quote says, borrowed from its marshalled bytes.
///
/// Source: TPM 2.0 Library part 2, section 10.12.12.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest<'a> {
    /// Qualified name of the signing key.
    pub qualified_signer: &'a [u8],
    /// The caller's nonce.
    pub extra_data: &'a [u8],
    /// Clock and boot counters.
    pub clock: ClockInfo,
    /// The TPM's firmware version; its vendor says what it means.
    pub firmware_version: u64,
    /// Bank of the quoted PCRs.
    pub bank: HashAlg,
    /// The quoted PCRs.
    pub pcrs: PcrMask,
    /// Hash of the PCR values one after the other, by the signature's hash.
    pub pcr_digest: &'a [u8],
}

/// `TPMS_CLOCK_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM was powered; it doesn't go back unless the TPM is cleared.
    pub clock_ms: u64,
    /// Resets since the TPM was cleared.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// No later value of the clock was reported before: false after a loss of power.
    pub safe: bool,
}

/// Why bytes are no quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttestError {
    /// It ends too early.
    Truncated(Truncated),
    /// Bytes follow the structure.
    Trailing {
        /// How many.
        extra: usize,
    },
    /// It wasn't made inside a TPM: the magic number isn't 0xFF544347.
    Magic {
        /// The number that is there.
        got: u32,
    },
    /// It attests something else than a quote (0x8018).
    Type {
        /// The `TPMI_ST_ATTEST` that is there.
        got: u16,
    },
    /// `safe` is neither 0 nor 1.
    Safe {
        /// The byte that is there.
        got: u8,
    },
    /// Not exactly one bank was quoted.
    Banks {
        /// How many were.
        count: u32,
    },
    /// The bank is none that is supported.
    Bank {
        /// Its `TPM_ALG_ID`.
        id: u16,
    },
    /// The PCR bitmap isn't 3 bytes long.
    SelectBytes {
        /// Its length.
        got: u8,
    },
    /// The PCR digest is longer than any hash.
    DigestBytes {
        /// Its length.
        got: usize,
    },
}

impl From<Truncated> for AttestError {
    fn from(error: Truncated) -> Self {
        Self::Truncated(error)
    }
}

impl<'a> Attest<'a> {
    /// Reads a whole `TPMS_ATTEST` that quotes PCRs of one bank.
    ///
    /// # Errors
    /// [`AttestError`]: it's another structure, cut short, or followed by something.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, AttestError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u32_be()?;
        if magic != TPM_GENERATED {
            return Err(AttestError::Magic { got: magic });
        }
        let kind = reader.u16_be()?;
        if kind != ATTEST_QUOTE {
            return Err(AttestError::Type { got: kind });
        }
        let qualified_signer = reader.sized()?;
        let extra_data = reader.sized()?;
        let clock = ClockInfo::read(&mut reader)?;
        let firmware_version = reader.u64_be()?;
        let (bank, pcrs) = read_selection(&mut reader)?;
        let pcr_digest = reader.sized()?;
        if pcr_digest.len() > MAX_DIGEST_BYTES {
            return Err(AttestError::DigestBytes {
                got: pcr_digest.len(),
            });
        }
        match reader.rest().len() {
            0 => Ok(Self {
                qualified_signer,
                extra_data,
                clock,
                firmware_version,
                bank,
                pcrs,
                pcr_digest,
            }),
            extra => Err(AttestError::Trailing { extra }),
        }
    }
}

impl ClockInfo {
    fn read(reader: &mut Reader<'_>) -> Result<Self, AttestError> {
        Ok(Self {
            clock_ms: reader.u64_be()?,
            reset_count: reader.u32_be()?,
            restart_count: reader.u32_be()?,
            safe: match reader.u8()? {
                0 => false,
                1 => true,
                got => return Err(AttestError::Safe { got }),
            },
        })
    }
}

/// A `TPML_PCR_SELECTION` of one bank.
fn read_selection(reader: &mut Reader<'_>) -> Result<(HashAlg, PcrMask), AttestError> {
    let count = reader.u32_be()?;
    if count != 1 {
        return Err(AttestError::Banks { count });
    }
    let id = reader.u16_be()?;
    let bank = HashAlg::from_tpm_id(id).ok_or(AttestError::Bank { id })?;
    match reader.u8()? {
        SELECT_BYTES => Ok((bank, PcrMask::from_select(reader.array()?))),
        got => Err(AttestError::SelectBytes { got }),
    }
}

/// `TPM_GENERATED_VALUE`: the TPM puts it before nothing that came from outside.
const TPM_GENERATED: u32 = 0xFF54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const ATTEST_QUOTE: u16 = 0x8018;
/// 24 PCRs, a bit each.
const SELECT_BYTES: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::quote::samples::ATTEST;

    #[test]
    fn reads_every_field() {
        let attest = Attest::parse(&ATTEST).unwrap();
        assert_eq!(attest.qualified_signer.len(), 34);
        assert_eq!(attest.extra_data, b"hxlaYl6NEVXHAWPj1jV4");
        assert_eq!(attest.clock.clock_ms, 0x71B7);
        assert_eq!(attest.clock.reset_count, 4);
        assert_eq!(attest.clock.restart_count, 0);
        assert!(attest.clock.safe);
        assert_eq!(attest.firmware_version, 0x2019_1023_0016_3636);
        assert_eq!(attest.bank, HashAlg::Sha256);
        assert_eq!(attest.pcrs, PcrMask::EMPTY.with(16));
        assert_eq!(attest.pcr_digest.len(), 32);
    }

    #[test]
    fn every_truncation_is_refused() {
        for len in 0..ATTEST.len() {
            assert!(Attest::parse(&ATTEST[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let cases: [(&str, usize, u8, AttestError); 7] = [
            ("magic", 0, 0x7F, AttestError::Magic { got: 0x7F54_4347 }),
            ("type", 5, 0x17, AttestError::Type { got: 0x8017 }),
            ("safe", 80, 2, AttestError::Safe { got: 2 }),
            ("banks", 92, 2, AttestError::Banks { count: 2 }),
            ("bank", 94, 4, AttestError::Bank { id: 4 }),
            ("select", 95, 4, AttestError::SelectBytes { got: 4 }),
            ("digest", 100, 31, AttestError::Trailing { extra: 1 }),
        ];
        for (name, at, byte, want) in cases {
            let mut bytes = ATTEST;
            bytes[at] = byte;
            assert_eq!(Attest::parse(&bytes), Err(want), "{name}");
        }
    }
}
