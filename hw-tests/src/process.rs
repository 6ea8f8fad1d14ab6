//! A program that runs, what it logs, and how it ends.
//!
//! Nothing outlives its [`Program`]: dropping it kills the process group.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::Result;

/// How long anything that has to happen may take on a slow, busy machine. A scenario that passes never waits for it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a program has said, line by line, while it runs and after.
#[derive(Debug)]
pub struct Log {
    name: String,
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<String>,
    /// When each was read.
    times: Vec<Instant>,
    /// What stands after the last line's end: a prompt, maybe.
    begun: String,
    open: usize,
}

impl Log {
    /// An empty log of the program `name`.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            lines: Mutex::default(),
            more: Condvar::new(),
        })
    }

    /// Whose log it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.lock().text.join("\n")
    }

    /// How many lines there are: a place to wait from.
    pub fn len(&self) -> usize {
        self.lock().text.len()
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the first line that contains `text` was read, if there is one.
    pub fn moment(&self, text: &str) -> Option<Instant> {
        let lines = self.lock();
        let number = lines.text.iter().position(|line| line.contains(text))?;
        lines.times.get(number).copied()
    }

    /// Waits until a line contains `text`, and returns that line.
    ///
    /// # Errors
    /// The line didn't come within [`LIMIT`], or the program ended without it.
    pub fn wait_for(&self, text: &str) -> Result<String> {
        self.wait_from(0, text)
    }

    /// As [`Log::wait_for`], looking at line number `start` and later ones only.
    ///
    /// # Errors
    /// As [`Log::wait_for`].
    pub fn wait_from(&self, start: usize, text: &str) -> Result<String> {
        self.wait(start, text, LIMIT)
    }

    /// As [`Log::wait_for`], with a limit of one's own.
    ///
    /// # Errors
    /// As [`Log::wait_for`].
    pub fn wait_within(&self, limit: Duration, text: &str) -> Result<String> {
        self.wait(0, text, limit)
    }

    fn wait(&self, start: usize, text: &str, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        let mut lines = self.lock();
        loop {
            if let Some(line) = lines
                .text
                .iter()
                .skip(start)
                .find(|line| line.contains(text))
            {
                return Ok(line.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.open == 0 {
                return Err(format!("{} ended without saying {text:?}", self.name).into());
            }
            if left.is_zero() {
                return Err(format!("{} didn't say {text:?} within {limit:?}", self.name).into());
            }
            lines = self
                .more
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until `text` stands in what was said, with or without the end of its line: a prompt waits for an answer.
    ///
    /// # Errors
    /// As [`Log::wait_within`].
    pub fn wait_for_prompt(&self, limit: Duration, text: &str) -> Result {
        until(limit, &format!("{text:?} from {}", self.name), || {
            let lines = self.lock();
            let all = lines.text.iter().chain([&lines.begun]);
            if all.into_iter().any(|line| line.contains(text)) {
                return Some(Ok(()));
            }
            (lines.open == 0).then(|| Err(format!("{} ended before {text:?}", self.name).into()))
        })?
    }

    /// Waits until nobody can say more: the program, and all that hold its output, have ended.
    ///
    /// # Errors
    /// Someone still holds it after [`LIMIT`].
    pub fn wait_until_closed(&self) -> Result {
        let (lines, waited) = self
            .more
            .wait_timeout_while(self.lock(), LIMIT, |lines| lines.open > 0)
            .unwrap_or_else(PoisonError::into_inner);
        drop(lines);
        if waited.timed_out() {
            Err(format!("{}: its output stays open", self.name).into())
        } else {
            Ok(())
        }
    }

    /// Reads a pipe of the program into the log until it closes.
    fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        self.lock().open += 1;
        let log = Arc::clone(self);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while let Ok(more) = pipe.fill_buf() {
                let end = more.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(more.len(), |end| end + 1);
                if taken == 0 {
                    break;
                }
                line.extend(&more[..taken]);
                pipe.consume(taken);
                log.hear(&mut line, end.is_some());
            }
            if !line.is_empty() {
                log.hear(&mut line, true);
            }
            log.lock().open -= 1;
            log.more.notify_all();
        });
    }

    /// Takes a line that has come to its end, or notes how far it has come.
    fn hear(&self, line: &mut Vec<u8>, ends: bool) {
        let mut lines = self.lock();
        let text = String::from_utf8_lossy(line);
        if ends {
            let text = text.trim_end().to_owned();
            lines.text.push(text);
            lines.times.push(Instant::now());
            lines.begun.clear();
            line.clear();
            self.more.notify_all();
        } else {
            lines.begun = text.into_owned();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running program. Dropping it kills its process group.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: Arc<Log>,
}

impl Program {
    /// Starts `command` in a process group of its own and follows its output.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn start(command: Command, log: Arc<Log>) -> Result<Self> {
        Self::start_reading(command, Stdio::null(), log)
    }

    /// As [`Program::start`], and the program reads what is written.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_listening(command: Command, log: Arc<Log>) -> Result<(Self, ChildStdin)> {
        let mut program = Self::start_reading(command, Stdio::piped(), log)?;
        let input = program.child.stdin.take().ok_or("no standard input")?;
        Ok((program, input))
    }

    fn start_reading(mut command: Command, input: Stdio, log: Arc<Log>) -> Result<Self> {
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| format!("can't start {}: {error}", log.name()))?;
        if let Some(pipe) = child.stdout.take() {
            log.follow(pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            log.follow(pipe);
        }
        Ok(Self { child, log })
    }

    /// What it says.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of its log contains `text`; fails at once if the program ends before.
    ///
    /// # Errors
    /// As [`Log::wait_for`].
    pub fn wait_for(&self, text: &str) -> Result<String> {
        self.log.wait_for(text)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.log.name().to_owned();
        until(limit, &format!("end of {name}"), || {
            self.child.try_wait().ok().flatten()
        })
    }

    /// SIGTERM, then its exit status and how long it took to end.
    ///
    /// # Errors
    /// It doesn't end within [`LIMIT`].
    pub fn terminate(mut self) -> Result<(ExitStatus, Duration)> {
        let asked = Instant::now();
        if let Some(pid) = self.group() {
            kill_process(pid, Signal::TERM)?;
        }
        let status = self.wait(LIMIT)?;
        Ok((status, asked.elapsed()))
    }

    /// SIGKILL to the program itself, as a crash would: what it started stays.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn kill(mut self) -> Result {
        self.child.kill()?;
        self.wait(LIMIT)?;
        Ok(())
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(group) = self.group() {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
        let _reaped_already = self.child.wait();
    }
}

/// Wants these in what was said, each after the one before.
///
/// # Errors
/// One is missing there.
pub fn in_order(log: &Log, wanted: &[&str]) -> Result {
    let text = log.text();
    let mut rest = text.as_str();
    for part in wanted {
        let (_, after) = rest
            .split_once(part)
            .ok_or_else(|| format!("no {part:?} in its place"))?;
        rest = after;
    }
    Ok(())
}

/// Asks again and again, a few milliseconds apart, until there is an answer.
///
/// # Errors
/// There is none within `limit`; the message names `what` was waited for.
pub fn until<T>(limit: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = answer() {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(format!("no {what} within {limit:?}").into());
        }
        thread::sleep(Duration::from_millis(3));
    }
}
