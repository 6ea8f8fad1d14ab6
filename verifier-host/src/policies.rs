//! The policies that nodes are judged by: under names, read once, shared by all nodes that have the same.
//!
//! A node's terms name its policies; what the names mean is looked up anew at each round. So a changed policy counts from the
//! next round on, and one that isn't there is a failure, never a pass.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use thiserror::Error;

use crate::policy::measured_boot::MeasuredBootPolicy;
use crate::policy::runtime::RuntimePolicy;
use crate::policy::{PolicyKind, PolicyName};
use crate::rounds::terms::Terms;

mod draft;

pub use draft::{Draft, DraftError, Text};

/// SHA-256 of a policy's text: equal policies are kept once.
pub type PolicyDigest = [u8; 32];

/// A policy, and what tells it apart.
#[derive(Debug)]
pub struct Kept<P> {
    /// Of its text.
    pub digest: PolicyDigest,
    /// What it says.
    pub policy: P,
}

/// A policy of either kind, ready to be looked up.
#[derive(Clone, Debug)]
pub enum Ready {
    /// What IMA may measure.
    Runtime(Arc<Kept<RuntimePolicy>>),
    /// What the boot log must show.
    MeasuredBoot(Arc<Kept<MeasuredBootPolicy>>),
}

/// What one node is judged by, besides its `tpm_policy`.
#[derive(Clone, Debug, Default)]
pub struct JudgedBy {
    /// The policy for its IMA list.
    pub runtime: Option<Arc<Kept<RuntimePolicy>>>,
    /// The policy for its boot log.
    pub measured_boot: Option<Arc<Kept<MeasuredBootPolicy>>>,
}

impl JudgedBy {
    /// Whether a log decides: a measured-boot policy may say nothing.
    #[must_use]
    pub fn decides_by_logs(&self) -> bool {
        let boot = self.measured_boot.as_ref();
        self.runtime.is_some() || boot.is_some_and(|kept| !kept.policy.says_nothing())
    }
}

/// A policy that comes with a node.
#[derive(Debug)]
pub struct Given {
    /// What it is to be kept under.
    pub name: PolicyName,
    /// The policy.
    pub draft: Draft,
    /// Whether it is this node's alone, and goes with it.
    pub alone: bool,
}

/// A node's policy that isn't there: then nothing can pass.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the {} {name} that this node was added with is not there", kind.noun())]
pub struct MissingPolicy {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its name.
    pub name: PolicyName,
}

/// All policies. What a tenant changes is written to the database first.
#[derive(Debug, Default)]
pub struct Policies(RwLock<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    runtime: Shelf<RuntimePolicy>,
    measured_boot: Shelf<MeasuredBootPolicy>,
}

type Shelf<P> = BTreeMap<PolicyName, Arc<Kept<P>>>;

impl Policies {
    /// What a node is judged by now.
    ///
    /// # Errors
    /// [`MissingPolicy`].
    pub fn of(&self, terms: &Terms) -> Result<JudgedBy, MissingPolicy> {
        let shelves = self.read();
        Ok(JudgedBy {
            runtime: look_up(
                &shelves.runtime,
                terms.text.runtime_policy.as_ref(),
                PolicyKind::Runtime,
            )?,
            measured_boot: look_up(
                &shelves.measured_boot,
                terms.text.mb_policy.as_ref(),
                PolicyKind::MeasuredBoot,
            )?,
        })
    }

    /// Whether nothing decides about what a node booted: then every boot passes.
    #[must_use]
    pub fn decide_nothing(&self, terms: &Terms) -> bool {
        terms.policy.is_empty() && self.of(terms).is_ok_and(|by| !by.decides_by_logs())
    }

    /// Whether something decides about what the boot itself measured: a PCR that it extends, or a log.
    #[must_use]
    pub fn decide_about_the_boot(&self, terms: &Terms) -> bool {
        terms.policy.names_boot_pcr() || self.of(terms).is_ok_and(|by| by.decides_by_logs())
    }

    /// Whether there is a policy of this kind and name.
    #[must_use]
    pub fn has(&self, kind: PolicyKind, name: &PolicyName) -> bool {
        let shelves = self.read();
        match kind {
            PolicyKind::Runtime => shelves.runtime.contains_key(name),
            PolicyKind::MeasuredBoot => shelves.measured_boot.contains_key(name),
        }
    }

    /// The names of a kind, in their order.
    #[must_use]
    pub fn names(&self, kind: PolicyKind) -> Vec<PolicyName> {
        let shelves = self.read();
        match kind {
            PolicyKind::Runtime => shelves.runtime.keys().cloned().collect(),
            PolicyKind::MeasuredBoot => shelves.measured_boot.keys().cloned().collect(),
        }
    }

    /// Puts a policy under a name; an equal one that is there already under another name is shared.
    pub fn put(&self, name: PolicyName, ready: Ready) {
        let mut shelves = self.write();
        match ready {
            Ready::Runtime(kept) => shelve(&mut shelves.runtime, name, kept),
            Ready::MeasuredBoot(kept) => shelve(&mut shelves.measured_boot, name, kept),
        }
    }

    /// Forgets a policy.
    pub fn remove(&self, kind: PolicyKind, name: &PolicyName) {
        let mut shelves = self.write();
        match kind {
            PolicyKind::Runtime => drop(shelves.runtime.remove(name)),
            PolicyKind::MeasuredBoot => drop(shelves.measured_boot.remove(name)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Shelves> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shelves> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_up<P>(
    shelf: &Shelf<P>,
    name: Option<&PolicyName>,
    kind: PolicyKind,
) -> Result<Option<Arc<Kept<P>>>, MissingPolicy> {
    let find = |name: &PolicyName| {
        let missing = || MissingPolicy {
            kind,
            name: name.clone(),
        };
        shelf.get(name).cloned().ok_or_else(missing)
    };
    name.map(find).transpose()
}

fn shelve<P>(shelf: &mut Shelf<P>, name: PolicyName, kept: Arc<Kept<P>>) {
    let equal = shelf.values().find(|other| other.digest == kept.digest);
    let kept = equal.map_or(kept, Arc::clone);
    shelf.insert(name, kept);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;
    use crate::testing::runtime_policy;

    fn name(text: &str) -> PolicyName {
        PolicyName::parse(text.to_owned()).unwrap()
    }

    fn kept(policies: &Policies, text: &str) -> Arc<Kept<RuntimePolicy>> {
        Arc::clone(&policies.read().runtime[&name(text)])
    }

    #[test]
    fn equal_policies_are_kept_once() {
        let policies = Policies::default();
        let ready = |path| {
            let text = runtime_policy(path);
            Draft::parse(PolicyKind::Runtime, text.into_bytes(), None)
                .unwrap()
                .ready
        };
        policies.put(name("a"), ready("/bin/one"));
        policies.put(name("b"), ready("/bin/one"));
        assert!(Arc::ptr_eq(&kept(&policies, "a"), &kept(&policies, "b")));
        policies.put(name("b"), ready("/bin/two"));
        assert!(!Arc::ptr_eq(&kept(&policies, "a"), &kept(&policies, "b")));
        assert_eq!(policies.names(PolicyKind::Runtime), [name("a"), name("b")]);
        policies.remove(PolicyKind::Runtime, &name("a"));
        assert!(!policies.has(PolicyKind::Runtime, &name("a")));
        assert!(!policies.has(PolicyKind::MeasuredBoot, &name("b")));
    }
}
