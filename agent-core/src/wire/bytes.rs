//! Reading marshalled structures without a step past their end.

/// A position in borrowed bytes; every read is checked, and a failed one moves nothing.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
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
    /// At the start of these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What hasn't been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `need` bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn take(&mut self, need: usize) -> Result<&'a [u8], Truncated> {
        let have = self.rest.len();
        let (taken, rest) = self
            .rest
            .split_at_checked(need)
            .ok_or(Truncated { need, have })?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let have = self.rest.len();
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Truncated { need: N, have })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A byte.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u16_be(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u32_be(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u64_be(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u16_le(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u32_le(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u64_le(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    /// A `TPM2B`: a big-endian length of two bytes, then as many bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn sized(&mut self) -> Result<&'a [u8], Truncated> {
        let mut ahead = self.clone();
        let len = ahead.u16_be()?;
        let bytes = ahead.take(usize::from(len))?;
        *self = ahead;
        Ok(bytes)
    }
}
