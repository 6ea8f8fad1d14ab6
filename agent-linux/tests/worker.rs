//! What becomes of a payload, from its halves to its files.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/node.rs"]
mod node;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_core::agent::Peer;
use agent_core::drive::{Buffers, Shell, serve_one};
use agent_core::payload::halves::Half;
use agent_core::payload::seal::seal_single;
use agent_core::payload::zip::Limits;
use agent_core::tpm::FakeTpm;
use agent_core::wire::text::Hex;
use agent_linux::actions::ActionRules;
use agent_linux::crl::ListRules;
use agent_linux::job::OutputPolicy;
use agent_linux::landing::Zone;
use agent_linux::net::stream::Io;
use agent_linux::node::Node;
use agent_linux::privilege::Account;
use agent_linux::queue::{Outlet, queue};
use agent_linux::revocations::{Revocations, TrustRules};
use agent_linux::worker::{ScriptRules, Stop, Worker};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

/// `cacert.crt`, which is its own name ten times, and two other files: see the vectors' SOURCES.md.
const ARCHIVE: &[u8] = include_bytes!("../../agent-core/tests/vectors/zip/python-stored.zip");

/// A connection that has sent everything already.
struct Sent(Cursor<Vec<u8>>);

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Sent {
    fn write(&mut self, answer: &[u8]) -> io::Result<usize> {
        Ok(answer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn post(node: &Node<FakeTpm>, route: &str, body: &str) {
    let length = body.len();
    let request = format!("POST /v2.6/{route} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut io = Io(Sent(Cursor::new(request.into_bytes())));
    serve_one(&mut io, node, Peer::Tenant, &mut Buffers::default()).unwrap();
}

/// Delivers both halves and the payload, which is opened.
fn deliver(node: &Node<FakeTpm>, payload: &[u8]) {
    let half = |byte| Half::from_slice(&[byte; 32]).unwrap();
    let encrypted = |byte: u8| {
        let half = node.with_agent(|_, tpm| tpm.encrypt(&[byte; 32]));
        STANDARD.encode(half)
    };
    let key = half(1).combine(&half(2)).unwrap();
    let mut text = payload.to_vec();
    let nonce = [9; 16];
    let tag = seal_single(&key, &nonce, &mut text).unwrap();
    let sealed = STANDARD.encode([&nonce[..], &text, &tag].concat());
    let auth_tag = Hex(&key.auth_tag(node::uuid().as_str().as_bytes())).to_string();
    let u = encrypted(1);
    let body = format!(r#"{{"encrypted_key":"{u}","auth_tag":"{auth_tag}","payload":"{sealed}"}}"#);
    post(node, "keys/ukey", &body);
    let v = encrypted(2);
    post(node, "keys/vkey", &format!(r#"{{"encrypted_key":"{v}"}}"#));
}

/// Does one piece of work.
fn work_on(work: &Outlet, worker: Worker<FakeTpm>) {
    let payload = work.next().expect("no payload was opened");
    let (inlet, work) = queue();
    inlet.payload(payload).unwrap();
    drop(inlet);
    worker.run(&work);
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

#[test]
fn plain_file_payload() {
    if !namespace::is_in_namespace("plain_file_payload") {
        return;
    }
    let member = b"cacert.crt".repeat(10);
    let unpacked = Some(Limits::default());
    type Row<'a> = (&'a str, Option<Limits>, &'a [u8], &'a str, &'a [u8]);
    let rows: [Row<'_>; 4] = [
        ("an archive", unpacked, ARCHIVE, "cacert.crt", &member),
        ("an archive that is kept", None, ARCHIVE, "kept", ARCHIVE),
        ("a plain file", unpacked, b"text", "kept", b"text"),
        ("a plain file either way", None, b"text", "kept", b"text"),
    ];
    for (name, archives, payload, file, content) in rows {
        let place = TempDir::new().unwrap();
        let zone = Zone::open(place.path(), 1 << 20).unwrap();
        let unzipped = zone.unzipped();
        let revocations = Arc::new(Revocations::open(&zone, TrustRules::default()));
        let (node, work) = node::node(Some(Arc::clone(&revocations)));
        deliver(&node, payload);
        let worker = Worker {
            node: Arc::clone(&node),
            revocations,
            zone,
            archives,
            plain_file: "kept".to_owned(),
            script: ScriptRules {
                name: None,
                timeout: Duration::from_secs(10),
            },
            uuid: node::uuid().to_string(),
            account: Account::root(),
            actions: ActionRules {
                configured: String::new(),
                installed: place.path().join("actions"),
                allow_payload: false,
                directory: place.path().to_owned(),
                timeout: Duration::from_secs(10),
                lists: ListRules::default(),
            },
            output: OutputPolicy::Quiet,
            stop: Arc::<Stop>::default(),
        };
        work_on(&work, worker);
        let found = files(&unzipped);
        assert_eq!(found.get(file).map(Vec::as_slice), Some(content), "{name}");
        assert_eq!(found.contains_key("kept"), file == "kept", "{name}");
    }
}
