//! The public area of a TPM object, well-formed but not judged yet.
//!
//! Source: TPM 2.0 Library part 2, section 12.2.

use agent_core::wire::bytes::{Reader, Truncated};
use agent_core::wire::quote::HashAlg;
use p256::elliptic_curve::sec1::Sec1Point;
use rsa::BoxedUint;

use super::public::{KeyNumbers, PublicFault};

/// A `TPMT_PUBLIC` of an RSA or P-256 key.
pub(super) struct Area<'a> {
    /// The whole area, for its name.
    pub(super) bytes: &'a [u8],
    pub(super) name_alg: HashAlg,
    pub(super) symmetric: Symmetric,
    pub(super) scheme: Scheme,
    pub(super) numbers: KeyNumbers,
    attributes: u32,
}

/// `TPMT_SYM_DEF_OBJECT`; bits and mode are zero where there is none.
pub(super) struct Symmetric {
    pub(super) alg: u16,
    pub(super) bits: u16,
    pub(super) mode: u16,
}

/// The signing scheme; its hash is zero where there is none.
pub(super) struct Scheme {
    pub(super) alg: u16,
    pub(super) hash: u16,
}

impl<'a> Area<'a> {
    /// Parses a marshalled `TPM2B_PUBLIC` to its last byte.
    pub(super) fn parse(marshalled: &'a [u8]) -> Result<Self, PublicFault> {
        let mut outer = Reader::new(marshalled);
        let bytes = outer.sized()?;
        nothing_left(&outer)?;

        let mut fields = Reader::new(bytes);
        let kind = fields.u16_be()?;
        let name_alg = fields.u16_be()?;
        let name_alg = HashAlg::from_tpm_id(name_alg)
            .ok_or_else(|| refused("nameAlg", name_alg.into(), HASHES))?;
        let attributes = fields.u32_be()?;
        let _policy = fields.sized()?;
        let symmetric = Symmetric::take(&mut fields)?;
        let scheme = Scheme::take(&mut fields)?;
        let numbers = match kind {
            ALG_RSA => rsa_key(&mut fields)?,
            ALG_ECC => p256_key(&mut fields)?,
            _ => return Err(refused("type", kind.into(), "RSA, ECC")),
        };
        nothing_left(&fields)?;
        Ok(Self {
            bytes,
            name_alg,
            symmetric,
            scheme,
            numbers,
            attributes,
        })
    }

    /// Checks attributes, each given as its name, its bit and what it must be.
    pub(super) fn require(&self, wanted: &[(&'static str, u32, bool)]) -> Result<(), PublicFault> {
        for &(attribute, bit, wanted) in wanted {
            if (self.attributes & bit != 0) != wanted {
                return Err(PublicFault::Attribute { attribute, wanted });
            }
        }
        Ok(())
    }
}

impl Symmetric {
    fn take(fields: &mut Reader<'_>) -> Result<Self, Truncated> {
        let alg = fields.u16_be()?;
        let (bits, mode) = match alg {
            ALG_NULL => (0, 0),
            _ => (fields.u16_be()?, fields.u16_be()?),
        };
        Ok(Self { alg, bits, mode })
    }
}

impl Scheme {
    /// Only schemes of known shape are taken, so that no later field is misread.
    fn take(fields: &mut Reader<'_>) -> Result<Self, PublicFault> {
        let alg = fields.u16_be()?;
        let hash = match alg {
            ALG_NULL => 0,
            ALG_RSASSA | ALG_ECDSA => fields.u16_be()?,
            _ => return Err(refused("scheme", alg.into(), "none, rsassa, ecdsa")),
        };
        Ok(Self { alg, hash })
    }
}

fn rsa_key(fields: &mut Reader<'_>) -> Result<KeyNumbers, PublicFault> {
    let bits = fields.u16_be()?;
    if bits != RSA_BITS {
        return Err(refused("keyBits", bits.into(), "2048"));
    }
    let exponent = fields.u32_be()?;
    if exponent != 0 && exponent != RSA_EXPONENT {
        return Err(refused("exponent", exponent, "65537"));
    }
    let modulus = fields.sized()?;
    let no_key = PublicFault::Number { kind: "RSA" };
    let full_size = modulus.first().is_some_and(|byte| byte & 0x80 != 0);
    if modulus.len() != usize::from(bits / 8) || !full_size {
        return Err(no_key);
    }
    let n = BoxedUint::from_be_slice(modulus, bits.into()).map_err(|_| no_key.clone())?;
    let e = BoxedUint::from(u64::from(RSA_EXPONENT));
    let key = rsa::PublicKey::new(n, e).map_err(|_| no_key)?;
    Ok(KeyNumbers::Rsa(Box::new(key)))
}

fn p256_key(fields: &mut Reader<'_>) -> Result<KeyNumbers, PublicFault> {
    let curve = fields.u16_be()?;
    if curve != CURVE_P256 {
        return Err(refused("curve", curve.into(), "NIST P-256"));
    }
    let kdf = fields.u16_be()?;
    if kdf != ALG_NULL {
        return Err(refused("kdf", kdf.into(), "none"));
    }
    let x = fields.sized()?;
    let y = fields.sized()?;
    Ok(KeyNumbers::P256(p256_point(x, y)?))
}

/// The point of two coordinates, each of which a TPM may give without its leading zeros.
pub(super) fn p256_point(x: &[u8], y: &[u8]) -> Result<p256::PublicKey, PublicFault> {
    let no_key = || PublicFault::Number { kind: "P-256" };
    let mut sec1 = [0; 1 + 2 * COORDINATE_BYTES];
    sec1[0] = SEC1_UNCOMPRESSED;
    for (place, coordinate) in sec1[1..].chunks_exact_mut(COORDINATE_BYTES).zip([x, y]) {
        let zeros = COORDINATE_BYTES
            .checked_sub(coordinate.len())
            .ok_or_else(no_key)?;
        place[zeros..].copy_from_slice(coordinate);
    }
    let point = Sec1Point::<p256::NistP256>::from_bytes(sec1).map_err(|_| no_key())?;
    p256::PublicKey::try_from(&point).map_err(|_| no_key())
}

pub(super) const fn refused(
    field: &'static str,
    found: u32,
    accepted: &'static str,
) -> PublicFault {
    PublicFault::Field {
        field,
        found,
        accepted,
    }
}

const fn nothing_left(fields: &Reader<'_>) -> Result<(), PublicFault> {
    match fields.rest().len() {
        0 => Ok(()),
        extra => Err(PublicFault::Trailing { extra }),
    }
}

impl From<Truncated> for PublicFault {
    fn from(Truncated { need, have }: Truncated) -> Self {
        Self::Truncated { need, have }
    }
}

const ALG_RSA: u16 = 0x0001;
pub(super) const ALG_AES: u16 = 0x0006;
pub(super) const ALG_NULL: u16 = 0x0010;
pub(super) const ALG_RSASSA: u16 = 0x0014;
pub(super) const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
pub(super) const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;

/// Bytes of a coordinate of P-256.
pub(super) const COORDINATE_BYTES: usize = 32;
const SEC1_UNCOMPRESSED: u8 = 4;

/// What TPMs make and agents use; quotes by longer keys don't fit the protocol's buffers.
const RSA_BITS: u16 = 2048;
const RSA_EXPONENT: u32 = 65537;

pub(super) const HASHES: &str = "sha256, sha384, sha512";
