//! Changes to the policies that nodes are judged by: one at a time with the changes to nodes, so that none goes that a node has
//! just been added with.

use agent_core::wire::text::Uuid;
use tracing::{error, info};

use super::schedule::{ChangeError, Rounds};
use super::terms::TermsText;
use crate::policies::{Draft, Given};
use crate::policy::{PolicyKind, PolicyName};

impl Rounds {
    /// Keeps a policy under a new name.
    ///
    /// # Errors
    /// There is one of that name; the database.
    pub async fn add_policy(&self, name: PolicyName, draft: Draft) -> Result<(), ChangeError> {
        self.to_its_end(|this| async move {
            let kind = draft.text.kind;
            if this.policies().has(kind, &name) {
                return Err(ChangeError::PolicyExists { kind, name });
            }
            this.keep(name, draft).await
        })
        .await
    }

    /// Replaces a policy. Nodes are judged by the new one from their next round on; those that failed by the old one stay failed
    /// until they are reactivated.
    ///
    /// # Errors
    /// There is none of that name; the database.
    pub async fn update_policy(&self, name: PolicyName, draft: Draft) -> Result<(), ChangeError> {
        self.to_its_end(|this| async move {
            let kind = draft.text.kind;
            if !this.policies().has(kind, &name) {
                return Err(ChangeError::NoPolicy { kind, name });
            }
            this.keep(name, draft).await
        })
        .await
    }

    /// Forgets a policy that no node is judged by.
    ///
    /// # Errors
    /// There is none of that name, or a node has it; the database.
    pub async fn remove_policy(
        &self,
        kind: PolicyKind,
        name: PolicyName,
    ) -> Result<(), ChangeError> {
        self.to_its_end(|this| async move {
            if let Some(agent) = this.judged_by(kind, &name) {
                return Err(ChangeError::PolicyInUse { kind, name, agent });
            }
            if !this.store().delete_policy(kind, &name).await? {
                return Err(ChangeError::NoPolicy { kind, name });
            }
            this.policies().remove(kind, &name);
            info!("{} {name} deleted", kind.noun());
            Ok(())
        })
        .await
    }

    async fn keep(&self, name: PolicyName, draft: Draft) -> Result<(), ChangeError> {
        self.store().save_policy(&name, &draft.text).await?;
        info!("{} {name} kept", draft.text.kind.noun());
        self.policies().put(name, draft.ready);
        Ok(())
    }

    /// Some node that is judged by this policy.
    fn judged_by(&self, kind: PolicyKind, name: &PolicyName) -> Option<Uuid> {
        let mut nodes = self.list().into_iter();
        let node = nodes.find(|node| named(&node.terms.text, kind) == Some(name))?;
        Some(node.id.clone())
    }

    /// What speaks against a new node's policies: one that it names isn't there, or one that comes with it is there already.
    pub(super) fn objection(&self, terms: &TermsText, given: &[Given]) -> Option<ChangeError> {
        KINDS.into_iter().find_map(|kind| {
            let name = named(terms, kind)?;
            let comes = given.iter().any(|given| given.draft.text.kind == kind);
            let name = || name.clone();
            match (comes, self.policies().has(kind, &name())) {
                (true, false) | (false, true) => None,
                (true, true) => Some(ChangeError::PolicyExists { kind, name: name() }),
                (false, false) => Some(ChangeError::NoPolicy { kind, name: name() }),
            }
        })
    }

    /// Drops from memory what went from the database with its node.
    pub(super) async fn forget_its_own_policies(&self, id: &Uuid) -> Result<(), ChangeError> {
        let name = PolicyName::from(id);
        for kind in KINDS {
            if self.policies().has(kind, &name)
                && self.store().policy_text(kind, &name).await?.is_none()
            {
                self.policies().remove(kind, &name);
            }
        }
        Ok(())
    }

    /// Reads all policies of the database. One that this program can't read is left out: its nodes fail and say so.
    pub(super) async fn load_policies(&self) -> Result<(), ChangeError> {
        for stored in self.store().policies().await? {
            match stored {
                Ok(stored) => {
                    let text = stored.text;
                    match Draft::parse(text.kind, text.bytes, None) {
                        Ok(draft) => self.policies().put(stored.name, draft.ready),
                        Err(error) => error!("policy {} is left out: {error}", stored.name),
                    }
                }
                Err(error) => error!("a policy is left out: {error}"),
            }
        }
        Ok(())
    }
}

const fn named(terms: &TermsText, kind: PolicyKind) -> Option<&PolicyName> {
    match kind {
        PolicyKind::Runtime => terms.runtime_policy.as_ref(),
        PolicyKind::MeasuredBoot => terms.mb_policy.as_ref(),
    }
}

const KINDS: [PolicyKind; 2] = [PolicyKind::Runtime, PolicyKind::MeasuredBoot];
