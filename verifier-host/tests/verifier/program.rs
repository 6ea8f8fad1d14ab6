//! `keyhalf-verifier` as a process, and an administrator who talks to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use verifier_host::link::{Answer, Endpoint, Limits, Link, Method};
use verifier_host::pki::Authority;

use crate::agent::Agent;

/// Everything waited for comes within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program, its directory and an address of its own.
pub(crate) struct Verifier {
    pub(crate) dir: TempDir,
    ip: String,
    /// Options besides those that every test has.
    options: Vec<String>,
    child: Child,
}

impl Verifier {
    /// The program in a fresh directory, listening.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more options.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let process = std::process::id();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ip = format!(
            "127.{}.{}.{number}",
            16 + (process >> 8) % 200,
            process % 256
        );
        let dir = TempDir::new().unwrap();
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let child = spawn(dir.path(), &ip, &options);
        let this = Self {
            dir,
            ip,
            options,
            child,
        };
        this.is_up().await;
        this
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and says how long that took.
    pub(crate) fn terminate(&mut self) -> Duration {
        let asked = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        asked.elapsed()
    }

    /// The same directory, a new process.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), &self.ip, &self.options);
        self.is_up().await;
    }

    async fn is_up(&self) {
        let since = Instant::now();
        while tokio::net::TcpStream::connect(self.address())
            .await
            .is_err()
        {
            assert!(since.elapsed() < PATIENCE, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        format!("{}:8881", self.ip).parse().unwrap()
    }

    /// Where nodes register, without TLS.
    pub(crate) fn registrar(&self) -> Link {
        let peer = Endpoint {
            host: self.ip.clone(),
            port: 8890,
        };
        Link::new(peer, None, Limits::default())
    }

    pub(crate) fn cv_ca(&self) -> PathBuf {
        self.dir.path().join("cv_ca")
    }

    /// An address beside the verifier's, for an agent.
    pub(crate) fn agent_ip(&self, number: u8) -> String {
        let (net, host) = self.ip.rsplit_once('.').unwrap();
        format!("{net}.{}", host.parse::<u8>().unwrap() + 40 * number)
    }

    pub(crate) async fn agent(&self, number: u8) -> Agent {
        Agent::start(&self.cv_ca(), &self.agent_ip(number), number).await
    }

    /// All that it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// A connection of an administrator.
    pub(crate) fn administrator(&self) -> Link {
        let authority = Authority::open(&self.cv_ca()).unwrap();
        let tls = authority.client_config(&authority.server_trust()).unwrap();
        let peer = Endpoint {
            host: self.ip.clone(),
            port: 8881,
        };
        Link::new(peer, Some(tls), Limits::default())
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.administrator()
            .request(method, path, body)
            .await
            .unwrap()
    }

    /// Adds the agent under this name; the answer's status and reason.
    pub(crate) async fn add(&self, id: &str, body: &Value) -> (u16, String) {
        let answer = self
            .ask(Method::POST, &format!("/v2.6/agents/{id}"), Some(body))
            .await;
        (answer.status, answer.reason())
    }

    pub(crate) async fn view(&self, id: &str) -> Value {
        let answer = self
            .ask(Method::GET, &format!("/v2.6/agents/{id}"), None)
            .await;
        let body: Value = answer.json().unwrap();
        body["results"].clone()
    }

    /// Waits until the node's view is as wanted.
    pub(crate) async fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let view = self.view(id).await;
            if wanted(&view) {
                return view;
            }
            assert!(since.elapsed() < PATIENCE, "{view}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the node's `attestation_status` is this.
    pub(crate) async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(id, |view| view["attestation_status"] == status)
            .await
    }

    /// Waits for that many more passes.
    pub(crate) async fn until_passes(&self, id: &str, more: u64) -> Value {
        let before = self.view(id).await["attestation_count"].as_u64().unwrap();
        self.until(id, |view| {
            view["attestation_count"].as_u64().unwrap() >= before + more
        })
        .await
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn spawn(dir: &Path, ip: &str, options: &[String]) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    Command::new(env!("CARGO_BIN_EXE_keyhalf-verifier"))
        .arg("--keylime-dir")
        .arg(dir)
        .args(["--ip", ip, "--registrar-ip", ip])
        .args(["--quote-interval", "0.05", "--log-level", "trace"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The half that tests give.
pub(crate) const V: [u8; 32] = *b"V is a canary that nobody prints";

/// What a tenant says of this agent: PCR 7 as it is, with a payload.
pub(crate) fn addition(agent: &Agent) -> Value {
    let inner = agent.lock();
    let policy = json!({ "7": [inner.tpm.held(7)], "mask": "0x80" });
    json!({
        "v": BASE64_STANDARD.encode(V),
        "cloudagent_ip": agent.address().ip().to_string(),
        "cloudagent_port": agent.address().port(),
        "verifier_ip": "127.0.0.1",
        "verifier_port": "8881",
        "tpm_policy": policy.to_string(),
        "runtime_policy": "",
        "runtime_policy_name": "",
        "runtime_policy_key": "",
        "mb_policy": null,
        "mb_policy_name": "",
        "ima_sign_verification_keys": "",
        "metadata": "{\"cert_serial\": 2, \"subject\": \"CN=node\"}",
        "revocation_key": "",
        "accept_tpm_hash_algs": ["sha512", "sha384", "sha256"],
        "accept_tpm_encryption_algs": ["ecc", "rsa"],
        "accept_tpm_signing_algs": ["ecdsa", "rsassa"],
        "ak_tpm": inner.tpm.ak(),
        "mtls_cert": agent.certificate(),
        "supported_version": "2.6",
    })
}
