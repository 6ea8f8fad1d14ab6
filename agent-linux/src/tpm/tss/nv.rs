//! The EK certificate in the TPM's NV storage.

use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::NvAuth;
use tss_esapi::interface_types::session_handles::AuthSession;

use super::channel::Channel;
use super::error::TssError;

/// Reads a DER certificate into `out` and returns its length. What the maker padded the index with is left out.
///
/// # Errors
/// The TPM's; [`TssError::Size`] if `out` is too small; [`TssError::Malformed`] if it isn't DER.
pub(super) fn read_certificate(
    channel: &mut Channel,
    index: u32,
    out: &mut [u8],
) -> Result<usize, TssError> {
    let index = NvIndexTpmHandle::new(index).map_err(|_| NOT_DER)?;
    let mut object = channel.ask("TPM2_NV_ReadPublic", |tpm| {
        tpm.tr_from_tpm_public(TpmHandle::NvIndex(index))
    })?;
    let read = read_all(channel, NvIndexHandle::from(object), out);
    let closed = channel.ask("Esys_TR_Close", |tpm| tpm.tr_close(&mut object));
    let len = read?;
    closed?;
    out.get(..len)
        .and_then(der_len)
        .filter(|der| *der <= len)
        .ok_or(NOT_DER)
}

fn read_all(
    channel: &mut Channel,
    index: NvIndexHandle,
    out: &mut [u8],
) -> Result<usize, TssError> {
    let (public, _) = channel.ask("TPM2_NV_ReadPublic", |tpm| tpm.nv_read_public(index))?;
    let total = public.data_size();
    let room = out.len();
    let size = TssError::Size {
        what: "the EK certificate",
        need: room,
        have: total,
    };
    let place = out.get_mut(..total).ok_or(size)?;
    let mut offset = 0;
    for chunk in place.chunks_mut(CHUNK_BYTES) {
        let want = u16::try_from(chunk.len()).map_err(|_| NOT_DER)?;
        let bytes = channel.ask("TPM2_NV_Read", |tpm| {
            tpm.execute_with_session(Some(AuthSession::Password), |tpm| {
                tpm.nv_read(NvAuth::NvIndex(index), index, want, offset)
            })
        })?;
        if bytes.value().len() != chunk.len() {
            return Err(TssError::Size {
                what: "a piece of the EK certificate",
                need: chunk.len(),
                have: bytes.len(),
            });
        }
        chunk.copy_from_slice(bytes.value());
        offset = offset.saturating_add(want);
    }
    Ok(total)
}

/// The whole length of the DER SEQUENCE at the start, header included.
fn der_len(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [0x30, short @ 0..=0x7F, ..] => Some(2 + usize::from(short)),
        [0x30, 0x81, len, ..] => Some(3 + usize::from(len)),
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

/// No TPM of a PC takes less at once.
///
/// Source: TCG PC Client Platform TPM Profile, TPM_PT_NV_BUFFER_MAX.
const CHUNK_BYTES: usize = 512;

const NOT_DER: TssError = TssError::Malformed {
    what: "the EK certificate in the TPM",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_lengths() {
        let rows: [(&[u8], Option<usize>); 7] = [
            (&[0x30, 0x03, 1, 1, 1, 0xFF], Some(5)),
            (&[0x30, 0x81, 0x80], Some(131)),
            (&[0x30, 0x82, 0x04, 0x00], Some(1028)),
            (&[0x30, 0x83, 1, 0, 0], None),
            (&[0x30, 0x82, 0x04], None),
            (&[0x10, 0x01], None),
            (&[], None),
        ];
        for (bytes, len) in rows {
            assert_eq!(der_len(bytes), len, "{bytes:02x?}");
        }
    }
}
