//! Templates: of which fields an entry's data are made, and how the kernel packs each.

use super::list::LineError;

/// The template that lacks lengths and names of hashes.
const LEGACY: &str = "ima";

/// What its name takes, zeros included.
///
/// Source: `IMA_EVENT_NAME_LEN_MAX` in Linux's `ima.h`, and a NUL.
pub(super) const LEGACY_NAME_BYTES: usize = 256;

/// The most fields of a template, and the longest name: a format of all fields.
///
/// Source: `IMA_TEMPLATE_NUM_FIELDS_MAX` in Linux's `ima.h`, `MAX_TEMPLATE_NAME_LEN` in its `ima_template.c`.
const MAX_FIELDS: usize = 15;
pub(super) const MAX_NAME_BYTES: usize = 128;

/// Templates with names of their own; all others are named by their format.
///
/// Source: `builtin_templates` in Linux's `ima_template.c`.
const BUILT_IN: [(&str, &str); 8] = [
    (LEGACY, "d|n"),
    ("ima-ng", "d-ng|n-ng"),
    ("ima-sig", "d-ng|n-ng|sig"),
    ("ima-buf", "d-ng|n-ng|buf"),
    ("ima-ngv2", "d-ngv2|n-ng"),
    ("ima-sigv2", "d-ngv2|n-ng|sig"),
    ("ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig"),
    (
        "evm-sig",
        "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
    ),
];

/// A field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `d`: an MD5 or SHA-1 digest.
    Digest,
    /// `d-ng`.
    DigestNg,
    /// `d-ngv2`.
    DigestNgV2,
    /// `n-ng`, and `n` where it has a length.
    Name,
    /// `sig`.
    Sig,
    /// `buf`.
    Buf,
    /// `d-modsig`: nothing, or as `d-ng`.
    ModsigDigest,
    /// Other bytes.
    Bytes,
    /// Names of attributes: nothing, or as `n-ng`.
    Names,
    /// A number of so many bytes, or nothing.
    Number(usize),
}

impl Field {
    /// Source: `supported_fields` in Linux's `ima_template.c`.
    fn of_id(id: &str) -> Option<Self> {
        Some(match id {
            "d" => Self::Digest,
            "d-ng" => Self::DigestNg,
            "d-ngv2" => Self::DigestNgV2,
            "n" | "n-ng" => Self::Name,
            "sig" => Self::Sig,
            "buf" => Self::Buf,
            "d-modsig" => Self::ModsigDigest,
            "modsig" | "evmsig" | "xattrlengths" | "xattrvalues" => Self::Bytes,
            "xattrnames" => Self::Names,
            "iuid" | "igid" => Self::Number(4),
            "imode" => Self::Number(2),
            _ => return None,
        })
    }
}

/// A template that is known.
#[derive(Debug, Default)]
pub(super) struct Template {
    name: String,
    fields: Vec<Field>,
}

impl Template {
    /// The template of this name, or of this format.
    pub(super) fn named(bytes: &[u8]) -> Result<Self, LineError> {
        let unknown = || LineError::Template {
            template: super::entry::quote(bytes),
        };
        let name = std::str::from_utf8(bytes).map_err(|_| unknown())?;
        let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
        let format = built_in.map_or(name, |(_, format)| format);
        let fields = format.split('|').take(MAX_FIELDS + 1).map(Field::of_id);
        let fields: Vec<Field> = fields.collect::<Option<_>>().ok_or_else(unknown)?;
        if fields.len() > MAX_FIELDS {
            return Err(unknown());
        }
        Ok(Self {
            name: name.to_owned(),
            fields,
        })
    }

    /// Becomes the template of this name. Most lines have the same as the line before.
    pub(super) fn set(&mut self, name: &[u8]) -> Result<(), LineError> {
        if self.name.as_bytes() != name || self.name.is_empty() {
            *self = Self::named(name)?;
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its fields in their order.
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(super) fn is_legacy(&self) -> bool {
        self.name == LEGACY
    }
}

/// A field with its length in front, and what follows it.
pub(super) fn split_sized(data: &[u8]) -> Result<(&[u8], &[u8]), LineError> {
    let split = || {
        let (length, rest) = data.split_first_chunk()?;
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
    };
    split().ok_or(LineError::Data { field: "a length" })
}
