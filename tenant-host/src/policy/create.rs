//! Policies from what is there: files, images, packages, logs.
//!
//! Whatever is read is hashed as it streams by; what is kept is a digest and a path for each file.

mod archive;
mod cpio;
mod deb;
mod draft;
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
pub use hash::FileHash;
pub use ima_log::{LogChoice, LogError, MAX_LOG_BYTES, read as read_ima_log};
pub use initrd::read as read_initrd;
pub use pcrs::{
    PcrList, PcrListError, PcrReadError, Values, parse_pcrread, write as write_tpm_policy,
};
pub use pool::{Pool, Tally};
pub use tree::{TreeChoice, hash_packages, hash_tree};

use agent_core::wire::quote::Digest;
use verifier_host::policy::from_hex;
use verifier_host::policy::runtime::DIGEST_BYTES;

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

/// The bytes of hexadecimal text, if it is that and of a size that a policy can have.
pub(in crate::policy) fn digest(text: &str) -> Option<Digest> {
    from_hex(text).filter(|digest| DIGEST_BYTES.contains(&digest.len()))
}

#[cfg(test)]
mod tests;
