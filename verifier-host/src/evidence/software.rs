//! A TPM made of software, for tests and simulated nodes: it says what it is let say, and panics where it can't.

use agent_core::wire::quote::{ClockInfo, Digest, HashAlg, PcrDump, PcrValues, QuoteWriter};
use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rand::rngs::SysRng;
use rsa::Pkcs1v15Sign;
use rsa::traits::PublicKeyParts as _;
use sha2::{Digest as _, Sha256};

use super::public::{AkPublic, EkPublic};

/// The fields of a public area, each of which a test may set wrong.
#[derive(Clone)]
pub struct AreaFields {
    /// `type`.
    pub kind: u16,
    /// `nameAlg`.
    pub name_alg: u16,
    /// `objectAttributes`.
    pub attributes: u32,
    /// `authPolicy`.
    pub policy: Vec<u8>,
    /// `symmetric`: algorithm, and where there is one its bits and mode.
    pub symmetric: Vec<u16>,
    /// `scheme`, and where there is one its hash.
    pub scheme: Vec<u16>,
    /// Curve and KDF, or key bits and exponent (as two halves).
    pub parameters: Vec<u16>,
    /// `unique`, each number without its size.
    pub unique: Vec<Vec<u8>>,
}

impl AreaFields {
    /// Marshalled `TPM2B_PUBLIC`.
    #[must_use]
    pub fn marshal(&self) -> Vec<u8> {
        let words = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let unique = self.unique.iter().map(|bytes| sized(bytes));
        let area: Vec<Vec<u8>> = [
            words(&[self.kind, self.name_alg]),
            self.attributes.to_be_bytes().to_vec(),
            sized(&self.policy),
            words(&self.symmetric),
            words(&self.scheme),
            words(&self.parameters),
        ]
        .into_iter()
        .chain(unique)
        .collect();
        sized(&area.concat())
    }
}

/// Attributes of an attestation key that is as it must be.
pub const AK_ATTRIBUTES: u32 = 0x0005_0472;

/// Attributes of an endorsement key that is as it must be.
pub const EK_ATTRIBUTES: u32 = 0x0003_00B2;

/// The public area of an attestation key that is as it must be.
#[must_use]
pub fn p256_ak(key: &p256::PublicKey) -> AreaFields {
    AreaFields {
        kind: 0x0023,
        name_alg: 0x000B,
        attributes: AK_ATTRIBUTES,
        policy: Vec::new(),
        symmetric: vec![0x0010],
        scheme: vec![0x0018, 0x000B],
        parameters: vec![0x0003, 0x0010],
        unique: point(key),
    }
}

/// The same for RSA-2048.
#[must_use]
pub fn rsa_ak(key: &rsa::PublicKey) -> AreaFields {
    AreaFields {
        kind: 0x0001,
        scheme: vec![0x0014, 0x000B],
        parameters: vec![2048, 0, 0],
        unique: vec![key.n_bytes().to_vec()],
        ..p256_ak(&p256::SecretKey::from_slice(&[1; 32]).unwrap().public_key())
    }
}

/// The public area of an endorsement key that is as it must be.
#[must_use]
pub fn p256_ek(key: &p256::PublicKey) -> AreaFields {
    AreaFields {
        attributes: EK_ATTRIBUTES,
        policy: vec![0x83; 32],
        symmetric: vec![0x0006, 128, 0x0043],
        scheme: vec![0x0010],
        ..p256_ak(key)
    }
}

fn point(key: &p256::PublicKey) -> Vec<Vec<u8>> {
    let point = key.to_sec1_point(false);
    point.as_bytes()[1..]
        .chunks(32)
        .map(<[u8]>::to_vec)
        .collect()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap();
    [&size.to_be_bytes(), bytes].concat()
}

/// What signs quotes.
pub enum Signer {
    /// ECDSA with SHA-256.
    P256(SigningKey),
    /// RSASSA with SHA-256.
    Rsa(Box<rsa::PrivateKey>),
}

/// An EK and an AK, both restricted and fixed by their own account.
pub struct SoftwareTpm {
    ek: p256::SecretKey,
    /// The AK.
    pub signer: Signer,
}

impl Default for SoftwareTpm {
    fn default() -> Self {
        Self::new()
    }
}

impl SoftwareTpm {
    /// Both keys on P-256.
    #[must_use]
    pub fn new() -> Self {
        let secret = || p256::SecretKey::try_generate_from_rng(&mut SysRng).unwrap();
        Self {
            ek: secret(),
            signer: Signer::P256(secret().into()),
        }
    }

    /// An AK of RSA-2048.
    #[must_use]
    pub fn with_rsa_ak() -> Self {
        let key = rsa::PrivateKey::new(&mut SysRng, 2048).unwrap();
        Self {
            signer: Signer::Rsa(Box::new(key)),
            ..Self::new()
        }
    }

    /// The EK's public area.
    #[must_use]
    pub fn ek(&self) -> EkPublic {
        EkPublic::parse(&p256_ek(&self.ek.public_key()).marshal()).unwrap()
    }

    /// An EK certificate, DER, that the TPM vouches for itself.
    #[must_use]
    pub fn ek_certificate(&self) -> Vec<u8> {
        use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
        let pem = self.ek.to_pkcs8_pem(LineEnding::LF).unwrap();
        let key = rcgen::KeyPair::from_pem(&pem).unwrap();
        let params = rcgen::CertificateParams::default();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    /// The AK's public area, to be changed.
    #[must_use]
    pub fn ak_fields(&self) -> AreaFields {
        match &self.signer {
            Signer::P256(key) => p256_ak(&key.verifying_key().into()),
            Signer::Rsa(key) => rsa_ak(&key.to_public_key()),
        }
    }

    /// The AK's public area.
    #[must_use]
    pub fn ak(&self) -> AkPublic {
        AkPublic::parse(&self.ak_fields().marshal()).unwrap()
    }

    /// TPM2_ActivateCredential of a registrar's blob, without the checks that a TPM makes.
    #[must_use]
    pub fn activate(&self, blob: &[u8]) -> Vec<u8> {
        let take = |bytes: &[u8]| {
            let size = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            (bytes[2..2 + size].to_vec(), bytes[2 + size..].to_vec())
        };
        assert_eq!(&blob[..8], b"\xBA\xDC\xC0\xDE\x00\x00\x00\x01");
        let (id_object, rest) = take(&blob[8..]);
        let (secret, rest) = take(&rest);
        assert!(rest.is_empty());
        let (x, rest) = take(&secret);
        let (y, _) = take(&rest);
        let ephemeral = super::area::p256_point(&x, &y).unwrap();
        let shared = p256::ecdh::diffie_hellman(self.ek.to_nonzero_scalar(), ephemeral.as_affine());
        let ek_x = &point(&self.ek.public_key())[0];
        let mut seed = Sha256::new();
        for part in [
            &[0, 0, 0, 1],
            &shared.raw_secret_bytes()[..],
            b"IDENTITY\0",
            &x,
            ek_x,
        ] {
            seed.update(part);
        }
        let kdfa = |label: &[u8], context: &[u8], bits: u32| {
            hmac(
                &seed.clone().finalize(),
                &[&[0, 0, 0, 1], label, &[0], context, &bits.to_be_bytes()],
            )
        };
        let (integrity, mut identity) = take(&id_object);
        let name = self.ak().name().as_bytes().to_vec();
        assert_eq!(
            integrity,
            hmac(&kdfa(b"INTEGRITY", &[], 256), &[&identity, &name])
        );
        let key = &kdfa(b"STORAGE", &name, 128)[..16];
        use cfb_mode::cipher::KeyIvInit as _;
        let cipher = cfb_mode::Decryptor::<aes::Aes128>::new_from_slices(key, &[0; 16]).unwrap();
        cipher.decrypt(&mut identity);
        take(&identity).0
    }

    /// TPM2_Certify of the AK by the AK: a marshalled `TPMS_ATTEST`.
    #[must_use]
    pub fn certify(&self, challenge: &[u8]) -> Vec<u8> {
        [
            &0xFF54_4347_u32.to_be_bytes()[..],
            &0x8017_u16.to_be_bytes(),
            &sized(&[0; 34]),
            &sized(challenge),
            &[0; 17 + 8],
            &sized(self.ak().name().as_bytes()),
            &sized(&[0; 34]),
        ]
        .concat()
    }

    /// The text of a quote over these values of the SHA-256 bank or another.
    #[must_use]
    pub fn quote(&self, nonce: &str, values: &PcrDump, clock: ClockInfo) -> String {
        let attest = attest(nonce, values, self.ak().hash_alg(), clock);
        self.sign(&attest, values)
    }

    /// The text of a quote with this attest, signed, and these values beside it.
    #[must_use]
    pub fn sign(&self, attest: &[u8], values: &PcrDump) -> String {
        let signature = self.signature(attest);
        QuoteWriter {
            attest,
            signature: &signature,
            dump: values,
        }
        .to_string()
    }

    /// Marshalled `TPMT_SIGNATURE`.
    #[must_use]
    pub fn signature(&self, attest: &[u8]) -> Vec<u8> {
        let digest = Sha256::digest(attest);
        match &self.signer {
            Signer::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(&digest).unwrap();
                let (r, s) = signature.split_bytes();
                [&[0, 0x18, 0, 0x0B], &sized(&r)[..], &sized(&s)].concat()
            }
            Signer::Rsa(key) => {
                let signature = key.sign(Pkcs1v15Sign::new::<Sha256>(), &digest).unwrap();
                [&[0, 0x14, 0, 0x0B], &sized(&signature)[..]].concat()
            }
        }
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// A marshalled `TPMS_ATTEST` of a quote.
#[must_use]
pub fn attest(
    nonce: impl AsRef<[u8]>,
    values: &PcrDump,
    hash: HashAlg,
    clock: ClockInfo,
) -> Vec<u8> {
    let select = values.pcrs().to_select();
    [
        &0xFF54_4347_u32.to_be_bytes()[..],
        &0x8018_u16.to_be_bytes(),
        &sized(&[0; 34]),
        &sized(nonce.as_ref()),
        &clock.clock_ms.to_be_bytes(),
        &clock.reset_count.to_be_bytes(),
        &clock.restart_count.to_be_bytes(),
        &[u8::from(clock.safe)],
        &[7; 8],
        &[0, 0, 0, 1],
        &values.bank().tpm_id().to_be_bytes(),
        &[3],
        &select,
        &sized(&values.digest(hash)),
    ]
    .concat()
}

/// Values of a bank: those given, and PCR 16 for this transport key.
#[must_use]
pub fn values(bank: HashAlg, given: &[(u8, u8)], pem: &str) -> PcrDump {
    let mut all = PcrValues::new();
    let transport = {
        let zeros = vec![0; bank.digest_bytes()];
        bank.digest([&zeros[..], &bank.digest([pem.as_bytes()])[..]])
    };
    let mut rows: Vec<(u8, Digest)> = given
        .iter()
        .map(|(pcr, fill)| {
            (
                *pcr,
                Digest::from_slice(&vec![*fill; bank.digest_bytes()]).unwrap(),
            )
        })
        .collect();
    rows.push((16, transport));
    rows.sort_by_key(|(pcr, _)| *pcr);
    for row in rows {
        all.push(row).unwrap();
    }
    PcrDump::new(bank, all).unwrap()
}
