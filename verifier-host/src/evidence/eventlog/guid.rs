//! GUIDs, by which UEFI names who a variable belongs to.

use std::fmt;

/// A GUID as UEFI stores it: its first three fields are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

/// Where the bytes of the text stand in memory; a dash goes before the marked ones.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
const DASHES: [usize; 4] = [4, 6, 8, 10];

impl Guid {
    /// UEFI's own variables: `SecureBoot`, `PK`, `KEK`, boot options.
    pub const GLOBAL: Self = Self([
        0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b,
        0x8c,
    ]);
    /// `db` and `dbx`.
    pub const SECURITY_DATABASE: Self = Self([
        0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65,
        0x6f,
    ]);
    /// Shim's variables.
    pub const SHIM: Self = Self([
        0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b,
        0x23,
    ]);
    /// A list of X.509 certificates.
    pub const X509: Self = Self([
        0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0,
        0x72,
    ]);
    /// A list of SHA-256 digests.
    pub const SHA256: Self = Self([
        0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43,
        0x28,
    ]);

    /// Reads `8be4df61-93ca-11d2-aa0d-00e098032b8c`, in either case.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut guid = [0; 16];
        let mut letters = text.bytes();
        for (place, stored) in ORDER.into_iter().enumerate() {
            if DASHES.contains(&place) && letters.next() != Some(b'-') {
                return None;
            }
            let mut nibble = || {
                let digit = char::from(letters.next()?).to_digit(16)?;
                u8::try_from(digit).ok()
            };
            guid[stored] = nibble()? << 4 | nibble()?;
        }
        letters.next().is_none().then_some(Self(guid))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, stored) in ORDER.into_iter().enumerate() {
            if DASHES.contains(&place) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[stored])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
