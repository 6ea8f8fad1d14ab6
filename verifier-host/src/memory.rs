//! What a host program does for the secrets that it holds.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on no core dump and no debugger of the same user shows this process's memory: K and V on their way, the at-rest key.
///
/// # Errors
/// The kernel refuses, which it does for nobody.
pub fn keep_private() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
