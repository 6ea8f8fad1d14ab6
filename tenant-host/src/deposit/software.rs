//! A node's TPM made of software, for tests: it activates credentials as a TPM does, and quotes what a test lets it quote.

use agent_core::wire::quote::{ClockInfo, Digest, HashAlg, MAX_DUMP_BYTES, PcrDump, PcrValues};
use agent_core::wire::statement;
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use verifier_host::evidence::public::{AkPublic, EkPublic};

use super::view::ReceiptView;
use crate::client::RegistrarRecord;

/// Attributes of an attestation key as it must be; bit 16 is `restricted`.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
const RESTRICTED: u32 = 1 << 16;
const EK_ATTRIBUTES: u32 = 0x0003_00B2;

/// What the node's quotes say.
pub(crate) struct Quoting {
    pub(crate) challenge: Vec<u8>,
    pub(crate) values: Vec<(u8, Vec<u8>)>,
    pub(crate) clock: ClockInfo,
}

pub(crate) struct SoftwareNode {
    ek: p256::SecretKey,
    ak: SigningKey,
    ak_attributes: u32,
}

impl SoftwareNode {
    pub(crate) fn new() -> Self {
        let secret = || p256::SecretKey::try_generate_from_rng(&mut SysRng).unwrap();
        Self {
            ek: secret(),
            ak: secret().into(),
            ak_attributes: AK_ATTRIBUTES,
        }
    }

    pub(crate) fn with_unrestricted_ak() -> Self {
        Self {
            ak_attributes: AK_ATTRIBUTES & !RESTRICTED,
            ..Self::new()
        }
    }

    pub(crate) fn record(&self) -> RegistrarRecord {
        RegistrarRecord {
            ek_tpm: BASE64.encode(self.ek_area()),
            ekcert: None,
            aik_tpm: BASE64.encode(self.ak_area()),
            ip: None,
            port: None,
            mtls_cert: Some("disabled".to_owned()),
            regcount: None,
        }
    }

    pub(crate) fn ek(&self) -> EkPublic {
        EkPublic::parse(&self.ek_area()).unwrap()
    }

    pub(crate) fn ak(&self) -> AkPublic {
        AkPublic::parse(&self.ak_area()).unwrap()
    }

    fn ek_area(&self) -> Vec<u8> {
        let algorithms = [0x0006, 128, 0x0043, 0x0010];
        area(
            &self.ek.public_key(),
            EK_ATTRIBUTES,
            &[0x83; 32],
            &algorithms,
        )
    }

    fn ak_area(&self) -> Vec<u8> {
        let algorithms = [0x0010, 0x0018, 0x000B];
        let key = self.ak.verifying_key().into();
        area(&key, self.ak_attributes, &[], &algorithms)
    }

    /// TPM2_ActivateCredential of `TPM2B_ID_OBJECT | TPM2B_ENCRYPTED_SECRET`; `None` where a TPM would refuse.
    pub(crate) fn activate(&self, blob: &[u8]) -> Option<Vec<u8>> {
        let (id_object, rest) = take(blob)?;
        let (secret, rest) = take(rest)?;
        let (x, y) = take(secret).and_then(|(x, rest)| Some((x, take(rest)?.0)))?;
        if !rest.is_empty() {
            return None;
        }
        let point = [&[4], x, y].concat();
        let ephemeral = p256::PublicKey::from_sec1_bytes(&point).ok()?;
        let shared = p256::ecdh::diffie_hellman(self.ek.to_nonzero_scalar(), ephemeral.as_affine());
        let (ek_x, _) = coordinates(&self.ek.public_key());
        let mut seed = Sha256::new();
        let raw = shared.raw_secret_bytes();
        for part in [&[0, 0, 0, 1], &raw[..], b"IDENTITY\0", x, &ek_x] {
            seed.update(part);
        }
        let seed = seed.finalize();
        let kdfa = |label: &[u8], context: &[u8], bits: u32| {
            mac(
                &seed,
                &[&[0, 0, 0, 1], label, &[0], context, &bits.to_be_bytes()],
            )
        };
        let ak = self.ak();
        let name = ak.name().as_bytes();
        let (integrity, identity) = take(id_object)?;
        if integrity != mac(&kdfa(b"INTEGRITY", &[], 256), &[identity, name]) {
            return None;
        }
        let mut identity = identity.to_vec();
        let key = &kdfa(b"STORAGE", name, 128)[..16];
        use cfb_mode::cipher::KeyIvInit as _;
        let cipher = cfb_mode::Decryptor::<aes::Aes128>::new_from_slices(key, &[0; 16]).unwrap();
        cipher.decrypt(&mut identity);
        Some(take(&identity)?.0.to_vec())
    }

    /// A receipt's quote that says what it should, with PCR 16 by the statement.
    pub(crate) fn quoting(&self, agent: &Uuid, receipt: &[u8], cap: (u8, &[u8])) -> Quoting {
        let (bank, challenge) = (HashAlg::Sha256, vec![5; 16]);
        let digest = statement::receipt(bank, agent, &challenge, receipt);
        let sixteen = statement::pcr_value(bank, &digest).to_vec();
        let clock = ClockInfo {
            clock_ms: 9,
            reset_count: 7,
            restart_count: 1,
            safe: true,
        };
        let values = vec![(7, vec![1; 32]), (cap.0, cap.1.to_vec()), (16, sixteen)];
        Quoting {
            challenge,
            values,
            clock,
        }
    }

    /// The receipt as the verifier shows it.
    pub(crate) fn view(&self, receipt: &[u8], quoting: &Quoting) -> ReceiptView {
        let mut values = PcrValues::new();
        for (pcr, value) in &quoting.values {
            values
                .push((*pcr, Digest::from_slice(value).unwrap()))
                .unwrap();
        }
        let dump = PcrDump::new(HashAlg::Sha256, values).unwrap();
        let clock = quoting.clock;
        let message = [
            &0xFF54_4347_u32.to_be_bytes()[..],
            &0x8018_u16.to_be_bytes(),
            &sized(&[0; 34]),
            &sized(&quoting.challenge),
            &clock.clock_ms.to_be_bytes(),
            &clock.reset_count.to_be_bytes(),
            &clock.restart_count.to_be_bytes(),
            &[u8::from(clock.safe)],
            &[7; 8],
            &[0, 0, 0, 1, 0, 0x0B, 3],
            &dump.pcrs().to_select(),
            &sized(&dump.digest(HashAlg::Sha256)),
        ]
        .concat();
        let signed: p256::ecdsa::Signature =
            self.ak.sign_prehash(&Sha256::digest(&message)).unwrap();
        let (r, s) = signed.split_bytes();
        let signature = [&[0, 0x18, 0, 0x0B], &sized(&r)[..], &sized(&s)].concat();
        let mut room = [0; MAX_DUMP_BYTES];
        ReceiptView {
            at: 1_800_000_000,
            receipt: BASE64.encode(receipt),
            challenge: BASE64.encode(&quoting.challenge),
            subject_data: BASE64.encode(dump.encode(&mut room)),
            message: BASE64.encode(message),
            signature: BASE64.encode(signature),
        }
    }
}

fn area(key: &p256::PublicKey, attributes: u32, policy: &[u8], algorithms: &[u16]) -> Vec<u8> {
    let mut area = vec![0x00, 0x23, 0x00, 0x0B];
    area.extend(attributes.to_be_bytes());
    area.extend(sized(policy));
    area.extend(algorithms.iter().flat_map(|number| number.to_be_bytes()));
    area.extend([0x00, 0x03, 0x00, 0x10]);
    let (x, y) = coordinates(key);
    area.extend(sized(&x));
    area.extend(sized(&y));
    sized(&area)
}

fn coordinates(key: &p256::PublicKey) -> (Vec<u8>, Vec<u8>) {
    let point = key.to_sec1_point(false);
    let bytes = point.as_bytes();
    (bytes[1..33].to_vec(), bytes[33..].to_vec())
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap();
    [&size.to_be_bytes(), bytes].concat()
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
