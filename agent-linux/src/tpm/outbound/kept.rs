//! A secret sealed to the values of PCRs: what the TPM gives for it, and how it comes out again.

use agent_core::secret::Secret;
use agent_core::tpm::MAX_KEPT_BYTES;
use agent_core::wire::quote::{HashAlg, PcrMask, PcrValues};
use sha2::{Digest, Sha256};

use super::commands::OutboundCommands;
use crate::tpm::error::TpmError;

/// A sealed object outside its TPM: the contents of its `TPM2B_PRIVATE` and of its `TPM2B_PUBLIC`, which opens with none but
/// the TPM that made it.
pub struct Kept {
    /// The contents of the `TPM2B_PRIVATE`.
    pub private: Vec<u8>,
    /// The contents of the `TPM2B_PUBLIC`, a `TPMT_PUBLIC`.
    pub public: Vec<u8>,
}

impl Kept {
    /// Takes apart what [`Kept::write`] wrote.
    ///
    /// # Errors
    /// [`TpmError::Malformed`], [`TpmError::Size`].
    pub(super) fn read(bytes: &[u8]) -> Result<Self, TpmError> {
        if bytes.len() > MAX_KEPT_BYTES {
            return Err(TpmError::Size {
                what: WHAT,
                need: MAX_KEPT_BYTES,
                have: bytes.len(),
            });
        }
        let mut rest = bytes;
        let mut next = || {
            let (len, after) = rest.split_first_chunk()?;
            let (part, after) = after.split_at_checked(u16::from_be_bytes(*len).into())?;
            rest = after;
            Some(part.to_vec())
        };
        let parts = next().zip(next());
        match (parts, rest) {
            (Some((private, public)), []) => Ok(Self { private, public }),
            _ => Err(MALFORMED),
        }
    }

    /// Writes both parts, each after its two bytes of length, and returns how many bytes that makes.
    ///
    /// # Errors
    /// [`TpmError::Size`]: no room.
    pub(super) fn write(&self, out: &mut [u8]) -> Result<usize, TpmError> {
        let mut bytes = Vec::new();
        for part in [&self.private, &self.public] {
            let len = u16::try_from(part.len()).map_err(|_| MALFORMED)?;
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        let need = bytes.len();
        let have = out.len().min(MAX_KEPT_BYTES);
        let place = out.get_mut(..need).filter(|_| need <= MAX_KEPT_BYTES);
        place
            .ok_or(TpmError::Size {
                what: WHAT,
                need,
                have,
            })?
            .copy_from_slice(&bytes);
        Ok(need)
    }
}

/// Whether a kept secret fits whatever it takes.
///
/// # Errors
/// [`TpmError::Size`].
pub(super) const fn check_room(out: &[u8]) -> Result<(), TpmError> {
    if out.len() < MAX_KEPT_BYTES {
        return Err(TpmError::Size {
            what: WHAT,
            need: MAX_KEPT_BYTES,
            have: out.len(),
        });
    }
    Ok(())
}

/// The policy that these values of these PCRs satisfy: `TPM2_PolicyPCR` alone.
///
/// Source: TPM 2.0 Library part 3, section 23.7.
pub(super) fn policy(bank: HashAlg, pcrs: PcrMask, values: &PcrValues) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (_, value) in values {
        digest.update(value);
    }
    Sha256::new()
        .chain_update([0; 32])
        .chain_update(POLICY_PCR.to_be_bytes())
        // TPML_PCR_SELECTION: one selection, of three bytes.
        .chain_update(1_u32.to_be_bytes())
        .chain_update(bank.tpm_id().to_be_bytes())
        .chain_update([3])
        .chain_update(pcrs.to_select())
        .chain_update(digest.finalize())
        .finalize()
        .into()
}

/// Loads the object beneath its parent, opens it in a policy session of its own, and flushes both.
///
/// # Errors
/// The TPM's, among them TPM_RC_POLICY_FAIL: the PCRs have other values; TPM_RC_INTEGRITY: another TPM's.
pub(super) fn open<C: OutboundCommands>(
    tpm: &mut C,
    parent: C::Handle,
    bank: HashAlg,
    pcrs: PcrMask,
    kept: &Kept,
) -> Result<Secret<32>, TpmError> {
    let object = tpm.load_kept(parent, kept)?;
    let result = in_session(tpm, object, bank, pcrs);
    let flushed = tpm.flush(object);
    let secret = result?;
    flushed?;
    Ok(secret)
}

fn in_session<C: OutboundCommands>(
    tpm: &mut C,
    object: C::Handle,
    bank: HashAlg,
    pcrs: PcrMask,
) -> Result<Secret<32>, TpmError> {
    let session = tpm.start_policy_session()?;
    let result = tpm
        .policy_pcr(session, bank, pcrs)
        .and_then(|()| tpm.unseal(object, session));
    let flushed = tpm.flush_session(session);
    let secret = result?;
    flushed?;
    Ok(secret)
}

/// TPM_CC_PolicyPCR.
///
/// Source: TPM 2.0 Library part 2, table 12.
const POLICY_PCR: u32 = 0x17F;
const WHAT: &str = "a kept secret";
const MALFORMED: TpmError = TpmError::Malformed { what: WHAT };

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn parts() {
        type Row = (
            &'static str,
            &'static [u8],
            Option<(&'static [u8], &'static [u8])>,
        );
        let rows: [Row; 6] = [
            ("both", &[0, 1, 7, 0, 2, 8, 9], Some((&[7], &[8, 9]))),
            ("empty ones", &[0, 0, 0, 0], Some((&[], &[]))),
            ("cut", &[0, 1, 7, 0, 2, 8], None),
            ("one alone", &[0, 1, 7], None),
            ("a byte more", &[0, 0, 0, 0, 0], None),
            ("nothing", &[], None),
        ];
        for (name, bytes, wanted) in rows {
            let read = Kept::read(bytes).ok();
            let parts = read.as_ref().map(|kept| (&*kept.private, &*kept.public));
            assert_eq!(parts, wanted, "{name}");
            if let Some(kept) = read {
                let mut out = [0; MAX_KEPT_BYTES];
                let len = kept.write(&mut out).unwrap();
                assert_eq!(&out[..len], bytes, "{name}");
                assert!(kept.write(&mut out[..len - 1]).is_err(), "{name}");
            }
        }
        assert!(Kept::read(&[0; MAX_KEPT_BYTES + 1]).is_err());
    }
}
