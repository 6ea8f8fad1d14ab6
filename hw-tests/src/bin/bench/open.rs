//! How fast agent-core opens and unpacks a payload, against the libraries that do the work run alone.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aes_gcm::aead::consts::U16;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use agent_core::payload::halves::Key;
use agent_core::payload::inflate::{Inflater, WINDOW_BYTES};
use agent_core::payload::seal::{NONCE_BYTES, TAG_BYTES, open_single};
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{Limits, unpack};
use hw_tests::Result;
use hw_tests::site::Site;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::corpus::{FILE_BYTES, Sample, samples};
use crate::figure::{Budget, Figure, Runs};

/// Runs of both for each sample, in turns, so that both meet the same weather.
const RUNS: usize = 51;

/// The ratio that is promised.
const LEAST_RATIO: f64 = 0.9;

/// Speed and ratio.
///
/// # Errors
/// The corpus can't be made, or isn't opened.
pub(crate) fn figures(_: &Site) -> Result<Vec<Figure>> {
    let mut raced = Vec::new();
    for sample in samples()? {
        let race = race(&sample)?;
        raced.push((sample.name, race));
    }
    let core: f64 = raced.iter().map(|(_, race)| race.core).sum();
    let parts: f64 = raced.iter().map(|(_, race)| race.parts).sum();
    let bytes = (raced.len() * FILE_BYTES) as f64;
    let list = |value: &dyn Fn(&Race) -> f64, digits: usize| {
        let cells = raced
            .iter()
            .map(|(name, race)| format!("{name} {:.digits$}", value(race)));
        cells.collect::<Vec<_>>().join(", ")
    };
    let worst = raced
        .iter()
        .map(|(name, race)| (name.as_str(), race.ratio()))
        .min_by(|(_, one), (_, other)| one.total_cmp(other))
        .ok_or("an empty corpus")?;
    let speeds = list(&|race| FILE_BYTES as f64 / race.core / 1e6, 0);
    let ratios = list(&Race::ratio, 2);
    Ok(vec![
        Figure {
            name: "payload_open_mb_per_s",
            value: bytes / core / 1e6,
            unit: "MB/s",
            budget: Budget::None,
            how: format!(
                "unpacked bytes of the whole corpus (1 MiB files of text, ELF and random bytes, each deflated and stored) by \
                 the time of agent-core to open, unpack and check them in memory; medians of {RUNS} runs; {speeds}"
            ),
        },
        Figure {
            name: "payload_open_ratio",
            value: parts / core,
            unit: "ratio",
            budget: Budget::AtLeast(LEAST_RATIO),
            how: format!(
                "time of aes-gcm, miniz_oxide (through a window of {WINDOW_BYTES} bytes) and crc32fast run alone by \
                 agent-core's, the whole corpus, in turns, medians of {RUNS} runs; {ratios}"
            ),
        },
        Figure {
            name: "payload_open_worst_ratio",
            value: worst.1,
            unit: "ratio",
            budget: Budget::AtLeast(LEAST_RATIO),
            how: format!("the corpus's worst file: {}", worst.0),
        },
    ])
}

/// Seconds of agent-core, and of its parts.
struct Race {
    core: f64,
    parts: f64,
}

impl Race {
    fn ratio(&self) -> f64 {
        self.parts / self.core
    }
}

fn race(sample: &Sample) -> Result<Race> {
    let mut inflater = Box::new(Inflater::new());
    let mut alone = Alone::new();
    let (mut core, mut parts) = (Vec::new(), Vec::new());
    for turn in 0..RUNS {
        let mut by_core = || -> Result {
            let took = timed(sample, |sealed| by_core(sample, sealed, &mut inflater))?;
            core.push(took.as_secs_f64());
            Ok(())
        };
        // Whoever comes second finds warmer caches.
        if turn % 2 == 0 {
            by_core()?;
        }
        let took = timed(sample, |sealed| alone.open(sample, sealed))?;
        parts.push(took.as_secs_f64());
        if turn % 2 == 1 {
            by_core()?;
        }
    }
    Ok(Race {
        core: Runs::from(core).median(),
        parts: Runs::from(parts).median(),
    })
}

fn timed(sample: &Sample, open: impl FnOnce(&mut [u8]) -> Result) -> Result<Duration> {
    let mut sealed = sample.sealed.clone();
    let started = Instant::now();
    open(&mut sealed)?;
    Ok(started.elapsed())
}

fn by_core(sample: &Sample, sealed: &mut [u8], inflater: &mut Inflater) -> Result {
    let archive =
        open_single(&core_key(&sample.key)?, sealed).map_err(|error| error.to_string())?;
    unpack(archive, &Limits::default(), inflater, &mut Nowhere)
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// The libraries' own memory.
struct Alone {
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
}

impl Alone {
    fn new() -> Self {
        Self {
            state: Box::default(),
            window: vec![0; WINDOW_BYTES],
        }
    }

    /// What can't be saved: decrypt, inflate, sum up. It knows where the file is and checks nothing else.
    fn open(&mut self, sample: &Sample, sealed: &mut [u8]) -> Result {
        let (nonce, rest) = sealed
            .split_first_chunk_mut::<NONCE_BYTES>()
            .ok_or("no nonce")?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or("no tag")?;
        AesGcm::<Aes256, U16>::new(&sample.key.into())
            .decrypt_inout_detached(
                &(*nonce).into(),
                b"",
                InOutBuf::from(&mut *body),
                &(*tag).into(),
            )
            .map_err(|error| error.to_string())?;
        let data = body.get(sample.data.clone()).ok_or("no data")?;
        if sample.is_deflated {
            return self.inflate(data);
        }
        black_box(crc32fast::hash(data));
        Ok(())
    }

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
                broken => return Err(format!("inflating ends with {broken:?}").into()),
            }
        }
    }
}

/// A sink that does nothing, for which everything has to be there all the same.
struct Nowhere;

impl Sink for Nowhere {
    type Error = Infallible;

    fn directory(&mut self, _: &str, _: u32) -> std::result::Result<(), Infallible> {
        Ok(())
    }

    fn file(&mut self, _: &str, _: u32, _: u64) -> std::result::Result<(), Infallible> {
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> std::result::Result<(), Infallible> {
        black_box(bytes);
        Ok(())
    }

    fn end(&mut self) -> std::result::Result<(), Infallible> {
        Ok(())
    }
}

/// Raw bytes as agent-core's key.
///
/// # Errors
/// Never, for 32 bytes.
pub(crate) fn core_key(key: &[u8; 32]) -> Result<Key> {
    Key::from_slice(key).map_err(|error| error.to_string().into())
}
