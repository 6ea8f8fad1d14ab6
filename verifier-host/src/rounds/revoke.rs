//! A node that an operator revokes, whatever it shows.

use std::sync::Arc;
use std::time::Duration;

use agent_core::wire::text::Uuid;
use serde_json::json;
use tracing::info;

use super::progress::Failure;
use super::schedule::{ChangeError, Rounds};
use crate::revocation::list::List;
use crate::revocation::told::MadeEntry;
use crate::revocation::{AppendError, News};

impl Rounds {
    /// Revokes a node whatever it shows: it is attested no more, and its entry is made, with a list if there is one to give.
    ///
    /// # Errors
    /// Unknown, without a revocation key, a list that isn't newer, the database; then nothing has changed.
    pub async fn revoke(
        &self,
        id: Uuid,
        reason: String,
        list: Option<List>,
    ) -> Result<MadeEntry, ChangeError> {
        self.to_its_end(|this| async move {
            let node = this
                .get(&id)
                .ok_or_else(|| ChangeError::Unknown(id.clone()))?;
            let peer = node.peer.as_ref();
            let log = peer.map(|peer| Arc::clone(&peer.log));
            let log = log.ok_or_else(|| AppendError::NoLog(id.to_string()))?;
            this.halt(&id).await;
            let failure = Failure {
                event_id: "operator.revoked".to_owned(),
                context: json!({ "context": &reason }),
                reason,
            };
            let news = News::Node {
                node: Arc::clone(&node),
                failure,
                operator: true,
                list,
            };
            let made = this
                .shared
                .revocations
                .append(Arc::clone(&log.anchor), news)
                .await;
            match made {
                Ok(made) => {
                    info!(agent = %id, "revoked by an operator");
                    let mut own = made.into_iter().filter(|made| made.log_id == log.id);
                    own.next().ok_or_else(|| AppendError::Moved.into())
                }
                Err(error) => {
                    this.start(node, Duration::ZERO);
                    Err(error.into())
                }
            }
        })
        .await
    }
}
