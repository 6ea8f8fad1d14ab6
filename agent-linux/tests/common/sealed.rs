//! Sealed archives of any size, made segment by segment.

use agent_core::payload::halves::Key;
use agent_core::payload::segment::{Binding, SEGMENT_BYTES, Segments, seal};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use sha2::{Digest, Sha256};

/// A deposit: whom it is for, and what is in it.
pub(crate) struct Deposit {
    pub(crate) agent: Uuid,
    pub(crate) id: PayloadId,
    pub(crate) key: Key,
    files: Vec<(String, usize, Vec<u8>)>,
}

/// Bytes that a deflated file is cut to: blocks that aren't compressed.
const BLOCK: usize = 65_535;

impl Deposit {
    /// So many files of so many bytes, every other one deflated.
    pub(crate) fn new(files: usize, bytes: usize) -> Self {
        let noise: Vec<u8> = (0..1 << 16_u32)
            .scan(1_u32, |state, _| {
                *state ^= *state << 13;
                *state ^= *state >> 17;
                *state ^= *state << 5;
                Some(*state as u8)
            })
            .collect();
        let file = |at: usize| {
            let mut noise = noise.clone();
            noise.rotate_left(at + 1);
            (format!("file{at}"), bytes, noise)
        };
        Self {
            agent: Uuid::parse("node").unwrap(),
            id: PayloadId([5; 8]),
            key: Key::from_slice(&[7; 32]).unwrap(),
            files: (0..files).map(file).collect(),
        }
    }

    /// What a file holds.
    pub(crate) fn content(&self, at: usize) -> Vec<u8> {
        let (_, bytes, noise) = &self.files[at];
        noise.iter().copied().cycle().take(*bytes).collect()
    }

    pub(crate) fn binding(&self, segments: Segments) -> Binding<'_> {
        Binding {
            agent: &self.agent,
            payload_id: self.id,
            count: segments.count(),
        }
    }

    pub(crate) fn segments(&self) -> Segments {
        let bytes: usize = (0..self.files.len())
            .map(|at| 76 + 2 * self.files[at].0.len() + self.packed(at))
            .sum();
        Segments::of_plain(bytes as u64 + 22).unwrap()
    }

    /// Bytes of a file in the archive: every other one is deflated, in blocks that aren't compressed.
    fn packed(&self, at: usize) -> usize {
        let bytes = self.files[at].1;
        bytes + (at % 2) * 5 * bytes.div_ceil(BLOCK)
    }

    /// Hands over the sealed payload segment by segment, and returns its SHA-256.
    pub(crate) fn seal(&self, mut out: impl FnMut(&[u8])) -> [u8; 32] {
        let binding = self.binding(self.segments());
        let (mut open, mut number, mut hash) = (Vec::new(), 0, Sha256::new());
        let mut close = |open: &mut Vec<u8>| {
            let tag = seal(&self.key, &binding, number, open).unwrap();
            open.extend(tag);
            hash.update(&open);
            out(open);
            open.clear();
            number += 1;
        };
        self.write(&mut |mut part| {
            while !part.is_empty() {
                let (now, later) = part.split_at(part.len().min(SEGMENT_BYTES - open.len()));
                open.extend_from_slice(now);
                part = later;
                if open.len() == SEGMENT_BYTES {
                    close(&mut open);
                }
            }
        });
        if !open.is_empty() {
            close(&mut open);
        }
        hash.finalize().into()
    }

    /// All of it sealed, and its SHA-256.
    pub(crate) fn sealed(&self) -> (Vec<u8>, [u8; 32]) {
        let mut sealed = Vec::new();
        let hash = self.seal(|segment| sealed.extend_from_slice(segment));
        (sealed, hash)
    }

    /// The archive.
    fn write(&self, out: &mut dyn FnMut(&[u8])) {
        let (mut at, mut directory) = (0_usize, Vec::new());
        for (number, (name, bytes, noise)) in self.files.iter().enumerate() {
            let is_deflated = number % 2 == 1;
            let packed = self.packed(number);
            let mut crc = crc32fast::Hasher::new();
            let whole = [noise.as_slice()].into_iter().cycle();
            chunks(whole.clone(), *bytes, noise.len(), &mut |part| {
                crc.update(part)
            });
            let mut fields = [20_u16, 0, if is_deflated { 8 } else { 0 }, 0, 0]
                .map(u16::to_le_bytes)
                .concat();
            for field in [crc.finalize(), packed as u32, *bytes as u32] {
                fields.extend(field.to_le_bytes());
            }
            fields.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
            out(&[b"PK\x03\x04", &fields[..], name.as_bytes()].concat());
            directory.extend(b"PK\x01\x02\x14\x03");
            directory.extend(&fields);
            directory.extend([0; 6]);
            directory.extend((0o100_644_u32 << 16).to_le_bytes());
            directory.extend((at as u32).to_le_bytes());
            directory.extend(name.as_bytes());
            at += 30 + name.len() + packed;
            if is_deflated {
                let mut left = *bytes;
                chunks(whole, *bytes, BLOCK, &mut |part| {
                    left -= part.len();
                    let length = part.len() as u16;
                    out(&[u8::from(left == 0)]);
                    out(&[length, !length].map(u16::to_le_bytes).concat());
                    out(part);
                });
            } else {
                chunks(whole, *bytes, noise.len(), out);
            }
        }
        let count = self.files.len() as u16;
        out(&directory);
        out(b"PK\x05\x06\0\0\0\0");
        out(&[count, count].map(u16::to_le_bytes).concat());
        out(&[directory.len() as u32, at as u32]
            .map(u32::to_le_bytes)
            .concat());
        out(&[0, 0]);
    }
}

/// So many bytes of an endless row of blocks, in parts of at most `size`.
fn chunks<'a>(
    blocks: impl Iterator<Item = &'a [u8]>,
    bytes: usize,
    size: usize,
    out: &mut dyn FnMut(&[u8]),
) {
    let mut left = bytes;
    let mut part = Vec::new();
    for mut block in blocks {
        while !block.is_empty() && left > 0 {
            let (now, later) = block.split_at(block.len().min(size - part.len()).min(left));
            part.extend_from_slice(now);
            (block, left) = (later, left - now.len());
            if part.len() == size || left == 0 {
                out(&part);
                part.clear();
            }
        }
        if left == 0 {
            return;
        }
    }
}
