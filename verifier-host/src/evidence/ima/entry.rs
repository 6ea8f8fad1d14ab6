//! One line of a list, as it was measured.

use std::borrow::Cow;

use memchr::memchr;

use super::hash::ListHash;
use super::list::LineError;
use super::template::{self, Field, Template};

/// The longest path; the kernel writes none that is longer.
///
/// Source: `PATH_MAX` in Linux's `limits.h`.
pub const MAX_PATH_BYTES: usize = 4096;

/// The most template data. Signatures have up to some 600 bytes, measured buffers up to some kilobytes.
pub const MAX_DATA_BYTES: usize = 64 << 10;

/// An entry of a measurement list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its line's number; the list's first is 1.
    pub line: u64,
    /// The PCR that it was extended into.
    pub pcr: u32,
    /// The template's name, or its format if it has none.
    pub template: &'a str,
    /// The hash of [`template_hash`](Self::template_hash).
    pub list_hash: ListHash,
    /// What the list says is the hash of [`data`](Self::data); not checked here.
    pub template_hash: &'a [u8],
    /// The template data: what the kernel hashes.
    pub data: &'a [u8],
    /// Whether it says that a file was open for writing while it was measured, or was written later: there is no digest then.
    pub violation: bool,
    /// What was measured.
    pub digest: FileDigest<'a>,
    /// The file's path, the keyring's or the buffer's name. The kernel writes underscores for spaces.
    pub path: &'a [u8],
    /// What else is known of it.
    pub content: Content<'a>,
}

/// A digest with its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest<'a> {
    /// What was hashed, if it isn't simply the file: `verity` for the digest of fs-verity.
    pub kind: Option<&'a str>,
    /// The kernel's name of the hash: `sha256`, `sm3`.
    pub alg: &'a str,
    /// The digest.
    pub bytes: &'a [u8],
}

/// What an entry has besides path and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing.
    File,
    /// The file's signature, as it stands in `security.ima`; not parsed.
    Signed(&'a [u8]),
    /// The bytes themselves: a key, a command line, a device's state.
    Buffer(&'a [u8]),
}

impl<'a> Entry<'a> {
    /// The path as text; what is no UTF-8 in it is replaced.
    #[must_use]
    pub fn path_text(&self) -> String {
        String::from_utf8_lossy(self.path).into_owned()
    }

    /// The path, if it is text.
    #[must_use]
    pub const fn path_str(&self) -> Option<&'a str> {
        match std::str::from_utf8(self.path) {
            Ok(path) => Some(path),
            Err(_) => None,
        }
    }
}

/// What stands before an entry's data.
pub(super) struct Head<'a> {
    pub(super) line: u64,
    pub(super) pcr: u32,
    pub(super) template: &'a Template,
    pub(super) template_hash: &'a [u8],
}

/// Reads what an entry's template data say.
pub(super) fn read<'a>(head: Head<'a>, data: &'a [u8]) -> Result<Entry<'a>, LineError> {
    let have = head.template_hash.len();
    let list_hash = ListHash::of_size(have).ok_or(LineError::TemplateHashSize { have })?;
    let mut parts = Parts::default();
    if head.template.is_legacy() {
        parts.take_legacy(data)?;
    } else {
        let mut rest = data;
        for field in head.template.fields() {
            let (value, behind) = template::split_sized(rest)?;
            parts.take(*field, value)?;
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(LineError::Data { field: "its end" });
        }
    }
    let template = head.template.name();
    let unknown = |lacks| LineError::Lacks {
        template: template.to_owned(),
        lacks,
    };
    Ok(Entry {
        line: head.line,
        pcr: head.pcr,
        template,
        list_hash,
        template_hash: head.template_hash,
        data,
        violation: head.template_hash.iter().all(|byte| *byte == 0),
        digest: parts.digest.ok_or_else(|| unknown("digest"))?,
        path: parts.path.ok_or_else(|| unknown("name"))?,
        content: parts.content,
    })
}

struct Parts<'a> {
    digest: Option<FileDigest<'a>>,
    path: Option<&'a [u8]>,
    content: Content<'a>,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Self {
            digest: None,
            path: None,
            content: Content::File,
        }
    }
}

impl<'a> Parts<'a> {
    /// The digest alone, then the name in a room of fixed size.
    fn take_legacy(&mut self, data: &'a [u8]) -> Result<(), LineError> {
        let digest_bytes = data.len().checked_sub(template::LEGACY_NAME_BYTES);
        let (digest, name) = digest_bytes
            .and_then(|at| data.split_at_checked(at))
            .ok_or(LineError::Data { field: "n" })?;
        let end = name.iter().position(|byte| *byte == 0);
        self.digest = Some(without_alg(digest)?);
        self.path = end.and_then(|end| name.get(..end));
        Ok(())
    }

    fn take(&mut self, field: Field, value: &'a [u8]) -> Result<(), LineError> {
        match field {
            Field::Digest => self.digest = Some(without_alg(value)?),
            Field::DigestNg | Field::DigestNgV2 => self.digest = Some(with_alg(field, value)?),
            Field::Name => self.path = Some(path(value)?),
            Field::Sig if !value.is_empty() => self.content = Content::Signed(value),
            Field::Buf => self.content = Content::Buffer(value),
            _ => {}
        }
        Ok(())
    }
}

fn without_alg(digest: &[u8]) -> Result<FileDigest<'_>, LineError> {
    let alg = match digest.len() {
        16 => "md5",
        20 => "sha1",
        _ => return Err(LineError::Data { field: "d" }),
    };
    Ok(FileDigest {
        kind: None,
        alg,
        bytes: digest,
    })
}

/// `ALG:`, NUL, digest; or `KIND:ALG:`, NUL, digest.
fn with_alg(field: Field, value: &[u8]) -> Result<FileDigest<'_>, LineError> {
    let parts = || {
        let end = value.iter().position(|byte| *byte == 0)?;
        let (names, digest) = value.split_at_checked(end)?;
        let (_, bytes) = digest.split_first()?;
        if let Some(alg) = usual(names) {
            let kind = None;
            return Some(FileDigest { kind, alg, bytes });
        }
        let names = std::str::from_utf8(names).ok()?.strip_suffix(':')?;
        let (kind, alg) = match (field, names.split_once(':')) {
            (Field::DigestNgV2, Some((kind, alg))) => (Some(kind), alg),
            (_, None) => (None, names),
            _ => return None,
        };
        let kind = kind.filter(|kind| *kind != "ima");
        Some(FileDigest { kind, alg, bytes })
    };
    parts().ok_or(LineError::Data { field: "d-ng" })
}

/// The hash that stands alone, if it is a usual one, which is known without reading its name.
const fn usual(names: &[u8]) -> Option<&'static str> {
    Some(match names {
        b"sha1:" => "sha1",
        b"sha256:" => "sha256",
        b"sha384:" => "sha384",
        b"sha512:" => "sha512",
        _ => return None,
    })
}

/// A name with its NUL.
fn path(value: &[u8]) -> Result<&[u8], LineError> {
    let Some((0, path)) = value.split_last() else {
        return Err(LineError::Data { field: "n-ng" });
    };
    if path.len() > MAX_PATH_BYTES {
        return Err(LineError::TooLong {
            what: "path",
            have: path.len(),
            limit: MAX_PATH_BYTES,
        });
    }
    if memchr(0, path).is_some() {
        return Err(LineError::Data { field: "n-ng" });
    }
    Ok(path)
}

/// As much of some bytes as an error can quote.
pub(super) fn quote(bytes: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    text.chars().take(MAX_QUOTED_CHARS).collect()
}

const MAX_QUOTED_CHARS: usize = 80;
