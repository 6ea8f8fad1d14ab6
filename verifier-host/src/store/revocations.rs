//! Logs of revocations in the database: anchors with the notifier's key, sealed; logs; entries, which nothing changes.

use agent_core::wire::text::Uuid;
use rand::rngs::SysError;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};
use zeroize::Zeroizing;

use super::at_rest::AtRestError;
use super::{Store, StoreError};
use crate::revocation::anchor::{AnchorName, Group};
use crate::revocation::list::List;
use crate::revocation::message::{NO_PREVIOUS, NotifierKey, digest};
use crate::revocation::told::Kind;
use crate::rounds::progress::Progress;

mod lists;
mod peers;

pub use lists::{StoredDelegate, StoredRevoked};
pub use peers::{PeerRow, Report, Speaks};

/// A log as it is in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLog {
    /// Its name.
    pub log_id: String,
    /// Its anchor.
    pub anchor: AnchorName,
    /// Its group.
    pub group: Group,
    /// Its last entry's number; 0 before the first.
    pub number: u64,
    /// Hex of the SHA-256 of that entry's `msg`.
    pub previous: String,
    /// The last entry that the webhook took.
    pub webhook: u64,
    /// Decimal text of the number of the anchor's newest revocation list.
    pub crl_number: Option<String>,
}

/// An entry, as it is appended and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// From 1.
    pub number: u64,
    /// The node; none for a list alone.
    pub uuid: Option<String>,
    /// What it is about.
    pub kind: Kind,
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// Whether an operator revoked the node.
    pub operator: bool,
    /// Why.
    pub reason: String,
    /// Decimal text of the serial of the node's certificate.
    pub cert_serial: Option<String>,
    /// As it was signed.
    pub msg: String,
    /// Base64.
    pub signature: String,
}

/// What is written together, or not at all.
#[derive(Default)]
pub struct Append<'a> {
    /// One entry each of these logs, the next one.
    pub entries: Vec<(&'a str, StoredEntry)>,
    /// The node that is revoked, as it stands from now on.
    pub node: Option<(&'a Uuid, &'a Progress)>,
    /// A revocation list that is the newest of its anchor from now on.
    pub list: Option<(&'a AnchorName, &'a List)>,
    /// Whether nobody is to tell the webhook of them.
    pub no_webhook: bool,
}

impl Store {
    /// All logs, in the order in which they were begun.
    ///
    /// # Errors
    /// The database.
    pub async fn revocation_logs(&self) -> Result<Vec<StoredLog>, StoreError> {
        let rows = sqlx::query(SELECT_LOGS)
            .bind(None::<&str>)
            .bind(None::<&str>)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(log_of).collect()
    }

    /// Begins the log of an anchor and a group, or finds it.
    ///
    /// # Errors
    /// The database; the system's random numbers.
    pub async fn begin_log(
        &self,
        anchor: &AnchorName,
        group: &Group,
    ) -> Result<StoredLog, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let log = begin(&mut transaction, anchor, group).await?;
        transaction.commit().await?;
        Ok(log)
    }

    /// The key that signs revocations of an anchor's nodes, opened for the moment that it signs; `None` where no node has it.
    ///
    /// # Errors
    /// The database; a value that was changed there.
    pub async fn notifier_key(
        &self,
        anchor: &AnchorName,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT key FROM revocation_anchors WHERE anchor = ?")
                .bind(anchor.as_str())
                .fetch_optional(&self.reader)
                .await?;
        let opened = sealed.flatten();
        let opened = opened.map(|sealed| self.at_rest.open(anchor.as_str(), KEY, &sealed));
        Ok(opened.transpose()?)
    }

    /// Gives nodes that were added before there were logs theirs; how many.
    ///
    /// # Errors
    /// The database; a key that was changed there.
    pub async fn adopt_revocation_keys(&self) -> Result<usize, StoreError> {
        let rows = sqlx::query(
            "SELECT uuid, terms ->> '$.metadata' AS metadata, revocation_key FROM nodes
                WHERE revocation_key IS NOT NULL",
        )
        .fetch_all(&self.reader)
        .await?;
        for row in &rows {
            let (uuid, metadata): (String, Option<String>) =
                (row.try_get("uuid")?, row.try_get("metadata")?);
            let sealed: Vec<u8> = row.try_get("revocation_key")?;
            let opened = self
                .at_rest
                .open(&uuid, super::nodes::REVOCATION_KEY, &sealed)?;
            let damaged = |what| StoreError::Damaged {
                uuid: uuid.clone(),
                what,
            };
            let pem = std::str::from_utf8(&opened).map_err(|_| damaged("its key is no PEM"))?;
            let anchor = NotifierKey::from_pem(pem).and_then(|key| key.anchor());
            let anchor = anchor.map_err(|_| damaged("its revocation key is none"))?;
            // It was added when every group was allowed.
            let group = Group::of_metadata(metadata.as_deref().unwrap_or_default());
            let id = Uuid::parse(&uuid).ok_or_else(|| damaged("its name is no agent's"))?;
            let mut transaction = self.writer.begin().await?;
            let joining = Joining {
                pem,
                anchor: &anchor,
                group: &group.unwrap_or_default(),
            };
            join(&mut transaction, self, &id, joining).await?;
            transaction.commit().await?;
        }
        Ok(rows.len())
    }

    /// Appends entries. `false`, and nothing is written, unless each is the next one of its log.
    ///
    /// # Errors
    /// The database; then nothing is written.
    pub async fn append(&self, append: Append<'_>) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        for (log_id, entry) in &append.entries {
            let done = sqlx::query(
                "INSERT INTO revocations
                    (log_id, number, uuid, kind, at, operator, reason, cert_serial, msg, signature)
                    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
                        WHERE (SELECT COALESCE(MAX(number), 0) FROM revocations WHERE log_id = ?1) = ?2 - 1",
            )
            .bind(*log_id)
            .bind(sql(entry.number))
            .bind(&entry.uuid)
            .bind(kind_name(entry.kind))
            .bind(sql(entry.at))
            .bind(entry.operator)
            .bind(&entry.reason)
            .bind(&entry.cert_serial)
            .bind(&entry.msg)
            .bind(&entry.signature)
            .execute(&mut *transaction)
            .await?;
            if done.rows_affected() != 1 {
                return Ok(false);
            }
            if append.no_webhook {
                sqlx::query("UPDATE revocation_logs SET webhook = ? WHERE log_id = ?")
                    .bind(sql(entry.number))
                    .bind(*log_id)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        if let Some((id, progress)) = append.node {
            super::nodes::put_progress(&mut transaction, id, progress).await?;
        }
        if let Some((anchor, list)) = append.list {
            lists::put(&mut transaction, anchor, list).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Entries after a number, in order, at most so many.
    ///
    /// # Errors
    /// The database.
    pub async fn entries(
        &self,
        log_id: &str,
        after: u64,
        most: u32,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM revocations WHERE log_id = ? AND number > ? ORDER BY number LIMIT ?",
        )
        .bind(log_id)
        .bind(sql(after))
        .bind(most)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(entry_of).collect()
    }

    /// One entry.
    ///
    /// # Errors
    /// The database.
    pub async fn entry(
        &self,
        log_id: &str,
        number: u64,
    ) -> Result<Option<StoredEntry>, StoreError> {
        let row = sqlx::query("SELECT * FROM revocations WHERE log_id = ? AND number = ?")
            .bind(log_id)
            .bind(sql(number))
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(entry_of).transpose()
    }

    /// Remembers the last entry that the webhook took.
    ///
    /// # Errors
    /// The database.
    pub async fn webhook_took(&self, log_id: &str, number: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE revocation_logs SET webhook = ? WHERE log_id = ?")
            .bind(sql(number))
            .bind(log_id)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

/// A node that is to have a log.
#[derive(Clone, Copy)]
pub(super) struct Joining<'a> {
    pub(super) pem: &'a str,
    pub(super) anchor: &'a AnchorName,
    pub(super) group: &'a Group,
}

/// Gives a node its log, from the entry on that comes next, and its anchor the key.
pub(super) async fn join(
    transaction: &mut Transaction<'_, Sqlite>,
    store: &Store,
    id: &Uuid,
    joining: Joining<'_>,
) -> Result<StoredLog, StoreError> {
    let Joining { pem, anchor, group } = joining;
    let log = begin(transaction, anchor, group).await?;
    let sealed = store.at_rest.seal(anchor.as_str(), KEY, pem.as_bytes())?;
    sqlx::query("UPDATE revocation_anchors SET key = ? WHERE anchor = ? AND key IS NULL")
        .bind(sealed)
        .bind(anchor.as_str())
        .execute(&mut **transaction)
        .await?;
    sqlx::query("UPDATE nodes SET log_id = ?, revocation_key = NULL WHERE uuid = ?")
        .bind(&log.log_id)
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await?;
    sqlx::query("INSERT INTO revocation_peers (uuid, position) VALUES (?, ?)")
        .bind(id.as_str())
        .bind(sql(log.number))
        .execute(&mut **transaction)
        .await?;
    Ok(log)
}

/// Forgets the keys of anchors that no node has any more.
pub(super) async fn drop_unused_keys(
    transaction: &mut Transaction<'_, Sqlite>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE revocation_anchors SET key = NULL WHERE key IS NOT NULL AND NOT EXISTS
            (SELECT 1 FROM nodes JOIN revocation_logs USING (log_id)
                WHERE revocation_logs.anchor = revocation_anchors.anchor)",
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn begin(
    transaction: &mut Transaction<'_, Sqlite>,
    anchor: &AnchorName,
    group: &Group,
) -> Result<StoredLog, StoreError> {
    let random = |error: SysError| AtRestError::Random(error);
    let log_id = anchor.draw_log_id().map_err(random)?;
    sqlx::query("INSERT INTO revocation_anchors (anchor) VALUES (?) ON CONFLICT DO NOTHING")
        .bind(anchor.as_str())
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO revocation_logs (log_id, anchor, node_group) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(log_id)
    .bind(anchor.as_str())
    .bind(group.as_str())
    .execute(&mut **transaction)
    .await?;
    let row = sqlx::query(SELECT_LOGS)
        .bind(anchor.as_str())
        .bind(group.as_str())
        .fetch_one(&mut **transaction)
        .await?;
    log_of(&row)
}

fn log_of(row: &SqliteRow) -> Result<StoredLog, StoreError> {
    let log_id: String = row.try_get("log_id")?;
    let (anchor, group): (String, String) = (row.try_get("anchor")?, row.try_get("node_group")?);
    let msg: Option<String> = row.try_get("msg")?;
    let damaged = |what| StoreError::DamagedLog {
        log_id: log_id.clone(),
        what,
    };
    Ok(StoredLog {
        anchor: AnchorName::parse(&anchor).ok_or_else(|| damaged("its anchor is none"))?,
        group: Group::parse(Some(&group)).map_err(|_| damaged("its group is none"))?,
        number: number(row, "number")?,
        previous: msg.map_or_else(|| NO_PREVIOUS.to_owned(), |msg| digest(&msg)),
        webhook: number(row, "webhook")?,
        crl_number: row.try_get("crl_number")?,
        log_id,
    })
}

fn entry_of(row: &SqliteRow) -> Result<StoredEntry, StoreError> {
    let kind: String = row.try_get("kind")?;
    Ok(StoredEntry {
        number: number(row, "number")?,
        uuid: row.try_get("uuid")?,
        kind: if kind == kind_name(Kind::Crl) {
            Kind::Crl
        } else {
            Kind::Revocation
        },
        at: number(row, "at")?,
        operator: row.try_get("operator")?,
        reason: row.try_get("reason")?,
        cert_serial: row.try_get("cert_serial")?,
        msg: row.try_get("msg")?,
        signature: row.try_get("signature")?,
    })
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Revocation => "revocation",
        Kind::Crl => "crl",
    }
}

fn number(row: &SqliteRow, column: &str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Logs with their last entries: all of them, or that of one anchor and group.
const SELECT_LOGS: &str = "SELECT revocation_logs.*, crl_number, COALESCE(last.number, 0) AS number, msg
    FROM revocation_logs JOIN revocation_anchors USING (anchor)
    LEFT JOIN revocations AS last ON last.log_id = revocation_logs.log_id AND last.number =
        (SELECT MAX(number) FROM revocations WHERE log_id = revocation_logs.log_id)
    WHERE ?1 IS NULL OR (revocation_logs.anchor = ?1 AND node_group = ?2) ORDER BY revocation_logs.rowid";

/// What anchors' keys are sealed for, besides the anchor: no column of a node has that name.
const KEY: &str = "anchor's key";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;
