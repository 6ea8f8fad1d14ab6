//! Threads of the agent: named, and with a small stack, of which what isn't touched takes no memory.

use std::io;
use std::panic::resume_unwind;
use std::thread;

/// Starts a task in a thread of its own.
///
/// # Errors
/// The system has no thread for it.
pub(crate) fn spawn(name: &str, task: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    builder(name).spawn(task).map(drop)
}

/// Does a task in a thread of its own, and waits for its end.
///
/// # Errors
/// The system has no thread for it.
pub(crate) fn apart(name: &str, task: Box<dyn FnOnce() + Send + '_>) -> io::Result<()> {
    thread::scope(
        |scope| match builder(name).spawn_scoped(scope, task)?.join() {
            Ok(()) => Ok(()),
            Err(panic) => resume_unwind(panic),
        },
    )
}

/// Does the main thing here, and another beside it that has to end then. Without a thread for the other, that isn't done.
#[cfg(feature = "revocations")]
pub(crate) fn beside(name: &str, other: &(dyn Fn() + Sync), main: &mut dyn FnMut()) {
    thread::scope(|scope| {
        if let Err(error) = builder(name).spawn_scoped(scope, other) {
            log::error!("there is no thread for {name}, so none are run: {error}");
        }
        main();
    });
}

fn builder(name: &str) -> thread::Builder {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.stack_size(STACK_BYTES)
}

const STACK_BYTES: usize = 512 * 1024;
