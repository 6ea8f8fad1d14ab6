//! What payloads are made of, for the figures: text, machine code, noise; each deflated and stored.

use std::fs;
use std::io::{Cursor, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use agent_core::payload::seal::{NONCE_BYTES, seal_single};
use hw_tests::Result;
use hw_tests::byhand::random;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::open::core_key;

/// Size of each file of the corpus.
pub(crate) const FILE_BYTES: usize = 1 << 20;

/// One sealed archive of one file.
pub(crate) struct Sample {
    /// What it is made of.
    pub(crate) name: String,
    /// What it is sealed under.
    pub(crate) key: [u8; 32],
    /// Nonce, sealed archive, tag.
    pub(crate) sealed: Vec<u8>,
    /// Where the file's data is in the archive.
    pub(crate) data: Range<usize>,
    /// Whether it is deflated; else it is stored.
    pub(crate) is_deflated: bool,
}

/// All samples.
///
/// # Errors
/// The sources aren't there, or less than [`FILE_BYTES`].
pub(crate) fn samples() -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (kind, content) in [("text", text()?), ("ELF", code()?), ("random", noise()?)] {
        for (method, compression) in [
            ("deflated", CompressionMethod::Deflated),
            ("stored", CompressionMethod::Stored),
        ] {
            samples.push(Sample::new(
                format!("{kind} {method}"),
                &content,
                compression,
            )?);
        }
    }
    Ok(samples)
}

impl Sample {
    fn new(name: String, content: &[u8], compression: CompressionMethod) -> Result<Self> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(compression);
        zip.start_file("file", options)?;
        zip.write_all(content)?;
        let mut archive = zip.finish()?.into_inner();
        let data = {
            let mut zip = ZipArchive::new(Cursor::new(&archive))?;
            let file = zip.by_index(0)?;
            let start = usize::try_from(file.data_start().ok_or("an archive without data")?)?;
            start..start + usize::try_from(file.compressed_size())?
        };
        let (key, nonce) = (random::<32>()?, random::<NONCE_BYTES>()?);
        let tag = seal_single(&core_key(&key)?, &nonce, &mut archive)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            name,
            key,
            sealed: [&nonce[..], &archive, &tag].concat(),
            data,
            is_deflated: compression == CompressionMethod::Deflated,
        })
    }
}

/// This workspace's own sources, and its list of packages.
fn text() -> Result<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = Vec::new();
    for name in ["agent-core", "agent-linux", "verifier-host", "tenant-host"] {
        collect(root.join(name).join("src"), &mut text)?;
    }
    text.extend(fs::read(root.join("Cargo.lock"))?);
    cut(text)
}

/// This program, from where its machine code is rather than its tables.
fn code() -> Result<Vec<u8>> {
    let mut program = fs::read(std::env::current_exe()?)?;
    let start = (program.len() / 2).saturating_sub(FILE_BYTES / 2);
    program.drain(..start);
    cut(program)
}

fn noise() -> Result<Vec<u8>> {
    const BLOCK_BYTES: usize = 4096;
    (0..FILE_BYTES / BLOCK_BYTES)
        .map(|_| random::<BLOCK_BYTES>())
        .collect::<Result<Vec<_>>>()
        .map(|blocks| blocks.concat())
}

fn cut(mut content: Vec<u8>) -> Result<Vec<u8>> {
    if content.len() < FILE_BYTES {
        return Err(format!("a corpus of {} bytes is too small", content.len()).into());
    }
    content.truncate(FILE_BYTES);
    Ok(content)
}

/// All files below `dir`, in the order of their names.
fn collect(dir: PathBuf, text: &mut Vec<u8>) -> Result {
    let mut paths = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(path, text)?;
        } else {
            text.extend(fs::read(path)?);
        }
    }
    Ok(())
}
