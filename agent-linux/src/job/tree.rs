//! The processes below the agent: found in /proc, stopped, ended, reaped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, pidfd_open,
    pidfd_send_signal, waitid, waitpid,
};

/// A process as /proc tells it. A number is given again after its process has gone; number and start time together aren't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    parent: i32,
    started: u64,
    is_zombie: bool,
}

/// The agent's children of now: not of a job that is yet to start.
///
/// # Errors
/// /proc can't be read.
pub(super) fn children() -> io::Result<BTreeSet<i32>> {
    if has_none() {
        return Ok(BTreeSet::new());
    }
    let own = getpid().as_raw_pid();
    Ok(all()?
        .into_iter()
        .filter(|process| process.parent == own)
        .map(|process| process.pid)
        .collect())
}

/// Ends every descendant of the agent but those below `spare`, and reaps it. Returns how many were still running.
///
/// First all are stopped, until a look at /proc shows no new one: what can't run can't fork away. Then all are killed.
///
/// # Errors
/// How many are left at the deadline.
pub(super) fn end_all(spare: &BTreeSet<i32>, deadline: Instant) -> Result<usize, usize> {
    let mut seen = BTreeSet::new();
    let mut is_frozen = false;
    loop {
        if has_none() {
            return Ok(seen.len());
        }
        let late = Instant::now() >= deadline;
        let family = match descendants(spare) {
            Ok(family) if family.is_empty() => return Ok(seen.len()),
            Ok(family) => family,
            Err(_) if late => return Err(seen.len()),
            Err(_) => {
                sleep(PAUSE);
                continue;
            }
        };
        let mut news = false;
        for process in family.iter().filter(|process| !process.is_zombie) {
            news |= seen.insert((process.pid, process.started));
            signal(
                process,
                if is_frozen || late {
                    Signal::KILL
                } else {
                    Signal::STOP
                },
            );
        }
        is_frozen |= !news;
        family.iter().for_each(reap);
        if Instant::now() >= deadline + AFTER_DEADLINE {
            return Err(family.len());
        }
        if is_frozen {
            sleep(PAUSE);
        }
    }
}

/// Whether the agent has no child at all, and so no descendant: each would have come to it when its parent ended. Much
/// quicker than a look at all of /proc, and the usual case.
fn has_none() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, options), Err(Errno::CHILD))
}

fn descendants(spare: &BTreeSet<i32>) -> io::Result<Vec<Process>> {
    let mut below: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all()? {
        below.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid().as_raw_pid()];
    while let Some(parent) = parents.pop() {
        let children = below.remove(&parent).unwrap_or_default();
        for process in children
            .into_iter()
            .filter(|process| !spare.contains(&process.pid))
        {
            parents.push(process.pid);
            found.push(process);
        }
    }
    Ok(found)
}

fn all() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            // One that has gone meanwhile isn't missed.
            found.extend(look(pid));
        }
    }
    Ok(found)
}

fn look(pid: i32) -> Option<Process> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Source: proc_pid_stat(5). The name in parentheses may hold anything, parentheses too.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(START_TIME_AFTER_PARENT)?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        started,
        is_zombie: matches!(state, "Z" | "X"),
    })
}

/// Sends a signal to exactly this process: the handle is held before the process behind the number is looked at again.
fn signal(process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return;
    };
    if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
        && look(process.pid).is_some_and(|now| now.started == process.started)
    {
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// Reaps a child of the agent; others are their parents' until those have gone.
fn reap(process: &Process) {
    if process.parent == getpid().as_raw_pid()
        && let Some(pid) = Pid::from_raw(process.pid)
    {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Fields 5 to 21 stand between the parent (4) and the start time (22).
const START_TIME_AFTER_PARENT: usize = 17;
const PAUSE: Duration = Duration::from_millis(1);
/// How long kills may take to show once stopping has been given up.
const AFTER_DEADLINE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = |name: &str, state: &str| {
            format!("7 ({name}) {state} 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 1\n")
                .into_bytes()
        };
        let process = |is_zombie| {
            Some(Process {
                pid: 7,
                parent: 3,
                started: 4711,
                is_zombie,
            })
        };
        let rows = [
            (line("sh", "S"), process(false)),
            (line("a) R 9 (b", "Z"), process(true)),
            (line("\n", "R"), process(false)),
            (b"7 (sh) S 3 7".to_vec(), None),
            (b"7 sh S 3".to_vec(), None),
            (Vec::new(), None),
        ];
        for (stat, wanted) in rows {
            assert_eq!(
                parse(7, &stat),
                wanted,
                "{}",
                String::from_utf8_lossy(&stat)
            );
        }
    }
}
