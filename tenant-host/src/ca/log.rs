//! What the verifier's revocation logs say of this CA's certificates.
//!
//! An entry counts if the CA's notifier signed it and it follows the one before. How far each log was read is kept, so that one
//! which goes back or forks is noticed, and nothing is read twice.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::pss::Pss;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use verifier_host::revocation::told::{Entry, Head, Kind};

use super::index::{Issued, Revoked, whole_seconds};
use super::keyfile::write_atomically;
use super::{CaDirectory, CaError, CaFiles, Reason, exists, names, read_text, with_certificate};
use crate::seal::hex;

/// The largest entry.
///
/// Source: agent-core's `docs/revocation.md`.
const MAX_MSG_BYTES: usize = 32_768;

/// `previous` of the first entry.
const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Hex digits that tell the logs of one anchor apart.
const LOG_DIGITS: usize = 16;

/// Why entries of a log aren't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The log isn't one of this CA's.
    #[error("it isn't a log of this authority, whose anchor is {anchor}")]
    OtherAnchor {
        /// The CA's anchor.
        anchor: String,
    },
    /// An entry is missing.
    #[error("entry {have} comes where {want} should")]
    Gap {
        /// The number that should come.
        want: u64,
        /// The one that came.
        have: u64,
    },
    /// An entry doesn't follow the one before.
    #[error("entry {number} doesn't follow the one before: the log has forked")]
    Fork {
        /// Its number.
        number: u64,
    },
    /// Somebody else than the notifier made an entry.
    #[error("entry {number} isn't signed by this authority's notifier")]
    Signature {
        /// Its number.
        number: u64,
    },
    /// An entry can't be read.
    #[error("entry {number} {problem}")]
    Shape {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// How far a log was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last entry that was read.
    pub number: u64,
    /// Hex of the SHA-256 of its `msg`.
    pub previous: String,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            number: 0,
            previous: NOTHING_BEFORE.to_owned(),
        }
    }
}

/// Whose logs are to be read, and from where on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The anchor's name.
    pub anchor: String,
    /// How far each log was read.
    pub positions: BTreeMap<String, Position>,
}

/// What was read of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The log.
    pub log_id: String,
    /// Its entries as they came, in order.
    pub entries: Vec<Entry>,
}

impl CaFiles {
    /// Whose logs are to be read, and from where on.
    ///
    /// # Errors
    /// [`CaError`] if a file can't be read.
    pub fn seen(&self) -> Result<Seen, CaError> {
        Ok(Seen {
            anchor: self.anchor()?,
            positions: read_positions(self.path())?,
        })
    }
}

impl CaDirectory {
    /// Revokes what the entries of a log say. Returns the certificates that weren't revoked before. All of the entries count, or
    /// none.
    ///
    /// # Errors
    /// [`CaError::Log`]: an entry that isn't to be taken; [`CaError`].
    pub fn read_log(&self, news: &News, now: OffsetDateTime) -> Result<Vec<Issued>, CaError> {
        let refused = |source| CaError::Log {
            log_id: news.log_id.clone(),
            source,
        };
        let anchor = self.files.anchor()?;
        if !is_log_of(&news.log_id, &anchor) {
            return Err(refused(LogError::OtherAnchor { anchor }));
        }
        let mut positions = read_positions(self.path())?;
        let mut position = positions.remove(&news.log_id).unwrap_or_default();
        let notifier = self.notifier()?;
        let mut revoked = Vec::new();
        // Another tenant may have read some of them meanwhile.
        let seen = position.number;
        for entry in news.entries.iter().filter(|entry| entry.number > seen) {
            let found = check(entry, &news.log_id, &mut position, &notifier).map_err(refused)?;
            revoked.extend(found.and_then(|message| message.certificate(now)));
        }
        let marked = self.import(&revoked)?;
        positions.insert(news.log_id.clone(), position);
        write_positions(self.path(), &positions)?;
        Ok(marked)
    }

    /// The notifier's key, by its certificate, which must be this CA's.
    fn notifier(&self) -> Result<rsa::PublicKey, CaError> {
        let path = self.path().join(names::NOTIFIER_CERT);
        let pem = self.files.notifier_pem()?;
        let (spki, start) = with_certificate(&path, &pem, |certificate| {
            let start = certificate.validity().not_before.timestamp();
            Ok((certificate.public_key().raw.to_vec(), start))
        })?;
        let start = std::time::Duration::from_secs(start.try_into().unwrap_or(0));
        self.files.own_certificate(&path, &pem, start)?;
        rsa::PublicKey::from_public_key_der(&spki)
            .map_err(|_| CaError::certificate(&path, "isn't of an RSA key"))
    }
}

/// The signed part of an entry, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: Kind,
    log_id: String,
    number: u64,
    previous: String,
    time: String,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    cert_serial: Option<String>,
}

impl Message {
    /// The certificate that it revokes, if it does, at the time that it says, or now if that is still to come.
    fn certificate(self, now: OffsetDateTime) -> Option<Issued> {
        if self.kind != Kind::Revocation {
            return None;
        }
        let at = OffsetDateTime::parse(&self.time, &Rfc3339).ok()?;
        let printable = |character: char| match character.is_control() {
            true => '?',
            false => character,
        };
        Some(Issued {
            // What isn't a number of this CA's isn't its certificate.
            serial: self.cert_serial?.parse().ok()?,
            name: self.agent_id?.chars().map(printable).collect(),
            not_after: at,
            revoked: Some(Revoked {
                at: whole_seconds(at.min(now)),
                reason: reason_of(&self.reason),
            }),
        })
    }
}

/// The list's reason for one in words: a node that can't be trusted has lost its keys, unless the operator named a reason.
#[must_use]
pub fn reason_of(words: &str) -> Reason {
    words.trim().parse().unwrap_or(Reason::KEY_COMPROMISE)
}

/// Checks that an entry is the next one, and moves on to it. `None` for one that is no revocation.
fn check(
    entry: &Entry,
    log_id: &str,
    position: &mut Position,
    notifier: &rsa::PublicKey,
) -> Result<Option<Message>, LogError> {
    let number = entry.number;
    let want = position.number.saturating_add(1);
    if number != want {
        return Err(LogError::Gap { want, have: number });
    }
    let shape = |problem| LogError::Shape { number, problem };
    if entry.msg.len() > MAX_MSG_BYTES {
        return Err(shape("is longer than entries are"));
    }
    let digest = Sha256::digest(&entry.msg);
    let signature = BASE64
        .decode(&entry.signature)
        .map_err(|_| shape("has a signature that isn't base64"))?;
    let padding = Pss::<Sha256> {
        salt_len: None,
        ..Pss::new()
    };
    notifier
        .verify(padding, &digest, &signature)
        .map_err(|_| LogError::Signature { number })?;
    let message: Message =
        serde_json::from_str(&entry.msg).map_err(|_| shape("has a message that can't be read"))?;
    if message.log_id != log_id || message.number != number {
        return Err(shape("was signed for another place"));
    }
    if message.previous != position.previous {
        return Err(LogError::Fork { number });
    }
    *position = Position {
        number,
        previous: hex(&digest),
    };
    Ok((message.kind == Kind::Revocation).then_some(message))
}

/// `revocation_log.json` of a payload that is sealed now: from which entry on its node acts.
///
/// # Errors
/// [`CaError::Log`] if the verifier shows the head of a log that isn't this anchor's, or none at all.
pub fn log_start(head: &Head, anchor: &str) -> Result<String, CaError> {
    let refused = |source| CaError::Log {
        log_id: head
            .log_id
            .chars()
            .filter(|text| !text.is_control())
            .collect(),
        source,
    };
    if !is_log_of(&head.log_id, anchor) {
        let anchor = anchor.to_owned();
        return Err(refused(LogError::OtherAnchor { anchor }));
    }
    let is_digest = head.previous.len() == NOTHING_BEFORE.len() && is_hex(&head.previous);
    if !is_digest || (head.number == 0 && head.previous != NOTHING_BEFORE) {
        return Err(refused(LogError::Shape {
            number: head.number,
            problem: "is the last one, and has no digest",
        }));
    }
    let (log_id, number, previous) = (&head.log_id, head.number, &head.previous);
    Ok(json!({ "log_id": log_id, "number": number, "previous": previous }).to_string())
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether this is the name of a log of that anchor.
fn is_log_of(log_id: &str, anchor: &str) -> bool {
    log_id
        .split_once('-')
        .is_some_and(|(of, drawn)| of == anchor && drawn.len() == LOG_DIGITS && is_hex(drawn))
}

fn read_positions(directory: &Path) -> Result<BTreeMap<String, Position>, CaError> {
    let path = directory.join(names::LOGS);
    if !exists(&path)? {
        return Ok(BTreeMap::new());
    }
    let text = read_text(&path)?;
    let line = |line: &str| {
        let mut words = line.split(' ');
        let log_id = words.next()?.to_owned();
        let number = words.next()?.parse().ok()?;
        let previous = words.next()?.to_owned();
        let is_whole = previous.len() == NOTHING_BEFORE.len() && words.next().is_none();
        is_whole.then_some((log_id, Position { number, previous }))
    };
    text.lines()
        .map(|text| line(text).ok_or_else(|| CaError::Logs { path: path.clone() }))
        .collect()
}

fn write_positions(
    directory: &Path,
    positions: &BTreeMap<String, Position>,
) -> Result<(), CaError> {
    let path = directory.join(names::LOGS);
    let text: String = positions
        .iter()
        .map(|(log_id, at)| format!("{log_id} {} {}\n", at.number, at.previous))
        .collect();
    write_atomically(&path, text.as_bytes(), 0o644)
        .map_err(|source| CaError::io("write", &path, source))
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use rsa::pkcs8::DecodePrivateKey as _;

    use super::*;
    use crate::ca::{LeafWish, keyfile};

    /// Signs entries as the verifier does.
    pub(crate) struct Log {
        key: rsa::PrivateKey,
        pub(crate) log_id: String,
        pub(crate) entries: Vec<Entry>,
        previous: String,
    }

    impl Log {
        pub(crate) fn of(ca: &CaDirectory) -> Self {
            let path = ca.path().join(names::NOTIFIER_PRIVATE);
            let pkcs8 = keyfile::read_private(&path, None).unwrap();
            Self {
                key: rsa::PrivateKey::from_pkcs8_der(pkcs8.as_bytes()).unwrap(),
                log_id: format!("{}-0123456789abcdef", ca.files().anchor().unwrap()),
                entries: Vec::new(),
                previous: NOTHING_BEFORE.to_owned(),
            }
        }

        pub(crate) fn add(&mut self, kind: &str, serial: Option<&str>, reason: &str) {
            let number = self.entries.len() as u64 + 1;
            let msg = json!({
                "type": kind, "log_id": self.log_id, "number": number, "previous": self.previous, "agent_id": "node",
                "time": "2026-11-26T02:17:00Z", "reason": reason, "cert_serial": serial, "ip": "10.0.0.7",
            })
            .to_string();
            let digest = Sha256::digest(&msg);
            let longest = rsa::traits::PublicKeyParts::size(&self.key) - 34;
            let padding = Pss::<Sha256>::new_with_salt(longest);
            let signature = self
                .key
                .sign_with_rng(&mut rand::rngs::SysRng, padding, &digest)
                .unwrap();
            self.previous = hex(&digest);
            self.entries.push(Entry {
                number,
                agent_id: Some("node".to_owned()),
                kind: Kind::Revocation,
                time: String::new(),
                reason: reason.to_owned(),
                cert_serial: serial.map(str::to_owned),
                msg,
                signature: BASE64.encode(signature),
            });
        }

        pub(crate) fn news(&self) -> News {
            News {
                log_id: self.log_id.clone(),
                entries: self.entries.clone(),
            }
        }
    }

    fn ca(root: &Path) -> CaDirectory {
        let now = OffsetDateTime::now_utc();
        let ca = CaDirectory::open_or_create(root, None, now).unwrap();
        for name in ["a", "b"] {
            let wish = LeafWish {
                name: name.to_owned(),
                ..LeafWish::default()
            };
            ca.make(&wish, None, now).unwrap();
        }
        ca
    }

    #[test]
    fn a_log_is_read_once_and_from_where_it_was_left() {
        let root = tempfile::tempdir().unwrap();
        let ca = ca(root.path());
        let now = OffsetDateTime::now_utc();
        let mut log = Log::of(&ca);
        log.add("revocation", Some("3"), "pcr_validation.invalid_pcr_7");
        log.add("crl", None, "a list");
        log.add("revocation", None, "no certificate");
        let marked = ca.read_log(&log.news(), now).unwrap();
        let of = |issued: &Issued| (issued.serial, issued.revoked.map(|by| by.reason));
        let marked: Vec<_> = marked.iter().map(of).collect();
        assert_eq!(marked, [(3, Some(Reason::KEY_COMPROMISE))]);
        let position = ca.files().seen().unwrap().positions[&log.log_id].clone();
        assert_eq!((position.number, &position.previous), (3, &log.previous));
        assert!(ca.read_log(&log.news(), now).unwrap().is_empty());
        log.add("revocation", Some("4"), "cessationOfOperation");
        log.entries.drain(..3);
        let marked = ca.read_log(&log.news(), now).unwrap();
        let marked: Vec<_> = marked.iter().map(of).collect();
        assert_eq!(marked, [(4, Some(Reason::CESSATION))]);
    }

    #[test]
    fn a_payload_says_where_its_log_begins() {
        let anchor = "ab".repeat(32);
        let head = |log_id: &str, number, previous: &str| Head {
            log_id: log_id.to_owned(),
            number,
            previous: previous.to_owned(),
            crl_number: None,
        };
        let (own, digest) = (format!("{anchor}-0123456789abcdef"), "cd".repeat(32));
        let start = log_start(&head(&own, u64::MAX, &digest), &anchor).unwrap();
        assert!(start.len() <= 512, "{start}");
        assert!(log_start(&head(&own, 0, NOTHING_BEFORE), &anchor).is_ok());
        let rows = [
            (
                "another anchor's",
                head(&format!("{digest}-0123456789abcdef"), 1, &digest),
            ),
            ("too long", head(&format!("{own}0"), 1, &digest)),
            ("no digest", head(&own, 1, "cd")),
            ("no hex", head(&own, 1, &digest.to_uppercase())),
            ("something before the first", head(&own, 0, &digest)),
        ];
        for (name, head) in rows {
            assert!(log_start(&head, &anchor).is_err(), "{name}");
        }
    }

    #[test]
    fn what_the_notifier_did_not_sign_in_order_is_refused() {
        type Damage = fn(&mut News);
        type Wanted = fn(&LogError) -> bool;
        let rows: [(&str, Damage, Wanted); 7] = [
            (
                "message",
                |news| news.entries[1].msg = news.entries[1].msg.replace("\"4\"", "\"3\""),
                |error| matches!(error, LogError::Signature { number: 2 }),
            ),
            (
                "signature",
                |news| news.entries[1].signature = "?".to_owned(),
                |error| matches!(error, LogError::Shape { number: 2, .. }),
            ),
            (
                "one left out",
                |news| drop(news.entries.remove(0)),
                |error| matches!(error, LogError::Gap { want: 1, have: 2 }),
            ),
            (
                "one twice",
                |news| news.entries[1] = news.entries[0].clone(),
                |error| matches!(error, LogError::Gap { want: 2, have: 1 }),
            ),
            (
                "renumbered",
                |news| {
                    news.entries.remove(0);
                    news.entries[0].number = 1;
                },
                |error| matches!(error, LogError::Shape { number: 1, .. }),
            ),
            (
                "another log",
                |news| news.log_id = news.log_id.replace("0123", "1123"),
                |error| matches!(error, LogError::Shape { number: 1, .. }),
            ),
            (
                "another anchor",
                |news| news.log_id = format!("{NOTHING_BEFORE}-0123456789abcdef"),
                |error| matches!(error, LogError::OtherAnchor { .. }),
            ),
        ];
        let root = tempfile::tempdir().unwrap();
        let ca = ca(root.path());
        let now = OffsetDateTime::now_utc();
        let mut log = Log::of(&ca);
        log.add("revocation", Some("3"), "");
        log.add("revocation", Some("4"), "");
        for (name, damage, wanted) in rows {
            let mut news = log.news();
            damage(&mut news);
            match ca.read_log(&news, now).err() {
                Some(CaError::Log { source, .. }) => assert!(wanted(&source), "{name}: {source}"),
                other => panic!("{name}: {other:?}"),
            }
            let revoked = ca.files().issued().unwrap();
            assert!(revoked.iter().all(|issued| issued.revoked.is_none()));
        }
        // A log that forks where it was left.
        let mut other = Log::of(&ca);
        other.add("revocation", Some("3"), "another reason");
        ca.read_log(&other.news(), now).unwrap();
        let forked = ca.read_log(&log.news(), now).err();
        let wanted = LogError::Fork { number: 2 };
        assert!(matches!(forked, Some(CaError::Log { source, .. }) if source == wanted));
    }
}
