//! What an event's data says, and whether that is what was measured.
//!
//! A log's types and data aren't measured, only digests are. So nothing here asks for an event's type: data counts where its
//! own hash is the event's digest, in one of the forms that firmware and boot loaders hash.

use std::borrow::Cow;

use agent_core::wire::bytes::Reader;

use super::event::{Event, LogHash};
use super::guid::Guid;

/// What GRUB puts before a text in the log and doesn't measure: `grub_cmd: `, `kernel_cmdline: `, `module_cmdline: `.
const LABEL_END: &[u8] = b": ";

/// The longest such label.
const MAX_LABEL_BYTES: usize = 32;

/// What a separator's data may be: all well, in two forms.
///
/// Source: TCG PC Client Platform Firmware Profile 1.06, section 10.4.1 (`EV_SEPARATOR`).
const SEPARATORS: [[u8; 4]; 2] = [[0; 4], [0xFF; 4]];

/// Data whose hash is the event's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explained<'a> {
    /// The firmware is done with this PCR.
    Separator,
    /// A variable of UEFI.
    Variable(Variable<'a>),
    /// Text, of which a label in the log was no part.
    Text(Text<'a>),
    /// Something else, whole.
    Bytes(&'a [u8]),
}

impl<'a> Event<'a> {
    /// What was measured, if the log has it: the event's digest in this bank is the hash of it.
    ///
    /// # Cost
    /// At most seven hashes of the data.
    #[must_use]
    pub fn explained(&self, bank: impl Into<LogHash>) -> Option<Explained<'a>> {
        let hash = bank.into();
        let digest = self.digest(hash).filter(|_| self.is_extended())?;
        if hash.is_of(digest, &[self.data]) {
            return Some(self.whole());
        }
        texts(self.data)
            .find(|text| hash.is_of(digest, &[text]))
            .and_then(Text::of)
            .map(Explained::Text)
    }

    /// Whether a separator was measured, whatever the log says about it.
    #[must_use]
    pub fn is_separator(&self, bank: impl Into<LogHash>) -> bool {
        let hash = bank.into();
        self.digest(hash)
            .filter(|_| self.is_extended())
            .is_some_and(|digest| {
                SEPARATORS
                    .iter()
                    .any(|separator| hash.is_of(digest, &[separator]))
            })
    }

    /// Whether this text was measured, whatever the log says about it: as it is or in UTF-16, with or without a zero at its end.
    #[must_use]
    pub fn is_text(&self, bank: impl Into<LogHash>, text: &str) -> bool {
        let hash = bank.into();
        let Some(digest) = self.digest(hash).filter(|_| self.is_extended()) else {
            return false;
        };
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        [
            &[text.as_bytes()][..],
            &[text.as_bytes(), &[0]],
            &[&wide],
            &[&wide, &[0, 0]],
        ]
        .iter()
        .any(|form| hash.is_of(digest, form))
    }

    fn whole(&self) -> Explained<'a> {
        if SEPARATORS.iter().any(|separator| self.data == separator) {
            return Explained::Separator;
        }
        if let Some(variable) = Variable::parse(self.data) {
            return Explained::Variable(variable);
        }
        Text::of(self.data).map_or(Explained::Bytes(self.data), Explained::Text)
    }
}

/// The parts of data that may have been measured as text.
fn texts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let label = data
        .windows(LABEL_END.len())
        .take(MAX_LABEL_BYTES)
        .position(|window| window == LABEL_END)
        .and_then(|at| data.get(at + LABEL_END.len()..));
    [Some(data), label].into_iter().flatten().flat_map(|text| {
        let narrow = text.strip_suffix(&[0]);
        let wide = text.strip_suffix(&[0, 0]);
        [Some(text), narrow, wide].into_iter().flatten()
    })
}

/// Measured text, in UTF-8 or UTF-16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let text = Self(bytes);
        text.decode().map(|_| text)
    }

    /// The text, without a zero at its end.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        // It was decoded before.
        self.decode().unwrap_or_default()
    }

    fn decode(&self) -> Option<Cow<'a, str>> {
        let narrow = self.0.strip_suffix(&[0]).unwrap_or(self.0);
        if !narrow.contains(&0) {
            return std::str::from_utf8(narrow).ok().map(Cow::Borrowed);
        }
        wide_text(self.0).map(Cow::Owned)
    }
}

/// UTF-16 text with at most one zero, at its end.
fn wide_text(bytes: &[u8]) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units = units.strip_suffix(&[[0, 0]]).unwrap_or(units);
    let text = char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit)))
        .collect::<Result<String, _>>()
        .ok()?;
    (rest.is_empty() && !text.contains('\0')).then_some(text)
}

/// `UEFI_VARIABLE_DATA`: a variable with its owner, name and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Whose it is.
    pub owner: Guid,
    /// Its content.
    pub content: &'a [u8],
    name: &'a [u8],
}

impl<'a> Variable<'a> {
    /// Reads the structure; it must be all of the data. Some loaders count the zero after the name's end.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(data);
        let owner = Guid(reader.array().ok()?);
        let units = usize::try_from(reader.u64_le().ok()?).ok()?;
        let content_bytes = usize::try_from(reader.u64_le().ok()?).ok()?;
        let name = reader.take(units.checked_mul(2)?).ok()?;
        let content = reader.take(content_bytes).ok()?;
        let variable = Self {
            owner,
            content,
            name,
        };
        (reader.rest().is_empty() && wide_text(name).is_some()).then_some(variable)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        // It was decoded before.
        wide_text(self.name).unwrap_or_default()
    }

    /// Whether this is the variable of that owner and name.
    #[must_use]
    pub fn is(&self, owner: Guid, name: &str) -> bool {
        self.owner == owner && self.name() == name
    }

    /// The signatures of its content, if it is all lists of signatures, as `PK`, `KEK`, `db` and `dbx` are.
    #[must_use]
    pub fn signatures(&self) -> Signatures<'a> {
        Signatures {
            reader: Reader::new(self.content),
            list: None,
        }
    }

    /// The certificate of an authority: behind the signature's owner, or as shim measures its own, alone.
    #[must_use]
    pub fn certificates(&self) -> [Option<&'a [u8]>; 2] {
        [Some(self.content), self.content.get(OWNER_BYTES..)]
    }
}

const OWNER_BYTES: usize = 16;

/// `EFI_SIGNATURE_DATA`: a certificate or a digest, and who put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// What it is: [`Guid::X509`], [`Guid::SHA256`] or another.
    pub kind: Guid,
    /// Who put it there.
    pub owner: Guid,
    /// The certificate or the digest.
    pub data: &'a [u8],
}

/// The signatures in lists, one after the other. A list that isn't one is an error, and the last item.
///
/// Source: UEFI 2.10, section 32.4.1.
#[derive(Clone, Debug)]
pub struct Signatures<'a> {
    reader: Reader<'a>,
    list: Option<(Guid, std::slice::ChunksExact<'a, u8>)>,
}

/// Lists of signatures that aren't well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSignatures;

impl<'a> Iterator for Signatures<'a> {
    type Item = Result<Signature<'a>, NoSignatures>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((kind, entries)) = &mut self.list
                && let Some((owner, data)) =
                    entries.next().and_then(|entry| entry.split_first_chunk())
            {
                return Some(Ok(Signature {
                    kind: *kind,
                    owner: Guid(*owner),
                    data,
                }));
            }
            if self.reader.rest().is_empty() {
                return None;
            }
            match next_list(&mut self.reader) {
                Some(list) => self.list = Some(list),
                None => {
                    (self.reader, self.list) = (Reader::new(&[]), None);
                    return Some(Err(NoSignatures));
                }
            }
        }
    }
}

fn next_list<'a>(reader: &mut Reader<'a>) -> Option<(Guid, std::slice::ChunksExact<'a, u8>)> {
    const HEADER_BYTES: u32 = 28;
    let kind = Guid(reader.array().ok()?);
    let all = reader.u32_le().ok()?;
    let header = reader.u32_le().ok()?;
    let entry = reader.u32_le().ok()?;
    let content = all.checked_sub(HEADER_BYTES)?.checked_sub(header)?;
    let _header = reader.take(usize::try_from(header).ok()?).ok()?;
    let entries = reader.take(usize::try_from(content).ok()?).ok()?;
    let size = usize::try_from(entry).ok()?;
    let whole = size >= OWNER_BYTES && entries.len().is_multiple_of(size);
    whole.then(|| (kind, entries.chunks_exact(size)))
}

/// `TCG_PCClientTaggedEvent`: what the kernel's EFI stub and newer systemd say about what they measured. The digest is of that,
/// not of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged<'a> {
    /// Who measured what.
    pub tag: u32,
    /// A description.
    pub data: &'a [u8],
}

impl<'a> Tagged<'a> {
    /// Reads the structure; it must be all of the data.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(data);
        let tag = reader.u32_le().ok()?;
        let size = usize::try_from(reader.u32_le().ok()?).ok()?;
        let data = reader.take(size).ok()?;
        reader.rest().is_empty().then_some(Self { tag, data })
    }
}
