//! What a node must show to pass.

use std::fmt;
use std::marker::PhantomData;

use agent_core::wire::quote::{Digest, PcrMask};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

pub mod explain;
pub mod measured_boot;
mod name;
pub mod runtime;
pub mod tpm;

pub use name::{NameError, PolicyKind, PolicyName};

/// The PCR that IMA extends.
pub const IMA_PCR: u8 = 10;

/// What IMA extends: a runtime policy decides about it.
pub const IMA_PCRS: PcrMask = PcrMask::EMPTY.with(IMA_PCR);

/// What firmware, boot loader and early system extend: a measured-boot policy decides about it.
///
/// Source: `MEASUREDBOOT_PCRS` in Keylime's `config.py`: 0 to 9 and 11 to 15.
pub const MEASURED_BOOT_PCRS: PcrMask = PcrMask::from_select([0xff, 0xfb, 0x00]);

/// The pairs of a JSON object as they stand: a name that comes twice is seen, not overwritten.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Reader<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of names and digests")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// The bytes of hexadecimal text, if it is that and no longer than the largest digest.
#[must_use]
pub fn from_hex(text: &str) -> Option<Digest> {
    let nibble = |letter: u8| {
        let value = char::from(letter).to_digit(16)?;
        u8::try_from(value).ok()
    };
    let mut digest = Digest::new();
    for pair in text.as_bytes().chunks(2) {
        let [high, low] = pair else {
            return None;
        };
        digest.push(nibble(*high)? << 4 | nibble(*low)?).ok()?;
    }
    Some(digest)
}
