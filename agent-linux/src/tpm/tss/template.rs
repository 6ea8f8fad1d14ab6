//! The templates of the agent's keys. A template and a TPM give the same key each time, so nothing is kept on disk.
//!
//! All are primaries of the endorsement hierarchy with SHA-256 names. The agent's own (all but the EK) have an empty policy
//! and the attribute noDA: unclean stops of the TPM can't lock the node out.

use agent_core::wire::quote::{HashAlg, SignAlg};
use tss_esapi::attributes::ObjectAttributes;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme,
    KeyedHashScheme, Public, PublicEccParameters, PublicKeyRsa, PublicKeyedHashParameters,
    PublicRsaParameters, RsaExponent, RsaScheme, SymmetricDefinitionObject,
};

use super::error::TssError;

/// The endorsement key's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EkKind {
    /// TCG's template L-1.
    Rsa2048,
    /// TCG's template L-2.
    P256,
}

impl EkKind {
    /// Where a certificate of that key lies in NV.
    ///
    /// Source: TCG EK Credential Profile 2.5, section 2.2.1.4.
    pub(super) const fn certificate_index(self) -> u32 {
        match self {
            Self::Rsa2048 => 0x01C0_0002,
            Self::P256 => 0x01C0_000A,
        }
    }

    /// Where such a key lies if someone made it persistent.
    ///
    /// Source: TCG TPM v2.0 Provisioning Guidance 1.0, table 2.
    pub(super) const fn persistent_handle(self) -> u32 {
        match self {
            Self::Rsa2048 => 0x8101_0001,
            Self::P256 => 0x8101_0002,
        }
    }
}

/// The endorsement key.
///
/// Source: TCG EK Credential Profile 2.5, section B.3.
pub(super) fn endorsement(kind: EkKind) -> Result<Public, TssError> {
    let symmetric = SymmetricDefinitionObject::AES_128_CFB;
    let policy = EK_POLICY.as_slice();
    match kind {
        EkKind::Rsa2048 => rsa(
            EK_ATTRIBUTES,
            policy,
            symmetric,
            RsaScheme::Null,
            &[0; RSA_BYTES],
        ),
        EkKind::P256 => ecc(
            EK_ATTRIBUTES,
            policy,
            symmetric,
            EccScheme::Null,
            &[0; P256_BYTES],
        ),
    }
}

/// The attestation key: restricted, so that it signs nothing that the TPM didn't make.
pub(super) fn attestation(alg: SignAlg, hash: HashAlg) -> Result<Public, TssError> {
    let hash = HashScheme::new(hashing(hash));
    let symmetric = SymmetricDefinitionObject::Null;
    match alg {
        SignAlg::Rsassa => rsa(
            AK_ATTRIBUTES,
            &[],
            symmetric,
            RsaScheme::RsaSsa(hash),
            AK_UNIQUE,
        ),
        SignAlg::Ecdsa => ecc(
            AK_ATTRIBUTES,
            &[],
            symmetric,
            EccScheme::EcDsa(hash),
            AK_UNIQUE,
        ),
    }
}

/// The key to which tenant and verifier encrypt their halves.
pub(super) fn transport() -> Result<Public, TssError> {
    rsa(
        TRANSPORT_ATTRIBUTES,
        &[],
        SymmetricDefinitionObject::Null,
        RsaScheme::Null,
        TRANSPORT_UNIQUE,
    )
}

/// The key whose HMAC over a fixed text seeds the TLS key.
pub(super) fn tls() -> Result<Public, TssError> {
    Public::builder()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(ObjectAttributes::from(TLS_ATTRIBUTES))
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(
            KeyedHashScheme::HMAC_SHA_256,
        ))
        .with_keyed_hash_unique_identifier(Digest::try_from(TLS_UNIQUE).map_err(|_| MALFORMED)?)
        .build()
        .map_err(|_| MALFORMED)
}

/// Whether a key's public area follows a template: the same in all but the key itself.
pub(super) fn follows(public: &Public, template: &Public) -> bool {
    let same_frame = public.object_attributes() == template.object_attributes()
        && public.name_hashing_algorithm() == template.name_hashing_algorithm()
        && public.auth_policy() == template.auth_policy();
    same_frame
        && match (public, template) {
            (Public::Rsa { parameters: a, .. }, Public::Rsa { parameters: b, .. }) => a == b,
            (Public::Ecc { parameters: a, .. }, Public::Ecc { parameters: b, .. }) => a == b,
            _ => false,
        }
}

/// The library's name of a hash.
pub(super) const fn hashing(alg: HashAlg) -> HashingAlgorithm {
    match alg {
        HashAlg::Sha256 => HashingAlgorithm::Sha256,
        HashAlg::Sha384 => HashingAlgorithm::Sha384,
        HashAlg::Sha512 => HashingAlgorithm::Sha512,
    }
}

fn rsa(
    attributes: u32,
    policy: &[u8],
    symmetric: SymmetricDefinitionObject,
    scheme: RsaScheme,
    unique: &[u8],
) -> Result<Public, TssError> {
    let parameters = PublicRsaParameters::new(
        symmetric,
        scheme,
        RsaKeyBits::Rsa2048,
        RsaExponent::default(),
    );
    Public::builder()
        .with_public_algorithm(PublicAlgorithm::Rsa)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(ObjectAttributes::from(attributes))
        .with_auth_policy(Digest::try_from(policy).map_err(|_| MALFORMED)?)
        .with_rsa_parameters(parameters)
        .with_rsa_unique_identifier(PublicKeyRsa::try_from(unique).map_err(|_| MALFORMED)?)
        .build()
        .map_err(|_| MALFORMED)
}

fn ecc(
    attributes: u32,
    policy: &[u8],
    symmetric: SymmetricDefinitionObject,
    scheme: EccScheme,
    unique: &[u8],
) -> Result<Public, TssError> {
    let kdf = KeyDerivationFunctionScheme::Null;
    let coordinate = EccParameter::try_from(unique).map_err(|_| MALFORMED)?;
    Public::builder()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(ObjectAttributes::from(attributes))
        .with_auth_policy(Digest::try_from(policy).map_err(|_| MALFORMED)?)
        .with_ecc_parameters(PublicEccParameters::new(
            symmetric,
            scheme,
            EccCurve::NistP256,
            kdf,
        ))
        .with_ecc_unique_identifier(EccPoint::new(coordinate.clone(), coordinate))
        .build()
        .map_err(|_| MALFORMED)
}

const MALFORMED: TssError = TssError::Malformed {
    what: "a key template",
};

const RSA_BYTES: usize = 2048 / 8;
const P256_BYTES: usize = 256 / 8;

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const EK_ATTRIBUTES: u32 = 0x0003_00B2;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, decrypt.
const TRANSPORT_ATTRIBUTES: u32 = 0x0002_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign.
const TLS_ATTRIBUTES: u32 = 0x0004_0472;

const AK_UNIQUE: &[u8] = b"keyhalf ak 1";
const TRANSPORT_UNIQUE: &[u8] = b"keyhalf transport 1";
const TLS_UNIQUE: &[u8] = b"keyhalf tls 1";

/// PolicyA: `PolicySecret(TPM_RH_ENDORSEMENT)`.
///
/// Source: TCG EK Credential Profile 2.5, section B.6.2.
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
