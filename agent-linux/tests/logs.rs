//! Logs that are files: how much memory they take, and what becomes of them while they are sent.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/node.rs"]
mod node;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use agent_core::agent::Peer;
use agent_core::drive::{Buffers, Call, Enclosed, Logs, Served, call_with_logs, serve_one};
use agent_core::http::emit::{Media, Verb};
use agent_core::tpm::FakeTpm;
use agent_core::wire::log::{Attached, Lines};
use agent_linux::logs::{LogPaths, Shelves};
use agent_linux::net::stream::Io;
use agent_linux::node::Node;
use tempfile::TempDir;

/// A peer that has asked already: it counts what it gets and keeps the beginning and the end of it.
struct Peerless<'a> {
    asked: &'a [u8],
    got: u64,
    first: Vec<u8>,
    last: Vec<u8>,
    /// What happens when an answer has begun.
    then: Option<Box<dyn FnOnce() + 'a>>,
}

impl<'a> Peerless<'a> {
    fn new(asked: &'a [u8]) -> Self {
        Self {
            asked,
            got: 0,
            first: Vec::new(),
            last: Vec::new(),
            then: None,
        }
    }

    /// Bytes of the body, as its head says and as they came.
    fn body(&self) -> (u64, u64) {
        let end = self.first.windows(4).position(|end| end == b"\r\n\r\n");
        let head = std::str::from_utf8(&self.first[..end.unwrap() + 4]).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let came = self.got - u64::try_from(head.len()).unwrap();
        (length.unwrap().parse().unwrap(), came)
    }

    /// All of a short answer's body.
    fn json(&self) -> String {
        let text = std::str::from_utf8(&self.first).unwrap();
        text.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl embedded_io::ErrorType for Peerless<'_> {
    type Error = std::io::Error;
}

impl embedded_io::Read for Peerless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::io::Read::read(&mut self.asked, buffer)
    }
}

impl embedded_io::Write for Peerless<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(then) = self.then.take() {
            then();
        }
        self.got += u64::try_from(bytes.len()).unwrap();
        let room = 16_384_usize.saturating_sub(self.first.len());
        self.first
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.last = bytes[bytes.len().saturating_sub(64)..].to_vec();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn node(paths: &LogPaths) -> Node<FakeTpm> {
    let (node, _work) = node::node(None);
    let node = Arc::into_inner(node).unwrap();
    node.with_logs(Shelves::open(paths, 2))
}

fn ask(node: &Node<FakeTpm>, peer: &mut Peerless<'_>) -> Served {
    serve_one(peer, node, Peer::Other, &mut Box::<Buffers>::default()).unwrap()
}

const ALL: &[u8] =
    b"GET /v2.6/quotes/integrity?nonce=a&mask=0x401&partial=1&ima_ml_entry=0 HTTP/1.1\r\n\r\n";

const LINE: &str = "10 f33bbf5b5aff7a2dd4d4a1f5d1a2f5ee7d7d2a54 ima-ng sha256:4f1f3bca6aae7f4be2a9c6b0b2b6d4a2dbd7e4c0e6f4b1c3a2d5e6f708192a3b /usr/bin/true\n";

fn list(place: &Path, lines: usize) -> PathBuf {
    let path = place.join("ascii_runtime_measurements");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    for _ in 0..lines {
        file.write_all(LINE.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    path
}

const PLACE: &str = "KEYHALF_TEST_LOGS";

/// What may come on top of what a connection needs anyway.
const MAX_MORE_BYTES: u64 = 512 * 1024;

/// One process makes the logs, another one sends them; that one's memory is measured.
#[test]
fn a_list_of_100_mb_in_constant_memory() {
    let Some(place) = std::env::var_os(PLACE) else {
        let place = TempDir::new().unwrap();
        list(place.path(), 100_000_000 / LINE.len());
        let out = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_list_of_100_mb_in_constant_memory",
                "--nocapture",
            ])
            .env(PLACE, place.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        println!("{said}");
        assert!(out.status.success() && said.contains("1 passed"), "{out:?}");
        return;
    };
    let path = Path::new(&place).join("ascii_runtime_measurements");
    let lines = u64::try_from(100_000_000 / LINE.len()).unwrap();
    let paths = LogPaths {
        ima: Some(path.clone()),
        boot: Some(path),
    };
    let node = node(&paths);
    // The first answer brings what every answer needs.
    let mut small = Peerless::new(b"GET /v2.6/quotes/identity?nonce=a HTTP/1.1\r\n\r\n");
    assert_eq!(ask(&node, &mut small), Served::Keep);
    let idle = status("VmHWM:");

    let mut peer = Peerless::new(ALL);
    assert_eq!(ask(&node, &mut peer), Served::Keep);
    let (said, came) = peer.body();
    assert_eq!(said, came);
    assert!(said > lines * u64::try_from(LINE.len()).unwrap() * 7 / 3);
    assert!(
        peer.last
            .ends_with(b"\\n\",\"ima_measurement_list_entry\":0}}")
    );

    let mut verifier = Peerless::new(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}");
    let sent = collect(&mut paths.open(), &mut verifier, Lines::from(0));
    assert_eq!(sent, 202);
    let (said, came) = verifier.body();
    assert_eq!(said, came);
    let end = format!("\\n\",\"entry_count\":{lines}}}}}]}}}}}}");
    assert!(verifier.last.ends_with(end.as_bytes()));

    let grown = status("VmHWM:") - idle;
    println!("{grown} bytes above {idle} for {said} bytes twice");
    assert!(grown < MAX_MORE_BYTES, "{grown} bytes above {idle}");
}

fn collect(logs: &mut Logs<Io<File>>, verifier: &mut Peerless<'_>, lines: Lines) -> u16 {
    let mut body =
        heapless::String::<256>::try_from(r#"{"data":{"attributes":{"list":[{}]}}}"#).unwrap();
    let call = Call {
        verb: Verb::Patch,
        path: "/",
        host: "v",
        token: None,
        media: Media::JsonApi,
        body: "",
    };
    let attached = Attached::Collected {
        boot: true,
        ima: Some(lines),
    };
    let enclosed = Enclosed {
        attached: &attached,
        body: &mut body,
        logs,
    };
    let mut buffer = vec![0; 32 * 1024];
    let answer = call_with_logs(verifier, &call, enclosed, &mut buffer);
    answer.unwrap().status
}

/// A size of this process, in bytes.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}

#[test]
fn logs_that_change_while_they_are_sent() {
    type Change = fn(&Path);
    let append: Change = |path| {
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"10 new\n").unwrap();
    };
    let rows: [(&str, Change, Served); 5] = [
        ("nothing", |_| (), Served::Keep),
        ("it grows", append, Served::Keep),
        (
            "its name is gone",
            |path| fs::remove_file(path).unwrap(),
            Served::Keep,
        ),
        ("it is cut", |path| cut(path, 50), Served::Gone),
        ("it is emptied", |path| cut(path, 0), Served::Gone),
    ];
    for (name, change, want) in rows {
        let place = TempDir::new().unwrap();
        let path = list(place.path(), 300);
        let node = node(&LogPaths {
            ima: Some(path.clone()),
            boot: None,
        });
        let mut peer = Peerless::new(ALL);
        peer.then = Some(Box::new(|| change(&path)));
        assert_eq!(ask(&node, &mut peer), want, "{name}");
        let (said, came) = peer.body();
        assert_eq!(came == said, want == Served::Keep, "{name}");
        assert!(came <= said, "{name}");
    }
}

fn cut(path: &Path, bytes: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
}

#[test]
fn a_handle_serves_one_after_the_other() {
    let place = TempDir::new().unwrap();
    let path = list(place.path(), 2);
    let node = node(&LogPaths {
        ima: Some(path),
        boot: Some(place.path().join("none")),
    });
    let mut first = Peerless::new(ALL);
    assert_eq!(ask(&node, &mut first), Served::Keep);
    let list = format!(
        "\"ima_measurement_list\":\"{}\"",
        LINE.repeat(2).replace('\n', "\\n")
    );
    assert!(first.json().contains(&list), "{}", first.json());
    assert!(!first.json().contains("mb_measurement_list"));
    for _ in 0..3 {
        let mut later = Peerless::new(ALL);
        assert_eq!(ask(&node, &mut later), Served::Keep);
        assert!(later.json().contains(&list));
    }
}
