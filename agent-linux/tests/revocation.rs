//! From a notice on the wire to the end of its actions: an agent with a TPM in memory, its worker and its landing zone.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/node.rs"]
mod node;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use agent_core::agent::Peer;
use agent_core::drive::{Buffers, Shell, serve_one};
use agent_core::payload::halves::Half;
use agent_core::payload::seal::seal_single;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::Limits;
use agent_core::tpm::FakeTpm;
use agent_core::wire::text::Hex;
use agent_linux::actions::{ActionError, ActionRules, Actions};
use agent_linux::job::{Identity, OutputPolicy};
use agent_linux::landing::Zone;
use agent_linux::node::Node;
use agent_linux::notifier::CERTIFICATE_FILE;
use agent_linux::privilege::Account;
use agent_linux::queue::MAX_WAITING_NOTICES;
use agent_linux::worker::{ScriptRules, Stop, Worker};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use namespace::is_in_namespace;
use tempfile::TempDir;

const ZONE_BYTES: u64 = 4 << 20;
/// What a payload becomes here: these are scripts.
const PLAIN_FILE: &str = "decrypted_payload";

/// A node's files, and a notifier's key.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        fs::create_dir(place.path("actions")).unwrap();
        place.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=notifier -keyout key -out notifier.crt",
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{arguments}");
    }

    /// An action of the node itself.
    fn installed(&self, name: &str, text: &str) {
        let path = self.path("actions").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    fn rules(&self) -> ActionRules {
        ActionRules {
            configured: "tell".into(),
            installed: self.path("actions"),
            allow_payload: true,
            directory: self.0.path().to_owned(),
            timeout: Duration::from_secs(30),
        }
    }

    /// What scripts and actions have written.
    fn told(&self) -> String {
        fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    /// Starts an agent whose notifier is the payload's, or this one.
    fn start(&self, notifier: Option<PathBuf>) -> Arc<Node<FakeTpm>> {
        let (node, work) = node::node();
        let worker = Worker {
            node: Arc::clone(&node),
            zone: Zone::open(self.0.path(), ZONE_BYTES).unwrap(),
            archives: Some(Limits::default()),
            plain_file: PLAIN_FILE.into(),
            uuid: node::uuid().to_string(),
            account: Account::root(),
            script: ScriptRules {
                name: Some(PLAIN_FILE.into()),
                timeout: Duration::from_secs(30),
            },
            actions: self.rules(),
            output: OutputPolicy::Quiet,
            notifier,
            stop: Arc::<Stop>::default(),
        };
        worker.trust_notifier();
        thread::spawn(move || worker.run(&work));
        node
    }

    /// The body of a notice. All are made beforehand: a script's end ends the programs that were begun beside it.
    fn notice(&self, message: &str) -> String {
        fs::write(self.path("message"), message).unwrap();
        self.openssl(
            "dgst -sha256 -sign key -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:222 -out signature message",
        );
        let signature = STANDARD.encode(fs::read(self.path("signature")).unwrap());
        format!(r#"{{"msg":"{message}","signature":"{signature}"}}"#)
    }
}

/// One request; the status of its answer.
fn post(node: &Node<FakeTpm>, path: &str, body: &str) -> u16 {
    let length = body.len();
    let request = format!("POST /v2.6/{path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut wire = Wire {
        sent: request.as_bytes(),
        got: Vec::new(),
    };
    serve_one(&mut wire, node, Peer::Tenant, &mut Buffers::default()).unwrap();
    std::str::from_utf8(&wire.got[9..12])
        .unwrap()
        .parse()
        .unwrap()
}

fn notify(node: &Node<FakeTpm>, body: &str) -> u16 {
    post(node, "notifications/revocation", body)
}

/// Delivers a payload that is no archive: one file, which is the script as well.
fn deliver(node: &Node<FakeTpm>, script: &str) {
    let [u, v] = [[1; 32], [2; 32]];
    let half = |bytes| Half::from_slice(bytes).unwrap();
    let key = half(&u).combine(&half(&v)).unwrap();
    let mut text = script.as_bytes().to_vec();
    let tag = seal_single(&key, &[9; 16], &mut text).unwrap();
    let sealed = STANDARD.encode([&[9; 16][..], &text, &tag].concat());
    let tag = key.auth_tag(node::uuid().as_str().as_bytes());
    let encrypt = |half: &[u8]| STANDARD.encode(node.with_agent(|_, tpm| tpm.encrypt(half)));
    let ukey = format!(
        r#"{{"encrypted_key":"{}","auth_tag":"{}","payload":"{sealed}"}}"#,
        encrypt(&u),
        Hex(&tag)
    );
    assert_eq!(post(node, "keys/ukey", &ukey), 200);
    let vkey = format!(r#"{{"encrypted_key":"{}"}}"#, encrypt(&v));
    assert_eq!(post(node, "keys/vkey", &vkey), 200);
}

/// What goes over a connection.
struct Wire<'a> {
    sent: &'a [u8],
    got: Vec<u8>,
}

impl embedded_io::ErrorType for Wire<'_> {
    type Error = Infallible;
}

impl embedded_io::Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let length = self.sent.len().min(buffer.len());
        let (now, later) = self.sent.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.sent = later;
        Ok(length)
    }
}

impl embedded_io::Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.got.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::yield_now();
    }
}

#[test]
fn revocation_after_restart() {
    if !is_in_namespace("revocation_after_restart") {
        return;
    }
    let place = Place::new();
    // What an earlier agent has left, and nothing else of it.
    let mut zone = Zone::open(place.0.path(), ZONE_BYTES).unwrap();
    let mut unpacking = zone.begin().unwrap();
    let certificate = fs::read(place.path("notifier.crt")).unwrap();
    let action = b"#!/bin/sh\ncat \"$1\" >>told\n";
    for (name, bytes) in [
        (CERTIFICATE_FILE, &certificate[..]),
        ("local_action_tell", action),
    ] {
        unpacking.file(name, 0o600, 0).unwrap();
        unpacking.data(bytes).unwrap();
        unpacking.end().unwrap();
    }
    unpacking.commit().unwrap();
    drop(zone);

    let node = place.start(None);
    let (good, other) = (place.notice("abc"), place.notice("xyz"));
    assert_eq!(notify(&node, &good.replace("abc", "abd")), 400);
    assert_eq!(notify(&node, &good), 200);
    until("the action", || place.told() == "abc");
    assert_eq!(notify(&node, &good), 200);
    assert_eq!(notify(&node, &other), 200);
    until("the second notice", || place.told().ends_with("xyz"));
    assert_eq!(
        place.told(),
        "abcxyz",
        "neither the tampered nor the repeated one"
    );
}

#[test]
fn notices_wait_for_the_script() {
    if !is_in_namespace("notices_wait_for_the_script") {
        return;
    }
    let place = Place::new();
    place.installed("tell", "#!/bin/sh\necho action >>told\n");
    let notices: Vec<_> = (0..MAX_WAITING_NOTICES)
        .map(|n| place.notice(&n.to_string()))
        .collect();
    let one_more = place.notice("one more");
    // The payload brings no certificate: the operator has named one.
    let node = place.start(Some(place.path("notifier.crt")));
    let root = place.0.path().display();
    deliver(
        &node,
        &format!(
            "#!/bin/sh\ncd {root}\necho begin >>told\nwhile [ ! -e go ]; do sleep 0.02; done\necho end >>told\n"
        ),
    );
    until("the script", || place.told() == "begin\n");
    for notice in &notices {
        assert_eq!(notify(&node, notice), 200);
    }
    assert_eq!(notify(&node, &one_more), 500, "there is no room");
    assert_eq!(place.told(), "begin\n", "none beside the script");
    fs::write(place.path("go"), "").unwrap();
    let all = |count| format!("begin\nend\n{}", "action\n".repeat(count));
    until("all notices", || place.told() == all(MAX_WAITING_NOTICES));
    assert_eq!(
        notify(&node, &one_more),
        200,
        "it isn't taken for a repeated one"
    );
    until("one more", || place.told() == all(MAX_WAITING_NOTICES + 1));
}

#[test]
fn a_node_without_python_says_so() {
    if !is_in_namespace("a_node_without_python_says_so") {
        return;
    }
    for directory in agent_linux::job::SEARCH_PATH.split(':') {
        let python = Path::new(directory).join("python3");
        if python.exists() {
            let mut mount = Command::new("mount");
            let mount = mount.args(["--bind", "/dev/null"]).arg(python);
            assert!(mount.status().unwrap().success());
        }
    }
    let place = Place::new();
    place.installed("tell.py", "def execute(r):\n    pass\n");
    let actions = Actions {
        rules: &place.rules(),
        payload: &place.path("nowhere"),
        private: place.0.path(),
        identity: Identity::of_root("node-1"),
        output: OutputPolicy::Quiet,
    };
    let outcomes = actions.carry_out("{}", &false.into());
    let ended = outcomes.into_iter().next().unwrap().ended;
    let Err(error @ ActionError::NoPython) = ended else {
        panic!("it was run");
    };
    assert!(error.to_string().contains("install"), "{error}");
}
