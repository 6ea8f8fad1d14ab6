//! What a runtime policy says to each entry of a node's IMA list.
//!
//! The rules are Keylime's, but for three where it lets more pass: a violation fails unless its path is excluded; a measured buffer must
//! have the digest that its entry says; and a key isn't learnt from a keyring that is only excluded.
//!
//! Source: `ima/ima.py` and `ima/file_signatures.py` in Keylime 7.14.3.

use agent_core::wire::quote::PcrDump;

use super::digests::{Listed, Sought};
use super::refusal::{Named, Part};
use super::{Digests, Refusal, RuntimePolicy};
use crate::evidence::ima::{
    BOOT_AGGREGATE, BootAggregate, Content, Entry, FileDigest, FileKey, FileSignature, Judges,
    ListHash,
};

/// The most keys that are learnt from one node. Kernels have some dozens.
const MAX_LEARNT_KEYS: usize = 1024;

/// Keys that a node's kernel was measured to put into its keyrings, each of which the policy allows. They count as long as the list that
/// they were learnt from does: until the node boots again, or its list is read from the first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    keys: Vec<FileKey>,
}

/// Judges the entries of one node's list, in their order.
#[derive(Debug)]
pub struct Judge<'a> {
    policy: &'a RuntimePolicy,
    aggregate: Option<BootAggregate>,
    learnt: Learnt,
}

impl<'a> Judge<'a> {
    /// A judge who knows what was learnt from the lines before, and the PCRs of the list's quote.
    #[must_use]
    pub fn new(policy: &'a RuntimePolicy, learnt: Learnt, quoted: &PcrDump) -> Self {
        Self {
            policy,
            aggregate: BootAggregate::of(quoted),
            learnt,
        }
    }

    /// What was learnt; to be kept only if the list matched its quote.
    #[must_use]
    pub fn into_learnt(self) -> Learnt {
        self.learnt
    }

    /// Whether the policy lets an entry pass.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(&mut self, entry: &Entry<'_>) -> Result<(), Refusal> {
        self.decide(entry, self.begin(entry))
    }

    /// The quote's PCRs decide where they can; else the policy lists the value.
    fn judge_aggregate(&self, entry: &Entry<'_>, begun: Begun) -> Result<(), Refusal> {
        let agrees = self
            .aggregate
            .as_ref()
            .and_then(|aggregate| Some((aggregate, aggregate.agrees(&entry.digest)?)));
        match agrees {
            Some((_, true)) => Ok(()),
            Some((aggregate, false)) => Err(Refusal::BootAggregate {
                got: Named::digest(&entry.digest),
                quoted: Named::bytes(aggregate.value()),
            }),
            None => self.listed_file(entry, begun),
        }
    }

    /// A signature by a known key, or a listed digest, lets a file pass. If nothing does, the digest is the reason where one is listed.
    fn judge_signed(
        &self,
        entry: &Entry<'_>,
        signature: &[u8],
        begun: Begun,
    ) -> Result<(), Refusal> {
        let signed = self.verify(entry, signature);
        match (signed, self.listed_file(entry, begun)) {
            (Ok(()), _) | (_, Ok(())) => Ok(()),
            (Err(reason), Err(Refusal::Unknown { .. })) if self.has_keys() => Err(reason),
            (_, refused) => refused,
        }
    }

    fn has_keys(&self) -> bool {
        !(self.policy.verification_keys.is_empty() && self.learnt.keys.is_empty())
    }

    fn verify(&self, entry: &Entry<'_>, signature: &[u8]) -> Result<(), Refusal> {
        let path = || entry.path_text();
        let signature = FileSignature::parse(signature).map_err(|reason| Refusal::Signature {
            path: path(),
            reason,
        })?;
        let id = signature.key;
        let keys = self
            .policy
            .verification_keys
            .iter()
            .chain(&self.learnt.keys);
        let mut named = keys.filter(|key| key.id() == id).peekable();
        if named.peek().is_none() {
            return Err(Refusal::NoKey { path: path(), id });
        }
        let mut unsupported = None;
        for key in named {
            if key.verifies(&entry.digest, &signature) {
                return Ok(());
            }
            unsupported = key.unsupported().or(unsupported);
        }
        Err(match unsupported {
            Some(algorithm) => Refusal::KeyAlgorithm {
                path: path(),
                id,
                algorithm: algorithm.to_owned(),
            },
            None => Refusal::BadSignature {
                path: path(),
                id,
                hash: signature.hash,
                digest: Named::digest(&entry.digest),
            },
        })
    }

    /// A buffer that is a key belongs to a keyring; all others are known by their names.
    fn judge_buffer(&mut self, entry: &Entry<'_>, buffer: &[u8]) -> Result<(), Refusal> {
        let Ok(key) = FileKey::from_der(buffer) else {
            self.listed(Part::Buffers, entry)?;
            return has_digest(entry, buffer, true);
        };
        let ignored = &self.policy.ignored_keyrings;
        if ignored
            .iter()
            .any(|name| name == "*" || name.as_bytes() == entry.path)
        {
            return Ok(());
        }
        self.listed(Part::Keyrings, entry)?;
        if lists(&self.policy.keyrings, entry) {
            has_digest(entry, buffer, false)?;
            self.learn(key)?;
        }
        Ok(())
    }

    fn learn(&mut self, key: FileKey) -> Result<(), Refusal> {
        if self.learnt.keys.contains(&key) {
            return Ok(());
        }
        if self.learnt.keys.len() == MAX_LEARNT_KEYS {
            let limit = MAX_LEARNT_KEYS;
            return Err(Refusal::TooManyKeys { limit });
        }
        self.learnt.keys.push(key);
        Ok(())
    }

    /// Whether the policy lists the entry as a file, or its path is excluded.
    fn listed_file(&self, entry: &Entry<'_>, Begun(sought): Begun) -> Result<(), Refusal> {
        let digests = &self.policy.digests;
        if allows(digests.find(entry.path, sought), entry) {
            return Ok(());
        }
        self.excluded(Part::Files, entry, digests)
    }

    /// Whether a part of the policy lists the entry, or its path is excluded.
    fn listed(&self, part: Part, entry: &Entry<'_>) -> Result<(), Refusal> {
        let digests = match part {
            Part::Files => &self.policy.digests,
            Part::Keyrings => &self.policy.keyrings,
            Part::Buffers => &self.policy.buffers,
        };
        if lists(digests, entry) {
            return Ok(());
        }
        self.excluded(part, entry, digests)
    }

    /// Whether the path of an entry that isn't listed is excluded.
    #[cold]
    fn excluded(&self, part: Part, entry: &Entry<'_>, digests: &Digests) -> Result<(), Refusal> {
        if self.policy.excludes.matches(entry.path) {
            return Ok(());
        }
        let (path, got) = (entry.path_text(), Named::digest(&entry.digest));
        Err(match digests.get(entry.path) {
            Some(allowed) => Refusal::Digest {
                part,
                path,
                got,
                allowed: Named::all(allowed.iter()),
            },
            None => Refusal::Unknown { part, path, got },
        })
    }
}

impl Judges for Judge<'_> {
    type Refusal = Refusal;
    type Begun = Begun;

    fn begin(&self, entry: &Entry<'_>) -> Begun {
        Begun(self.policy.digests.seek(entry.path))
    }

    fn fetch(&self, entry: &Entry<'_>, Begun(sought): &Begun) {
        self.policy.digests.fetch(entry.path, sought);
    }

    fn decide(&mut self, entry: &Entry<'_>, begun: Begun) -> Result<(), Refusal> {
        if entry.list_hash != self.policy.log_hash {
            return Err(Refusal::ListHash {
                got: entry.list_hash,
                want: self.policy.log_hash,
            });
        }
        match entry.content {
            _ if entry.violation && self.policy.excludes.matches(entry.path) => Ok(()),
            _ if entry.violation => Err(Refusal::Violation {
                path: entry.path_text(),
            }),
            Content::Buffer(buffer) => self.judge_buffer(entry, buffer),
            Content::Signed(signature) => self.judge_signed(entry, signature, begun),
            Content::File if entry.path == BOOT_AGGREGATE => self.judge_aggregate(entry, begun),
            Content::File => self.listed_file(entry, begun),
        }
    }
}

/// Where the search for an entry's path among the files of the policy begins.
#[derive(Clone, Copy, Debug)]
pub struct Begun(Sought);

fn lists(digests: &Digests, entry: &Entry<'_>) -> bool {
    allows(digests.get(entry.path), entry)
}

fn allows(allowed: Option<Listed<'_>>, entry: &Entry<'_>) -> bool {
    allowed.is_some_and(|allowed| allowed.iter().any(|digest| digest == entry.digest.bytes))
}

/// Whether a measured buffer has the digest that its entry says: the kernel extends both without a relation, so that somebody who can
/// extend PCR 10 by hand could pair an allowed digest with a key of his own. A hash that isn't known can't be compared.
fn has_digest(entry: &Entry<'_>, buffer: &[u8], or_unknown: bool) -> Result<(), Refusal> {
    let FileDigest { kind, alg, bytes } = entry.digest;
    let hash = ListHash::from_name(alg).filter(|_| kind.is_none());
    let holds = hash.map_or(or_unknown, |hash| hash.digest(buffer) == bytes);
    if holds {
        Ok(())
    } else {
        Err(Refusal::Buffer {
            path: entry.path_text(),
            said: Named::digest(&entry.digest),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;
