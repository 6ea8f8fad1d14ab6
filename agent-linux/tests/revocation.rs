//! From a notice on the wire to the end of its actions: an agent with a TPM in memory, its worker and its landing zone.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/archive.rs"]
mod archive;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/node.rs"]
mod node;
#[path = "common/notices.rs"]
mod notices;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_core::agent::Peer;
use agent_core::drive::{Buffers, Shell, serve_one};
use agent_core::payload::halves::Half;
use agent_core::payload::seal::seal_single;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::Limits;
use agent_core::revocation::HEAD_FILE;
use agent_core::tpm::FakeTpm;
use agent_core::wire::text::Hex;
use agent_linux::actions::{ActionError, ActionRules, Actions, Hold, Notice, Outcome, Progress};
use agent_linux::crl::ListRules;
use agent_linux::job::{Identity, OutputPolicy};
use agent_linux::landing::Zone;
use agent_linux::node::Node;
use agent_linux::notifier::CERTIFICATE_FILE;
use agent_linux::privilege::Account;
use agent_linux::revocations::{MAX_WAITING, Revocations, TrustRules};
use agent_linux::worker::{ScriptRules, Stop, Worker};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use namespace::is_in_namespace;
use notices::{Anchor, Signed};
use tempfile::TempDir;

const ZONE_BYTES: u64 = 4 << 20;

/// A node's files, and a notifier.
struct Place(TempDir, Anchor);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap(), Anchor::new());
        fs::create_dir(place.path("actions")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
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
            lists: ListRules::default(),
        }
    }

    /// What scripts and actions have written.
    fn told(&self) -> String {
        fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    /// The file of a package that names the notifier.
    fn certificate(&self) -> Vec<u8> {
        fs::read(self.1.certificate()).unwrap()
    }

    /// Starts an agent whose notifier is the payload's, or this one.
    fn start(&self, notifier: Option<PathBuf>) -> Arc<Node<FakeTpm>> {
        let zone = Zone::open(self.0.path(), ZONE_BYTES).unwrap();
        let trust = TrustRules {
            notifier,
            without_payload: false,
        };
        let revocations = Arc::new(Revocations::open(&zone, trust));
        let (node, work) = node::node(Some(Arc::clone(&revocations)));
        let worker = Worker {
            node: Arc::clone(&node),
            revocations,
            zone,
            archives: Some(Limits::default()),
            plain_file: "decrypted_payload".into(),
            uuid: node::uuid().to_string(),
            account: Account::root(),
            script: ScriptRules {
                name: Some("autorun.sh".into()),
                timeout: Duration::from_secs(30),
            },
            actions: self.rules(),
            output: OutputPolicy::Quiet,
            stop: Arc::<Stop>::default(),
        };
        thread::spawn(move || worker.run(&work));
        node
    }
}

/// One request; the status of its answer, and the body.
fn ask(node: &Node<FakeTpm>, verb: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!("{verb} /v2.6/{path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut wire = Wire {
        sent: request.as_bytes(),
        got: Vec::new(),
    };
    serve_one(&mut wire, node, Peer::Tenant, &mut Buffers::default()).unwrap();
    let text = String::from_utf8(wire.got).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (text[9..12].parse().unwrap(), body.to_owned())
}

fn post(node: &Node<FakeTpm>, path: &str, body: &str) -> u16 {
    ask(node, "POST", path, body).0
}

fn notify(node: &Node<FakeTpm>, signed: &Signed) -> u16 {
    post(node, "notifications/revocation", &signed.body())
}

/// Position and wanted number of the log, as the sender of an entry learns them.
fn standing(node: &Node<FakeTpm>, signed: &Signed) -> String {
    let (status, body) = ask(node, "POST", "notifications/revocation", &signed.body());
    assert_eq!(status, 200, "{body}");
    let (_, position) = body.split_once(r#""position":"#).unwrap();
    position
        .trim_end_matches('}')
        .replace(r#""wanted":"#, "")
        .replace(' ', "")
}

fn outcomes(node: &Node<FakeTpm>, after: u64) -> String {
    let path = format!("revocations/outcomes?after={after}");
    let (status, body) = ask(node, "GET", &path, "");
    assert_eq!(status, 200, "{body}");
    body
}

/// Delivers a payload of these files.
fn deliver(node: &Node<FakeTpm>, files: &[(&str, &[u8])]) {
    let [u, v] = [[1; 32], [2; 32]];
    let half = |bytes| Half::from_slice(bytes).unwrap();
    let key = half(&u).combine(&half(&v)).unwrap();
    let mut text = archive::archive(files);
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

const TELLS: &str = "#!/bin/sh\necho action >>told\n";

#[test]
fn revocation_after_restart() {
    if !is_in_namespace("revocation_after_restart") {
        return;
    }
    let place = Place::new();
    // What an earlier agent has left, and nothing else of it.
    let mut zone = Zone::open(place.0.path(), ZONE_BYTES).unwrap();
    let mut unpacking = zone.begin().unwrap();
    let certificate = place.certificate();
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

    let (good, other) = (place.1.sign("abc"), place.1.sign("xyz"));
    let tampered = Signed {
        text: "abd".into(),
        ..good.clone()
    };
    let node = place.start(None);
    assert_eq!(notify(&node, &tampered), 400);
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

/// A script that waits for the file `go`, and says when it begins and ends.
fn waiting_script(place: &Place) -> String {
    let root = place.0.path().display();
    format!(
        "#!/bin/sh\ncd {root}\necho begin >>told\nwhile [ ! -e go ]; do sleep 0.02; done\necho end >>told\n"
    )
}

#[test]
fn notices_wait_for_the_script() {
    if !is_in_namespace("notices_wait_for_the_script") {
        return;
    }
    let place = Place::new();
    place.installed("tell", TELLS);
    // All are made beforehand: a script's end ends the programs that were begun beside it.
    let notices: Vec<_> = (0..MAX_WAITING)
        .map(|n| place.1.sign(&n.to_string()))
        .collect();
    let one_more = place.1.sign("one more");
    // The payload brings no certificate: the operator has named one.
    let node = place.start(Some(place.1.certificate()));
    deliver(&node, &[("autorun.sh", waiting_script(&place).as_bytes())]);
    until("the script", || place.told() == "begin\n");
    for notice in &notices {
        assert_eq!(notify(&node, notice), 200);
    }
    assert_eq!(notify(&node, &one_more), 500, "there is no room");
    assert_eq!(place.told(), "begin\n", "none beside the script");
    fs::write(place.path("go"), "").unwrap();
    let all = |count| format!("begin\nend\n{}", "action\n".repeat(count));
    until("all notices", || place.told() == all(MAX_WAITING));
    until("room for another", || notify(&node, &one_more) == 200);
    until("one more", || place.told() == all(MAX_WAITING + 1));
}

#[test]
fn revocation_before_payload_is_kept() {
    if !is_in_namespace("revocation_before_payload_is_kept") {
        return;
    }
    let place = Place::new();
    place.installed("tell", TELLS);
    let mut log = place.1.log("ab");
    let old = log.revoke();
    let head = log.head();
    let (first, second) = (log.revoke(), log.revoke());
    let tampered = Signed {
        text: first.text.replace("}", r#","reason":"x"}"#),
        ..first.clone()
    };
    let node = place.start(None);
    for entry in [&tampered, &old, &first] {
        assert_eq!(notify(&node, entry), 200);
    }
    let (_, body) = ask(&node, "POST", "notifications/revocation", &old.body());
    assert!(body.contains(r#""log_id":null"#), "{body}");
    let (script, certificate) = (waiting_script(&place), place.certificate());
    let files: [(&str, &[u8]); 3] = [
        ("autorun.sh", script.as_bytes()),
        (CERTIFICATE_FILE, &certificate),
        (HEAD_FILE, head.as_bytes()),
    ];
    deliver(&node, &files);
    until("the script", || place.told() == "begin\n");
    assert_eq!(standing(&node, &second), "1,4");
    fs::write(place.path("go"), "").unwrap();
    let all = "begin\nend\naction\naction\n";
    until("both actions", || place.told() == all);
    until("the position", || standing(&node, &second) == "3,4");
    let told = outcomes(&node, 2);
    let wanted =
        r#""outcomes":[{"number":3,"actions":[{"name":"tell","exit_code":0,"duration_ms":"#;
    assert!(told.replace(": ", ":").contains(wanted), "{told}");
    assert_eq!(standing(&node, &old), "3,4");
    assert_eq!(place.told(), all);
}

#[test]
fn tampered_is_refused_loudly() {
    if !is_in_namespace("tampered_is_refused_loudly") {
        return;
    }
    let place = Place::new();
    place.installed("tell", TELLS);
    let mut log = place.1.log("ab");
    let head = log.head();
    let entry = log.revoke();
    let mut flipped = entry.signature.clone();
    flipped[7] ^= 1;
    let rows = [
        (
            "text",
            Signed {
                text: entry.text.replace(":1,", ":2,"),
                ..entry.clone()
            },
        ),
        (
            "signature",
            Signed {
                signature: flipped,
                ..entry.clone()
            },
        ),
        ("another's", Anchor::new().sign(&entry.text)),
        (
            "some members of an entry",
            place.1.sign(&entry.text.replacen("number", "other", 1)),
        ),
        ("no number", place.1.sign(r#"{"type":"revocation"}"#)),
    ];
    let node = place.start(None);
    let certificate = place.certificate();
    let files: [(&str, &[u8]); 2] = [
        (CERTIFICATE_FILE, &certificate),
        (HEAD_FILE, head.as_bytes()),
    ];
    deliver(&node, &files);
    until("the landing", || outcomes(&node, 0).contains(&log.id));
    for (name, signed) in rows {
        assert_eq!(notify(&node, &signed), 400, "{name}");
    }
    assert_eq!(place.told(), "");
    assert_eq!(notify(&node, &entry), 200);
    until("the action", || place.told() == "action\n");
}

#[test]
fn an_action_starts_with_its_notice() {
    if !is_in_namespace("an_action_starts_with_its_notice") {
        return;
    }
    let place = Place::new();
    place.installed("tell", "#!/bin/sh\ndate +%s%N >>told\n");
    let mut log = place.1.log("ab");
    let head = log.head();
    let entries: Vec<_> = (0..10).map(|_| log.revoke()).collect();
    let node = place.start(Some(place.1.certificate()));
    deliver(&node, &[(HEAD_FILE, head.as_bytes())]);
    until("the landing", || outcomes(&node, 0).contains(&log.id));
    let mut waited = Vec::new();
    for (count, entry) in (1..).zip(&entries) {
        let sent = SystemTime::now();
        assert_eq!(notify(&node, entry), 200);
        let ended = format!("{count},");
        until("its end", || standing(&node, entry).starts_with(&ended));
        let told = place.told();
        let began: u64 = told.lines().last().unwrap().parse().unwrap();
        let began = UNIX_EPOCH + Duration::from_nanos(began);
        waited.push(began.duration_since(sent).unwrap());
    }
    waited.sort_unstable();
    // Two programs are started in this time: the shell, and its clock.
    println!("from the request to the action: {waited:?}");
    assert!(waited[0] < Duration::from_millis(50), "{waited:?}");
}

/// Keeps the last outcome.
struct Last(Option<Outcome>);

impl Progress for Last {
    fn is_begun(&self, _: &str) -> bool {
        false
    }

    fn begin(&mut self, _: &str) -> Result<(), Hold> {
        Ok(())
    }

    fn ended(&mut self, outcome: Outcome) {
        self.0 = Some(outcome);
    }
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
        deadline: None,
    };
    let notice = Notice {
        text: "{}",
        kind: None,
    };
    let mut last = Last(None);
    actions.carry_out(&notice, &false.into(), &mut last);
    let Err(error @ ActionError::NoPython) = last.0.unwrap().ended else {
        panic!("it was run");
    };
    assert!(error.to_string().contains("install"), "{error}");
}
