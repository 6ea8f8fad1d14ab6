//! Policies from what is there: files, images, packages, logs.
//!
//! Whatever is read is hashed as it streams by; what is kept is a digest and a path for each file.

mod archive;
mod cpio;
mod deb;
mod draft;
mod excludes;
mod gzip;
mod hash;
mod ima_log;
mod initrd;
mod links;
mod pcrs;
mod pool;
mod tar;
mod tree;
mod unpack;

pub use archive::ArchiveError;
pub use deb::read as read_deb;
pub use draft::{Draft, LeftOut};
pub use excludes::{ExcludeError, Excludes};
pub use hash::FileHash;
pub use ima_log::{LogChoice, LogError, read as read_ima_log};
pub use initrd::read as read_initrd;
pub use pcrs::{
    PcrList, PcrListError, PcrReadError, Values, parse_pcrread, write as write_tpm_policy,
};
pub use pool::{Pool, Tally};
pub use tree::{TreeChoice, hash_packages, hash_tree};

use agent_core::wire::quote::Digest;

/// How much of a file is in memory while it is hashed, for each thread.
const CHUNK_BYTES: usize = 128 << 10;

/// The longest path that a policy names; Linux has none that is longer.
const MAX_PATH_BYTES: usize = 4096;

/// A path as IMA writes it: spaces would end the field.
///
/// Source: `ima_write_template_field_data` in Linux's `ima_template_lib.c`.
fn as_measured(path: &str) -> String {
    path.replace(' ', "_")
}

/// The bytes of hexadecimal text, if it is that and a digest's size.
pub(in crate::policy) fn from_hex(text: &str) -> Option<Digest> {
    let bytes: Option<Digest> = match text.len() {
        40 | 56 | 64 | 96 | 128 => text.as_bytes().chunks(2).map(byte_of).collect(),
        _ => None,
    };
    bytes
}

/// The byte of two hexadecimal digits.
fn byte_of(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else {
        return None;
    };
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok()
}

#[cfg(test)]
mod tests;
