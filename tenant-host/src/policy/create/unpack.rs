//! What unpacks what: formats are told by their first bytes.

use std::io::{self, BufRead, Read};

use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use super::archive::ArchiveError;
use super::gzip::Gzip;

/// The most memory that unpacking takes, in KiB: what `xz -9` and `zstd --ultra --long` need, and a little more.
const MEMORY_KIB: u32 = 160 << 10;

/// How something is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
    Xz,
    /// One that isn't unpacked here: its name, and what unpacks it.
    Other(&'static str, &'static str),
}

/// First bytes and formats.
///
/// Source: `lib/decompress.c` and the decompressors of Linux; zstd's is in RFC 8878.
const MAGICS: [(&[u8], Packing); 8] = [
    (&[0x1f, 0x8b], Packing::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Xz),
    (
        &[0x02, 0x21, 0x4c, 0x18],
        Packing::Other("lz4", "lz4 -d FILE OUT"),
    ),
    (
        &[0x04, 0x22, 0x4d, 0x18],
        Packing::Other("lz4", "lz4 -d FILE OUT"),
    ),
    (b"BZh", Packing::Other("bzip2", "bzip2 -dk FILE")),
    (&[0x5d, 0, 0], Packing::Other("lzma", "lzma -dk FILE")),
    (
        &[0x89, b'L', b'Z', b'O'],
        Packing::Other("lzop", "lzop -d FILE"),
    ),
];

impl Packing {
    /// How what begins with these bytes is packed; `None` if it isn't, as far as is known.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        let found = MAGICS.iter().find(|(magic, _)| first.starts_with(magic));
        found.map(|(_, packing)| *packing)
    }

    /// Unpacks one stream of it, and leaves the source behind that.
    pub(super) fn open<'a>(
        self,
        source: &'a mut dyn BufRead,
    ) -> Result<Box<dyn Read + 'a>, ArchiveError> {
        match self {
            Self::Gzip => Ok(Box::new(Gzip::new(source)?)),
            Self::Zstd => {
                let window = u64::from(MEMORY_KIB) << 10;
                let stream = StreamingDecoder::new_with_max_window_size(source, window);
                Ok(Box::new(stream.map_err(io::Error::other)?))
            }
            Self::Xz => Ok(Box::new(XzReader::new_mem_limit(source, false, MEMORY_KIB))),
            Self::Other(with, tool) => Err(ArchiveError::Packed { with, tool }),
        }
    }
}
