//! Chance that is the same at each run.

/// Knuth's MMIX generator: the same sequences at each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// The bytes with one to three of them changed, left out, or put in.
    pub(crate) fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut mutated = bytes.to_vec();
        for _ in 0..=self.roll(3) {
            let at = usize::try_from(self.roll(mutated.len() as u64 + 1)).unwrap();
            let byte = self.roll(256) as u8;
            match self.roll(4) {
                0 => mutated.truncate(at),
                1 => mutated.insert(at, byte),
                _ if at == mutated.len() => mutated.push(byte),
                2 => drop(mutated.remove(at)),
                _ => mutated[at] = byte,
            }
        }
        mutated
    }
}
