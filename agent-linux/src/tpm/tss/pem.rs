//! Public keys of the TPM as other software writes them.

use p256::elliptic_curve::sec1::FromSec1Point;
use p256::pkcs8::{EncodePublicKey, LineEnding};
use rsa::BoxedUint;
use tss_esapi::structures::Public;

use super::error::TssError;

/// The `SubjectPublicKeyInfo` of an RSA or P-256 key in PEM exactly as OpenSSL writes it: lines of 64, newline at the end.
pub(super) fn of(public: &Public) -> Result<String, TssError> {
    match public {
        Public::Rsa { unique, .. } => {
            let modulus = BoxedUint::from_be_slice_vartime(unique.value());
            rsa::PublicKey::new(modulus, BoxedUint::from(RSA_EXPONENT))
                .ok()
                .and_then(|key| key.to_public_key_pem(LineEnding::LF).ok())
                .ok_or(MALFORMED)
        }
        Public::Ecc { unique, .. } => {
            let (x, y) = (
                coordinate(unique.x().value())?,
                coordinate(unique.y().value())?,
            );
            let point = p256::Sec1Point::from_affine_coordinates(&x.into(), &y.into(), false);
            Option::<p256::PublicKey>::from(p256::PublicKey::from_sec1_point(&point))
                .and_then(|key| key.to_public_key_pem(LineEnding::LF).ok())
                .ok_or(MALFORMED)
        }
        _ => Err(MALFORMED),
    }
}

/// A coordinate in its full width; a TPM may leave out leading zeros.
fn coordinate(bytes: &[u8]) -> Result<[u8; 32], TssError> {
    let mut full = [0; 32];
    let start = full.len().checked_sub(bytes.len()).ok_or(MALFORMED)?;
    full.get_mut(start..)
        .ok_or(MALFORMED)?
        .copy_from_slice(bytes);
    Ok(full)
}

/// The TPM's exponent 0 stands for this one.
///
/// Source: TPM 2.0 Library part 2, section 12.2.3.5.
const RSA_EXPONENT: u32 = 65537;

const MALFORMED: TssError = TssError::Malformed {
    what: "a public key of the TPM",
};

/// A PEM text that the wire has no room for.
pub(super) const TOO_LONG: TssError = MALFORMED;
