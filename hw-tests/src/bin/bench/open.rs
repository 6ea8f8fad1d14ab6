//! How fast agent-core opens and unpacks a payload, against its parts run alone.

use std::fs;
use std::hint::black_box;
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use aes_gcm::aead::consts::U16;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use agent_core::payload::halves::Key;
use agent_core::payload::inflate::Inflater;
use agent_core::payload::seal::{NONCE_BYTES, OVERHEAD_BYTES, open_single, seal_single};
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{Limits, unpack};
use hw_tests::Result;
use hw_tests::byhand::random;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::{Budget, Figure, median, rounded};

/// Runs of each, one after the other so that both meet the same weather.
const RUNS: usize = 21;

/// Each file of the corpus.
const FILE_BYTES: usize = 1 << 20;

/// Deflate's window, as agent-core has it.
const WINDOW_BYTES: usize = 1 << 15;

pub(crate) fn figures() -> Result<Vec<Figure>> {
    let (mut core, mut parts, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
    let mut each = Vec::new();
    for (kind, content) in corpus()? {
        for (method, compression) in [
            ("deflated", CompressionMethod::Deflated),
            ("stored", CompressionMethod::Stored),
        ] {
            let sample = Sample::new(&content, compression)?;
            let (ours, theirs) = sample.race()?;
            core += ours;
            parts += theirs;
            bytes += content.len();
            each.push(format!(
                "{kind} {method} {:.2}",
                theirs.as_secs_f64() / ours.as_secs_f64()
            ));
        }
    }
    let speed = f64::from(u32::try_from(bytes)?) / 1e6 / core.as_secs_f64();
    let how = format!(
        "median of {RUNS} runs for each of text, ELF and random, 1 MiB, deflated and stored, in memory"
    );
    let ratio = parts.as_secs_f64() / core.as_secs_f64();
    let ratio_how = format!(
        "aes-gcm, miniz_oxide (32 KiB window) and crc32fast alone, interleaved; {}",
        each.join(", ")
    );
    Ok(vec![
        Figure {
            name: "payload_open_mb_per_s",
            value: rounded(speed),
            unit: "MB/s",
            budget: Budget::None,
            how,
        },
        Figure {
            name: "payload_open_ratio",
            value: rounded(ratio),
            unit: "ratio",
            budget: Budget::AtLeast(0.9),
            how: ratio_how,
        },
    ])
}

/// Text, machine code, noise.
fn corpus() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut text = Vec::new();
    for name in [
        "agent-core",
        "agent-linux",
        "verifier-host",
        "tenant-host",
        "hw-tests",
    ] {
        collect(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(name)
                .join("src"),
            &mut text,
        )?;
    }
    let mut code = fs::read(std::env::current_exe()?)?;
    for content in [&mut text, &mut code] {
        content.truncate(FILE_BYTES);
    }
    let noise = (0..FILE_BYTES / 4096)
        .map(|_| random::<4096>())
        .collect::<Result<Vec<_>>>()?
        .concat();
    Ok(vec![("text", text), ("ELF", code), ("random", noise)])
}

fn collect(dir: &Path, text: &mut Vec<u8>) -> Result {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, text)?;
        } else {
            text.extend(fs::read(path)?);
        }
    }
    Ok(())
}

/// One sealed archive of one file.
struct Sample {
    key: [u8; 32],
    sealed: Vec<u8>,
    deflated: bool,
    /// Where the file's data is in the archive.
    data: std::ops::Range<usize>,
}

impl Sample {
    fn new(content: &[u8], compression: CompressionMethod) -> Result<Self> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(
            "file",
            SimpleFileOptions::default().compression_method(compression),
        )?;
        zip.write_all(content)?;
        let mut archive = zip.finish()?.into_inner();
        let data = {
            let mut zip = ZipArchive::new(Cursor::new(&archive))?;
            let file = zip.by_index(0)?;
            let start = usize::try_from(file.data_start().ok_or("no data")?)?;
            start..start + usize::try_from(file.compressed_size())?
        };
        let key = random::<32>()?;
        let nonce = random::<NONCE_BYTES>()?;
        let tag = seal_single(&core_key(&key)?, &nonce, &mut archive)
            .map_err(|error| format!("{error}"))?;
        let sealed = [&nonce[..], &archive, &tag].concat();
        Ok(Self {
            key,
            sealed,
            deflated: compression == CompressionMethod::Deflated,
            data,
        })
    }

    /// The core's time and its parts' time, medians.
    fn race(&self) -> Result<(Duration, Duration)> {
        let mut inflater = Box::new(Inflater::new());
        let mut alone = Alone {
            state: Box::default(),
            window: vec![0; WINDOW_BYTES],
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let mut sealed = self.sealed.clone();
            let started = Instant::now();
            self.by_core(&mut sealed, &mut inflater)?;
            ours.push(started.elapsed());

            let mut sealed = self.sealed.clone();
            let started = Instant::now();
            self.by_parts(&mut sealed, &mut alone)?;
            theirs.push(started.elapsed());
        }
        Ok((median(ours), median(theirs)))
    }

    fn by_core(&self, sealed: &mut [u8], inflater: &mut Inflater) -> Result {
        let archive =
            open_single(&core_key(&self.key)?, sealed).map_err(|error| format!("{error}"))?;
        unpack(archive, &Limits::default(), inflater, &mut Nowhere)
            .map_err(|error| format!("{error:?}"))?;
        Ok(())
    }

    fn by_parts(&self, sealed: &mut [u8], alone: &mut Alone) -> Result {
        let (nonce, rest) = sealed.split_at_mut(NONCE_BYTES);
        let (body, tag) = rest.split_at_mut(rest.len() + NONCE_BYTES - OVERHEAD_BYTES);
        let cipher = AesGcm::<Aes256, U16>::new(&self.key.into());
        let nonce: [u8; NONCE_BYTES] = (&*nonce).try_into()?;
        let tag: [u8; 16] = (&*tag).try_into()?;
        cipher
            .decrypt_inout_detached(&nonce.into(), b"", InOutBuf::from(&mut *body), &tag.into())
            .map_err(|error| format!("{error}"))?;
        let data = body.get(self.data.clone()).ok_or("no data")?;
        if self.deflated {
            alone.inflate(data)
        } else {
            black_box(crc32fast::hash(data));
            Ok(())
        }
    }
}

/// Memory of the parts.
struct Alone {
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
}

impl Alone {
    fn inflate(&mut self, mut data: &[u8]) -> Result {
        self.state.init();
        let (mut crc, mut at) = (crc32fast::Hasher::new(), 0);
        loop {
            let (status, read, written) =
                decompress(&mut self.state, data, &mut self.window, at, 0);
            crc.update(&self.window[at..at + written]);
            data = &data[read..];
            at = (at + written) % WINDOW_BYTES;
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::Done => {
                    black_box(crc.finalize());
                    return Ok(());
                }
                _ => return Err("a broken stream".into()),
            }
        }
    }
}

/// Takes files and does nothing with them, but so that they must be there.
struct Nowhere;

impl Sink for Nowhere {
    type Error = std::convert::Infallible;

    fn directory(&mut self, _: &str, _: u32) -> std::result::Result<(), Self::Error> {
        Ok(())
    }

    fn file(&mut self, _: &str, _: u32, _: u64) -> std::result::Result<(), Self::Error> {
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> std::result::Result<(), Self::Error> {
        black_box(bytes);
        Ok(())
    }

    fn end(&mut self) -> std::result::Result<(), Self::Error> {
        Ok(())
    }
}

fn core_key(key: &[u8; 32]) -> Result<Key> {
    Key::from_slice(key).map_err(|error| format!("{error}").into())
}
