//! One scenario: its directory, its addresses, and the logs that are shown when it fails.

use std::env;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::Result;
use crate::process::Log;

/// Where one scenario happens.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    logs: Mutex<Vec<Arc<Log>>>,
}

/// Runs one scenario. When it fails, everything that its programs said is shown.
///
/// # Panics
/// If the scenario returns an error or panics, or if it isn't run inside the namespaces of `hw-tests/namespace`.
pub fn story(tell: impl FnOnce(&Site) -> Result) {
    let site = match Site::new() {
        Ok(site) => site,
        Err(error) => panic!("{error}"),
    };
    let end = catch_unwind(AssertUnwindSafe(|| tell(&site)));
    let failed = match end {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "see the panic above".to_owned(),
    };
    site.show_logs();
    panic!("{failed}");
}

impl Site {
    /// A new site.
    ///
    /// # Errors
    /// This process isn't inside the namespaces of `hw-tests/namespace`; no temporary directory.
    pub fn new() -> Result<Self> {
        if env::var_os("KEYHALF_NAMESPACE").is_none() {
            return Err(
                "scenarios need namespaces and built programs: run ./hw-tests/test [NAME]".into(),
            );
        }
        Ok(Self {
            dir: tempfile::tempdir()?,
            logs: Mutex::default(),
        })
    }

    /// The scenario's directory, gone when it ends.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A log that is shown if the scenario fails.
    pub fn log(&self, name: &str) -> Arc<Log> {
        let log = Log::new(name);
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&log));
        log
    }

    /// All logs so far, in the order in which their programs were started.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn show_logs(&self) {
        for log in self.logs() {
            eprintln!("---- {} said", log.name());
            eprintln!("{}", log.text());
        }
        eprintln!("----");
    }
}

/// A loopback address that nobody else in this process has.
pub fn fresh_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1 + high, low, 1)
}

/// Where the programs under test are: beside the running executable, where cargo puts them.
///
/// # Errors
/// The executable's path can't be read.
pub fn programs() -> Result<PathBuf> {
    let exe = env::current_exe()?;
    let dir = exe.parent().ok_or("no directory")?;
    let dir = if dir.ends_with("deps") {
        dir.parent().ok_or("no directory")?
    } else {
        dir
    };
    Ok(dir.to_owned())
}
