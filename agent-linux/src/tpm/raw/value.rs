//! The agent's values as tpm2-protocol has them.

use agent_core::wire::quote::{HashAlg, PcrMask};
use tpm2_protocol::TpmUnmarshal;
use tpm2_protocol::basic::{TpmBuffer, TpmHandle};
use tpm2_protocol::data::{
    TpmAlgId, TpmRh, TpmaSession, TpmlPcrSelection, TpmsAuthCommand, TpmsPcrSelect,
    TpmsPcrSelection, TpmtPublic,
};

use crate::tpm::TpmError;

pub(super) fn public(template: &[u8]) -> Result<TpmtPublic, TpmError> {
    match TpmtPublic::unmarshal(template) {
        Ok((public, [])) => Ok(public),
        _ => Err(TpmError::Malformed {
            what: "a key template",
        }),
    }
}

/// The contents of a TPM2B.
pub(super) fn buffer<const N: usize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<TpmBuffer<N>, TpmError> {
    TpmBuffer::try_from(bytes).map_err(|_| TpmError::Size {
        what,
        need: N,
        have: bytes.len(),
    })
}

pub(super) fn selection(bank: HashAlg, pcrs: PcrMask) -> Result<TpmlPcrSelection, TpmError> {
    let mut list = TpmlPcrSelection::new();
    TpmsPcrSelect::try_from(pcrs.to_select().as_slice())
        .and_then(|pcr_select| {
            list.try_push(TpmsPcrSelection {
                hash: hashing(bank),
                pcr_select,
            })
        })
        .map_err(|_| TpmError::Malformed {
            what: "the set of PCRs",
        })?;
    Ok(list)
}

/// The library's name of a hash.
pub(super) const fn hashing(alg: HashAlg) -> TpmAlgId {
    match alg {
        HashAlg::Sha256 => TpmAlgId::Sha256,
        HashAlg::Sha384 => TpmAlgId::Sha384,
        HashAlg::Sha512 => TpmAlgId::Sha512,
    }
}

pub(super) const fn endorsement() -> TpmHandle {
    TpmHandle::new(TpmRh::Endorsement.value())
}

pub(super) const fn owner() -> TpmHandle {
    TpmHandle::new(TpmRh::Owner.value())
}

/// The empty password.
///
/// Source: TPM 2.0 Library part 1, section 19.4.
pub(super) const fn password() -> TpmsAuthCommand {
    session(TpmRh::Pw.value(), TpmaSession::empty())
}

/// A session that stays after the command: it is flushed on all paths alike.
pub(super) const fn continued(handle: u32) -> TpmsAuthCommand {
    session(handle, TpmaSession::CONTINUE_SESSION)
}

const fn session(handle: u32, session_attributes: TpmaSession) -> TpmsAuthCommand {
    TpmsAuthCommand {
        session_handle: TpmHandle::new(handle),
        nonce: TpmBuffer::new(),
        session_attributes,
        hmac: TpmBuffer::new(),
    }
}
