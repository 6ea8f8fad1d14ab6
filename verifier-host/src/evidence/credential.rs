//! TPM2_MakeCredential in software: a secret that only the TPM which holds both this EK and this AK can open.
//!
//! Source: TPM 2.0 Library part 1, sections 24 (credential protection), 11.4.10 (KDFa, KDFe); part 1, annexes B.10.4 (RSA) and
//! C.6.4 (ECC).

use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::ecdh::EphemeralSecret;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rand::TryRng as _;
use rand::rngs::SysRng;
use rsa::Oaep;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::area::COORDINATE_BYTES;
use super::public::{EkPublic, KeyNumbers, Name};

/// A secret wrapped for one EK and one AK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Marshalled `TPM2B_ID_OBJECT`.
    pub id_object: Vec<u8>,
    /// Marshalled `TPM2B_ENCRYPTED_SECRET`.
    pub secret: Vec<u8>,
}

/// Why a secret can't be wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Larger than the digest of the EK's name algorithm: no TPM would open it.
    #[error("a credential holds at most {MAX_CREDENTIAL_BYTES} bytes, this one has {have}")]
    TooLong {
        /// Its size.
        have: usize,
    },
    /// The system gave no random numbers.
    #[error("no random numbers from the system")]
    Random,
    /// The EK can't encrypt.
    #[error("the endorsement key can't encrypt")]
    Encrypt,
}

/// The largest secret: a digest of the EK's name algorithm, SHA-256.
pub const MAX_CREDENTIAL_BYTES: usize = 32;

impl Credential {
    /// Wraps `secret` so that `TPM2_ActivateCredential` opens it where `ek` is, and only if the object named `ak` is there too.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn make(ek: &EkPublic, ak: &Name, secret: &[u8]) -> Result<Self, CredentialError> {
        if secret.len() > MAX_CREDENTIAL_BYTES {
            return Err(CredentialError::TooLong { have: secret.len() });
        }
        let (seed, encrypted_seed) = match ek.numbers() {
            KeyNumbers::Rsa(key) => rsa_seed(key)?,
            KeyNumbers::P256(key) => p256_seed(key)?,
        };

        let mut identity = Zeroizing::new(sized(secret));
        let storage_key = kdfa(&seed, b"STORAGE", ak.as_bytes(), AES_KEY_BITS);
        encrypt_in_place(&storage_key, &mut identity)?;
        let integrity_key = kdfa(&seed, b"INTEGRITY", &[], SEED_BITS);
        let integrity = mac(&*integrity_key, &[&identity, ak.as_bytes()]);

        let mut id_object = sized(&*integrity);
        id_object.extend_from_slice(&identity);
        Ok(Self {
            id_object: sized(&id_object),
            secret: sized(&encrypted_seed),
        })
    }

    /// The form that a registrar sends, before base64: a magic number, a version, then both parts.
    ///
    /// Source: the file format of `tpm2_makecredential`, which Keylime uses.
    #[must_use]
    pub fn registrar_blob(&self) -> Vec<u8> {
        [BLOB_MAGIC, BLOB_VERSION, &self.id_object, &self.secret].concat()
    }
}

type Seed = Zeroizing<[u8; SEED_BYTES]>;

/// A random seed, and its ciphertext for the EK.
fn rsa_seed(ek: &rsa::PublicKey) -> Result<(Seed, Vec<u8>), CredentialError> {
    let mut seed = Seed::default();
    SysRng
        .try_fill_bytes(seed.as_mut())
        .map_err(|_| CredentialError::Random)?;
    let padding = Oaep::<Sha256>::new_with_label(&b"IDENTITY\0"[..]);
    let encrypted = ek
        .encrypt(&mut SysRng, padding, seed.as_ref())
        .map_err(|_| CredentialError::Encrypt)?;
    Ok((seed, encrypted))
}

/// A seed agreed with the EK, and the ephemeral point that lets it agree too.
fn p256_seed(ek: &p256::PublicKey) -> Result<(Seed, Vec<u8>), CredentialError> {
    let ephemeral =
        EphemeralSecret::try_generate_from_rng(&mut SysRng).map_err(|_| CredentialError::Random)?;
    let point = ephemeral.public_key().to_sec1_point(false);
    let ek_point = ek.to_sec1_point(false);
    let coordinates = |point: &p256::Sec1Point| {
        let (_form, coordinates) = point.as_bytes().split_first()?;
        coordinates
            .split_at_checked(COORDINATE_BYTES)
            .map(|(x, y)| (x.to_vec(), y.to_vec()))
    };
    let (x, y) = coordinates(&point).ok_or(CredentialError::Encrypt)?;
    let (ek_x, _) = coordinates(&ek_point).ok_or(CredentialError::Encrypt)?;

    let shared = ephemeral.diffie_hellman(ek);
    let seed = kdfe(shared.raw_secret_bytes(), b"IDENTITY", &x, &ek_x);
    Ok((seed, [sized(&x), sized(&y)].concat()))
}

/// AES-128-CFB with a zero IV: the key serves this one message.
fn encrypt_in_place(key: &[u8; 32], message: &mut [u8]) -> Result<(), CredentialError> {
    use cfb_mode::cipher::KeyIvInit as _;
    let (key, _) = key.split_at(AES_KEY_BITS as usize / 8);
    let cipher = cfb_mode::Encryptor::<aes::Aes128>::new_from_slices(key, &[0; 16])
        .map_err(|_| CredentialError::Encrypt)?;
    cipher.encrypt(message);
    Ok(())
}

/// KDFa with HMAC-SHA-256, for at most 256 bits: one block, of which the caller takes `bits`.
fn kdfa(key: &Seed, label: &[u8], context: &[u8], bits: u32) -> Zeroizing<[u8; 32]> {
    let counter = 1u32.to_be_bytes();
    mac(
        &key[..],
        &[&counter, label, &[0], context, &bits.to_be_bytes()],
    )
}

/// KDFe with SHA-256, for 256 bits.
fn kdfe(shared: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Seed {
    let mut hash = Sha256::new();
    for part in [&1u32.to_be_bytes(), shared, label, &[0], party_u, party_v] {
        hash.update(part);
    }
    Zeroizing::new(hash.finalize().into())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// A `TPM2B`. What comes here is far below 64 KiB.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&size.to_be_bytes(), bytes].concat()
}

const SEED_BYTES: usize = 32;
const SEED_BITS: u32 = 256;
const AES_KEY_BITS: u32 = 128;

const BLOB_MAGIC: &[u8] = &[0xBA, 0xDC, 0xC0, 0xDE];
const BLOB_VERSION: &[u8] = &[0, 0, 0, 1];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;
    use crate::evidence::software::SoftwareTpm;

    #[test]
    fn opens_with_the_right_keys() {
        let tpm = SoftwareTpm::new();
        for secret in [&b"0123456789abcdefghijklmnopqrstuv"[..], b"short", b""] {
            let credential = Credential::make(&tpm.ek(), tpm.ak().name(), secret).unwrap();
            assert_eq!(tpm.activate(&credential.registrar_blob()), secret);
        }
    }

    #[test]
    fn too_long_is_refused() {
        let tpm = SoftwareTpm::new();
        let result = Credential::make(&tpm.ek(), tpm.ak().name(), &[0; 33]);
        assert_eq!(result, Err(CredentialError::TooLong { have: 33 }));
    }

    #[test]
    fn no_two_are_alike() {
        let tpm = SoftwareTpm::new();
        let make = || Credential::make(&tpm.ek(), tpm.ak().name(), b"secret").unwrap();
        assert_ne!(make(), make());
    }
}
