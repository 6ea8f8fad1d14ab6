//! What this node knows of revocations: whose word counts, what was taken, what is still to be acted on, and what came of it.
//!
//! One object for all modes. What it knows is a function of the lines of a journal in the landing zone, which outlives the agent
//! and not the boot: a message is in it before it is answered, the start of an action before it starts, its end after it. So a
//! killed agent loses nothing and runs nothing twice. Actions run one after the other, and never beside a payload's script.
//!
//! The rules stand in `agent-core/docs/revocation.md`.

mod journal;
mod line;
mod record;
mod state;
mod work;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use agent_core::revocation::{
    Act, ActError, Each, Full, HEAD_FILE, HeadError, LogHead, LogId, MAX_HEAD_BYTES, Message,
    Standing, Taken, Verify, VerifyError,
};

use crate::fence::Fence;
use crate::files;
use crate::landing::Zone;
use crate::notifier::Notifier;
use state::State;
pub use state::{MAX_KEPT, MAX_OUTCOMES, MAX_WAITING};

/// Whose notices count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustRules {
    /// The notifier's certificate, if it isn't the payload's.
    pub notifier: Option<PathBuf>,
    /// Whether a node acts that has no payload.
    pub without_payload: bool,
}

/// Where things are.
#[derive(Clone, Debug)]
struct Places {
    rules: TrustRules,
    unzipped: PathBuf,
}

/// What a node knows of revocations.
pub struct Revocations {
    places: Places,
    state: Mutex<State>,
    /// Something is to be done, or was.
    changed: Condvar,
}

impl Revocations {
    /// Reads the journal in a landing zone, where an agent of this boot has left one; what waits there waits again.
    #[must_use]
    pub fn open(zone: &Zone, rules: TrustRules) -> Self {
        Self::open_in(
            zone.path(),
            &zone.unzipped(),
            zone.size() / ROOM_SHARE,
            rules,
        )
    }

    /// As [`Revocations::open`], with the journal in a directory that nobody else can look into; its messages take so many
    /// bytes at most.
    #[must_use]
    pub fn open_in(directory: &Path, unzipped: &Path, room: u64, rules: TrustRules) -> Self {
        let places = Places {
            rules,
            unzipped: unzipped.to_owned(),
        };
        let state = State::open(&directory.join(DIRECTORY), room, &places);
        Self {
            places,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// A payload has landed: from now on its notifier counts, and everything since its head is to be acted on.
    pub fn land(&self) {
        self.lock().land(&self.places);
    }

    /// Lets no action begin until [`Revocations::release`], and waits until the one that runs has ended.
    pub fn hold(&self) {
        let mut state = self.lock();
        state.is_held = true;
        while state.is_running {
            state = self.wait_in(state);
        }
    }

    /// Actions may begin again.
    pub fn release(&self) {
        self.lock().is_held = false;
        self.changed.notify_all();
    }

    /// Whether the log that is followed has entries after this one whose actions have all ended.
    #[must_use]
    pub fn has_outcomes_after(&self, number: u64) -> bool {
        self.standing(None).position > number
    }

    /// Lets the calling thread touch nothing but the journal from now on.
    pub fn fence(&self) -> Fence {
        match self.lock().journal_directory() {
            Some(directory) => Fence::but_beneath(directory),
            None => Fence::around_everything(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves it as consistent as a killed agent leaves the journal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_in<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// What has landed, by a number that another landing doesn't have: none for nothing, and 0 for the payload that a node
    /// doesn't need.
    fn landing(&self) -> Option<u64> {
        match self.unzipped.symlink_metadata() {
            Ok(found) => Some(found.ino()),
            Err(_) => self.rules.without_payload.then_some(0),
        }
    }

    fn notifier(&self) -> Option<Notifier> {
        Notifier::of_payload(&self.unzipped, self.rules.notifier.as_deref())
    }

    /// Where the payload says that its log begins.
    fn head(&self) -> Result<Option<LogHead>, HeadError> {
        match files::read(&self.unzipped.join(HEAD_FILE), MAX_HEAD_BYTES) {
            Ok(bytes) => LogHead::read(&bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(_) => Err(HeadError::Json),
        }
    }
}

impl Verify for Revocations {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        // The key is taken out: a signature takes time, and nobody has to wait for it.
        let notifier = self.lock().notifier.clone();
        notifier
            .ok_or(VerifyError::NoAnchor)?
            .verify(message, signature)
    }
}

impl Act for Revocations {
    fn act(&self, message: &Message, text: &str) -> Result<Taken, ActError> {
        let taken = self.lock().act(message, text);
        self.changed.notify_all();
        taken
    }

    fn keep(&self, text: &str, signature: &[u8]) -> Result<(), Full> {
        self.lock().keep(text, signature)
    }

    fn standing(&self, of: Option<&LogId>) -> Standing {
        self.lock().standing(of)
    }

    fn outcomes(&self, of: &LogId, after: u64, each: &mut Each<'_>) {
        self.lock().outcomes(of, after, each);
    }
}

/// The journal's directory in the landing zone.
const DIRECTORY: &str = "revocations";
/// Which part of a landing zone messages may take: the rest is for payloads.
const ROOM_SHARE: u64 = 8;
