//! Landlock around the threads that read what the network sends: whatever they are talked into, they open no file.
//!
//! A fence is the calling thread's, and that of the threads and programs it starts from then on; it can't be taken down
//! again. So it goes up in each thread that needs one and not in the process: the thread that runs scripts has none, for a
//! script does what its operator wants. It stops code that was led to a wrong path, not an attacker who already runs code in
//! the process, whose memory the threads share; against that, run the agent as another user too (see [`crate::privilege`]).
//!
//! | thread | what it may touch |
//! | --- | --- |
//! | listener, connections | the journal of revocations |
//! | registration | nothing, or what it takes to look up a registrar's name |
//! | unpacking of a payload | the landing zone |
//! | scripts and actions, signals | everything that the agent's user may |
//!
//! What was opened before stays open: the TPM, the log, the landing zone's root, the kernel's logs of this boot.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Once;

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};

/// What became of a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fence {
    /// It stands: this thread is held by as much as this kernel's Landlock knows.
    Up,
    /// The kernel was built or started without Landlock.
    NoLandlock,
    /// The kernel has Landlock and refuses all the same.
    Refused(String),
}

impl Fence {
    /// Lets this thread open, make, rename and remove nothing any more.
    pub fn around_everything() -> Self {
        Self::up(&mut Ok)
    }

    /// Lets this thread do what it likes beneath this directory, and nothing anywhere else.
    pub fn but_beneath(directory: impl AsFd) -> Self {
        let directory = directory.as_fd();
        Self::up(&mut |rules| rules.add_rule(PathBeneath::new(directory, every_access())))
    }

    /// Lets this thread read what name resolution reads, and nothing else. Places that aren't there stay forbidden.
    pub fn but_name_resolution() -> Self {
        let file = BitFlags::from(AccessFs::ReadFile);
        let files = NAME_FILES.iter().map(|path| (path, file));
        let trees = NAME_TREES
            .iter()
            .map(|path| (path, file | AccessFs::ReadDir));
        let places = files.chain(trees);
        Self::up(&mut |mut rules| {
            for (path, access) in places.clone() {
                if let Ok(place) = PathFd::new(path) {
                    rules = rules.add_rule(PathBeneath::new(place.as_fd(), access))?;
                }
            }
            Ok(rules)
        })
    }

    /// Says in the log, once for the whole process, if there is no fence.
    pub fn report(&self) {
        static SAID: Once = Once::new();
        if *self != Self::Up {
            SAID.call_once(|| log::warn!("{self}: the threads that serve could open files"));
        }
    }

    fn up(rules: &mut dyn FnMut(RulesetCreated) -> Result<RulesetCreated, RulesetError>) -> Self {
        // By default the library asks for as much as this kernel has.
        let standing = Ruleset::default()
            .handle_access(every_access())
            .and_then(Ruleset::create)
            .and_then(rules)
            .and_then(RulesetCreated::restrict_self);
        match standing {
            Ok(status) if status.ruleset == RulesetStatus::NotEnforced => Self::NoLandlock,
            Ok(_) => Self::Up,
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("files are fenced off"),
            Self::NoLandlock => f.write_str("this kernel has no Landlock, or doesn't use it"),
            Self::Refused(why) => write!(f, "Landlock refuses: {why}"),
        }
    }
}

/// All that Landlock 5 (Linux 6.10) knows of files: the later ones added nothing to that.
fn every_access() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI::V5)
}

/// Source: nsswitch.conf(5), resolv.conf(5), hosts(5), host.conf(5), gai.conf(5), ld.so(8).
const NAME_FILES: [&str; 8] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/services",
];

/// Libraries that glibc loads for a lookup, and where `resolv.conf` is when it is written anew.
const NAME_TREES: [&str; 7] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/systemd/resolve",
];
