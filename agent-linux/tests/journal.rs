//! The journal of revocations: what an agent that was killed anywhere leaves, and what the next one makes of it.
//!
//! A run ends every other descendant of the process, so these tests take turns.
#![cfg(feature = "revocations")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "common/notices.rs"]
mod notices;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_core::revocation::{
    Act, ActionEnd, HEAD_FILE, Heard, LedgerError, LogId, NoticeError, NoticeForm, Taken,
    VerifyError, hear,
};
use agent_linux::actions::{ActionRules, Actions};
use agent_linux::crl::ListRules;
use agent_linux::fence::Fence;
use agent_linux::job::{Identity, OutputPolicy};
use agent_linux::revocations::{MAX_KEPT, MAX_OUTCOMES, MAX_WAITING, Revocations, TrustRules};
use notices::{Anchor, Log, Signed};
use tempfile::TempDir;

static TURN: Mutex<()> = Mutex::new(());

/// A node's landing zone, with a payload in it whose actions say that they ran.
struct Place {
    root: TempDir,
    anchor: Anchor,
    rules: ActionRules,
    without_payload: bool,
    _turn: MutexGuard<'static, ()>,
}

impl Place {
    fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let root = TempDir::new().unwrap();
        let installed = root.path().join("installed");
        fs::create_dir(&installed).unwrap();
        let place = Self {
            rules: ActionRules {
                configured: "one two".into(),
                installed,
                allow_payload: true,
                directory: root.path().to_owned(),
                timeout: Duration::from_secs(20),
                lists: ListRules::default(),
            },
            root,
            anchor: Anchor::new(),
            without_payload: false,
            _turn: turn,
        };
        for name in ["one", "two"] {
            let path = place.rules.installed.join(name);
            let text = format!(
                "#!/bin/sh\necho {name} $(grep -o '\"number\":[0-9]*' \"$1\" | cut -d: -f2) >>told\n"
            );
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A payload lands, with this head.
    fn land(&self, head: Option<&str>) {
        let _ = fs::remove_dir_all(self.path("old"));
        let _ = fs::rename(self.path("unzipped"), self.path("old"));
        fs::create_dir(self.path("unzipped")).unwrap();
        if let Some(head) = head {
            fs::write(self.path("unzipped").join(HEAD_FILE), head).unwrap();
        }
    }

    /// An agent starts.
    fn open(&self) -> Revocations {
        self.open_within(1 << 20)
    }

    fn open_within(&self, room: u64) -> Revocations {
        let rules = TrustRules {
            notifier: Some(self.anchor.certificate()),
            without_payload: self.without_payload,
        };
        Revocations::open_in(self.root.path(), &self.path("unzipped"), room, rules)
    }

    fn work_off(&self, revocations: &Revocations) {
        let payload = self.path("unzipped");
        revocations.work_off(&self.actions(&payload), &false.into());
    }

    fn actions<'a>(&'a self, payload: &'a Path) -> Actions<'a> {
        Actions {
            rules: &self.rules,
            payload,
            private: self.root.path(),
            identity: Identity::of_root("node-1"),
            output: OutputPolicy::Quiet,
            deadline: None,
        }
    }

    /// What actions have told, and forget it.
    fn told(&self) -> Vec<String> {
        let told = fs::read_to_string(self.path("told")).unwrap_or_default();
        let _ = fs::remove_file(self.path("told"));
        told.lines().map(str::to_owned).collect()
    }

    fn journal(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.path("revocations")).unwrap();
        let files = files.map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        });
        files.collect()
    }

    fn lines(&self) -> String {
        fs::read_to_string(self.path("revocations/journal")).unwrap()
    }

    fn set_journal(&self, messages: &BTreeMap<String, Vec<u8>>, lines: &str) {
        fs::remove_dir_all(self.path("revocations")).unwrap();
        fs::create_dir(self.path("revocations")).unwrap();
        for (name, bytes) in messages {
            fs::write(self.path("revocations").join(name), bytes).unwrap();
        }
        fs::write(self.path("revocations/journal"), lines).unwrap();
    }
}

fn tell(revocations: &Revocations, signed: &Signed) -> Result<Heard, NoticeError> {
    let mut buffer = [0; agent_core::revocation::MAX_MESSAGE_BYTES];
    let mut form = NoticeForm::new(&mut buffer);
    form.feed(signed.body().as_bytes()).unwrap();
    hear(&form.finish().unwrap(), revocations)
}

fn taken(revocations: &Revocations, signed: &Signed) -> Taken {
    match tell(revocations, signed) {
        Ok(Heard::Entry { taken, .. } | Heard::Plain(taken)) => taken,
        other => panic!("{other:?}"),
    }
}

/// What is reported: the actions of each entry, with `!` before what is interrupted.
fn outcomes(revocations: &Revocations, log: &Log<'_>, after: u64) -> Vec<String> {
    let mut found = Vec::new();
    let id = LogId::parse(&log.id).unwrap();
    revocations.outcomes(&id, after, &mut |number, actions| {
        let actions = actions.map(|action| match action.end {
            ActionEnd::Exited { code: 0 } => action.name.to_owned(),
            ActionEnd::Interrupted => format!("!{}", action.name),
            other => format!("{} {other:?}", action.name),
        });
        let actions: Vec<_> = actions.collect();
        found.push(format!("{number}: {}", actions.join(" ")));
        true
    });
    found
}

#[test]
fn killed_anywhere_nothing_is_lost_and_nothing_runs_twice() {
    let place = Place::new();
    let mut log = place.anchor.log("ab");
    let old = log.revoke();
    place.land(Some(&log.head()));
    let entries = [log.revoke(), log.revoke()];
    let revocations = place.open();
    for entry in &entries {
        assert_eq!(taken(&revocations, entry), Taken::Acting);
    }
    let mut messages = place.journal();
    messages.remove("journal");
    assert_eq!(messages.len(), 2, "a file for each message");
    place.work_off(&revocations);
    drop(revocations);
    assert_eq!(place.told(), ["one 2", "two 2", "one 3", "two 3"]);
    assert_eq!(place.journal().len(), 1, "messages that are done are gone");
    let whole = place.lines();

    let ends: Vec<_> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    assert_eq!(ends.len(), 1 + 2 + 2 * 5, "{whole}");
    let mut interrupted = 0;
    for end in [0].into_iter().chain(ends) {
        // A line that was being written is none.
        for tail in ["", "begin\t1\ton"] {
            let lines = format!("{}{tail}", &whole[..end]);
            place.set_journal(&messages, &lines);
            let mut expected = Vec::new();
            let mut reported = Vec::new();
            for (seq, number) in [(1, 2), (2, 3)] {
                let actions = ["one", "two"].map(|name| {
                    let begun = whole[..end].contains(&format!("begin\t{seq}\t{name}\n"));
                    let ended = whole[..end].contains(&format!("end\t{seq}\t{name}\t"));
                    if !begun {
                        expected.push(format!("{name} {number}"));
                    }
                    interrupted += usize::from(begun && !ended);
                    format!("{}{name}", if begun && !ended { "!" } else { "" })
                });
                reported.push(format!("{number}: {}", actions.join(" ")));
            }
            let revocations = place.open();
            // Who had no answer sends it again.
            assert_eq!(taken(&revocations, &old), Taken::Known);
            for entry in &entries {
                let taken = taken(&revocations, entry);
                assert!(matches!(taken, Taken::Acting | Taken::Known), "{lines}");
            }
            place.work_off(&revocations);
            assert_eq!(place.told(), expected, "after {lines}");
            assert_eq!(outcomes(&revocations, &log, 1), reported, "after {lines}");
            let standing = revocations.standing(None);
            assert_eq!((standing.position, standing.wanted), (3, 4));
            drop(revocations);
            // And so it stays.
            let revocations = place.open();
            place.work_off(&revocations);
            assert_eq!(outcomes(&revocations, &log, 1), reported, "later: {lines}");
            assert!(place.told().is_empty(), "{lines}");
        }
    }
    assert_eq!(interrupted, 8, "each of four actions, with two tails");
}

#[test]
fn a_damaged_journal_keeps_what_can_be_kept() {
    let place = Place::new();
    let mut log = place.anchor.log("ab");
    place.land(Some(&log.head()));
    let entries = [log.revoke(), log.revoke(), log.revoke()];
    let revocations = place.open();
    entries.iter().for_each(|entry| {
        taken(&revocations, entry);
    });
    drop(revocations);
    let mut messages = place.journal();
    let lines = messages.remove("journal").unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let lines = lines.replacen('\n', "\n\u{7f}what is this\nend\t77\tx\t0\texit\t0\n", 1);
    // A message that isn't the one that was taken is not acted on; one that is gone neither.
    fs::write(place.path("outside"), "").unwrap();
    messages.insert("2".into(), b"{}".to_vec());
    place.set_journal(&messages, &lines);
    let revocations = place.open();
    assert!(
        !place.lines().contains("what is this"),
        "it is written anew"
    );
    place.work_off(&revocations);
    assert_eq!(place.told(), ["one 1", "two 1", "one 3", "two 3"]);
    let told = outcomes(&revocations, &log, 0);
    assert_eq!(told[0], "1: one two");
    assert!(told[1].starts_with("2: message NotRun"), "{told:?}");
    for garbage in [
        &b"\xff\xfe\n\n\t\t\n"[..],
        &[0; 5000],
        b"land\t1\nland\t2\n",
    ] {
        fs::write(place.path("revocations/journal"), garbage).unwrap();
        let revocations = place.open();
        assert_eq!(revocations.standing(None).position, 0, "it begins anew");
    }
}

#[test]
fn revocation_replay_is_refused() {
    let place = Place::new();
    let mut log = place.anchor.log("ab");
    place.land(Some(&log.head()));
    let (first, second, third) = (log.revoke(), log.revoke(), log.revoke());
    let revocations = place.open();
    assert_eq!(taken(&revocations, &second), Taken::Ahead);
    assert_eq!(taken(&revocations, &first), Taken::Acting);
    assert_eq!(taken(&revocations, &first), Taken::Known);
    assert_eq!(taken(&revocations, &second), Taken::Acting);
    place.work_off(&revocations);
    assert_eq!(place.told().len(), 4);
    for again in [&first, &second] {
        assert_eq!(taken(&revocations, again), Taken::Known);
    }
    drop(revocations);
    // Nor by the next agent.
    let revocations = place.open();
    for again in [&first, &second] {
        assert_eq!(taken(&revocations, again), Taken::Known);
    }
    place.work_off(&revocations);
    assert!(place.told().is_empty());
    // Another history of the same log.
    let mut forked = place.anchor.log("ab");
    let other = [
        forked.entry("revocation", r#","reason":"x""#),
        forked.revoke(),
        forked.revoke(),
    ];
    for entry in &other[1..] {
        let refused = tell(&revocations, entry);
        assert!(
            matches!(
                refused,
                Err(NoticeError::Ledger(LedgerError::Forked { .. }))
            ),
            "{refused:?}"
        );
    }
    // Another notifier's log, however it calls it.
    let stranger = Anchor::new();
    let refused = tell(&revocations, &stranger.sign(&third.text));
    assert_eq!(refused, Err(NoticeError::Verify(VerifyError::Mismatch)));
    let foreign = stranger.log("ab").revoke();
    let refused = tell(&revocations, &place.anchor.sign(&foreign.text));
    assert_eq!(refused, Err(NoticeError::Ledger(LedgerError::OtherAnchor)));
    // Our package's notifier numbers all that it sends.
    let unnumbered = place.anchor.sign(r#"{"type":"revocation"}"#);
    let refused = tell(&revocations, &unnumbered);
    assert_eq!(refused, Err(NoticeError::Ledger(LedgerError::Unnumbered)));
    assert_eq!(taken(&revocations, &third), Taken::Acting);
    place.work_off(&revocations);
    assert_eq!(place.told(), ["one 3", "two 3"]);
}

#[test]
fn unnumbered_messages_count_once_after_a_landing() {
    let place = Place::new();
    place.land(None);
    let plain = place.anchor.sign(r#"{"type":"revocation","number_":1}"#);
    let silent = place.anchor.sign(r#"{"type":"comm_error"}"#);
    let revocations = place.open();
    assert_eq!(tell(&revocations, &silent), Ok(Heard::Silence));
    assert_eq!(taken(&revocations, &plain), Taken::Acting);
    place.work_off(&revocations);
    assert_eq!(place.told().len(), 2);
    assert_eq!(taken(&revocations, &plain), Taken::Known);
    drop(revocations);
    let revocations = place.open();
    assert_eq!(taken(&revocations, &plain), Taken::Known, "after a restart");
    place.land(None);
    revocations.land();
    assert_eq!(
        taken(&revocations, &plain),
        Taken::Acting,
        "after a landing"
    );
}

#[test]
fn a_payload_landed_again_acts_again_from_its_head() {
    let place = Place::new();
    let mut log = place.anchor.log("ab");
    let first = log.revoke();
    let head = log.head();
    place.land(Some(&head));
    let second = log.revoke();
    let revocations = place.open();
    assert_eq!(taken(&revocations, &first), Taken::Known);
    assert_eq!(taken(&revocations, &second), Taken::Acting);
    place.work_off(&revocations);
    assert_eq!(place.told(), ["one 2", "two 2"]);
    let restart = |revocations| {
        drop(revocations);
        place.open()
    };
    let live = |revocations: Revocations| {
        revocations.land();
        revocations
    };
    // While the agent runs, and while none does: a killed agent may have landed it.
    let mut now = revocations;
    for again in [&live as &dyn Fn(Revocations) -> Revocations, &restart] {
        place.land(Some(&head));
        now = again(now);
        assert_eq!(outcomes(&now, &log, 0), Vec::<String>::new());
        assert_eq!(now.standing(None).wanted, 2);
        assert_eq!(taken(&now, &first), Taken::Known);
        assert_eq!(taken(&now, &second), Taken::Acting);
        place.work_off(&now);
        assert_eq!(place.told(), ["one 2", "two 2"]);
    }
    // A head that can't be read lets nothing in.
    place.land(Some("{"));
    now.land();
    let refused = tell(&now, &second);
    assert_eq!(refused, Err(NoticeError::Full));
}

#[test]
fn what_comes_before_the_payload_waits_for_it() {
    let place = Place::new();
    let mut log = place.anchor.log("ab");
    let old = log.revoke();
    let head = log.head();
    let new = log.revoke();
    let revocations = place.open();
    // Entries before the head are known by then, those of strangers are refused by now.
    for entry in [&new, &old, &new] {
        assert_eq!(tell(&revocations, entry), Ok(Heard::Kept));
    }
    let stranger = Anchor::new().sign(&new.text);
    assert!(tell(&revocations, &stranger).is_err());
    assert_eq!(place.journal().len(), 3, "none twice");
    assert_eq!(revocations.standing(None).log_id, None);
    place.work_off(&revocations);
    assert!(place.told().is_empty());
    drop(revocations);
    let revocations = place.open();
    revocations.hold();
    place.land(Some(&head));
    revocations.land();
    place.work_off(&revocations);
    assert!(place.told().is_empty(), "its script comes first");
    revocations.release();
    place.work_off(&revocations);
    assert_eq!(place.told(), ["one 2", "two 2"]);
    assert_eq!(taken(&revocations, &new), Taken::Known);
}

#[test]
fn a_payload_waits_for_the_action_that_runs_and_no_other() {
    let place = Place::new();
    let mut log = place.anchor.log("ab");
    let head = log.head();
    place.land(Some(&head));
    let entry = log.revoke();
    let slow = "#!/bin/sh\n: >running\nwhile [ ! -e go ]; do sleep 0.01; done\necho one >>told\n";
    fs::write(place.rules.installed.join("one"), slow).unwrap();
    let revocations = place.open();
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "in vain: {what}");
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let payload = place.path("unzipped");
            let cancel = false.into();
            revocations.work(&place.actions(&payload), &cancel, &|_| {});
        });
        assert_eq!(taken(&revocations, &entry), Taken::Acting);
        until("the first action", &|| place.path("running").exists());
        let held = scope.spawn(|| {
            revocations.hold();
            (place.told(), outcomes(&revocations, &log, 0))
        });
        // By then it is asked for; a little later would prove no more.
        std::thread::sleep(Duration::from_millis(50));
        fs::write(place.path("go"), "").unwrap();
        let held = held.join().unwrap();
        // No payload has landed after all: it goes on where it was.
        revocations.release();
        until("the end", &|| {
            outcomes(&revocations, &log, 0) == ["1: one two"]
        });
        revocations.stop();
        assert_eq!(held, (vec!["one".into()], Vec::new()), "the second waits");
        assert_eq!(place.told(), ["two 1"]);
    });
}

#[test]
fn a_node_that_needs_no_payload_acts_at_once() {
    let mut place = Place::new();
    place.without_payload = true;
    let mut log = place.anchor.log("ab");
    let (first, second) = (log.revoke(), log.revoke());
    let revocations = place.open();
    assert_eq!(taken(&revocations, &first), Taken::Acting);
    place.work_off(&revocations);
    assert_eq!(place.told(), ["one 1", "two 1"]);
    drop(revocations);
    let revocations = place.open();
    assert_eq!(taken(&revocations, &first), Taken::Known);
    assert_eq!(taken(&revocations, &second), Taken::Acting);
    place.work_off(&revocations);
    assert_eq!(place.told(), ["one 2", "two 2"]);
}

#[test]
#[cfg_attr(no_landlock, ignore = "this kernel has no Landlock")]
fn a_fenced_thread_reaches_the_journal_and_no_more() {
    let place = Place::new();
    let mut log = place.anchor.log("ab");
    place.land(Some(&log.head()));
    let entry = log.revoke();
    let revocations = place.open();
    std::thread::scope(|scope| {
        let fenced = scope.spawn(|| {
            assert_eq!(revocations.fence(), Fence::Up);
            let outside = fs::write(place.path("outside"), "");
            assert_eq!(outside.unwrap_err().kind(), ErrorKind::PermissionDenied);
            taken(&revocations, &entry)
        });
        assert_eq!(fenced.join().unwrap(), Taken::Acting);
    });
    assert_eq!(place.journal().len(), 2);
    place.work_off(&revocations);
    assert_eq!(place.told(), ["one 1", "two 1"]);
}

#[test]
fn everything_is_bounded() {
    let mut place = Place::new();
    let mut log = place.anchor.log("ab");
    let early: Vec<_> = (0..=MAX_KEPT).map(|_| log.revoke()).collect();
    let revocations = place.open();
    let (last, others) = early.split_last().unwrap();
    for entry in others {
        assert_eq!(tell(&revocations, entry), Ok(Heard::Kept));
    }
    assert_eq!(tell(&revocations, last), Err(NoticeError::Full));
    drop(revocations);

    let mut log = place.anchor.log("cd");
    place.land(Some(&log.head()));
    place.rules.configured.clear();
    fs::remove_dir_all(place.path("revocations")).unwrap();
    let revocations = place.open();
    let mut one_more = log.revoke();
    for _ in 0..MAX_WAITING {
        assert_eq!(taken(&revocations, &one_more), Taken::Acting);
        one_more = log.revoke();
    }
    assert_eq!(tell(&revocations, &one_more), Err(NoticeError::Full));
    place.work_off(&revocations);
    for _ in 0..MAX_OUTCOMES {
        assert_eq!(taken(&revocations, &one_more), Taken::Acting);
        place.work_off(&revocations);
        one_more = log.revoke();
    }
    let kept = outcomes(&revocations, &log, 0);
    assert_eq!(kept.len(), MAX_OUTCOMES);
    assert_eq!(kept[0], "17: ", "the oldest are forgotten");
    drop(revocations);
    let revocations = place.open();
    assert_eq!(outcomes(&revocations, &log, 0), kept);
    assert_eq!(taken(&revocations, &one_more), Taken::Acting);
    drop(revocations);
    // No room at all.
    let next = log.revoke();
    let revocations = place.open_within(0);
    assert_eq!(tell(&revocations, &next), Err(NoticeError::Full));
    assert_eq!(revocations.standing(None).wanted, 82);
    let nowhere = Path::new("/nonexistent");
    let revocations = Revocations::open_in(nowhere, nowhere, 1 << 20, TrustRules::default());
    assert_eq!(tell(&revocations, &next), Err(NoticeError::Full));
}

#[test]
fn a_long_journal_is_written_anew() {
    let mut place = Place::new();
    let mut log = place.anchor.log("ab");
    place.land(Some(&log.head()));
    // Names that nothing is found for: long lines, and no process.
    let names: Vec<_> = (0..60)
        .map(|n| format!("{n}-{}", "x".repeat(100)))
        .collect();
    place.rules.configured = names.join(" ");
    let revocations = place.open();
    let mut longest = 0;
    for _ in 0..16 {
        assert_eq!(taken(&revocations, &log.revoke()), Taken::Acting);
        place.work_off(&revocations);
        longest = longest.max(place.lines().len());
    }
    let told = outcomes(&revocations, &log, 0);
    assert_eq!(told.len(), 16);
    drop(revocations);
    let revocations = place.open();
    assert_eq!(outcomes(&revocations, &log, 0), told);
    assert!(place.lines().len() <= longest);
    // Without what begins and ends, only the ends.
    assert!(
        !place.lines()[..longest / 2].contains("begin\t1\t"),
        "it was never written anew"
    );
}
