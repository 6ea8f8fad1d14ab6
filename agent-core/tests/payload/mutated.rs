//! Archives of others, damaged at random: nothing panics, and whatever is taken keeps to the rules.

use agent_core::payload::inflate::Inflater;
use agent_core::payload::zip::{Limits, UnpackError, unpack};

use crate::pieces::{assert_same, unpack_chunked};
use crate::recording::{Event, Recording};

/// Each archive is damaged so often. The same damage at every run; more was tried once: 18 million, without a finding.
const ROUNDS: usize = 600;

#[test]
fn damaged_archives_keep_to_the_rules() {
    let archives: [&[u8]; 4] = [
        include_bytes!("../vectors/zip/python-deflated-comment.zip"),
        include_bytes!("../vectors/zip/python-zip64-descriptor.zip"),
        include_bytes!("../vectors/zip/infozip-stream.zip"),
        include_bytes!("../vectors/zip/infozip-zip64.zip"),
    ];
    let mut random = Random(0x6B65_7968_616C_6621);
    let mut inflater = Box::new(Inflater::new());
    let (mut taken, mut refused, mut broken) = (0, 0, 0);
    for archive in archives {
        for _ in 0..ROUNDS {
            let damaged = damage(archive, &mut random);
            let mut sink = Recording::default();
            let result = unpack(&damaged, &Limits::default(), &mut inflater, &mut sink);
            let in_pieces = unpack_chunked(&damaged, 1 + random.below(300));
            assert_same("in pieces", in_pieces, (&result, &sink.events));
            for event in &sink.events {
                let (Event::Directory(path, mode) | Event::File(path, mode, ..)) = event;
                assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)));
                assert!(*mode <= 0o777);
            }
            match result {
                Ok(summary) => {
                    assert_eq!(summary.files + summary.directories, sink.events.len());
                    taken += 1;
                }
                Err(UnpackError::Entry { fault, .. }) if fault.is_content() => broken += 1,
                Err(error) => {
                    assert_eq!(sink.events, [], "{error}");
                    refused += 1;
                }
            }
        }
    }
    // Each kind of outcome was seen.
    assert!(
        taken > 20 && refused > 500 && broken > 20,
        "{taken} {refused} {broken}"
    );
}

/// A few changes, most of them where a reader looks.
fn damage(archive: &[u8], random: &mut Random) -> Vec<u8> {
    const TOKENS: [&[u8]; 8] = [
        b"PK\x01\x02",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"PK\x06\x06",
        b"PK\x07\x08",
        b"\xFF\xFF\xFF\xFF",
        b"\0\0\0\0",
        b"../",
    ];
    let mut out = archive.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len());
        match random.below(8) {
            0..=2 => out[at] = random.below(256) as u8,
            3 | 4 => out[at] ^= 1 << random.below(8),
            5 => {
                let token = TOKENS[random.below(TOKENS.len())];
                out.iter_mut()
                    .skip(at)
                    .zip(token)
                    .for_each(|(to, from)| *to = *from);
            }
            6 => out.insert(at, random.below(256) as u8),
            _ => drop(out.remove(at)),
        }
    }
    out
}

/// Xorshift: the same numbers at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
