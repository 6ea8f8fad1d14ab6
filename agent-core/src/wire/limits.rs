//! Limits that all sides share, each stated once.

/// The largest sealed payload that an agent takes by default: nonce, ciphertext and tag, before base64.
///
/// Configurable on the agent. Keylime's own agent ends at about 480 KB.
pub const MAX_SEALED_BYTES: usize = 4 * 1024 * 1024;

/// What a payload may unpack to by default, all files together.
pub const MAX_UNPACKED_BYTES: u64 = 8 * MIB;

/// The landing zone's size by default: the old and the new payload exist together while one replaces the other.
pub const LANDING_ZONE_BYTES: u64 = 2 * MAX_UNPACKED_BYTES;

/// Files and directories in one archive.
pub const MAX_ENTRIES: usize = 1024;

/// Unpacked bytes for each byte of the archive, above [`RATIO_FREE_BYTES`]. Text reaches about 20, deflate ends at 1032.
pub const MAX_RATIO: u64 = 200;

/// Unpacked bytes that no ratio is asked of: a small archive of zeros is no bomb.
pub const RATIO_FREE_BYTES: u64 = MIB;

/// The longest path in an archive, in bytes of UTF-8.
pub const MAX_PATH_BYTES: usize = 512;

/// The longest component of a path: what Linux file systems take.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// The most components of a path.
pub const MAX_PATH_DEPTH: usize = 16;

/// The largest log of a boot that an agent sends; a larger one isn't sent at all. A line of the IMA list has about 150 bytes.
pub const MAX_LOG_BYTES: u64 = 128 * MIB;

const MIB: u64 = 1024 * 1024;
