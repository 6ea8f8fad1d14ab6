//! Big-endian fields of TPM structures, taken from the front of a slice.

/// What is left of a structure. Every take is checked; nothing is read twice.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// The bytes end before the structure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncated {
    pub(super) need: usize,
    pub(super) have: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Truncated {
            need: count,
            have: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Truncated> {
        let have = self.rest.len();
        let (value, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(Truncated { need: 2, have })?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*value))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Truncated> {
        let have = self.rest.len();
        let (value, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(Truncated { need: 4, have })?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*value))
    }

    /// A `TPM2B`: a two-byte size, then so many bytes.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Truncated> {
        let size = self.u16()?;
        self.bytes(usize::from(size))
    }

    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }
}
