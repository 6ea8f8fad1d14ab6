//! Our policy as it stands in JSON: the words, before they are checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Digests by bank, in hexadecimal.
pub(super) type DigestTexts = BTreeMap<String, Vec<String>>;

/// The whole of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: u64,
    /// For people; it judges nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) builtins: Vec<BuiltinText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rules: Vec<RuleText>,
    /// PCRs in which there may be events that no rule takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) open: Vec<u8>,
    /// PCRs in which there may be no event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) empty: Vec<u8>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleText {
    pub(super) name: String,
    pub(super) pcr: u8,
    pub(super) event: String,
    pub(super) must: MustText,
    /// How many events it takes at least.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) min: u32,
    /// How many it takes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<u32>,
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_one(min: &u32) -> bool {
    *min == 1
}

/// What must hold of an event.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum MustText {
    Digest(DigestTexts),
    Text(TextText),
    SignedBy(Vec<String>),
    SecureBoot(bool),
    Variable(VariableText),
    DbxAtLeast(Vec<String>),
    Separator,
}

/// Which texts.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum TextText {
    Equals(Vec<String>),
    Matches(String),
}

/// Which variable, and what it may contain.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariableText {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    /// SHA-256 of its content; without them any content will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sha256: Vec<String>,
}

/// A set of rules by name, with what differs from machine to machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum BuiltinText {
    /// A unified kernel image with systemd's stub.
    Uki(ImagesText),
    /// A kernel that the firmware starts by its own EFI stub.
    EfiStub(EfiStubText),
    /// Shim, GRUB, and a kernel.
    ShimGrub(ShimGrubText),
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImagesText {
    /// Authenticode digests of all that ran.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) images: DigestTexts,
    /// What the loader may have said instead of the image's own command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) command_line: Option<TextText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secure_boot: Option<bool>,
    /// SHA-256 of the certificates by which images may have been allowed to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) signed_by: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EfiStubText {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) images: DigestTexts,
    /// The kernel's command line, whole: the log has its digest alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) command_lines: Vec<String>,
    /// Digests of the initramfs, and of whatever else was measured to PCR 9.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) files: DigestTexts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secure_boot: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) signed_by: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShimGrubText {
    /// Authenticode digests of shim, GRUB, the kernel and all else that ran.
    pub(super) images: DigestTexts,
    /// Digests of the files that GRUB read: its configuration, modules, kernel, initramfs.
    pub(super) files: DigestTexts,
    /// GRUB's commands and the kernel's command line, as GRUB ran them.
    pub(super) commands: TextText,
    /// Digests of shim's lists of keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) mok: DigestTexts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secure_boot: Option<bool>,
}

impl Default for TextText {
    fn default() -> Self {
        Self::Equals(Vec::new())
    }
}
