//! Revocation actions: the documented one, those that misbehave, and what each of them gets.
//!
//! A run ends every other descendant of the process, so these tests have a program of their own and take turns.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_core::revocation::Kind;
use agent_linux::actions::{
    ActionError, ActionRules, Actions, FindError, Hold, Notice, Outcome, Progress,
};
use agent_linux::crl::ListRules;
use agent_linux::job::{End, Identity, OutputPolicy, TAIL_BYTES};
use tempfile::TempDir;

static TURN: Mutex<()> = Mutex::new(());

/// What a verifier sends.
const MESSAGE: &str = r#"{"type": "revocation", "agent_id": "n\u00f6de", "meta_data": "{}"}"#;

/// From Keylime's documentation of secure payloads, word for word.
const DOCUMENTED: &str = "import os\n\nasync def execute(json_revocation):\n\tos.remove(\"/root/.ssh/payload_id_rsa\")\n\tos.remove(\"/root/.ssh/payload_id_rsa.pub\")\n";

/// A node with actions: its own, and its payload's.
struct Place {
    root: TempDir,
    rules: ActionRules,
    /// What the message is about, if it is an entry.
    kind: Option<Kind>,
    message: &'static str,
}

/// Keeps what comes of actions.
struct Ended(Vec<Outcome>);

impl Progress for Ended {
    fn is_begun(&self, _: &str) -> bool {
        false
    }

    fn begin(&mut self, _: &str) -> Result<(), Hold> {
        Ok(())
    }

    fn ended(&mut self, outcome: Outcome) {
        self.0.push(outcome);
    }
}

impl Place {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        for directory in ["installed", "secure/unzipped"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let rules = ActionRules {
            configured: String::new(),
            installed: root.path().join("installed"),
            allow_payload: true,
            directory: root.path().to_owned(),
            timeout: Duration::from_secs(30),
            lists: ListRules::default(),
        };
        Self {
            root,
            rules,
            kind: None,
            message: MESSAGE,
        }
    }

    /// A node whose payload has this file and no other.
    fn with(name: &str, text: &str) -> Self {
        let place = Self::new();
        place.payload(name, text);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn installed(&self, name: &str, text: &str) {
        write(&self.rules.installed.join(name), text, 0o755);
    }

    fn payload(&self, name: &str, text: &str) {
        write(&self.path("secure/unzipped").join(name), text, 0o600);
    }

    /// What actions have written to the file `told`.
    fn told(&self) -> String {
        fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    fn notify(&self) -> Vec<Outcome> {
        self.notify_until(&AtomicBool::new(false))
    }

    fn notify_until(&self, cancel: &AtomicBool) -> Vec<Outcome> {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let actions = Actions {
            rules: &self.rules,
            payload: &self.path("secure/unzipped"),
            private: &self.path("secure"),
            identity: Identity::of_root("node-1"),
            output: OutputPolicy::Quiet,
            deadline: None,
        };
        let notice = Notice {
            text: self.message,
            kind: self.kind,
        };
        let mut ended = Ended(Vec::new());
        actions.carry_out(&notice, cancel, &mut ended);
        let outcomes = ended.0;
        let left: Vec<_> = fs::read_dir(self.path("secure")).unwrap().collect();
        assert_eq!(left.len(), 1, "the message is left: {left:?}");
        outcomes
    }

    /// The one action's end, and the end of what it wrote.
    fn run(&self) -> (End, String) {
        let outcomes = self.notify();
        let [outcome] = &outcomes[..] else {
            panic!("{} actions", outcomes.len());
        };
        match &outcome.ended {
            Ok(ended) => (ended.end, String::from_utf8_lossy(&ended.tail).into_owned()),
            Err(error) => panic!("{error}"),
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn documented_action_verbatim() {
    let place = Place::new();
    let ssh = place.path("ssh");
    fs::create_dir(&ssh).unwrap();
    for name in ["payload_id_rsa", "payload_id_rsa.pub", "other"] {
        fs::write(ssh.join(name), "").unwrap();
    }
    // Only the directory is another: the test isn't root's alone.
    let text = DOCUMENTED.replace("/root/.ssh", ssh.to_str().unwrap());
    place.payload("local_action_rm_ssh.py", &text);
    assert_eq!(place.run(), (End::Exit(0), String::new()));
    let left: Vec<_> = fs::read_dir(&ssh).unwrap().collect();
    assert_eq!(left.len(), 1);
    // A second time there is nothing to remove, and that doesn't look like a success.
    let (end, output) = place.run();
    assert_eq!(end, End::Exit(1));
    assert!(output.contains("FileNotFoundError"), "{output}");
}

#[test]
fn python_ends() {
    let rows = [
        (
            "sync",
            "def execute(json_revocation):\n    print(json_revocation['agent_id'])\n",
            (End::Exit(0), "nöde"),
        ),
        (
            "async",
            "import asyncio\nasync def execute(r):\n    await asyncio.sleep(0)\n    print(type(r).__name__)\n",
            (End::Exit(0), "dict"),
        ),
        (
            "arguments",
            "import sys\ndef execute(r):\n    print(len(sys.argv), open(sys.argv[1]).read() == sys.stdin.read(), __file__ == sys.argv[0])\n",
            (End::Exit(0), "2 True True"),
        ),
        (
            "sync exception",
            "def execute(r):\n    raise ValueError('sync')\n",
            (End::Exit(1), "ValueError: sync"),
        ),
        (
            "async exception",
            "async def execute(r):\n    raise ValueError('async')\n",
            (End::Exit(1), "ValueError: async"),
        ),
        (
            "exception at import",
            "import no_such_module\ndef execute(r):\n    pass\n",
            (End::Exit(1), "ModuleNotFoundError"),
        ),
        (
            "no syntax",
            "def execute(r)\n    pass\n",
            (End::Exit(1), "SyntaxError"),
        ),
        (
            "no execute",
            "def exec(r):\n    pass\n",
            (End::Exit(1), "execute"),
        ),
        (
            "its own exit code",
            "import sys\ndef execute(r):\n    sys.exit(7)\n",
            (End::Exit(7), ""),
        ),
        (
            "a module beside it",
            "import helper\ndef execute(r):\n    helper.help()\n",
            (End::Exit(0), "helped"),
        ),
    ];
    for (name, text, (end, output)) in rows {
        let place = Place::with("local_action_it.py", text);
        place.payload("helper.py", "def help():\n    print('helped')\n");
        let (ended, told) = place.run();
        assert_eq!(ended, end, "{name}: {told}");
        assert!(told.contains(output), "{name}: {told}");
        let left = fs::read_dir(place.path("secure/unzipped")).unwrap();
        assert_eq!(left.count(), 2, "{name}: something beside the modules");
    }
}

#[test]
fn programs_get_the_message_twice_and_no_more() {
    let place = Place::with(
        "local_action_it",
        "#!/bin/sh\necho \"$#\"; stat -c %a \"$1\"; cat \"$1\"; echo; cat; echo; pwd; echo \"$AGENT_UUID\"\nenv | grep -c revocation\n",
    );
    let (end, told) = place.run();
    let directory = place.root.path().canonicalize().unwrap();
    let want = format!(
        "1\n600\n{MESSAGE}\n{MESSAGE}\n{}\nnode-1\n0\n",
        directory.display()
    );
    assert_eq!((end, told), (End::Exit(1), want), "grep finds nothing");
    // As a shell would start it.
    let place = Place::with(
        "local_action_it",
        "echo \"$0\" | grep -o '[^/]*$'; exit 4\n",
    );
    assert_eq!(place.run(), (End::Exit(4), "local_action_it\n".into()));
}

#[test]
fn the_nodes_own_come_first() {
    let mut place = Place::new();
    let tell = |word: &str| format!("#!/bin/sh\necho {word} >>told\n");
    place.rules.configured = "\"b, a\"".into();
    place.installed("a", &tell("installed-a"));
    place.payload("a", &tell("payload-a"));
    place.installed(
        "b.py",
        "def execute(r):\n    open('told', 'a').write('installed-b\\n')\n",
    );
    place.payload("c", &tell("payload-c"));
    place.payload("local_action_d", &tell("payload-d"));
    place.payload("action_list", "[c, b, b.py, a]\r\n");
    let outcomes = place.notify();
    let names: Vec<_> = outcomes.iter().map(|outcome| &outcome.name[..]).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert!(outcomes.iter().all(Outcome::is_success));
    assert_eq!(place.told(), "installed-b\ninstalled-a\npayload-c\n");

    fs::remove_file(place.path("told")).unwrap();
    place.rules.allow_payload = false;
    place.rules.configured = "c, a".into();
    let outcomes = place.notify();
    let missing = &outcomes[0].ended;
    assert!(matches!(
        missing,
        Err(ActionError::Find(FindError::Missing))
    ));
    assert_eq!((outcomes.len(), place.told()), (2, "installed-a\n".into()));
}

#[test]
fn one_bad_action_stops_nothing() {
    let mut place = Place::new();
    place.rules.timeout = Duration::from_secs(3);
    place.rules.configured = "../a exposed".into();
    place.installed("exposed", "#!/bin/sh\necho exposed >>told\n");
    let exposed = place.rules.installed.join("exposed");
    fs::set_permissions(exposed, Permissions::from_mode(0o777)).unwrap();
    let names = [
        ("fails", "#!/bin/sh\nexit 3\n"),
        ("raises.py", "def execute(r):\n    raise KeyError\n"),
        ("dies", "#!/bin/sh\nkill -9 $$\n"),
        (
            "hangs",
            "#!/bin/sh\ntrap '' TERM\nsleep 1000 & sleep 1000\n",
        ),
        ("spoils", "#!/bin/sh\necho >\"$1\"; rm \"$1\"; exit 0\n"),
        ("no-program", "#!/nonexistent\n"),
        ("good", "#!/bin/sh\nsleep 1000 & cat \"$1\" >told\n"),
    ];
    for (name, text) in names {
        place.payload(name, text);
    }
    let list = names.map(|(name, _)| name).join(" ");
    place.payload("action_list", &format!("missing {list}"));
    let outcomes = place.notify();
    let ends: Vec<_> = outcomes
        .iter()
        .map(|outcome| match &outcome.ended {
            Ok(ended) => format!("{} {:?}", outcome.name, ended.end),
            Err(error) => format!("{} {error}", outcome.name)
                .split(' ')
                .take(2)
                .collect::<Vec<_>>()
                .join(" "),
        })
        .collect();
    let want = [
        "../a no",
        &format!(
            "exposed {}",
            place.rules.installed.join("exposed").display()
        ),
        "missing no",
        "fails Exit(3)",
        "raises.py Exit(1)",
        "dies Signal(9)",
        "hangs TimedOut",
        "spoils Exit(0)",
    ];
    assert_eq!(ends[..want.len()], want);
    // Shells differ in how they say it.
    assert!(
        ["no-program Exit(126)", "no-program Exit(127)"].contains(&&ends[8][..]),
        "{}",
        ends[8]
    );
    assert_eq!(ends[9], "good Exit(0)");
    assert_eq!(place.told(), MESSAGE);
}

#[test]
fn a_list_sets_off_its_own_actions_alone() {
    let mut place = Place::new();
    let tell = "#!/bin/sh\necho \"${0##*/}\" >>told\n";
    for name in ["crl_reload", "rm_ssh", "update-crl"] {
        place.installed(name, tell);
    }
    place.rules.configured = "rm_ssh crl_reload update-crl".into();
    place.payload("local_action_it", tell);
    let rows = [
        (None, "rm_ssh\ncrl_reload\nlocal_action_it\n"),
        (
            Some(Kind::Revocation),
            "rm_ssh\ncrl_reload\nlocal_action_it\n",
        ),
        (Some(Kind::Crl), "crl_reload\n"),
    ];
    for (kind, told) in rows {
        place.kind = kind;
        let outcomes = place.notify();
        assert!(outcomes.iter().all(Outcome::is_success), "{kind:?}");
        assert_eq!(place.told(), told, "{kind:?}");
        fs::remove_file(place.path("told")).unwrap();
    }
}

#[test]
fn the_built_in_action_comes_first_where_there_is_a_list() {
    let mut place = Place::new();
    place.installed("crl_reload", "#!/bin/sh\necho reload >>told\n");
    place.rules.configured = "crl_reload".into();
    place.message = r#"{"type":"crl","crl":"AAAA"}"#;
    for kind in [Kind::Crl, Kind::Revocation] {
        place.kind = Some(kind);
        let outcomes = place.notify();
        let ends: Vec<_> = outcomes
            .iter()
            .map(|outcome| (&*outcome.name, outcome.ended.as_ref().unwrap().end))
            .collect();
        // No authority says that this list counts.
        let wanted = [("update-crl", End::Exit(1)), ("crl_reload", End::Exit(0))];
        assert_eq!(ends, wanted, "{kind:?}");
        let told = outcomes[0].ended.as_ref().unwrap();
        let told = String::from_utf8_lossy(&told.tail);
        assert!(told.contains("cacert.crt"), "{told}");
    }
    // Keylime's messages bring none, whatever is in them.
    place.kind = None;
    assert_eq!(place.notify().len(), 1);
}

#[test]
fn much_output_is_fine() {
    let rows = [
        (
            "local_action_it",
            "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x\n",
        ),
        (
            "local_action_it.py",
            "def execute(r):\n    print('x' * 1000000, end='')\n",
        ),
    ];
    for (name, text) in rows {
        let (end, told) = Place::with(name, text).run();
        assert_eq!((end, told.len()), (End::Exit(0), TAIL_BYTES), "{name}");
    }
}

#[test]
fn the_agent_stops() {
    let place = Place::new();
    place.payload(
        "local_action_a",
        "#!/bin/sh\ntrap '' TERM\n: >ready\nwhile :; do sleep 0.1; done\n",
    );
    place.payload("local_action_b", "#!/bin/sh\n: >told\n");
    let cancel = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let notified = scope.spawn(|| place.notify_until(&cancel));
        while !place.path("ready").exists() {
            std::thread::yield_now();
        }
        let asked = Instant::now();
        cancel.store(true, Ordering::Relaxed);
        let outcomes = notified.join().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1));
        let ends: Vec<_> = outcomes
            .iter()
            .map(|outcome| outcome.ended.as_ref().unwrap().end)
            .collect();
        assert_eq!(ends, [End::Cancelled]);
        assert!(!place.path("told").exists());
    });
}

#[test]
fn without_actions_nothing_runs() {
    let place = Place::new();
    assert!(place.notify().is_empty());
    fs::remove_dir(place.path("secure/unzipped")).unwrap();
    fs::write(place.path("secure/x"), "").unwrap();
    assert!(place.notify().is_empty(), "no payload has come");
}
