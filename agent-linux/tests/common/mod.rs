//! A software TPM of one test's own.
#![expect(
    clippy::unwrap_used,
    reason = "a test that can't set itself up has failed"
)]

use std::ffi::OsStr;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use agent_linux::tpm::TctiName;
use tempfile::TempDir;

/// A running `swtpm`; it goes with the value.
pub(crate) struct Swtpm {
    state: TempDir,
    port: u16,
    process: Child,
}

impl Swtpm {
    /// A TPM that nobody has used.
    pub(crate) fn fresh() -> Self {
        Self::start(TempDir::new().unwrap())
    }

    /// A TPM that nobody has used, with these banks of PCRs.
    pub(crate) fn with_banks(banks: &str) -> Self {
        let state = TempDir::new().unwrap();
        let out = program("swtpm_setup")
            .args(["--tpm2", "--pcr-banks", banks, "--tpmstate"])
            .arg(state.path())
            .env("TMPDIR", state.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "swtpm_setup: {text}");
        Self::start(state)
    }

    /// A TPM with an EK certificate, as its maker would ship it.
    pub(crate) fn with_ek_certificate() -> Self {
        let state = TempDir::new().unwrap();
        let ca = state.path().join("ca");
        std::fs::create_dir(&ca).unwrap();
        let localca = state.path().join("localca.conf");
        let options = state.path().join("localca.options");
        let setup = state.path().join("setup.conf");
        let ca = ca.display();
        std::fs::write(
            &localca,
            format!("statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n"),
        )
        .unwrap();
        std::fs::write(
            &options,
            "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n",
        )
        .unwrap();
        std::fs::write(
            &setup,
            format!(
                "create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config={}\ncreate_certs_tool_options={}\n",
                localca.display(),
                options.display()
            ),
        )
        .unwrap();
        let out = program("swtpm_setup")
            .args([
                "--tpm2",
                "--create-ek-cert",
                "--pcr-banks",
                "sha256,sha384",
                "--tpmstate",
            ])
            .arg(state.path())
            .arg("--config")
            .arg(&setup)
            .env("TMPDIR", state.path())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "swtpm_setup: {}",
            String::from_utf8_lossy(&out.stdout)
        );
        Self::start(state)
    }

    fn start(state: TempDir) -> Self {
        let (process, port) = launch(&state);
        Self {
            state,
            port,
            process,
        }
    }

    /// The name that the agent opens it by.
    pub(crate) fn name(&self) -> TctiName {
        TctiName::from_str(&self.tcti()).unwrap()
    }

    /// The name as `--tcti` takes it, for tpm2-tools too.
    pub(crate) fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Cuts the power.
    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// Cuts the power and turns it on again: what was loaded is gone, the secrets stay.
    pub(crate) fn power_cycle(&mut self) {
        self.stop();
        (self.process, self.port) = launch_at(&self.state, self.port);
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program without this process's open files: tpm2-tss opens its connections without close-on-exec, and one that a program
/// of another test held on to would keep that TPM's only seat.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", WITHOUT_FILES, "bash"]).arg(name);
    command
}

const WITHOUT_FILES: &str = r#"for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    [ "$fd" -le 2 ] || eval "exec $fd>&-"
done
exec "$@""#;

fn launch(state: &TempDir) -> (Child, u16) {
    for _ in 0..20 {
        let port = free_pair();
        let (mut child, port) = launch_at(state, port);
        if child.try_wait().unwrap().is_none() {
            return (child, port);
        }
    }
    panic!("swtpm doesn't start");
}

fn launch_at(state: &TempDir, port: u16) -> (Child, u16) {
    let mut child = program("swtpm")
        .args([
            "socket",
            "--tpm2",
            "--flags",
            "not-need-init,startup-clear",
            "--tpmstate",
        ])
        .arg(format!("dir={}", state.path().display()))
        .args([
            "--server",
            &format!("type=tcp,port={port},bindaddr=127.0.0.1"),
        ])
        .args([
            "--ctrl",
            &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1),
        ])
        .env("TMPDIR", state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() && !is_listening(port + 1) {
        assert!(Instant::now() < deadline, "swtpm doesn't listen");
        std::thread::yield_now();
    }
    (child, port)
}

/// Whether someone listens there, read from the kernel's table: a probing connection would be the TPM's one client.
fn is_listening(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    std::fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .lines()
        .any(|line| {
            let mut fields = line.split_whitespace();
            fields.nth(1).is_some_and(|local| local.ends_with(&wanted))
                && fields.nth(1) == Some("0A")
        })
}

/// Two neighbouring ports that are free just now.
fn free_pair() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}
