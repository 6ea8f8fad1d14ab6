//! The templates of the agent's keys. A template and a TPM give the same key each time, so nothing is kept on disk.
//!
//! All are primaries with SHA-256 names, of the endorsement hierarchy but for the storage key, which goes with its owner. The agent's own (all but the EK) have an empty policy
//! and the attribute noDA: unclean stops of the TPM can't lock the node out.
//!
//! They are written as bytes, once for all ways to the TPM: a key is another one if a single bit of its template is.

use agent_core::wire::quote::{HashAlg, SignAlg};

use super::commands::Hierarchy;
use super::pem::PublicKey;
use super::value::sized;

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

/// A marshalled `TPMT_PUBLIC` whose `unique` says which key of its kind is meant.
///
/// Source: TPM 2.0 Library part 2, section 12.2.4.
#[derive(Clone)]
pub(super) struct Template {
    hierarchy: Hierarchy,
    kind: Kind,
    area: Vec<u8>,
    /// Where `unique` begins.
    frame_len: usize,
}

/// `TPMI_ALG_PUBLIC`, and with it the form of parameters and unique.
#[derive(Clone, Copy)]
enum Kind {
    Rsa,
    Ecc,
    KeyedHash,
}

impl Template {
    /// The endorsement key.
    ///
    /// Source: TCG EK Credential Profile 2.5, section B.3.
    pub(super) fn endorsement(kind: EkKind) -> Self {
        let (kind, parameters, unique): (_, &[&[u16]], &[u8]) = match kind {
            EkKind::Rsa2048 => (
                Kind::Rsa,
                &[&AES_128_CFB, &[NULL], &RSA_2048],
                &[0; RSA_BYTES],
            ),
            EkKind::P256 => (Kind::Ecc, &[&AES_128_CFB, &[NULL], &P256], &[0; P256_BYTES]),
        };
        Self::new(kind, EK_ATTRIBUTES, &EK_POLICY, parameters, unique)
    }

    /// The attestation key: restricted, so that it signs nothing that the TPM didn't make.
    pub(super) fn attestation(alg: SignAlg, hash: HashAlg) -> Self {
        let hash = hash.tpm_id();
        let (kind, parameters): (_, &[&[u16]]) = match alg {
            SignAlg::Rsassa => (Kind::Rsa, &[&[NULL], &[RSASSA, hash], &RSA_2048]),
            SignAlg::Ecdsa => (Kind::Ecc, &[&[NULL], &[ECDSA, hash], &P256]),
        };
        Self::new(kind, AK_ATTRIBUTES, &[], parameters, AK_UNIQUE)
    }

    /// The key to which tenant and verifier encrypt their halves.
    pub(super) fn transport() -> Self {
        let parameters: &[&[u16]] = &[&[NULL], &[NULL], &RSA_2048];
        Self::new(
            Kind::Rsa,
            TRANSPORT_ATTRIBUTES,
            &[],
            parameters,
            TRANSPORT_UNIQUE,
        )
    }

    /// The key whose HMAC over a fixed text seeds the TLS key.
    pub(super) fn tls() -> Self {
        let parameters: &[&[u16]] = &[&[HMAC, SHA256]];
        Self::new(Kind::KeyedHash, TLS_ATTRIBUTES, &[], parameters, TLS_UNIQUE)
    }

    fn new(
        kind: Kind,
        attributes: u32,
        policy: &[u8],
        parameters: &[&[u16]],
        unique: &[u8],
    ) -> Self {
        let id = match kind {
            Kind::Rsa => RSA,
            Kind::Ecc => ECC,
            Kind::KeyedHash => KEYEDHASH,
        };
        let mut area = Vec::new();
        put(&mut area, &[id, SHA256]);
        area.extend_from_slice(&attributes.to_be_bytes());
        put_sized(&mut area, policy);
        put(&mut area, &parameters.concat());
        let frame_len = area.len();
        put_sized(&mut area, unique);
        if let Kind::Ecc = kind {
            put_sized(&mut area, unique);
        }
        Self {
            hierarchy: Hierarchy::Endorsement,
            kind,
            area,
            frame_len,
        }
    }

    /// The key beneath which a copy of a payload's key is kept.
    pub(super) fn storage() -> Self {
        let parameters: &[&[u16]] = &[&AES_128_CFB, &[NULL], &P256];
        Self {
            hierarchy: Hierarchy::Owner,
            ..Self::new(
                Kind::Ecc,
                STORAGE_ATTRIBUTES,
                &[],
                parameters,
                STORAGE_UNIQUE,
            )
        }
    }

    /// A sealed object that opens by this policy alone: no key, but the template of what `TPM2_Create` makes.
    pub(super) fn sealed(policy: &[u8; 32]) -> Self {
        Self::new(Kind::KeyedHash, SEALED_ATTRIBUTES, policy, &[&[NULL]], &[])
    }

    /// Where the key belongs.
    pub(super) const fn hierarchy(&self) -> Hierarchy {
        self.hierarchy
    }

    /// The `TPMT_PUBLIC`.
    pub(super) fn area(&self) -> &[u8] {
        &self.area
    }

    /// The key in a marshalled `TPM2B_PUBLIC` that follows this template: the same in all but the key itself.
    pub(super) fn key_in<'a>(&self, public: &'a [u8]) -> Option<PublicKey<'a>> {
        let area = sized("TPM2B_PUBLIC", public).ok()?;
        let (frame, unique) = area.split_at_checked(self.frame_len)?;
        let wanted = self.area.get(..self.frame_len)?;
        match self.kind {
            Kind::Rsa => {
                // A TPM may write the usual exponent out.
                let (wanted, _) = wanted.split_last_chunk::<4>()?;
                let (frame, exponent) = frame.split_last_chunk::<4>()?;
                let is_usual = [0, RSA_EXPONENT].contains(&u32::from_be_bytes(*exponent));
                let modulus = sized("TPM2B_PUBLIC_KEY_RSA", unique).ok()?;
                (frame == wanted && is_usual).then_some(PublicKey::Rsa(modulus))
            }
            Kind::Ecc => {
                let (x_len, _) = unique.split_first_chunk()?;
                let x_end = usize::from(u16::from_be_bytes(*x_len)).checked_add(2)?;
                let (x, y) = unique.split_at_checked(x_end)?;
                let (x, y) = (sized("x", x).ok()?, sized("y", y).ok()?);
                (frame == wanted).then_some(PublicKey::P256 { x, y })
            }
            Kind::KeyedHash => (frame == wanted).then_some(PublicKey::None),
        }
    }
}

fn put(area: &mut Vec<u8>, words: &[u16]) {
    area.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// A TPM2B; what templates hold is far shorter than the size's two bytes can say.
fn put_sized(area: &mut Vec<u8>, bytes: &[u8]) {
    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    area.extend_from_slice(&size.to_be_bytes());
    area.extend_from_slice(bytes);
}

const RSA_BYTES: usize = 2048 / 8;
const P256_BYTES: usize = 256 / 8;

/// The TPM's exponent 0 stands for this one.
///
/// Source: TPM 2.0 Library part 2, section 12.2.3.5.
const RSA_EXPONENT: u32 = 65537;

// TPM_ALG_ID. Source: TPM 2.0 Library part 2, table 9.
const RSA: u16 = 0x0001;
const HMAC: u16 = 0x0005;
const AES: u16 = 0x0006;
const KEYEDHASH: u16 = 0x0008;
const SHA256: u16 = 0x000B;
const NULL: u16 = 0x0010;
const RSASSA: u16 = 0x0014;
const ECDSA: u16 = 0x0018;
const ECC: u16 = 0x0023;
const CFB: u16 = 0x0043;
/// TPM_ECC_CURVE. Source: TPM 2.0 Library part 2, table 10.
const NIST_P256: u16 = 0x0003;

/// TPMT_SYM_DEF_OBJECT.
const AES_128_CFB: [u16; 3] = [AES, 128, CFB];
/// The end of TPMS_RSA_PARMS: bits, then the exponent 0.
const RSA_2048: [u16; 3] = [2048, 0, 0];
/// The end of TPMS_ECC_PARMS: curve, then no KDF.
const P256: [u16; 2] = [NIST_P256, NULL];

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const EK_ATTRIBUTES: u32 = 0x0003_00B2;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, decrypt.
const TRANSPORT_ATTRIBUTES: u32 = 0x0002_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign.
const TLS_ATTRIBUTES: u32 = 0x0004_0472;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
const STORAGE_ATTRIBUTES: u32 = 0x0003_0472;
/// fixedTPM, fixedParent, adminWithPolicy, noDA; never userWithAuth: its empty password opens nothing.
const SEALED_ATTRIBUTES: u32 = 0x0000_0492;

const AK_UNIQUE: &[u8] = b"keyhalf ak 1";
const TRANSPORT_UNIQUE: &[u8] = b"keyhalf transport 1";
const TLS_UNIQUE: &[u8] = b"keyhalf tls 1";
const STORAGE_UNIQUE: &[u8] = b"keyhalf storage 1";

/// PolicyA: `PolicySecret(TPM_RH_ENDORSEMENT)`.
///
/// Source: TCG EK Credential Profile 2.5, section B.6.2.
const EK_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn keys_in_public_areas() {
        let public = |area: &[u8]| {
            let mut public = Vec::new();
            put_sized(&mut public, area);
            public
        };
        let rsa = Template::endorsement(EkKind::Rsa2048);
        assert_eq!(public(rsa.area()).len(), 316, "TCG's L-1");
        let exponent = rsa.frame_len - 4;
        let changed = |at: usize, bytes: &[u8]| {
            let mut area = rsa.area().to_vec();
            area[at..at + bytes.len()].copy_from_slice(bytes);
            area
        };
        let cut = rsa.area().split_last().unwrap().1.to_vec();
        let long = [rsa.area(), &[0]].concat();
        let rows = [
            ("the template", rsa.area().to_vec(), true),
            ("65537", changed(exponent, &[0, 1, 0, 1]), true),
            ("exponent 3", changed(exponent, &[0, 0, 0, 3]), false),
            ("another attribute", changed(7, &[0xF2]), false),
            ("another policy", changed(20, &[0]), false),
            ("cut", cut, false),
            ("a byte too many", long, false),
            ("nothing", Vec::new(), false),
        ];
        for (name, area, follows) in rows {
            assert_eq!(rsa.key_in(&public(&area)).is_some(), follows, "{name}");
        }
        let ecc = Template::endorsement(EkKind::P256);
        assert_eq!(public(ecc.area()).len(), 124, "TCG's L-2");
        assert!(ecc.key_in(&public(ecc.area())).is_some());
        assert!(ecc.key_in(&public(rsa.area())).is_none());
        assert!(ecc.key_in(&ecc.area()[..10]).is_none());
    }
}
