//! One event: a PCR, a type, a digest for each bank, and data.

use std::fmt;

use agent_core::wire::bytes::Reader;
use agent_core::wire::quote::{HashAlg, PCR_COUNT};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::specification::Banks;
use super::{EventLogError, cut};

/// A hash whose digests of a log are read; others are stepped over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogHash {
    /// SHA-1: never quoted here, and named by Keylime's reference states.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How many hashes there are.
pub(super) const DIGESTS: usize = 4;

impl LogHash {
    /// All of them.
    pub const ALL: [Self; DIGESTS] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The hash of a `TPM_ALG_ID`, if its digests are read.
    #[must_use]
    pub const fn from_tpm_id(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000B => Some(Self::Sha256),
            0x000C => Some(Self::Sha384),
            0x000D => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The hash of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// `sha1`, `sha256`, `sha384` or `sha512`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Size of a digest in bytes.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Whether `digest` is this hash of the pieces, one after the other.
    #[must_use]
    pub fn is_of(self, digest: &[u8], pieces: &[&[u8]]) -> bool {
        fn hash<H: sha2::Digest>(pieces: &[&[u8]]) -> impl AsRef<[u8]> + use<H> {
            let mut hash = H::new();
            pieces.iter().for_each(|piece| hash.update(piece));
            hash.finalize()
        }
        match self {
            Self::Sha1 => hash::<Sha1>(pieces).as_ref() == digest,
            Self::Sha256 => hash::<Sha256>(pieces).as_ref() == digest,
            Self::Sha384 => hash::<Sha384>(pieces).as_ref() == digest,
            Self::Sha512 => hash::<Sha512>(pieces).as_ref() == digest,
        }
    }

    pub(super) const fn place(self) -> usize {
        match self {
            Self::Sha1 => 0,
            Self::Sha256 => 1,
            Self::Sha384 => 2,
            Self::Sha512 => 3,
        }
    }
}

impl From<HashAlg> for LogHash {
    fn from(bank: HashAlg) -> Self {
        match bank {
            HashAlg::Sha256 => Self::Sha256,
            HashAlg::Sha384 => Self::Sha384,
            HashAlg::Sha512 => Self::Sha512,
        }
    }
}

/// What an event says it is. Nothing of it was measured: whoever has the log can write another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType(pub u32);

impl EventType {
    /// Isn't extended: it tells the log's reader something.
    pub const NO_ACTION: Self = Self(3);
    /// The firmware is done with this PCR.
    pub const SEPARATOR: Self = Self(4);
    /// Data with a tag; the digest is of something else.
    pub const EVENT_TAG: Self = Self(6);
    /// The version of the first code that ran.
    pub const S_CRTM_VERSION: Self = Self(8);
    /// Whatever boot loaders measure.
    pub const IPL: Self = Self(0xD);
    /// A variable that decides what may boot.
    pub const VARIABLE_DRIVER_CONFIG: Self = Self(0x8000_0001);
    /// A boot option.
    pub const VARIABLE_BOOT: Self = Self(0x8000_0002);
    /// An application, by its Authenticode digest.
    pub const APPLICATION: Self = Self(0x8000_0003);
    /// A driver, by its Authenticode digest.
    pub const DRIVER: Self = Self(0x8000_0004);
    /// The partition table.
    pub const GPT: Self = Self(0x8000_0006);
    /// What the firmware is doing, as text.
    pub const ACTION: Self = Self(0x8000_0007);
    /// A part of the firmware.
    pub const FIRMWARE_BLOB: Self = Self(0x8000_0008);
    /// A part of the firmware, with a description.
    pub const FIRMWARE_BLOB2: Self = Self(0x8000_000A);
    /// The hardware's root of trust measured the first code.
    pub const HCRTM: Self = Self(0x8000_0010);
    /// The certificate or hash by which an image was allowed to run.
    pub const VARIABLE_AUTHORITY: Self = Self(0x8000_00E0);

    /// The name in the TCG's profile, if it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let known = NAMES.iter().find(|(number, _)| *number == self.0)?;
        Some(known.1)
    }

    /// The type of a name, or of a number as `0x8000000f`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if let Some((number, _)) = NAMES.iter().find(|(_, name)| *name == text) {
            return Some(Self(*number));
        }
        let digits = text.strip_prefix("0x")?;
        let plain = digits.bytes().all(|letter| letter.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16)
            .ok()
            .filter(|_| plain)
            .map(Self)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One event of a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its number in the log, from 0.
    pub number: u32,
    /// The PCR that it was extended to; below [`PCR_COUNT`] unless it wasn't extended.
    pub pcr: u32,
    /// What it says it is.
    pub kind: EventType,
    /// What it says about what was measured.
    pub data: &'a [u8],
    digests: [Option<&'a [u8]>; DIGESTS],
}

impl<'a> Event<'a> {
    pub(super) const fn new(
        number: u32,
        pcr: u32,
        kind: EventType,
        digests: [Option<&'a [u8]>; DIGESTS],
        data: &'a [u8],
    ) -> Self {
        Self {
            number,
            pcr,
            kind,
            data,
            digests,
        }
    }

    pub(super) fn read(
        reader: &mut Reader<'a>,
        banks: &Banks,
        number: u32,
    ) -> Result<Self, EventLogError> {
        let at = cut(number);
        let pcr = reader.u32_le().map_err(&at)?;
        let kind = EventType(reader.u32_le().map_err(&at)?);
        // Events that aren't extended may say that they belong to no PCR.
        if pcr >= u32::from(PCR_COUNT) && kind != EventType::NO_ACTION {
            return Err(EventLogError::Pcr { event: number, pcr });
        }
        let digests = digests(reader, banks, number)?;
        let size = reader.u32_le().map_err(&at)?;
        let data = reader
            .take(usize::try_from(size).unwrap_or(usize::MAX))
            .map_err(&at)?;
        Ok(Self::new(number, pcr, kind, digests, data))
    }

    /// The digest of a bank, as long as that hash's are.
    #[must_use]
    pub fn digest(&self, hash: impl Into<LogHash>) -> Option<&'a [u8]> {
        self.digests.get(hash.into().place()).copied().flatten()
    }

    /// Whether it was extended to its PCR.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.kind != EventType::NO_ACTION
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} (PCR {}, {})", self.number, self.pcr, self.kind)
    }
}

fn digests<'a>(
    reader: &mut Reader<'a>,
    banks: &Banks,
    event: u32,
) -> Result<[Option<&'a [u8]>; DIGESTS], EventLogError> {
    let at = cut(event);
    let (have, limit) = (reader.u32_le().map_err(&at)?, banks.count());
    if have > limit {
        return Err(EventLogError::Digests { event, have, limit });
    }
    let (mut digests, mut seen) = ([None; DIGESTS], 0u32);
    for _ in 0..have {
        let algorithm = reader.u16_le().map_err(&at)?;
        let (place, bytes) = banks
            .find(algorithm)
            .ok_or(EventLogError::UnknownAlgorithm { event, algorithm })?;
        if seen >> place & 1 == 1 {
            return Err(EventLogError::Twice { event, algorithm });
        }
        seen |= 1 << place;
        let digest = reader.take(bytes).map_err(&at)?;
        if let Some(hash) = LogHash::from_tpm_id(algorithm) {
            digests[hash.place()] = Some(digest);
        }
    }
    Ok(digests)
}

/// Source: TCG PC Client Platform Firmware Profile 1.06, table 27.
const NAMES: &[(u32, &str)] = &[
    (0, "EV_PREBOOT_CERT"),
    (1, "EV_POST_CODE"),
    (2, "EV_UNUSED"),
    (3, "EV_NO_ACTION"),
    (4, "EV_SEPARATOR"),
    (5, "EV_ACTION"),
    (6, "EV_EVENT_TAG"),
    (7, "EV_S_CRTM_CONTENTS"),
    (8, "EV_S_CRTM_VERSION"),
    (9, "EV_CPU_MICROCODE"),
    (0xA, "EV_PLATFORM_CONFIG_FLAGS"),
    (0xB, "EV_TABLE_OF_DEVICES"),
    (0xC, "EV_COMPACT_HASH"),
    (0xD, "EV_IPL"),
    (0xE, "EV_IPL_PARTITION_DATA"),
    (0xF, "EV_NONHOST_CODE"),
    (0x10, "EV_NONHOST_CONFIG"),
    (0x11, "EV_NONHOST_INFO"),
    (0x12, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (0x13, "EV_POST_CODE2"),
    (0x8000_0000, "EV_EFI_EVENT_BASE"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000A, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000B, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000C, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_000D, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (0x8000_00E0, "EV_EFI_VARIABLE_AUTHORITY"),
    (0x8000_00E1, "EV_EFI_SPDM_FIRMWARE_BLOB"),
    (0x8000_00E2, "EV_EFI_SPDM_FIRMWARE_CONFIG"),
    (0x8000_00E3, "EV_EFI_SPDM_DEVICE_POLICY"),
    (0x8000_00E4, "EV_EFI_SPDM_DEVICE_AUTHORITY"),
];
