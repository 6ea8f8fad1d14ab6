//! Scripts that misbehave, and what is left of them: nothing.
//!
//! A run ends every other descendant of the process, so these tests have a program of their own and take turns.
#![cfg(feature = "pull")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_linux::job::{End, Ended, Identity, OutputPolicy, TAIL_BYTES};
use agent_linux::script::{Script, ScriptError};
use tempfile::TempDir;

static TURN: Mutex<()> = Mutex::new(());

const LONG: Duration = Duration::from_secs(60);

/// Runs a script to its end, one at a time.
fn run_in(directory: &Path, text: &str, timeout: Duration, cancel: &AtomicBool) -> Ended {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    std::fs::write(directory.join("autorun.sh"), text).unwrap();
    let script = Script::find(directory, "autorun.sh").unwrap().unwrap();
    let ended = script
        .run(
            Identity::of_root("node-1"),
            timeout,
            OutputPolicy::Quiet,
            cancel,
        )
        .unwrap();
    assert_eq!(own_children(), 0, "a process is left: {text}");
    ended
}

fn run(text: &str, timeout: Duration) -> Ended {
    let directory = TempDir::new().unwrap();
    run_in(directory.path(), text, timeout, &AtomicBool::new(false))
}

fn own_children() -> usize {
    let own = std::process::id().to_string();
    let is_own =
        |stat: String| stat.rsplit(')').next().unwrap().split_whitespace().nth(1) == Some(&own);
    let stats = std::fs::read_dir("/proc").unwrap();
    stats
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter(|stat| is_own(stat.clone()))
        .count()
}

fn tail(ended: &Ended) -> String {
    String::from_utf8_lossy(&ended.tail).into_owned()
}

#[test]
fn ends() {
    let rows = [
        ("a good one", "#!/bin/sh\nexit 0\n", End::Exit(0)),
        (
            "autorun_nonzero_is_reported",
            "#!/bin/sh\nexit 3\n",
            End::Exit(3),
        ),
        (
            "killed by a signal",
            "#!/bin/sh\nkill -9 $$\n",
            End::Signal(9),
        ),
        ("without #!", "exit 4\n", End::Exit(4)),
        ("no such interpreter", "#!/nonexistent\n", End::Exit(127)),
        (
            "Bash, as documented",
            "#!/bin/bash\n[[ a == a ]] && exit 5\n",
            End::Exit(5),
        ),
    ];
    for (name, text, end) in rows {
        let ended = run(text, LONG);
        // Shells differ in 126 and 127 for what can't be run.
        let is_same = ended.end == end || (end == End::Exit(127) && ended.end == End::Exit(126));
        assert!(is_same, "{name}: {:?} {}", ended.end, tail(&ended));
    }
}

#[test]
fn autorun_1mb_output_is_fine() {
    let ended = run(
        "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x\necho; echo the end\n",
        LONG,
    );
    assert_eq!(ended.end, End::Exit(0));
    assert!(tail(&ended).ends_with("x\nthe end\n"));
    assert_eq!(ended.tail.len(), TAIL_BYTES);
}

#[test]
fn both_outputs_are_kept() {
    let ended = run("#!/bin/sh\necho out; echo err >&2\n", LONG);
    assert_eq!(tail(&ended), "out\nerr\n");
}

#[test]
fn it_sees_what_is_documented_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let text = "#!/bin/sh\nenv | sort | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=; pwd; cat; ls /proc/self/fd | wc -l\n";
    // Descriptors without close-on-exec, as tpm2-tss opens them, must not get through.
    let file = std::fs::File::open("/dev/null").unwrap();
    let leaky = rustix::io::dup(&file).unwrap();
    let ended = run_in(directory.path(), text, LONG, &AtomicBool::new(false));
    drop(leaky);
    let wanted = format!(
        "AGENT_UUID=node-1\nHOME=/root\nLANG=C.UTF-8\nLOGNAME=root\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nUSER=root\n{}\n4\n",
        directory.path().canonicalize().unwrap().display()
    );
    assert_eq!(
        tail(&ended),
        wanted,
        "0, 1, 2 and the directory that ls reads"
    );
}

#[test]
fn it_never_ends() {
    let rows = [
        ("sleeps", "#!/bin/sh\nsleep 1000\n"),
        ("spins", "#!/bin/sh\nwhile :; do :; done\n"),
        (
            "ignores SIGTERM",
            "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n",
        ),
        ("writes for ever", "#!/bin/sh\nyes\n"),
        (
            "closes its output",
            "#!/bin/sh\nexec >&- 2>&-\nsleep 1000\n",
        ),
    ];
    for (name, text) in rows {
        let began = Instant::now();
        let ended = run(text, Duration::from_millis(300));
        assert_eq!(ended.end, End::TimedOut, "{name}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{name}: {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn it_leaves_processes_behind() {
    let rows = [
        ("in the background", "#!/bin/sh\nsleep 1000 &\n", 1),
        (
            "a daemon",
            "#!/bin/sh\nsetsid sh -c 'sleep 1000 & sleep 1001 & wait' </dev/null >/dev/null 2>&1 &\nsleep 0.2\n",
            3,
        ),
        (
            "stopped",
            "#!/bin/sh\nsh -c 'kill -STOP $$' &\nsleep 0.1\n",
            1,
        ),
        (
            "deaf",
            "#!/bin/sh\nsh -c \"trap '' TERM INT HUP; sleep 1000\" &\nsleep 0.1\n",
            1,
        ),
    ];
    for (name, text, least) in rows {
        let began = Instant::now();
        let ended = run(text, LONG);
        assert_eq!(ended.end, End::Exit(0), "{name}");
        assert!(ended.left_behind >= least, "{name}: {}", ended.left_behind);
        assert!(began.elapsed() < Duration::from_secs(10), "{name}");
    }
}

#[test]
fn it_forks_and_forks() {
    let text = "#!/bin/sh\nf() { sleep 0.01; [ $(ls /proc | grep -c '^[0-9]') -lt 400 ] && { setsid sh \"$0\" x & sh \"$0\" x & }; sleep 1000; }\nf\n";
    let ended = run(text, Duration::from_secs(1));
    assert_eq!(ended.end, End::TimedOut);
    assert!(ended.left_behind > 2, "{}", ended.left_behind);
}

#[test]
fn the_agent_stops() {
    let directory = TempDir::new().unwrap();
    let cancel = AtomicBool::new(false);
    let ready = directory.path().join("ready");
    std::thread::scope(|scope| {
        let script = scope.spawn(|| {
            let text = "#!/bin/sh\ntrap '' TERM\n: >ready\nwhile :; do sleep 0.1; done\n";
            run_in(directory.path(), text, LONG, &cancel)
        });
        while !ready.exists() {
            std::thread::yield_now();
        }
        let asked = Instant::now();
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(script.join().unwrap().end, End::Cancelled);
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
    });
}

#[test]
fn what_is_no_script() {
    let directory = TempDir::new().unwrap();
    assert_eq!(Script::find(directory.path(), "autorun.sh").unwrap(), None);
    std::os::unix::fs::symlink("/bin/true", directory.path().join("link")).unwrap();
    std::fs::create_dir(directory.path().join("directory")).unwrap();
    for name in ["link", "directory"] {
        assert!(
            matches!(
                Script::find(directory.path(), name),
                Err(ScriptError::NotAFile { .. })
            ),
            "{name}"
        );
    }
}
