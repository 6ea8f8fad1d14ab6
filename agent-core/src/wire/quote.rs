//! TPM quotes as Keylime 2.x writes them, and the small values that they are made of.

/// Number of PCRs in a bank of a PC Client TPM.
///
/// Source: TCG PC Client Platform TPM Profile, section 4.6.
pub const PCR_COUNT: u8 = 24;

/// The largest digest of a supported bank, in bytes (SHA-512).
pub const MAX_DIGEST_BYTES: usize = 64;

/// A hash that names a PCR bank, and the hash of the quote's signature with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlg {
    /// SHA-256, `TPM_ALG_ID` 0x000B.
    Sha256,
    /// SHA-384, `TPM_ALG_ID` 0x000C.
    Sha384,
    /// SHA-512, `TPM_ALG_ID` 0x000D.
    Sha512,
}

impl HashAlg {
    /// The `TPM_ALG_ID`.
    ///
    /// Source: TPM 2.0 Library part 2, table 9.
    #[must_use]
    pub const fn tpm_id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000B,
            Self::Sha384 => 0x000C,
            Self::Sha512 => 0x000D,
        }
    }

    /// The algorithm of a `TPM_ALG_ID`, if it is a supported one.
    #[must_use]
    pub const fn from_tpm_id(id: u16) -> Option<Self> {
        match id {
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The name on the wire: `sha256`, `sha384` or `sha512`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of a wire name, if it is a supported one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Size of a digest in bytes.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The scheme that the attestation key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignAlg {
    /// RSASSA-PKCS1-v1_5, `TPM_ALG_ID` 0x0014.
    Rsassa,
    /// ECDSA over P-256, `TPM_ALG_ID` 0x0018.
    Ecdsa,
}

impl SignAlg {
    /// The name on the wire: `rsassa` or `ecdsa`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsassa => "rsassa",
            Self::Ecdsa => "ecdsa",
        }
    }

    /// The scheme of a wire name, if it is a supported one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "rsassa" => Some(Self::Rsassa),
            "ecdsa" => Some(Self::Ecdsa),
            _ => None,
        }
    }
}

/// A set of PCRs: bit n stands for PCR n, and no bit above [`PCR_COUNT`] is ever set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PcrMask(u32);

impl PcrMask {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set of these bits, or `None` if one of them is no PCR.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits >> PCR_COUNT == 0 { Some(Self(bits)) } else { None }
    }

    /// The bits, PCR 0 lowest.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// This set and one PCR more; a number that is no PCR changes nothing.
    #[must_use]
    pub const fn with(self, pcr: u8) -> Self {
        if pcr < PCR_COUNT { Self(self.0 | 1 << pcr) } else { self }
    }

    /// Whether the PCR is in the set.
    #[must_use]
    pub const fn contains(self, pcr: u8) -> bool {
        pcr < PCR_COUNT && self.0 >> pcr & 1 == 1
    }

    /// The PCRs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCR_COUNT).filter(move |pcr| self.contains(*pcr))
    }
}

/// The value of a PCR, or a digest of its bank.
pub type Digest = heapless::Vec<u8, MAX_DIGEST_BYTES>;

/// Values of PCRs of one bank, each with its number, in ascending order.
pub type PcrValues = heapless::Vec<(u8, Digest), { PCR_COUNT as usize }>;
