//! Images that tests make.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

/// An EFI application of these sections, in that order, without a signature.
pub(super) fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file.extend(b"PE\0\0\x64\x86");
    file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    file.extend([0; 12]);
    file.extend([240, 0, 0x06, 0x02]);
    let optional = file.len();
    file.resize(optional + 240, 0);
    put(&mut file, optional, &[0x0b, 0x02]);
    put(&mut file, optional + 60, &HEADERS.to_le_bytes());
    put(&mut file, optional + 64, &0x1234_5678_u32.to_le_bytes());
    put(&mut file, optional + 68, &[10]);
    put(&mut file, optional + 108, &[16]);
    let mut start = HEADERS;
    for (name, content) in sections {
        let size = u32::try_from(content.len()).unwrap();
        let padded = size.next_multiple_of(ALIGNMENT);
        let mut header = [0; 40];
        header[..name.len()].copy_from_slice(name.as_bytes());
        put(&mut header, 8, &size.to_le_bytes());
        put(&mut header, 16, &padded.to_le_bytes());
        put(&mut header, 20, &start.to_le_bytes());
        file.extend(header);
        start += padded;
    }
    file.resize(HEADERS as usize, 0);
    for (_, content) in sections {
        file.extend(*content);
        file.resize(file.len().next_multiple_of(ALIGNMENT as usize), 0);
    }
    file
}

pub(super) fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) const HEADERS: u32 = 0x400;
const ALIGNMENT: u32 = 0x200;
/// Where the optional header of [`image`] is.
pub(super) const OPTIONAL: usize = 0x58;
pub(super) const CHECKSUM: usize = OPTIONAL + 64;
pub(super) const SIGNATURES: usize = OPTIONAL + 112 + 4 * 8;
pub(super) const SECTIONS: usize = OPTIONAL + 240;
