//! Nodes in the database: terms, progress, and the two secrets, sealed.

use agent_core::wire::text::Uuid;
use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};
use zeroize::Zeroizing;

use super::revocations::{Joining, StoredLog};
use super::{Store, StoreError, policies, revocations};
use crate::policies::Given;
use crate::revocation::anchor::{AnchorName, Group};
use crate::rounds::node::Node;
use crate::rounds::progress::Progress;
use crate::rounds::terms::{Terms, TermsText};

/// What a tenant entrusts the verifier with; wiped with the value.
pub struct Secrets {
    /// The verifier's half of the payload key; `None` without a payload.
    pub v: Option<Zeroizing<Vec<u8>>>,
    /// Who signs its revocations; `None` without a key.
    pub notifier: Option<Notifier>,
}

/// The key that signs revocations of a node, and who is told of them.
pub struct Notifier {
    /// PEM of the key; wiped with the value.
    pub pem: Zeroizing<String>,
    /// The key's name.
    pub anchor: AnchorName,
    /// Nodes of this group are told.
    pub group: Group,
}

/// A node that was added.
pub struct Inserted {
    /// Its log of revocations, with the entry that was the last then; `None` without a key.
    pub log: Option<StoredLog>,
}

/// A node as it was stored.
pub struct StoredNode {
    /// Its identifier.
    pub id: Uuid,
    /// What the tenant said.
    pub terms: Terms,
    /// What happened since.
    pub progress: Progress,
    /// Whether V is to be given to it.
    pub has_v: bool,
}

impl Store {
    /// Adds a node and the policies that came with it; `None` if there is a node of that name, and then nothing has changed.
    ///
    /// # Errors
    /// The database; the system's random numbers.
    pub async fn insert_node(
        &self,
        id: &Uuid,
        terms: &TermsText,
        progress: &Progress,
        secrets: &Secrets,
        given: &[Given],
    ) -> Result<Option<Inserted>, StoreError> {
        let v = secrets.v.as_ref();
        let v = v
            .map(|v| self.at_rest.seal(id.as_str(), V, v))
            .transpose()?;
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "INSERT INTO nodes (uuid, terms, progress, v) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(id.as_str())
        .bind(json(id, terms)?)
        .bind(json(id, progress)?)
        .bind(v)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() != 1 {
            return Ok(None);
        }
        for Given { name, draft, alone } in given {
            policies::put(&mut transaction, name, &draft.text, alone.then_some(id)).await?;
        }
        let log = match &secrets.notifier {
            None => None,
            Some(Notifier { pem, anchor, group }) => {
                let joining = Joining { pem, anchor, group };
                Some(revocations::join(&mut transaction, self, id, joining).await?)
            }
        };
        transaction.commit().await?;
        Ok(Some(Inserted { log }))
    }

    /// Writes what happened to a node; a node that is gone stays gone.
    ///
    /// # Errors
    /// The database.
    pub async fn save_progress(&self, id: &Uuid, progress: &Progress) -> Result<(), StoreError> {
        sqlx::query(UPDATE_PROGRESS)
            .bind(json(id, progress)?)
            .bind(id.as_str())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Writes the progress of many nodes at once.
    ///
    /// # Errors
    /// The database; then nothing is written.
    pub async fn save_all(&self, nodes: &[Arc<Node>]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for node in nodes {
            put_progress(&mut transaction, &node.id, &node.progress()).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Forgets a node, its secrets and the policies that were given for it alone; `false` if there was none.
    ///
    /// # Errors
    /// The database; then nothing has changed.
    pub async fn delete_node(&self, id: &Uuid) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query("DELETE FROM nodes WHERE uuid = ?")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        policies::drop_unnamed(&mut transaction).await?;
        revocations::drop_unused_keys(&mut transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// All nodes, in the order of their names; a record that this program can't have written doesn't hide the others.
    ///
    /// # Errors
    /// The database.
    pub async fn nodes(&self) -> Result<Vec<Result<StoredNode, StoreError>>, StoreError> {
        let rows = sqlx::query(
            "SELECT uuid, terms, progress, v IS NOT NULL AS has_v FROM nodes ORDER BY uuid",
        )
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(stored).collect())
    }

    /// The verifier's half for a node, opened for the moment that it is sent.
    ///
    /// # Errors
    /// The database; a value that was changed there.
    pub async fn v(&self, id: &Uuid) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT v FROM nodes WHERE uuid = ?")
                .bind(id.as_str())
                .fetch_optional(&self.reader)
                .await?;
        self.opened(id, V, sealed.flatten())
    }

    fn opened(
        &self,
        id: &Uuid,
        column: &str,
        sealed: Option<Vec<u8>>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let opened = sealed.map(|sealed| self.at_rest.open(id.as_str(), column, &sealed));
        Ok(opened.transpose()?)
    }
}

/// Writes what happened to a node, in a transaction.
pub(super) async fn put_progress(
    transaction: &mut Transaction<'_, Sqlite>,
    id: &Uuid,
    progress: &Progress,
) -> Result<(), StoreError> {
    sqlx::query(UPDATE_PROGRESS)
        .bind(json(id, progress)?)
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn stored(row: &SqliteRow) -> Result<StoredNode, StoreError> {
    let uuid: String = row.try_get("uuid")?;
    let terms: String = row.try_get("terms")?;
    let progress: String = row.try_get("progress")?;
    let has_v: bool = row.try_get("has_v")?;
    let damaged = |what| StoreError::Damaged {
        uuid: uuid.clone(),
        what,
    };
    let text: TermsText = serde_json::from_str(&terms)
        .map_err(|_| damaged("its terms are no JSON of this program"))?;
    Ok(StoredNode {
        id: Uuid::parse(&uuid).ok_or_else(|| damaged("its name is no agent's"))?,
        terms: Terms::try_from(text).map_err(|_| damaged("its terms can't be acted on"))?,
        progress: serde_json::from_str(&progress)
            .map_err(|_| damaged("its progress is no JSON of this program"))?,
        has_v,
    })
}

fn json(id: &Uuid, value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Damaged {
        uuid: id.to_string(),
        what: "it can't be written as JSON",
    })
}

const UPDATE_PROGRESS: &str = "UPDATE nodes SET progress = ? WHERE uuid = ?";
const V: &str = "v";

/// Where keys of nodes were that were added before anchors had them.
pub(super) const REVOCATION_KEY: &str = "revocation_key";
