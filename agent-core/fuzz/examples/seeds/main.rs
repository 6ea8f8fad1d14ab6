//! Writes the seeds of each target's corpus: `cargo run --example seeds`. What a fuzzer found beside them stays.
//!
//! Seeds are the project's own vectors, and requests, quotes and keys that are made here from fixed numbers, so that a second
//! run writes the same.

mod agent;
mod evidence;
mod payloads;
mod servers;
mod tpm;

use std::fs;
use std::path::{Path, PathBuf};

const UUID: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";

fn main() -> std::io::Result<()> {
    agent::heads()?;
    agent::bodies()?;
    agent::json()?;
    payloads::archives()?;
    payloads::payloads()?;
    agent::steps()?;
    evidence::event_logs()?;
    servers::registrar()?;
    agent::revocations()?;
    servers::verifier()?;
    servers::deposits()?;
    tpm::structures()?;
    tpm::quotes()?;
    evidence::ima()?;
    evidence::policies()
}

fn save(target: &str, name: &str, seed: impl AsRef<[u8]>) -> std::io::Result<()> {
    let directory = here().join("corpus").join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), seed)
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn with_first(byte: u8, rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&[byte], rest.as_ref()].concat()
}
