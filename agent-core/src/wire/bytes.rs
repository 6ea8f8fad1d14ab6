//! Reading marshalled structures without a step past their end.

/// A position in borrowed bytes; every read is checked, and a failed one moves nothing.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The structure ends before what it announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Bytes that the next field takes.
    pub need: usize,
    /// Bytes that are left.
    pub have: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What hasn't been read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, need: usize) -> Result<&'a [u8], Truncated> {
        let have = self.rest.len();
        let (taken, rest) = self
            .rest
            .split_at_checked(need)
            .ok_or(Truncated { need, have })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let have = self.rest.len();
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Truncated { need: N, have })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16_be(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32_be(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64_be(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u16_le(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64_le(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    /// A `TPM2B`: a big-endian length of two bytes, then as many bytes.
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], Truncated> {
        let mut ahead = self.clone();
        let len = ahead.u16_be()?;
        let bytes = ahead.take(usize::from(len))?;
        *self = ahead;
        Ok(bytes)
    }
}
