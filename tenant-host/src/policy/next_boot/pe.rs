//! Images that UEFI firmware starts (PE32+): their sections, and what of them is hashed when they are measured.
//!
//! The file is hostile until it is read: every offset is checked against its end, and nothing is copied.
//!
//! Source: Microsoft's PE format; Windows Authenticode Portable Executable Signature Format, "Calculating the PE image hash";
//! EDK II's `MeasurePeImageAndExtend`, which hashes trailing data as it stands, without padding.

use agent_core::wire::quote::{Digest, HashAlg};

/// Why a file is no image that firmware starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeError {
    /// Something else.
    #[error("it is no EFI image: it has no {missing}")]
    Foreign {
        /// What is missing.
        missing: &'static str,
    },
    /// Cut, or built to look so.
    #[error("it is cut: its {part} ends at {need}, the file at {have}")]
    Truncated {
        /// Which part.
        part: &'static str,
        /// Where that ends.
        need: u64,
        /// How long the file is.
        have: usize,
    },
    /// For another kind of machine.
    #[error("its optional header is of the kind {found:#06x}; PE32+ is 0x020b")]
    NotPe32Plus {
        /// The kind.
        found: u16,
    },
    /// A driver, or a program for another system.
    #[error(
        "its subsystem is {found}; an EFI application, which firmware measures to PCR 4, has 10"
    )]
    NotAnApplication {
        /// The subsystem.
        found: u16,
    },
    /// More sections than an image may have.
    #[error("it has {found} sections; an image has at most {MAX_SECTIONS}")]
    TooManySections {
        /// How many.
        found: u16,
    },
    /// Headers, sections and signatures are longer than the file, so that firmware doesn't measure it.
    #[error(
        "its headers, sections and signatures have {sum} bytes, the file {have}: firmware starts no such image"
    )]
    Overlapping {
        /// All of them.
        sum: u64,
        /// How long the file is.
        have: usize,
    },
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    checksum: usize,
    /// Where the directory's entry for signatures is, and how long the signatures are.
    signatures: Option<(usize, u32)>,
    headers: usize,
    sections: Vec<Section<'a>>,
}

/// A section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// Its name, with zeros up to eight bytes.
    name: [u8; 8],
    /// How long it is once it is loaded.
    pub loaded: u32,
    /// Its bytes in the file.
    pub data: &'a [u8],
    start: u32,
}

impl Section<'_> {
    /// Whether it is called so.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    }
}

impl<'a> Image<'a> {
    /// Reads the headers of an image.
    ///
    /// # Errors
    /// [`PeError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        let file = File(bytes);
        if file.bytes("DOS header", 0, 2)? != b"MZ" {
            return Err(PeError::Foreign { missing: "MZ" });
        }
        let coff = u64::from(file.u32("DOS header", PE_OFFSET)?);
        if file.bytes("PE header", coff, 4)? != b"PE\0\0" {
            return Err(PeError::Foreign { missing: "PE" });
        }
        let optional = coff + COFF_BYTES;
        let kind = file.u16("optional header", optional)?;
        if kind != PE32_PLUS {
            return Err(PeError::NotPe32Plus { found: kind });
        }
        let subsystem = file.u16("optional header", optional + 68)?;
        if subsystem != EFI_APPLICATION {
            return Err(PeError::NotAnApplication { found: subsystem });
        }
        let headers = file.u32("optional header", optional + 60)?;
        let headers = file.bytes("headers", 0, headers.into())?.len();
        let directories = file.u32("optional header", optional + 108)?;
        let signatures = match directories > SIGNATURES {
            false => None,
            true => {
                let entry = optional + DIRECTORIES + 8 * u64::from(SIGNATURES);
                let size = file.u32("data directory", entry + 4)?;
                Some((file.inside(headers, entry + 8)? - 8, size))
            }
        };
        let table = optional + u64::from(file.u16("PE header", coff + 20)?);
        Ok(Self {
            bytes,
            checksum: file.inside(headers, optional + 68)? - 4,
            signatures,
            headers,
            sections: sections(file, table, file.u16("PE header", coff + 6)?)?,
        })
    }

    /// The sections, in the order of the headers.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// What firmware measures of it, which is also what is signed: all but the checksum, the signatures, and where they are.
    ///
    /// # Errors
    /// [`PeError::Overlapping`].
    pub fn authenticode(&self, bank: HashAlg) -> Result<Digest, PeError> {
        let (after_checksum, signed) = (self.checksum + 4, self.bytes);
        let mut pieces = vec![signed.get(..self.checksum)];
        match self.signatures {
            None => pieces.push(signed.get(after_checksum..self.headers)),
            Some((entry, _)) => {
                pieces.push(signed.get(after_checksum..entry));
                pieces.push(signed.get(entry + 8..self.headers));
            }
        }
        let mut sections = self.sections.clone();
        sections.sort_by_key(|section| section.start);
        let mut sum = self.headers as u64;
        for section in sections.iter().filter(|section| !section.data.is_empty()) {
            pieces.push(Some(section.data));
            sum += section.data.len() as u64;
        }
        pieces.push(Some(self.trailing(sum)?));
        Ok(bank.digest(pieces.into_iter().flatten()))
    }

    /// What comes after headers and sections of so many bytes, up to the signatures.
    fn trailing(&self, sum: u64) -> Result<&'a [u8], PeError> {
        let have = self.bytes.len();
        if sum >= have as u64 {
            return Ok(&[]);
        }
        let signatures = self.signatures.map_or(0, |(_, size)| u64::from(size));
        let end = (have as u64).checked_sub(signatures);
        let range = end
            .and_then(|end| Some((usize::try_from(sum).ok()?, usize::try_from(end).ok()?)))
            .and_then(|(start, end)| self.bytes.get(start..end));
        range.ok_or(PeError::Overlapping {
            sum: sum + signatures,
            have,
        })
    }
}

fn sections(file: File<'_>, table: u64, count: u16) -> Result<Vec<Section<'_>>, PeError> {
    if count > MAX_SECTIONS {
        return Err(PeError::TooManySections { found: count });
    }
    let section = |index: u16| {
        let header = table + SECTION_BYTES * u64::from(index);
        let mut name = [0; 8];
        name.copy_from_slice(file.bytes("section table", header, 8)?);
        let [loaded, size, start] =
            [8, 16, 20].map(|offset| file.u32("section table", header + offset));
        let (size, start) = (size?, start?);
        Ok(Section {
            name,
            loaded: loaded?,
            data: match size {
                0 => &[],
                size => file.bytes("section", start.into(), size.into())?,
            },
            start,
        })
    };
    (0..count).map(section).collect()
}

/// A file whose parts are looked up by offset.
#[derive(Clone, Copy)]
struct File<'a>(&'a [u8]);

impl<'a> File<'a> {
    fn bytes(self, part: &'static str, start: u64, length: u64) -> Result<&'a [u8], PeError> {
        // Offsets have 32 bits, so that no sum overflows 64.
        let need = start + length;
        let range = usize::try_from(start).ok().zip(usize::try_from(need).ok());
        let found = range.and_then(|(start, end)| self.0.get(start..end));
        found.ok_or(PeError::Truncated {
            part,
            need,
            have: self.0.len(),
        })
    }

    fn u16(self, part: &'static str, start: u64) -> Result<u16, PeError> {
        let mut bytes = [0; 2];
        bytes.copy_from_slice(self.bytes(part, start, 2)?);
        Ok(u16::from_le_bytes(bytes))
    }

    fn u32(self, part: &'static str, start: u64) -> Result<u32, PeError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.bytes(part, start, 4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    /// An offset, if it isn't beyond the headers.
    fn inside(self, headers: usize, offset: u64) -> Result<usize, PeError> {
        let found = usize::try_from(offset).ok();
        found
            .filter(|offset| *offset <= headers)
            .ok_or(PeError::Truncated {
                part: "optional header",
                need: offset,
                have: headers,
            })
    }
}

/// Where a DOS header says where the PE header is.
const PE_OFFSET: u64 = 0x3c;

/// The signature and the COFF header behind it.
const COFF_BYTES: u64 = 24;

/// The magic of an optional header for 64 bits.
const PE32_PLUS: u16 = 0x020b;

/// `IMAGE_SUBSYSTEM_EFI_APPLICATION`.
const EFI_APPLICATION: u16 = 10;

/// Where data directories begin in the optional header of PE32+.
const DIRECTORIES: u64 = 112;

/// The number of the data directory for signatures.
const SIGNATURES: u32 = 4;

/// A section's header.
const SECTION_BYTES: u64 = 40;

/// What Windows' loader takes, and more than any kernel or UKI has.
const MAX_SECTIONS: u16 = 96;

#[cfg(test)]
mod tests;
