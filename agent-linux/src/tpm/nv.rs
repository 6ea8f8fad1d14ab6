//! The EK certificate in the TPM's NV storage.

use super::commands::Commands;
use super::error::TpmError;

/// Reads a DER certificate into `out` and returns its length. What the maker padded the index with is left out.
///
/// # Errors
/// The TPM's; [`TpmError::Size`] if `out` is too small; [`TpmError::Malformed`] if it isn't DER.
pub(super) fn read_certificate<C: Commands>(
    tpm: &mut C,
    index: u32,
    out: &mut [u8],
) -> Result<usize, TpmError> {
    let total = tpm.nv_public(index)?.size;
    let size = TpmError::Size {
        what: "the EK certificate",
        need: out.len(),
        have: total,
    };
    let place = out.get_mut(..total).ok_or(size)?;
    let mut offset: u16 = 0;
    for piece in place.chunks_mut(CHUNK_BYTES) {
        tpm.nv_read(index, offset, piece)?;
        offset = u16::try_from(piece.len())
            .ok()
            .and_then(|len| offset.checked_add(len))
            .ok_or(NOT_DER)?;
    }
    der_len(place).filter(|der| *der <= total).ok_or(NOT_DER)
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

const NOT_DER: TpmError = TpmError::Malformed {
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
