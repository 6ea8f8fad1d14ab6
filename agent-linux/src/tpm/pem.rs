//! Public keys of the TPM as other software writes them.

use p256::elliptic_curve::sec1::FromSec1Point;
use p256::pkcs8::{EncodePublicKey, LineEnding};
use rsa::BoxedUint;

use super::error::TpmError;
use super::template::RSA_EXPONENT;

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
        let text = match *self {
            Self::Rsa(modulus) => {
                let modulus = BoxedUint::from_be_slice_vartime(modulus);
                rsa::PublicKey::new(modulus, BoxedUint::from(RSA_EXPONENT))
                    .ok()
                    .and_then(|key| key.to_public_key_pem(LineEnding::LF).ok())
            }
            Self::P256 { x, y } => {
                let (x, y) = (coordinate(x)?, coordinate(y)?);
                let point = p256::Sec1Point::from_affine_coordinates(&x.into(), &y.into(), false);
                Option::<p256::PublicKey>::from(p256::PublicKey::from_sec1_point(&point))
                    .and_then(|key| key.to_public_key_pem(LineEnding::LF).ok())
            }
            Self::None => None,
        };
        text.ok_or(MALFORMED)
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

const MALFORMED: TpmError = TpmError::Malformed {
    what: "a public key of the TPM",
};

/// A PEM text that the wire has no room for.
pub(super) const TOO_LONG: TpmError = MALFORMED;
