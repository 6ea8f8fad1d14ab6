//! An agent that calls its verifier, over a connection, from its first request to its script.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/namespace.rs"]
mod namespace;
#[cfg(feature = "revocations")]
#[path = "outbound/revoked.rs"]
mod revoked;
#[path = "common/verifier.rs"]
mod verifier;

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_core::outbound::{End, Mode, OutboundConfig, Pace, Why};
use agent_core::payload::zip::Limits;
use agent_core::tpm::FakeTpm;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::receipt::Reached;
use agent_linux::exit::Exit;
use agent_linux::job::{Identity, OutputPolicy};
use agent_linux::landing::Zone;
use agent_linux::logs::LogPaths;
use agent_linux::outbound::{self, Ending, Enrol, Flow, Link, Running, Terms};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use verifier::{Mishap, Play, SIGNER, Signatures, ToPlay, agent, archive};

/// Nobody asks for a registrar here.
struct NoRegistrar;

impl<T> Enrol<T> for NoRegistrar {
    fn enrol(&mut self, _: &mut T) -> bool {
        true
    }
}

struct Ran {
    ending: Ending,
    took: Duration,
    tpm: FakeTpm,
    place: TempDir,
}

impl Ran {
    fn file(&self, name: &str) -> Option<String> {
        let path = self.place.path().join("secure/unzipped").join(name);
        fs::read_to_string(path).ok()
    }
}

fn config(mode: Mode) -> OutboundConfig {
    OutboundConfig {
        mode,
        agent: agent(),
        sign: SignAlg::Ecdsa,
        hash: HashAlg::Sha256,
        signers: [Sha256::digest(SIGNER).into()].into_iter().collect(),
        counter: None,
        max_sealed_bytes: 8 << 20,
        boot_time: 0,
        last_good: false,
        pace: Pace {
            first_ms: 10,
            last_ms: 100,
        },
    }
}

fn provision(port: u16, tpm: FakeTpm, deadline: Duration) -> Ran {
    provision_with(port, tpm, deadline, &LogPaths::default())
}

fn provision_with(port: u16, mut tpm: FakeTpm, deadline: Duration, logs: &LogPaths) -> Ran {
    let place = TempDir::new().unwrap();
    let mut zone = Zone::open(place.path(), 16 << 20).unwrap();
    let stop = AtomicBool::new(false);
    let uuid = agent();
    let began = Instant::now();
    let flow = Flow {
        link: Link::new(ToPlay(port)).with_logs(logs.open()),
        tpm: &mut tpm,
        verify: Signatures,
        enrol: NoRegistrar,
        zone: &mut zone,
        terms: Terms {
            deadline: Some(began + deadline),
            spool: None,
            image_seconds: 0,
            archives: Limits::default(),
            script: Running {
                identity: Identity::of_root(uuid.as_str()),
                timeout: Duration::from_secs(20),
                output: OutputPolicy::Quiet,
            },
            stop: &stop,
            acting: None,
        },
    };
    let ending = outbound::provision(config(Mode::Provision), flow);
    Ran {
        ending,
        took: began.elapsed(),
        tpm,
        place,
    }
}

const PATIENT: Duration = Duration::from_secs(30);

fn payload(script: &str) -> Vec<u8> {
    archive(&[("autorun.sh", script.as_bytes()), ("secret", b"42")])
}

#[test]
fn one_connection_brings_a_payload() {
    if !namespace::is_in_namespace("one_connection_brings_a_payload") {
        return;
    }
    let tpm = FakeTpm::new(1);
    let script = "#!/bin/sh\ncat secret > ran\n";
    let play = Play::with(&tpm, "autorun.sh", &payload(script), Mishap::None);
    let ran = provision(play.port, tpm, PATIENT);
    assert_eq!(ran.ending, Ending::Done(End::Finished));
    assert_eq!(ran.ending.exit(), Exit::Done);
    assert_eq!(ran.file("ran").as_deref(), Some("42"));
    assert_eq!(ran.tpm.caps, 1);
    assert_eq!(play.connections.load(Ordering::SeqCst), 1);
    assert_eq!(play.requests().len(), 9, "{:?}", play.requests());
    let receipts = play.receipts.lock().unwrap();
    let stages: Vec<_> = receipts.iter().map(|one| one.reached).collect();
    assert_eq!(stages, [Reached::Unpacked, Reached::Finished]);
    assert_eq!(receipts[1].exit_code, Some(0));
}

#[test]
fn logs_are_sent_as_they_are_asked_for() {
    if !namespace::is_in_namespace("logs_are_sent_as_they_are_asked_for") {
        return;
    }
    let place = TempDir::new().unwrap();
    let (ima, boot) = (place.path().join("ima"), place.path().join("boot"));
    let line = "10 aa ima-ng sha256:bb /bin/\"true\"\n";
    // The echo is larger than the agent's buffer.
    fs::write(&ima, line.repeat(3000)).unwrap();
    fs::write(&boot, [0xFF; 50_000]).unwrap();
    let paths = LogPaths {
        ima: Some(ima),
        boot: Some(boot),
    };
    let tpm = FakeTpm::new(1);
    let play = Play::with(&tpm, "autorun.sh", &payload("true"), Mishap::AsksForLogs);
    let ran = provision_with(play.port, tpm, PATIENT, &paths);
    assert_eq!(ran.ending, Ending::Done(End::Finished));
    assert_eq!(play.connections.load(Ordering::SeqCst), 1);
    let bodies = play.attestations.lock().unwrap();
    let [offer, evidence] = &**bodies else {
        panic!("{bodies:?}");
    };
    let offered = r#"{"evidence_class":"log","evidence_type":"ima_log","capabilities":{"supports_partial_access":true,"appendable":true,"formats":["text/plain"],"entry_count":3000}}]}}}"#;
    assert!(offer.ends_with(offered), "{offer}");
    let entries = line.repeat(2999).replace('"', "\\\"").replace('\n', "\\n");
    let base64 = STANDARD.encode([0xFF; 50_000]);
    let logs = format!(
        r#"}},{{"evidence_class":"log","evidence_type":"uefi_log","data":{{"entries":"{base64}"}}}},{{"evidence_class":"log","evidence_type":"ima_log","data":{{"entries":"{entries}","entry_count":2999}}}}]}}}}}}"#
    );
    assert!(evidence.ends_with(&logs));
}

#[test]
fn logs_that_a_node_does_not_have_are_not_made_up() {
    if !namespace::is_in_namespace("logs_that_a_node_does_not_have_are_not_made_up") {
        return;
    }
    let tpm = FakeTpm::new(1);
    let play = Play::with(&tpm, "autorun.sh", &payload("true"), Mishap::AsksForLogs);
    let ran = provision(play.port, tpm, Duration::from_secs(1));
    assert_eq!(ran.ending, Ending::Deadline(Some(Why::Unreachable)));
    assert_eq!(ran.file("secret"), None);
    // The offer alone: it has no log in it, and there is no evidence.
    let bodies = play.attestations.lock().unwrap();
    assert_eq!(bodies.len(), 1);
    assert!(!bodies[0].contains("_log"), "{}", bodies[0]);
}

#[test]
fn a_broken_link_goes_on_where_it_stopped() {
    if !namespace::is_in_namespace("a_broken_link_goes_on_where_it_stopped") {
        return;
    }
    let tpm = FakeTpm::new(1);
    let large = vec![b'x'; 3 << 20];
    let content = archive(&[("autorun.sh", b"true"), ("large", &large)]);
    let play = Play::with(&tpm, "autorun.sh", &content, Mishap::BrokenOff);
    let ran = provision(play.port, tpm, PATIENT);
    assert_eq!(ran.ending, Ending::Done(End::Finished));
    assert_eq!(ran.file("large").map(|text| text.len()), Some(3 << 20));
    assert_eq!(play.connections.load(Ordering::SeqCst), 2);
}

#[test]
fn script_that_fails_or_is_missing_is_told() {
    if !namespace::is_in_namespace("script_that_fails_or_is_missing_is_told") {
        return;
    }
    for (name, reached) in [
        ("autorun.sh", Reached::Finished),
        ("other.sh", Reached::Unpacked),
    ] {
        let tpm = FakeTpm::new(1);
        let play = Play::with(&tpm, name, &payload("exit 3"), Mishap::None);
        let ran = provision(play.port, tpm, PATIENT);
        assert_eq!(ran.ending.exit(), Exit::ScriptFailed, "{name}");
        assert_eq!(ran.tpm.caps, 1, "{name}");
        let receipts = play.receipts.lock().unwrap();
        assert_eq!(receipts.last().unwrap().reached, reached, "{name}");
    }
}

#[test]
fn segments_of_another_deposit_leave_nothing() {
    if !namespace::is_in_namespace("segments_of_another_deposit_leave_nothing") {
        return;
    }
    let tpm = FakeTpm::new(1);
    let play = Play::with(
        &tpm,
        "autorun.sh",
        &payload("true"),
        Mishap::ForeignSegments,
    );
    let ran = provision(play.port, tpm, PATIENT);
    assert_eq!(ran.ending.exit(), Exit::BadPayload);
    assert_eq!((ran.file("secret"), ran.tpm.caps), (None, 1));
}

#[test]
fn no_network_meets_deadline() {
    if !namespace::is_in_namespace("no_network_meets_deadline") {
        return;
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let ran = provision(port, FakeTpm::new(1), Duration::from_millis(300));
    assert_eq!(ran.ending, Ending::Deadline(Some(Why::Unreachable)));
    assert_eq!(ran.ending.exit(), Exit::NoNetwork);
    assert!(ran.took < Duration::from_secs(3), "{:?}", ran.took);
    assert_eq!(ran.tpm.caps, 0);
}

#[test]
fn a_verifier_that_falls_silent_meets_the_deadline_and_the_cap() {
    if !namespace::is_in_namespace("a_verifier_that_falls_silent_meets_the_deadline_and_the_cap") {
        return;
    }
    for (end, caps) in [("/sealed", 0), ("/attestations", 0), ("/release", 1)] {
        let tpm = FakeTpm::new(1);
        let play = Play::with(&tpm, "autorun.sh", &payload("true"), Mishap::Silence(end));
        let ran = provision(play.port, tpm, Duration::from_millis(700));
        assert!(matches!(ran.ending, Ending::Deadline(_)), "{end}");
        assert!(ran.took < Duration::from_secs(5), "{end}: {:?}", ran.took);
        assert_eq!(ran.tpm.caps, caps, "{end}");
    }
}
