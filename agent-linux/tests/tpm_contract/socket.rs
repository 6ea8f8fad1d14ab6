//! swtpm behind a socket in the file system, as virtual machines have it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use agent_core::tpm::Tpm;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_linux::tpm::raw::Raw;
use agent_linux::tpm::{NodeTpm, TctiName, TpmError};
use tempfile::TempDir;

use crate::common::program;
use crate::support::mask;

/// An swtpm that listens there only; it goes with the value.
struct SocketTpm {
    state: TempDir,
    process: Child,
}

impl SocketTpm {
    fn start(state: TempDir) -> Self {
        let server = state.path().join("tpm");
        let _ = fs::remove_file(&server);
        let mut process = program("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", state.path().display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", server.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}.ctrl", server.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_listening(&server) {
            assert!(process.try_wait().unwrap().is_none(), "swtpm has ended");
            assert!(Instant::now() < deadline, "swtpm doesn't listen");
            std::thread::yield_now();
        }
        Self { state, process }
    }

    fn open(&self) -> Result<NodeTpm<Raw>, TpmError> {
        let name = format!("swtpm:path={}", self.state.path().join("tpm").display());
        let name = TctiName::from_str(&name).unwrap();
        NodeTpm::open(&name, SignAlg::Ecdsa, HashAlg::Sha256)
    }

    fn power_cycle(mut self) -> Self {
        self.stop();
        let state = std::mem::replace(&mut self.state, TempDir::new().unwrap());
        Self::start(state)
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for SocketTpm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether someone listens there, read from the kernel's table: a probing connection would take the TPM's only seat.
fn is_listening(path: &PathBuf) -> bool {
    const ACCEPTS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(3) == Some(ACCEPTS) && fields.next_back().is_some_and(|name| *path == *name)
    })
}

#[test]
fn a_socket_in_the_file_system_is_a_tpm() {
    let swtpm = SocketTpm::start(TempDir::new().unwrap());
    let (mut tpm, mut other) = (swtpm.open().unwrap(), swtpm.open().unwrap());
    let identity = tpm.identity().clone();
    assert_eq!(*other.identity(), identity);
    let seed = tpm.tls_seed().unwrap();
    // Each command comes to its turn, whoever asks.
    for _ in 0..3 {
        for tpm in [&mut tpm, &mut other] {
            let quote = tpm.quote(b"EC1jOjKKFFAAglK9Aq9V", HashAlg::Sha256, mask(1));
            assert!(quote.unwrap().attest.starts_with(b"\xFFTCG"));
        }
    }
    drop((tpm, other));

    let mut swtpm = swtpm.power_cycle();
    let mut later = swtpm.open().unwrap();
    assert_eq!(*later.identity(), identity);
    assert!(later.tls_seed().unwrap().same_as(seed.as_ref()));

    swtpm.stop();
    assert!(later.tls_seed().is_err());
    assert!(swtpm.open().is_err());
}
