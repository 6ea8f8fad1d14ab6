//! Hashing many files with all cores: a bounded queue of paths in, digests out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use agent_core::wire::quote::Digest;

use super::draft::LeftOut;
use super::hash::FileHash;
use crate::policy::tool::ToolError;

/// How many paths wait for a thread.
const QUEUE: usize = 1024;

/// How often a file that changes is read again.
const TRIES: usize = 3;

/// How often progress is told of.
const TICK: Duration = Duration::from_millis(100);

/// How files are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// With what.
    pub hash: FileHash,
    /// Whether a file that can't be read is left out rather than an error.
    pub skip_unreadable: bool,
}

/// A file to be hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Where it is.
    pub(super) file: PathBuf,
    /// Its path on the node.
    pub(super) path: String,
}

/// How far it is.
#[derive(Debug, Default)]
pub struct Tally {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    /// Files and bytes so far.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.files), read(&self.bytes))
    }

    fn add(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What the threads found.
#[derive(Debug, Default)]
struct Found {
    digests: BTreeMap<String, Digest>,
    left_out: LeftOut,
}

impl Pool {
    /// Hashes what `list` puts into the queue, by `watch`ing over the tally. The list ends early when a file failed.
    pub(super) fn run(
        self,
        list: impl FnOnce(&mut Queue<'_>) -> Result<(), ToolError> + Send,
        watch: &mut dyn FnMut(&Tally),
    ) -> Result<(BTreeMap<String, Digest>, LeftOut), ToolError> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (receiver, tally, stop) = (
            Mutex::new(receiver),
            Tally::default(),
            AtomicBool::new(false),
        );
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            let (done, ended) = sync_channel(threads);
            for _ in 0..threads {
                let done = done.clone();
                let (receiver, tally, stop) = (&receiver, &tally, &stop);
                scope.spawn(move || {
                    let result = self.work(receiver, tally, stop);
                    // The other end waits for all threads.
                    let _ = done.send(result);
                });
            }
            drop(done);
            let stop = &stop;
            let lister = scope.spawn(move || {
                let mut queue = Queue {
                    sender,
                    stop,
                    left_out: LeftOut::default(),
                };
                let result = list(&mut queue);
                result.map(|()| queue.left_out)
            });
            let mut all = Found::default();
            let mut failed = None;
            loop {
                match ended.recv_timeout(TICK) {
                    Ok(Ok(found)) => {
                        all.digests.extend(found.digests);
                        all.left_out.extend(found.left_out);
                    }
                    Ok(Err(error)) => failed = Some(failed.unwrap_or(error)),
                    Err(RecvTimeoutError::Timeout) => watch(&tally),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            let listed = lister.join().map_err(|_| ToolError::Thread)?;
            if let Some(error) = failed {
                return Err(error);
            }
            all.left_out.extend(listed?);
            Ok((all.digests, all.left_out))
        })
    }

    /// One thread's part, until the queue is closed. After an error it has the list end, and empties
    /// the queue for whoever waits for room in it.
    fn work(
        self,
        queue: &Mutex<Receiver<Job>>,
        tally: &Tally,
        stop: &AtomicBool,
    ) -> Result<Found, ToolError> {
        let mut found = Found::default();
        let mut failed = None;
        loop {
            let next = queue.lock().map_err(|_| ToolError::Thread)?.recv();
            let Ok(job) = next else {
                break;
            };
            if failed.is_some() {
                continue;
            }
            match self.hash_file(&job.file) {
                Ok(Some((digest, size))) => {
                    tally.add(size);
                    found.digests.insert(job.path, digest);
                }
                Ok(None) => found
                    .left_out
                    .note("vanished while the files were listed", &job.path),
                Err(_) if self.skip_unreadable => found.left_out.note("unreadable", &job.path),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(found), Err)
    }

    /// `None` if it isn't there any more, or is no file any more.
    fn hash_file(self, path: &Path) -> Result<Option<(Digest, u64)>, ToolError> {
        for _ in 0..TRIES {
            let digested = self.hash_once(path).map_err(ToolError::reading(path));
            match digested {
                Ok(Once::Whole(digest, size)) => return Ok(Some((digest, size))),
                Ok(Once::Gone) => return Ok(None),
                Ok(Once::Changed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ToolError::Changing {
            path: path.to_owned(),
        })
    }

    fn hash_once(self, path: &Path) -> io::Result<Once> {
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(Once::Gone),
            _ => Err(error),
        };
        // What isn't a file is never opened: a pipe would be waited for.
        let listed = match fs::symlink_metadata(path) {
            Ok(listed) if listed.is_file() => listed,
            Ok(_) => return Ok(Once::Gone),
            Err(error) => return gone(error),
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) => return gone(error),
        };
        let (digest, size) = self.hash.of(&mut file)?;
        let state = |of: &fs::Metadata| {
            (
                of.dev(),
                of.ino(),
                of.len(),
                of.mtime(),
                of.mtime_nsec(),
                of.ctime(),
                of.ctime_nsec(),
            )
        };
        let after = file.metadata()?;
        if state(&listed) == state(&after) && size == after.len() {
            Ok(Once::Whole(digest, size))
        } else {
            Ok(Once::Changed)
        }
    }
}

enum Once {
    Whole(Digest, u64),
    Changed,
    Gone,
}

/// Where files are listed for hashing.
pub(super) struct Queue<'a> {
    sender: SyncSender<Job>,
    stop: &'a AtomicBool,
    /// What isn't hashed.
    pub(super) left_out: LeftOut,
}

impl Queue<'_> {
    /// Waits for room, and lists a file. `false` if no more are wanted.
    pub(super) fn push(&mut self, job: Job) -> bool {
        !self.stop.load(Ordering::Relaxed) && self.sender.send(job).is_ok()
    }
}
