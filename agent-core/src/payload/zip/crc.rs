//! CRC-32 of an entry: crc32fast's, or with `--cfg agent_core_crc="compact"` one without its 20 kB of tables and instructions.

#[cfg(agent_core_crc = "compact")]
pub(super) use compact::Crc32;
#[cfg(not(agent_core_crc = "compact"))]
pub(super) use crc32fast::Hasher as Crc32;

/// Source: PKWARE's APPNOTE.TXT 4.4.7; the polynomial is reflected, each step takes half a byte.
#[cfg(any(test, agent_core_crc = "compact"))]
mod compact {
    pub(in super::super) struct Crc32(u32);

    impl Crc32 {
        pub(in super::super) const fn new() -> Self {
            Self(u32::MAX)
        }

        pub(in super::super) fn update(&mut self, bytes: &[u8]) {
            self.0 = bytes
                .iter()
                .fold(self.0, |crc, byte| half(half(crc ^ u32::from(*byte))));
        }

        pub(in super::super) const fn finalize(self) -> u32 {
            !self.0
        }
    }

    fn half(crc: u32) -> u32 {
        let [low, ..] = crc.to_le_bytes();
        let row = HALVES.get(usize::from(low & 0xF));
        (crc >> 4) ^ row.copied().unwrap_or_default()
    }

    /// What four bits that are shifted out leave behind.
    const HALVES: [u32; 16] = [
        0x0000_0000,
        0x1DB7_1064,
        0x3B6E_20C8,
        0x26D9_30AC,
        0x76DC_4190,
        0x6B6B_51F4,
        0x4DB2_6158,
        0x5005_713C,
        0xEDB8_8320,
        0xF00F_9344,
        0xD6D6_A3E8,
        0xCB61_B38C,
        0x9B64_C2B0,
        0x86D3_D2D4,
        0xA00A_E278,
        0xBDBD_F21C,
    ];
}

#[cfg(test)]
mod tests {
    use super::compact::Crc32;

    #[test]
    fn compact_as_crc32fast_in_any_pieces() {
        let bytes: [u8; 256] = core::array::from_fn(|at| u8::try_from(at).unwrap_or_default());
        for length in [0, 1, 2, 9, 255, 256] {
            let bytes = &bytes[..length];
            for piece in [1, 7, 256] {
                let mut crc = Crc32::new();
                bytes.chunks(piece).for_each(|piece| crc.update(piece));
                assert_eq!(
                    crc.finalize(),
                    crc32fast::hash(bytes),
                    "{length} by {piece}"
                );
            }
        }
    }
}
