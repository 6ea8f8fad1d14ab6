//! Bytes that are wiped when they go, and can be neither printed nor copied by accident.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A secret of `N` bytes: wiped on drop, compared in constant time, lent and never cloned.
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// A secret of zeros, to be filled in place through [`Secret::as_mut`].
    #[must_use]
    pub const fn zeroed() -> Self {
        Self([0; N])
    }

    /// Copies the bytes; the caller wipes its own.
    #[must_use]
    pub const fn copy_of(bytes: &[u8; N]) -> Self {
        Self(*bytes)
    }

    /// Whether both hold the same bytes, in a time that doesn't depend on them.
    #[must_use]
    pub fn same_as(&self, other: &[u8; N]) -> bool {
        self.0.ct_eq(other).into()
    }

    /// The bitwise exclusive or of two secrets.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        let mut out = Self::zeroed();
        for (to, (one, other)) in out.0.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *to = one ^ other;
        }
        out
    }
}

impl<const N: usize> AsRef<[u8; N]> for Secret<N> {
    fn as_ref(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> AsMut<[u8; N]> for Secret<N> {
    fn as_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
