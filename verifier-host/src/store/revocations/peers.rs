//! How far nodes are with their logs, and how their actions went.

use std::collections::HashMap;

use agent_core::wire::text::Uuid;
use sqlx::Row as _;

use super::{Store, StoreError, number, sql};

/// How far a node is with its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRow {
    /// Its log.
    pub log_id: String,
    /// The last entry that it has acted on, or acknowledged; when it was added, the last one that there was.
    pub position: u64,
    /// What is known of its agent.
    pub speaks: Option<Speaks>,
    /// Since when it stands there, in seconds since 1970; none before it first answered.
    pub since: Option<u64>,
}

/// What an agent does with entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// It says how far it is, and how its actions went.
    Log,
    /// It is Keylime's: it takes a message, and says no more.
    Keylime,
}

impl Speaks {
    const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Keylime => "keylime",
        }
    }
}

/// What a node said.
pub struct Report<'a> {
    /// About which log.
    pub log_id: &'a str,
    /// How far it is.
    pub position: u64,
    /// What its agent does with entries.
    pub speaks: Speaks,
    /// When it said so, in seconds since 1970.
    pub at: u64,
    /// Numbers of entries, and JSON of how their actions went.
    pub outcomes: &'a [(u64, String)],
}

impl Store {
    /// All nodes that have a log, and how far they are.
    ///
    /// # Errors
    /// The database.
    pub async fn revocation_peers(&self) -> Result<HashMap<String, PeerRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT uuid, log_id, position, speaks, since FROM nodes JOIN revocation_peers USING (uuid)
                WHERE log_id IS NOT NULL",
        )
        .fetch_all(&self.reader)
        .await?;
        let mut peers = HashMap::with_capacity(rows.len());
        for row in &rows {
            let speaks: Option<String> = row.try_get("speaks")?;
            let since: Option<i64> = row.try_get("since")?;
            let peer = PeerRow {
                log_id: row.try_get("log_id")?,
                position: number(row, "position")?,
                speaks: [Speaks::Log, Speaks::Keylime]
                    .into_iter()
                    .find(|one| speaks.as_deref() == Some(one.name())),
                since: since.and_then(|since| u64::try_from(since).ok()),
            };
            peers.insert(row.try_get("uuid")?, peer);
        }
        Ok(peers)
    }

    /// Remembers what a node said. What was known already is not written again; a node that is gone is none.
    ///
    /// # Errors
    /// The database; then nothing is written.
    pub async fn reported(&self, id: &Uuid, report: Report<'_>) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        for (number, actions) in report.outcomes {
            sqlx::query(
                "INSERT INTO revocation_outcomes (uuid, log_id, number, actions)
                    SELECT uuid, log_id, ?, ? FROM nodes WHERE uuid = ? AND log_id = ?
                    ON CONFLICT DO UPDATE SET actions = excluded.actions WHERE actions != excluded.actions",
            )
            .bind(sql(*number))
            .bind(actions)
            .bind(id.as_str())
            .bind(report.log_id)
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query(
            "UPDATE revocation_peers SET position = ?1, speaks = ?2, since = ?3
                WHERE uuid = ?4 AND (position != ?1 OR speaks IS NOT ?2)",
        )
        .bind(sql(report.position))
        .bind(report.speaks.name())
        .bind(sql(report.at))
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// How the actions of an entry went, JSON, by node.
    ///
    /// # Errors
    /// The database.
    pub async fn outcomes(
        &self,
        log_id: &str,
        number: u64,
    ) -> Result<HashMap<String, String>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT uuid, actions FROM revocation_outcomes WHERE log_id = ? AND number = ?",
        )
        .bind(log_id)
        .bind(sql(number))
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.into_iter().collect())
    }
}
