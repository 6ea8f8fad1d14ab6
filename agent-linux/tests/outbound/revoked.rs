//! Revocations of an agent that calls its verifier: fetched, acted on, reported.

#[path = "../common/notices.rs"]
mod notices;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::outbound::{End, Mode};
use agent_core::revocation::{Act, HEAD_FILE};
use agent_core::tpm::FakeTpm;
use agent_linux::actions::ActionRules;
use agent_linux::crl::ListRules;
use agent_linux::job::{Identity, OutputPolicy};
use agent_linux::landing::Zone;
use agent_linux::outbound::{self, Acting, Ending, Flow, Link, Running, Terms};
use agent_linux::revocations::{Revocations, TrustRules};
use tempfile::TempDir;

use super::verifier::{Mishap, Play, Signatures, ToPlay, agent, archive};
use super::{Limits, NoRegistrar, PATIENT, config, namespace};
use notices::{Anchor, Signed};

/// A node with one action of its own.
struct Place {
    root: TempDir,
    anchor: Anchor,
}

impl Place {
    fn new(action: &str) -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("actions")).unwrap();
        let path = root.path().join("actions/tell");
        fs::write(&path, action).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        Self {
            root,
            anchor: Anchor::new(),
        }
    }

    fn told(&self) -> String {
        fs::read_to_string(self.root.path().join("told")).unwrap_or_default()
    }

    /// A payload whose package knows the log up to here, with a script that tells.
    fn payload(&self, head: Option<&str>) -> Vec<u8> {
        let script = format!(
            "#!/bin/sh\necho script >>{}/told\n",
            self.root.path().display()
        );
        let certificate = fs::read(self.anchor.certificate()).unwrap();
        let mut files = vec![
            ("autorun.sh", script.as_bytes()),
            ("RevocationNotifier-cert.crt", &certificate),
        ];
        files.extend(head.map(|head| (HEAD_FILE, head.as_bytes())));
        archive(&files)
    }

    fn run(
        &self,
        mode: Mode,
        play: &Play,
        tpm: &mut FakeTpm,
        within: Duration,
        stop: &AtomicBool,
    ) -> Ending {
        let mut zone = Zone::open(self.root.path(), 16 << 20).unwrap();
        let revocations = Revocations::open(&zone, TrustRules::default());
        let rules = ActionRules {
            configured: "tell".into(),
            installed: self.root.path().join("actions"),
            allow_payload: true,
            directory: self.root.path().to_owned(),
            timeout: Duration::from_secs(20),
            lists: ListRules::default(),
        };
        let uuid = agent();
        let flow = Flow {
            link: Link::new(ToPlay(play.port)),
            tpm,
            verify: Signatures,
            enrol: NoRegistrar,
            zone: &mut zone,
            terms: Terms {
                deadline: (mode == Mode::Provision).then(|| Instant::now() + within),
                spool: None::<PathBuf>,
                image_seconds: 0,
                archives: Limits::default(),
                script: Running {
                    identity: Identity::of_root(uuid.as_str()),
                    timeout: Duration::from_secs(20),
                    output: OutputPolicy::Quiet,
                },
                stop,
                acting: Some(Acting {
                    revocations: &revocations,
                    rules: &rules,
                }),
            },
        };
        match mode {
            Mode::Provision => outbound::provision(config(mode), flow),
            Mode::Push => outbound::push(config(mode), flow),
        }
    }

    fn provision(&self, play: &Play, mut tpm: FakeTpm, within: Duration) -> Ending {
        self.run(
            Mode::Provision,
            play,
            &mut tpm,
            within,
            &AtomicBool::new(false),
        )
    }
}

fn revoke(play: &Play, log_id: &str, entries: &[Signed]) {
    let mut revoked = play.revoked.lock().unwrap();
    revoked.log_id = Some(log_id.to_owned());
    revoked.entries.extend(entries.iter().map(Signed::body));
}

fn asked(play: &Play) -> Vec<String> {
    let asked = play.requests().into_iter();
    asked.filter(|line| line.contains("/revocations")).collect()
}

const TELLS: &str = "#!/bin/sh\ngrep -o '\"number\":[0-9]*' \"$1\" >>told\n";

#[test]
fn offline_peer_catches_up() {
    if !namespace::is_in_namespace("revoked::offline_peer_catches_up") {
        return;
    }
    let place = Place::new(TELLS);
    let mut log = place.anchor.log("ab");
    let mut entries = vec![log.revoke()];
    let head = log.head();
    entries.extend((0..5).map(|_| log.revoke()));
    let tpm = FakeTpm::new(1);
    let play = Play::with(
        &tpm,
        "autorun.sh",
        &place.payload(Some(&head)),
        Mishap::None,
    );
    revoke(&play, &log.id, &entries);
    let ending = place.provision(&play, tpm, PATIENT);
    assert_eq!(ending, Ending::Done(End::Finished));
    let numbers: String = (2..=6).map(|n| format!("\"number\":{n}\n")).collect();
    assert_eq!(
        place.told(),
        format!("script\n{numbers}"),
        "after the script, in order"
    );
    let told = play.revoked.lock().unwrap().outcomes.join("\n");
    for number in 2..=6 {
        let wanted = format!(r#"{{"number":{number},"actions":[{{"name":"tell","exit_code":0"#);
        assert_eq!(told.matches(&wanted).count(), 1, "{told}");
    }
    assert!(told.ends_with(r#""duration_ms":0}]}]}}}"#) || told.contains(r#""position":6"#));
    let asked = asked(&play);
    let first = format!("log_id={}&after=1 ", log.id);
    assert!(
        asked
            .iter()
            .any(|line| line.starts_with("GET ") && line.contains(&first)),
        "{asked:?}"
    );
    assert_eq!(play.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn no_link_error_fails_a_provision() {
    if !namespace::is_in_namespace("revoked::no_link_error_fails_a_provision") {
        return;
    }
    for (name, sets_up) in [
        ("a verifier without the route", None),
        ("a log that it doesn't have yet", Some("")),
        ("a connection that ends", Some("breaks")),
        ("garbage", Some("garbage")),
        ("a stranger's entries", Some("stranger")),
    ] {
        let place = Place::new(TELLS);
        let log = place.anchor.log("ab");
        let tpm = FakeTpm::new(1);
        let play = Play::with(
            &tpm,
            "autorun.sh",
            &place.payload(Some(&log.head())),
            Mishap::None,
        );
        if let Some(kind) = sets_up {
            let mut revoked = play.revoked.lock().unwrap();
            revoked.log_id = Some(log.id.clone());
            revoked.breaks = kind == "breaks";
            match kind {
                "garbage" => revoked.entries.push(r#"{"msg":7}"#.to_owned()),
                "stranger" => revoked
                    .entries
                    .push(Anchor::new().log("ab").revoke().body()),
                _ => {}
            }
        }
        let ending = place.provision(&play, tpm, PATIENT);
        assert_eq!(ending, Ending::Done(End::Finished), "{name}");
        assert_eq!(place.told(), "script\n", "{name}");
        assert!(!asked(&play).is_empty(), "{name}");
    }
}

#[test]
fn an_action_that_hangs_keeps_the_deadline() {
    if !namespace::is_in_namespace("revoked::an_action_that_hangs_keeps_the_deadline") {
        return;
    }
    let place = Place::new("#!/bin/sh\necho began >>told\nsleep 60\n");
    let mut log = place.anchor.log("ab");
    let head = log.head();
    let entries = [log.revoke(), log.revoke()];
    let tpm = FakeTpm::new(1);
    let play = Play::with(
        &tpm,
        "autorun.sh",
        &place.payload(Some(&head)),
        Mishap::None,
    );
    revoke(&play, &log.id, &entries);
    let began = Instant::now();
    let ending = place.provision(&play, tpm, Duration::from_secs(3));
    assert_eq!(
        ending,
        Ending::Done(End::Finished),
        "the payload has landed"
    );
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(place.told(), "script\nbegan\n");
    // The next agent of this boot goes on with what waits.
    let zone = Zone::open(place.root.path(), 16 << 20).unwrap();
    let revocations = Revocations::open(&zone, TrustRules::default());
    let standing = revocations.standing(None);
    assert_eq!((standing.position, standing.wanted), (1, 3));
}

#[test]
fn attesting_goes_on_while_actions_run() {
    if !namespace::is_in_namespace("revoked::attesting_goes_on_while_actions_run") {
        return;
    }
    let place = Arc::new(Place::new(
        "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.01; done\ngrep -o '\"number\":[0-9]*' \"$1\" >>told\n",
    ));
    let mut log = place.anchor.log("ab");
    let head = log.head();
    // More than may wait at once.
    let entries: Vec<_> = (0..20).map(|_| log.revoke()).collect();
    let mut tpm = FakeTpm::new(1);
    let play = Play::with(
        &tpm,
        "autorun.sh",
        &place.payload(Some(&head)),
        Mishap::None,
    );
    revoke(&play, &log.id, &entries);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let runs = scope.spawn(|| place.run(Mode::Push, &play, &mut tpm, PATIENT, &stop));
        let until = |what: &str, done: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(40);
            while !done() {
                if Instant::now() > deadline || runs.is_finished() {
                    stop.store(true, Ordering::SeqCst);
                    panic!("in vain: {what}: {:?}", play.requests());
                }
                thread::sleep(Duration::from_millis(5));
            }
        };
        let attested = || play.attestations.lock().unwrap().len();
        until("entries", &|| !asked(&play).is_empty());
        let before = attested();
        until("attestations beside an action", &|| {
            attested() >= before + 4
        });
        assert_eq!(place.told(), "script\n");
        fs::write(place.root.path().join("go"), "").unwrap();
        let ended = Instant::now();
        until("the report", &|| {
            let revoked = play.revoked.lock().unwrap();
            revoked
                .outcomes
                .iter()
                .any(|body| body.contains(r#""position":20"#))
        });
        println!("all told after {:?}", ended.elapsed());
        stop.store(true, Ordering::SeqCst);
        assert_eq!(runs.join().unwrap(), Ending::Stopped);
    });
    let numbers: String = (1..=20).map(|n| format!("\"number\":{n}\n")).collect();
    assert_eq!(place.told(), format!("script\n{numbers}"));
    let told = play.revoked.lock().unwrap().outcomes.join("\n");
    for number in 1..=20 {
        let wanted = format!(r#"{{"number":{number},"actions":"#);
        assert_eq!(told.matches(&wanted).count(), 1, "{number}: {told}");
    }
}
