//! A payload's base64, decoded and hashed as it arrives.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{FormError, PAYLOAD};

/// Decodes base64 that comes in pieces of any size, and hashes what it decodes.
#[derive(Default)]
pub(super) struct Decoder {
    /// The beginning of a group of four that hasn't come whole.
    carry: heapless::Vec<u8, 4>,
    length: usize,
    padded: bool,
    hash: Sha256,
}

impl Decoder {
    pub(super) fn feed(&mut self, text: &[u8], out: &mut [u8]) -> Result<(), FormError> {
        let mut rest = text;
        while let Some((byte, after)) = rest.split_first() {
            let whole = rest.len().saturating_sub(rest.len() % 4);
            if !self.carry.is_empty() || whole == 0 {
                // Taken group by group, the carry never holds four.
                let _ = self.carry.push(*byte);
                rest = after;
                if self.carry.is_full() {
                    let group = core::mem::take(&mut self.carry);
                    self.decode(&group, out)?;
                }
            } else {
                let (groups, after) = rest.split_at_checked(whole).unwrap_or((rest, &[]));
                self.decode(groups, out)?;
                rest = after;
            }
        }
        Ok(())
    }

    /// Whole groups of four. The first fault in the order of the bytes counts, however they were cut into pieces: where the
    /// room may end, each group is decoded alone.
    fn decode(&mut self, groups: &[u8], out: &mut [u8]) -> Result<(), FormError> {
        let room = out.len().saturating_sub(self.length);
        let fitting = (room / 3).saturating_mul(4);
        let (fitting, edge) = groups.split_at_checked(fitting).unwrap_or((groups, &[]));
        if !fitting.is_empty() {
            self.decode_run(fitting, out)?;
        }
        edge.chunks(4)
            .try_for_each(|group| self.decode_run(group, out))
    }

    fn decode_run(&mut self, groups: &[u8], out: &mut [u8]) -> Result<(), FormError> {
        let malformed = FormError::Base64 { name: PAYLOAD };
        if self.padded {
            return Err(malformed);
        }
        self.padded = groups.last() == Some(&b'=');
        let room = out.get_mut(self.length..).unwrap_or_default();
        let decoded = STANDARD.decode_slice(groups, room).map_err(|e| match e {
            base64::DecodeSliceError::DecodeError(_) => malformed,
            base64::DecodeSliceError::OutputSliceTooSmall => FormError::PayloadTooLarge,
        })?;
        self.hash.update(room.get(..decoded).unwrap_or_default());
        self.length = self.length.saturating_add(decoded);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(usize, [u8; 32]), FormError> {
        if self.carry.is_empty() {
            Ok((self.length, self.hash.finalize().into()))
        } else {
            Err(FormError::Base64 { name: PAYLOAD })
        }
    }
}
