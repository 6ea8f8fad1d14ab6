//! Public keys of the TPM as other software writes them.

use super::error::TpmError;
use crate::pem;

/// A public key in a public area.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey<'a> {
    /// Its modulus; the exponent is 65537.
    Rsa(&'a [u8]),
    /// A point of P-256; a TPM may leave out leading zeros.
    P256 { x: &'a [u8], y: &'a [u8] },
    /// A symmetric key has none.
    None,
}

impl PublicKey<'_> {
    /// The `SubjectPublicKeyInfo` in PEM exactly as OpenSSL writes it: lines of 64, newline at the end.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub(super) fn to_pem(&self) -> Result<String, TpmError> {
        let der = match *self {
            // The first bit of a modulus of 2048 bits is one, so its INTEGER begins with a zero byte.
            Self::Rsa(modulus @ [0x80..=0xFF, ..]) if modulus.len() == RSA_BYTES => {
                [RSA_PREFIX, modulus, RSA_SUFFIX].concat()
            }
            Self::P256 { x, y } => [P256_PREFIX, &coordinate(x)?, &coordinate(y)?].concat(),
            Self::Rsa(_) | Self::None => return Err(MALFORMED),
        };
        Ok(pem::encode("PUBLIC KEY", &der))
    }
}

/// A coordinate in its full width; a TPM may leave out leading zeros.
fn coordinate(bytes: &[u8]) -> Result<[u8; 32], TpmError> {
    let mut full = [0; 32];
    let start = full.len().checked_sub(bytes.len()).ok_or(MALFORMED)?;
    full.get_mut(start..)
        .ok_or(MALFORMED)?
        .copy_from_slice(bytes);
    Ok(full)
}

const RSA_BYTES: usize = 2048 / 8;

/// All of a `SubjectPublicKeyInfo` before the modulus, of a key of 2048 bits: rsaEncryption, and the lengths.
///
/// Source: RFC 8017 section A.1.
const RSA_PREFIX: &[u8] = &[
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
    0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01,
    0x00,
];
/// The exponent 65537.
const RSA_SUFFIX: &[u8] = &[0x02, 0x03, 0x01, 0x00, 0x01];
/// All of a `SubjectPublicKeyInfo` before the coordinates: id-ecPublicKey, secp256r1, an uncompressed point.
///
/// Source: RFC 5480 section 2.
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

const MALFORMED: TpmError = TpmError::Malformed {
    what: "a public key of the TPM",
};

/// A PEM text that the wire has no room for.
pub(super) const TOO_LONG: TpmError = MALFORMED;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
    use rsa::BoxedUint;

    use super::*;

    #[test]
    fn keys_are_written_as_others_write_them() {
        // The generator of P-256.
        let x = b"\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96";
        let y = b"\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5";
        let ours = PublicKey::P256 { x, y }.to_pem().unwrap();
        let theirs = p256::PublicKey::from_public_key_pem(&ours).unwrap();
        assert_eq!(theirs.to_public_key_pem(LineEnding::LF).unwrap(), ours);

        let mut modulus = [0xA5; RSA_BYTES];
        modulus[RSA_BYTES - 1] = 0x01;
        let ours = PublicKey::Rsa(&modulus).to_pem().unwrap();
        let number = BoxedUint::from_be_slice_vartime(&modulus);
        let theirs = rsa::PublicKey::new(number, BoxedUint::from(65537_u32)).unwrap();
        assert_eq!(theirs.to_public_key_pem(LineEnding::LF).unwrap(), ours);
    }

    #[test]
    fn what_is_no_key_has_no_text() {
        let short = [0xFF; RSA_BYTES - 1];
        let mut small = [0xFF; RSA_BYTES];
        small[0] = 0x7F;
        let (x, y): (&[u8], &[u8]) = (&[1; 33], &[1; 32]);
        for key in [
            PublicKey::Rsa(&short),
            PublicKey::Rsa(&small),
            PublicKey::Rsa(&[]),
            PublicKey::P256 { x, y },
            PublicKey::None,
        ] {
            assert_eq!(key.to_pem(), Err(MALFORMED), "{key:?}");
        }
        let zeros = PublicKey::P256 { x: &[], y: &[1] };
        assert!(zeros.to_pem().is_ok(), "a TPM may leave out leading zeros");
    }
}
