//! How much memory a large payload takes.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[expect(
    dead_code,
    reason = "a payload of this size is never in memory as a whole"
)]
#[path = "common/sealed.rs"]
mod sealed;

use std::convert::Infallible;
use std::path::Path;
use std::process::Command;

use agent_core::payload::segment::SEALED_SEGMENT_BYTES;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::Limits;
use agent_linux::spool::Spool;
use sealed::Deposit;
use tempfile::TempDir;

const DIRECTORY: &str = "KEYHALF_TEST_SPOOL";
const FILES: usize = 10;
const FILE_BYTES: usize = 10_000_000;

/// What may come on top of the vault of one segment.
const MAX_BESIDE_VAULT: u64 = 1_000_000;

/// Lets everything go.
#[derive(Default)]
struct Nowhere(u64);

impl Sink for Nowhere {
    type Error = Infallible;

    fn directory(&mut self, _: &str, _: u32) -> Result<(), Infallible> {
        Ok(())
    }

    fn file(&mut self, _: &str, _: u32, _: u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// One process spools 100 MB, another one, as in the next boot, opens them; that one's memory is measured.
#[test]
fn any_size_in_constant_memory() {
    let deposit = Deposit::new(FILES, FILE_BYTES);
    let segments = deposit.segments();
    let spool = |dir: &Path| Spool::in_directory(dir, &deposit.agent, deposit.id, segments);
    let Some(dir) = std::env::var_os(DIRECTORY) else {
        let place = TempDir::new().unwrap();
        let mut spool = spool(place.path()).unwrap();
        let hash = deposit.seal(|segment| spool.append(segment).unwrap());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "any_size_in_constant_memory", "--nocapture"])
            .env(DIRECTORY, place.path())
            .env("KEYHALF_TEST_HASH", hash)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        println!("{said}");
        assert!(out.status.success() && said.contains("1 passed"), "{out:?}");
        return;
    };
    let hash = std::env::var("KEYHALF_TEST_HASH").unwrap();
    let hash = agent_core::wire::text::parse_hex(hash.as_bytes()).unwrap();
    let limits = Limits {
        bytes: (FILES * FILE_BYTES) as u64,
        ..Limits::default()
    };
    let mut sink = Nowhere::default();
    let idle = status("VmRSS:");
    let mut spool = spool(dir.as_ref()).unwrap();
    spool.check(&hash).unwrap();
    let binding = deposit.binding(segments);
    let summary = spool
        .unpack(&deposit.key, &binding, &limits, &mut sink)
        .unwrap();
    let peak = status("VmHWM:");
    assert_eq!((summary.files, summary.bytes), (FILES, sink.0));
    assert_eq!(sink.0, limits.bytes);
    let grown = peak - idle;
    println!("{grown} bytes above idle ({idle}), the vault takes {SEALED_SEGMENT_BYTES}");
    assert!(
        (1 << 20..SEALED_SEGMENT_BYTES as u64 + MAX_BESIDE_VAULT).contains(&grown),
        "{grown} bytes above idle"
    );
}

/// A size of this process, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}
