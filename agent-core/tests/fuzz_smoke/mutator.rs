//! A small fuzzer without feedback: bytes of a corpus, changed where and how a number says.

use std::fs;
use std::path::Path;

/// The seeds of a target's corpus, in the order of their names.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../agent-core/fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", directory.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target's body over its corpus, then over so many mutations of it. A failure says which input it was.
pub(crate) fn smoke(corpus: &[Vec<u8>], rounds: u64, check: fn(&[u8])) {
    for (number, seed) in corpus.iter().enumerate() {
        let running = Running(format!("seed {number} of the corpus"), seed);
        check(running.1);
    }
    for round in 0..rounds {
        let input = Random::new(round).mutate(corpus);
        let running = Running(format!("round {round}"), &input);
        check(running.1);
    }
}

/// An input that is being run: it is shown if that panics.
struct Running<'a>(String, &'a [u8]);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: \"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

/// SplitMix64: the same numbers at every run.
struct Random(u64);

impl Random {
    fn new(round: u64) -> Self {
        Self(round.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// A seed with one to four changes.
    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, corpus);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        match self.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
            2 => bytes.insert(at, self.next() as u8),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            5 => {
                let value = INTERESTING[self.below(INTERESTING.len())];
                let width = 1 << self.below(4);
                let value = match self.below(2) {
                    0 => value.to_le_bytes(),
                    _ => (value << (64 - 8 * width)).to_be_bytes(),
                };
                let places = bytes.iter_mut().skip(at).zip(&value[..width]);
                places.for_each(|(to, from)| *to = *from);
            }
            6 => {
                let from = self.below(bytes.len() + 1);
                let end = (from + self.below(32)).min(bytes.len());
                let copy = bytes[from..end].to_vec();
                bytes.splice(at..at, copy);
            }
            7 => {
                let other = &corpus[self.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.below(other.len())..]);
            }
            _ => {
                let end = (at + self.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
}

/// Numbers at the ends of their types, and around them.
const INTERESTING: [u64; 14] = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF_FFFF,
];
