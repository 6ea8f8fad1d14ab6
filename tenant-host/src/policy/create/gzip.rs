//! gzip, read as it comes and no byte further.
//!
//! Source: RFC 1952.

use std::io::{self, BufRead, Read};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// The longest optional field of a header.
const MAX_FIELD_BYTES: u64 = 64 << 10;

/// Unpacks one member. Its checksum is checked at its end.
pub(super) struct Gzip<R> {
    source: R,
    state: Box<InflateState>,
    checksum: crc32fast::Hasher,
    size: u32,
    ended: bool,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(mut source: R) -> io::Result<Self> {
        read_header(&mut source)?;
        Ok(Self {
            source,
            state: Box::new(InflateState::new(DataFormat::Raw)),
            checksum: crc32fast::Hasher::new(),
            size: 0,
            ended: false,
        })
    }

    fn end(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.source.read_exact(&mut trailer)?;
        let [a, b, c, d, size @ ..] = trailer;
        let matches = u32::from_le_bytes([a, b, c, d]) == self.checksum.clone().finalize()
            && u32::from_le_bytes(size) == self.size;
        self.ended = true;
        matches.then_some(()).ok_or_else(|| bad("a wrong checksum"))
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.source.fill_buf()?;
            let at_end = input.is_empty();
            let result = inflate(&mut self.state, input, out, MZFlush::None);
            self.source.consume(result.bytes_consumed);
            let written = result.bytes_written;
            let bytes = out.get(..written).unwrap_or_default();
            self.checksum.update(bytes);
            self.size = self
                .size
                .wrapping_add(u32::try_from(written).unwrap_or_default());
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.end()?;
                    return Ok(written);
                }
                Ok(_) | Err(MZError::Buf) if written > 0 => return Ok(written),
                Ok(_) | Err(MZError::Buf) if at_end => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(_) | Err(MZError::Buf) => {}
                Err(_) => return Err(bad("damaged data")),
            }
        }
    }
}

fn read_header(source: &mut impl BufRead) -> io::Result<()> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const HEADER_CHECKSUM: u8 = 2;
    let mut header = [0; 10];
    source.read_exact(&mut header)?;
    let [0x1f, 0x8b, 8, flags, ..] = header else {
        return Err(bad("another header"));
    };
    if flags & EXTRA != 0 {
        let mut length = [0; 2];
        source.read_exact(&mut length)?;
        let length = u64::from(u16::from_le_bytes(length));
        io::copy(&mut source.take(length), &mut io::sink())?;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let mut field = Vec::new();
            source.take(MAX_FIELD_BYTES).read_until(0, &mut field)?;
            if field.last() != Some(&0) {
                return Err(bad("a name without an end"));
            }
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        source.read_exact(&mut [0; 2])?;
    }
    Ok(())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("gzip: {what}"))
}
