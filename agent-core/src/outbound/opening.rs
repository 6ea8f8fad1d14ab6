//! The opening: U by the TPM, once, V by the release; together they must be the key that the tenant signed for.

use super::deposit::{Fault, check_floor};
use super::end::End;
use super::{Outbound, Stage};
use crate::payload::halves::{Half, Key};
use crate::tpm::OutboundTpm;
use crate::wire::bytes::{Reader, Truncated};
use crate::wire::receipt::{Reached, Receipt};

impl Outbound {
    /// K. Both halves are gone then, whatever comes out.
    pub(super) fn open<T: OutboundTpm>(&mut self, tpm: &mut T) -> Result<Key, End> {
        let v = self.v.take().ok_or(End::Stopped)?;
        let wanted = self.wanted.as_mut().ok_or(End::Stopped)?;
        let u_blob = wanted.u_blob.take().ok_or(End::BadPayload(Fault::U))?;
        let (id_object, secret) = parts(&u_blob).map_err(|_| End::BadPayload(Fault::U))?;
        let opened = tpm
            .activate_credential(id_object, secret)
            .map_err(|_| End::BadPayload(Fault::U))?;
        let u = opened.bytes.as_ref().get(..opened.len).unwrap_or_default();
        let key = Half::from_slice(u)
            .and_then(|u| u.combine(&Half::from_slice(v.as_ref())?))
            .map_err(|_| End::BadPayload(Fault::U))?;
        let agent = self.config.agent.as_str().as_bytes();
        if !key.matches(agent, &wanted.manifest.auth_tag) {
            return Err(End::BadPayload(Fault::AuthTag));
        }
        let floor = wanted.manifest.floor;
        self.reach(Reached::Opened);
        self.raise_counter(floor, tpm)?;
        self.stage = Stage::Unpacking;
        Ok(key)
    }

    /// From now on what is older than this deposit is refused.
    pub(super) fn raise_counter<T: OutboundTpm>(
        &self,
        floor: Option<u64>,
        tpm: &mut T,
    ) -> Result<(), End> {
        let (Some(index), Some(floor)) = (self.config.counter, floor) else {
            return Ok(());
        };
        // Somebody may have raised it since the manifest came: it bounds the steps too.
        check_floor(&self.config, Some(floor), tpm)?;
        let fail = |error: T::Error| End::Tpm(Receipt::reason(error));
        let counter = tpm.counter(index).map_err(fail)?.unwrap_or(floor);
        for _ in counter..floor {
            tpm.raise_counter(index).map_err(fail)?;
        }
        Ok(())
    }
}

/// `TPM2B_ID_OBJECT` and `TPM2B_ENCRYPTED_SECRET`, each with its size, and nothing after them.
fn parts(blob: &[u8]) -> Result<(&[u8], &[u8]), Truncated> {
    let mut reader = Reader::new(blob);
    let id_bytes = reader.sized()?.len().saturating_add(2);
    let (id_object, secret) = blob.split_at_checked(id_bytes).unwrap_or_default();
    reader.sized()?;
    match reader.rest().len() {
        0 => Ok((id_object, secret)),
        have => Err(Truncated { need: 0, have }),
    }
}
