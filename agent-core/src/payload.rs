//! From a sealed payload to files: key halves, the seal, the archive, and the sink that receives it.

pub mod halves;
pub mod inflate;
pub mod release;
pub mod seal;
pub mod segment;
pub mod sink;
pub mod zip;
