//! Sessions of agents: a challenge, a proof of possession, a token.
//!
//! A token is known by its SHA-256 alone. A session belongs to the node as it was when the session was opened: a node that was
//! added later, deleted or added anew is another one, and its sessions don't carry over.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_core::wire::statement::CHALLENGE_BYTES;
use agent_core::wire::text::Uuid;
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::bucket::{Buckets, TooOften};
use crate::rounds::node::Node;

/// A session whose caller has proved to hold its node's key.
pub struct Session {
    /// Its number.
    pub id: u64,
    /// The node.
    pub node: Arc<Node>,
    /// The challenge of its proof of possession, which receipts answer too.
    pub challenge: [u8; CHALLENGE_BYTES],
    digest: [u8; 32],
    expires: Mutex<Instant>,
}

/// A session that waits for its proof.
#[derive(Clone)]
pub struct Opened {
    /// Its number.
    pub id: u64,
    /// Who it says to be.
    pub agent: Uuid,
    /// What the proof must answer.
    pub challenge: [u8; CHALLENGE_BYTES],
    /// When it was opened, in seconds since 1970.
    pub created_at: u64,
    /// The node of that name at that time.
    pub node: Option<Arc<Node>>,
    expires: Instant,
}

/// A token as it is sent, once.
pub struct Token(Zeroizing<String>);

/// Why no session is opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This agent or this address opens too many.
    #[error("too many sessions from here")]
    TooOften(TooOften),
    /// There is no room.
    #[error("too many sessions at once")]
    Full,
    /// The system gives no random numbers.
    #[error("the system's random number generator: {0}")]
    Random(#[from] SysError),
}

impl From<TooOften> for OpenError {
    fn from(error: TooOften) -> Self {
        Self::TooOften(error)
    }
}

/// All sessions.
pub struct Sessions(Mutex<Tables>);

struct Tables {
    opened: HashMap<u64, Opened>,
    proved: HashMap<[u8; 32], Arc<Session>>,
    by_address: Buckets<IpAddr>,
    /// By address too, so that nobody can use another one's share up.
    by_agent: Buckets<(Uuid, IpAddr)>,
    swept: Instant,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Tables {
            opened: HashMap::new(),
            proved: HashMap::new(),
            by_address: Buckets::new(ADDRESS_BURST, ADDRESS_REFILL, MAX_BUCKETS),
            by_agent: Buckets::new(AGENT_BURST, AGENT_REFILL, MAX_BUCKETS),
            swept: now,
        }))
    }

    /// Opens a session for whoever says to be this agent.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        &self,
        agent: Uuid,
        node: Option<Arc<Node>>,
        from: IpAddr,
        (now, created_at): (Instant, u64),
    ) -> Result<Opened, OpenError> {
        let mut random = [0; 8 + CHALLENGE_BYTES];
        SysRng.try_fill_bytes(&mut random)?;
        let (number, bytes) = random.split_at(8);
        let mut challenge = [0; CHALLENGE_BYTES];
        challenge.copy_from_slice(bytes);
        let number = number
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));

        let mut tables = self.lock();
        tables.by_address.take(from, now)?;
        tables.by_agent.take((agent.clone(), from), now)?;
        tables.sweep(now);
        if tables.opened.len() >= MAX_OPENED {
            return Err(OpenError::Full);
        }
        let opened = Opened {
            id: number >> NUMBER_SHIFT,
            agent,
            challenge,
            created_at,
            node,
            expires: now + CHALLENGE_LIFE,
        };
        tables.opened.insert(opened.id, opened.clone());
        Ok(opened)
    }

    /// Takes a session that waits for its proof; whatever the proof is worth, its challenge is spent. `None` if there is none
    /// of that number, or it has expired.
    #[must_use]
    pub fn take(&self, id: u64, now: Instant) -> Option<Opened> {
        let opened = self.lock().opened.remove(&id)?;
        (now < opened.expires).then_some(opened)
    }

    /// Makes a session of one whose proof holds.
    ///
    /// # Errors
    /// [`OpenError::Full`], [`OpenError::Random`].
    pub fn prove(
        &self,
        opened: &Opened,
        node: Arc<Node>,
        now: Instant,
    ) -> Result<Token, OpenError> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        SysRng.try_fill_bytes(&mut bytes[..])?;
        let token = Token(Zeroizing::new(
            agent_core::wire::text::Hex(&bytes[..]).to_string(),
        ));
        let digest = digest_of(token.text());
        let session = Session {
            id: opened.id,
            node,
            challenge: opened.challenge,
            digest,
            expires: Mutex::new(now + TOKEN_LIFE),
        };
        let mut tables = self.lock();
        tables.sweep(now);
        if tables.proved.len() >= MAX_PROVED {
            return Err(OpenError::Full);
        }
        if let Some(push) = &session.node.push {
            // The oldest of too many of one node goes.
            let oldest = push.attestations().remember_session(digest);
            oldest.and_then(|oldest| tables.proved.remove(&oldest));
        }
        tables.proved.insert(digest, Arc::new(session));
        Ok(token)
    }

    /// The session of a token that hasn't expired.
    #[must_use]
    pub fn by_token(&self, token: &str, now: Instant) -> Option<Arc<Session>> {
        let digest = digest_of(token);
        let session = self.lock().proved.get(&digest).cloned()?;
        let same = bool::from(session.digest.ct_eq(&digest));
        (same && now < session.expires()).then_some(session)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Drops what has expired, at most once in a while.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP_PAUSE {
            return;
        }
        self.swept = now;
        self.opened.retain(|_, opened| now < opened.expires);
        self.proved.retain(|_, session| now < session.expires());
    }
}

impl Session {
    /// A pass gives the token its whole life again.
    pub fn extend(&self, now: Instant) {
        *self.expiry() = now + TOKEN_LIFE;
    }

    fn expires(&self) -> Instant {
        *self.expiry()
    }

    fn expiry(&self) -> MutexGuard<'_, Instant> {
        self.expires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    /// The text after `Bearer`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

fn digest_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// How long a challenge can be answered.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(60);

/// How long a token is good without a pass.
pub const TOKEN_LIFE: Duration = Duration::from_secs(180);

const TOKEN_BYTES: usize = 32;

/// A number that every JSON reader keeps: 53 bits.
const NUMBER_SHIFT: u32 = 11;

/// About 300 bytes each.
const MAX_OPENED: usize = 1 << 15;
const MAX_PROVED: usize = 1 << 16;
const MAX_BUCKETS: usize = 1 << 16;

/// A fleet behind one gateway that comes up together fits in the burst.
const ADDRESS_BURST: u32 = 2048;
const ADDRESS_REFILL: Duration = Duration::from_millis(5);
const AGENT_BURST: u32 = 30;
const AGENT_REFILL: Duration = Duration::from_secs(1);

const SWEEP_PAUSE: Duration = Duration::from_secs(1);
