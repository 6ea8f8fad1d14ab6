//! Runs the payload's script, and leaves nothing of it behind.
//!
//! The script and whatever it starts, daemons included, are descendants of the agent (a child subreaper) and end with it. It
//! gets a small environment, no input, no file descriptor of the agent's, a time limit; its output is read for as long as it
//! comes, and only the end is kept.

mod output;
mod tree;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, chmod};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, kill_process_group, pidfd_open,
    set_child_subreaper, set_parent_process_death_signal, waitpid,
};

use output::Output;
pub use output::{OutputPolicy, TAIL_BYTES};
use zeroize::Zeroizing;

/// A script in an unpacked payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    path: PathBuf,
    directory: PathBuf,
}

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was ended when its time was over.
    TimedOut,
    /// It was ended because the agent stops.
    Cancelled,
}

/// What is known of a script once it is over.
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// How long it ran.
    pub duration: Duration,
    /// The end of what it wrote, at most [`TAIL_BYTES`]. It may hold secrets, and is wiped on drop.
    pub tail: Zeroizing<Vec<u8>>,
    /// How many processes had to be ended: those that it left behind, and itself if it didn't stop in time.
    pub left_behind: usize,
}

impl Script {
    /// The script of this name in the payload, or `None` if the payload has none.
    ///
    /// # Errors
    /// [`ScriptError::NotAFile`], or the kernel's.
    pub fn find(unzipped: &Path, name: &str) -> Result<Option<Self>, ScriptError> {
        let path = unzipped.join(name);
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => Ok(Some(Self {
                path,
                directory: unzipped.to_owned(),
            })),
            Ok(_) => Err(ScriptError::NotAFile { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ScriptError::Start { path, error }),
        }
    }

    /// Runs the script as `sh -c` would, in the payload's directory, until it ends, `timeout` is over or `cancel` is set. What
    /// it left running is ended too before this returns.
    ///
    /// The environment is `PATH`, `HOME=/root`, `USER=root`, `LOGNAME=root`, `LANG=C.UTF-8` and, as with Keylime, `AGENT_UUID`.
    ///
    /// # Errors
    /// [`ScriptError`] if it can't be started, another one runs, or its processes can't be ended.
    ///
    /// # Cost
    /// Blocks for as long as the script runs; the calling thread must not end before, or the script is killed.
    pub fn run(
        &self,
        uuid: &str,
        timeout: Duration,
        policy: OutputPolicy,
        cancel: &AtomicBool,
    ) -> Result<Ended, ScriptError> {
        let _only = match RUNNING.try_lock() {
            Ok(only) => only,
            Err(TryLockError::Poisoned(only)) => only.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(ScriptError::Busy),
        };
        if cancel.load(Ordering::SeqCst) {
            return Ok(Ended {
                end: End::Cancelled,
                duration: Duration::ZERO,
                tail: Zeroizing::default(),
                left_behind: 0,
            });
        }
        let start = |error| ScriptError::Start {
            path: self.path.clone(),
            error,
        };
        chmod(&self.path, Mode::RWXU).map_err(|errno| start(errno.into()))?;
        set_child_subreaper(Some(getpid())).map_err(|errno| start(errno.into()))?;
        let spare = tree::children().map_err(start)?;
        let began = Instant::now();
        let (pid, pipe) = self.spawn(uuid).map_err(start)?;
        let mut output = Output::new(pipe, policy);
        let watched = Watch {
            pid,
            began,
            timeout,
            cancel,
        }
        .until_end(&mut output);
        // Whatever went wrong meanwhile, nothing may go on running.
        let ended = tree::end_all(&spare, Instant::now() + END_WITHIN);
        output.drain();
        let end = watched.map_err(|errno| start(errno.into()))?;
        let left_behind = ended.map_err(|left| ScriptError::Immortal {
            path: self.path.clone(),
            left,
        })?;
        Ok(Ended {
            end,
            duration: began.elapsed(),
            tail: output.into_tail(),
            left_behind,
        })
    }

    fn spawn(&self, uuid: &str) -> io::Result<(Pid, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec \"$0\""])
            .arg(&self.path)
            .current_dir(&self.directory)
            .env_clear()
            .envs(ENVIRONMENT)
            .env("AGENT_UUID", uuid)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        // SAFETY: between fork and exec the closure makes system calls only; it neither allocates nor locks.
        unsafe { command.pre_exec(isolate) };
        let child = command.spawn()?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok((pid, reader.into()))
    }
}

/// In the child: it dies with the agent, and has none of the agent's file descriptors. tpm2-tss opens its own without
/// close-on-exec, and a script that held the connection to a software TPM would block it for everyone.
fn isolate() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for flags in [libc::CLOSE_RANGE_CLOEXEC, 0] {
        // SAFETY: close_range takes plain numbers; after it, nothing here uses a descriptor above 2 but the standard
        // library's pipe for errors of exec, which stays open with the first flag and is only missed after the second.
        if unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flags) } == 0 {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

/// A running script under watch.
struct Watch<'a> {
    pid: Pid,
    began: Instant,
    timeout: Duration,
    cancel: &'a AtomicBool,
}

impl Watch<'_> {
    /// Reads the output until the script itself ends, or has to.
    fn until_end(&self, output: &mut Output) -> Result<End, Errno> {
        let exited = pidfd_open(self.pid, PidfdFlags::empty())?;
        let mut stopping: Option<(End, Instant)> = None;
        loop {
            let now = Instant::now();
            match stopping {
                Some((end, until)) if now >= until => return Ok(end),
                Some(_) => {}
                None => {
                    if let Some((end, grace)) = self.reason_to_stop() {
                        // Asked once, then ended: a script that ignores the request doesn't hold anyone up.
                        let _ = kill_process_group(self.pid, Signal::TERM);
                        stopping = Some((end, now + grace));
                    }
                }
            }
            if wait_for(&exited, output)? {
                let (_, status) =
                    waitpid(Some(self.pid), WaitOptions::empty())?.ok_or(Errno::CHILD)?;
                return Ok(stopping.map_or_else(|| end_of(status), |(end, _)| end));
            }
        }
    }

    fn reason_to_stop(&self) -> Option<(End, Duration)> {
        if self.cancel.load(Ordering::SeqCst) {
            Some((End::Cancelled, CANCEL_GRACE))
        } else if self.began.elapsed() >= self.timeout {
            Some((End::TimedOut, TIMEOUT_GRACE))
        } else {
            None
        }
    }
}

/// Waits a moment for output (and takes it in) or for the end (and says so).
fn wait_for(exited: &OwnedFd, output: &mut Output) -> Result<bool, Errno> {
    let (exited_now, readable) = {
        let mut fds = vec![PollFd::from_borrowed_fd(exited.as_fd(), PollFlags::IN)];
        fds.extend(
            output
                .pipe()
                .map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)),
        );
        match poll(&mut fds, Some(&TICK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        (ready(0), ready(1))
    };
    if readable {
        output.read();
    }
    Ok(exited_now)
}

fn end_of(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exit(code),
        (None, Some(signal)) => End::Signal(signal),
        (None, None) => End::Signal(0),
    }
}

/// Why a script wasn't run, or not to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScriptError {
    /// There is something of that name, but no file.
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It couldn't be started or watched.
    Start {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another script runs.
    Busy,
    /// Some of its processes can't be ended.
    Immortal {
        /// Which script.
        path: PathBuf,
        /// How many processes.
        left: usize,
    },
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile { path } => {
                write!(f, "{} isn't a file, so it isn't run", path.display())
            }
            Self::Start { path, error } => write!(f, "{} can't be run: {error}", path.display()),
            Self::Busy => f.write_str("another script of the agent still runs"),
            Self::Immortal { path, left } => {
                write!(
                    f,
                    "{} left {left} processes that can't be ended; look for tasks in state D",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for ScriptError {}

/// One script at a time: what is ended after it is every other descendant of the agent.
static RUNNING: Mutex<()> = Mutex::new(());

const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("LANG", "C.UTF-8"),
];

/// How often the watch looks at time and cancellation.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// From the request to the end, where the script's time is over.
const TIMEOUT_GRACE: Duration = Duration::from_secs(1);
/// From the request to the end, where the agent stops, which takes a second at most.
const CANCEL_GRACE: Duration = Duration::from_millis(300);
/// How long ending a script's processes may take.
const END_WITHIN: Duration = Duration::from_secs(5);
