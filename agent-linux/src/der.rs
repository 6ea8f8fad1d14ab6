//! DER as far as certificates and revocation lists take it: an element is its tag, its length and what is in it.
//!
//! Source: ITU-T X.690 sections 8.1 and 10.1.

mod read;
#[cfg(feature = "pull")]
mod write;

pub(crate) use read::Reader;
#[cfg(feature = "pull")]
pub(crate) use write::{GENERALIZED_TIME, SET, UTC_TIME, UTF8_STRING, element, implicit};

/// BOOLEAN.
pub(crate) const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;

/// `[number]` of a structure's own around another element.
pub(crate) const fn explicit(number: u8) -> u8 {
    0xA0 | number
}
