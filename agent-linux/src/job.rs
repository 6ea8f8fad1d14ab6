//! Runs a program, and leaves nothing of it behind.
//!
//! The program and whatever it starts, daemons included, are descendants of the agent (a child subreaper) and end with it. It
//! gets a small environment, no file descriptor of the agent's, a time limit; its output is read for as long as it comes, and
//! only the end is kept. One runs at a time.

mod output;
mod tree;

use std::ffi::OsStr;
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
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, kill_process_group, pidfd_open,
    set_child_subreaper, set_parent_process_death_signal, waitpid,
};

use output::Output;
pub use output::{OutputPolicy, TAIL_BYTES};
use zeroize::Zeroizing;

use crate::log::Seconds;

/// A program to run, and what it gets.
pub struct Job<'a> {
    /// What reads the file.
    pub interpreter: Interpreter<'a>,
    /// The file that is run: a whole path.
    pub file: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a OsStr],
    /// Its working directory.
    pub directory: &'a Path,
    /// Its standard input.
    pub input: Stdio,
    /// Who it is and what it serves, for its environment.
    pub identity: Identity<'a>,
    /// How long it may run.
    pub timeout: Duration,
    /// What becomes of its output.
    pub output: OutputPolicy,
}

/// What a job's environment says of who it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The agent's identifier: `AGENT_UUID`.
    pub uuid: &'a str,
    /// The user's name: `USER` and `LOGNAME`.
    pub user: &'a str,
    /// Its home directory: `HOME`.
    pub home: &'a str,
}

impl<'a> Identity<'a> {
    /// A job of root's.
    #[must_use]
    pub fn of_root(uuid: &'a str) -> Self {
        let (user, home) = ("root", "/root");
        Self { uuid, user, home }
    }

    fn environment(self) -> [(&'static str, &'a str); 6] {
        [
            ("PATH", SEARCH_PATH),
            ("HOME", self.home),
            ("USER", self.user),
            ("LOGNAME", self.user),
            ("LANG", "C.UTF-8"),
            ("AGENT_UUID", self.uuid),
        ]
    }
}

/// A program that gets a file as its next argument, and the file's own arguments after it.
#[derive(Clone, Copy, Debug)]
pub struct Interpreter<'a> {
    /// Its whole path.
    pub program: &'a str,
    /// Its own arguments.
    pub arguments: &'a [&'a str],
}

impl Interpreter<'static> {
    /// Starts the file as a shell does: by its `#!` line, or as a script of the shell if it has none.
    pub const SHELL: Self = Self {
        program: "/bin/sh",
        arguments: &["-c", "exec \"$0\" \"$@\""],
    };
}

/// How a job ended.
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

/// What is known of a job once it is over.
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

impl Ended {
    /// Writes to the log how `name` ended.
    pub fn log(&self, name: &str) {
        let after = Seconds(self.duration);
        match self.end {
            End::Exit(0) => log::info!("{name} ended well after {after}"),
            End::Exit(code) => log::warn!("{name} ended with exit code {code} after {after}"),
            End::Signal(signal) => {
                log::warn!("{name} was killed by signal {signal} after {after}")
            }
            End::TimedOut => {
                log::warn!("{name} took longer than it may ({after}) and was ended")
            }
            End::Cancelled => {
                log::warn!("{name} was ended after {after}, because the agent stops")
            }
        }
        if self.left_behind > 0 {
            let count = self.left_behind;
            log::warn!("{count} processes that {name} left running were ended");
        }
    }
}

impl Job<'_> {
    /// Runs until it ends, its time is over or `cancel` is set. What it left running is ended too before this returns.
    ///
    /// The environment is `PATH`, `HOME`, `USER`, `LOGNAME`, `LANG=C.UTF-8` and, as with Keylime, `AGENT_UUID`.
    ///
    /// # Errors
    /// [`JobError`] if it can't be started, another one runs, or its processes can't be ended.
    ///
    /// # Cost
    /// Blocks for as long as the job runs; the calling thread must not end before, or the job is killed.
    pub fn run(self, cancel: &AtomicBool) -> Result<Ended, JobError> {
        let _only = match RUNNING.try_lock() {
            Ok(only) => only,
            Err(TryLockError::Poisoned(only)) => only.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(JobError::Busy),
        };
        if cancel.load(Ordering::SeqCst) {
            return Ok(Ended {
                end: End::Cancelled,
                duration: Duration::ZERO,
                tail: Zeroizing::default(),
                left_behind: 0,
            });
        }
        let (file, timeout) = (self.file, self.timeout);
        let start = |error| JobError::Start {
            path: file.to_owned(),
            error,
        };
        set_child_subreaper(Some(getpid())).map_err(|errno| start(errno.into()))?;
        let spare = tree::children().map_err(start)?;
        let began = Instant::now();
        let policy = self.output;
        let (pid, pipe) = self.spawn().map_err(start)?;
        let mut output = Output::new(pipe, policy, name_of(file));
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
        let left_behind = ended.map_err(|left| JobError::Immortal {
            path: file.to_owned(),
            left,
        })?;
        Ok(Ended {
            end,
            duration: began.elapsed(),
            tail: output.into_tail(),
            left_behind,
        })
    }

    fn spawn(self) -> io::Result<(Pid, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(self.interpreter.program);
        command
            .args(self.interpreter.arguments)
            .arg(self.file)
            .args(self.arguments)
            .current_dir(self.directory)
            .env_clear()
            .envs(self.identity.environment())
            .stdin(self.input)
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
/// close-on-exec, and a job that held the connection to a software TPM would block it for everyone.
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

/// A running job under watch.
struct Watch<'a> {
    pid: Pid,
    began: Instant,
    timeout: Duration,
    cancel: &'a AtomicBool,
}

impl Watch<'_> {
    /// Reads the output until the job itself ends, or has to.
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
                        // Asked once, then ended: a job that ignores the request doesn't hold anyone up.
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

/// The file's name, as the log calls it.
fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Why a job wasn't run, or not to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError {
    /// It couldn't be started or watched.
    Start {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another job runs.
    Busy,
    /// Some of its processes can't be ended.
    Immortal {
        /// Which file.
        path: PathBuf,
        /// How many processes.
        left: usize,
    },
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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

impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { error, .. } => Some(error),
            Self::Busy | Self::Immortal { .. } => None,
        }
    }
}

/// One job at a time: what is ended after it is every other descendant of the agent.
static RUNNING: Mutex<()> = Mutex::new(());

/// Where a job's programs are looked for.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often the watch looks at time and cancellation.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// From the request to the end, where the job's time is over.
const TIMEOUT_GRACE: Duration = Duration::from_secs(1);
/// From the request to the end, where the agent stops, which takes a second at most.
const CANCEL_GRACE: Duration = Duration::from_millis(300);
/// How long ending a job's processes may take.
const END_WITHIN: Duration = Duration::from_secs(5);
