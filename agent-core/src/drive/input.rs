//! What has come of a connection and isn't used yet.

use embedded_io::Read;

use crate::http::MAX_HEAD_BYTES;
use crate::revocation::MAX_MESSAGE_BYTES;

/// Bytes that have come and aren't used yet.
pub(super) struct Input {
    bytes: [u8; MAX_HEAD_BYTES],
    filled: usize,
}

/// Room for a revocation notice.
pub(super) struct Message(pub(super) [u8; MAX_MESSAGE_BYTES]);

impl Default for Message {
    fn default() -> Self {
        Self([0; MAX_MESSAGE_BYTES])
    }
}

impl Default for Input {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_HEAD_BYTES],
            filled: 0,
        }
    }
}

impl Input {
    pub(super) fn arrived(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.filled == MAX_HEAD_BYTES
    }

    /// Reads once more; `false` at the end of the stream.
    pub(super) fn fill<C: Read>(&mut self, io: &mut C) -> Result<bool, C::Error> {
        let read = io.read(self.bytes.get_mut(self.filled..).unwrap_or_default())?;
        self.filled = self.filled.saturating_add(read).min(MAX_HEAD_BYTES);
        Ok(read > 0)
    }

    /// Forgets the first bytes.
    pub(super) fn consume(&mut self, bytes: usize) {
        let arrived = self.bytes.get_mut(..self.filled).unwrap_or_default();
        let from = bytes.min(arrived.len());
        arrived.copy_within(from.., 0);
        self.filled = self.filled.saturating_sub(from);
    }
}
