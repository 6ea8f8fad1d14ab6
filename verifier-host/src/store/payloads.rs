//! Deposits, boots, and what came of them, in the database. V is sealed for its node and its payload.

use std::collections::HashMap;

use agent_core::payload::release::{V_BYTES, WRAPPED_V_BYTES};
use agent_core::secret::Secret;
use agent_core::wire::manifest::{Manifest, PayloadId};
use agent_core::wire::text::Uuid;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use super::{Store, StoreError};
use crate::payloads::{Boot, Deposit, Draft, Spent};
use crate::push::Held;

/// A release to be recorded.
pub struct NewRelease<'a> {
    /// What was released.
    pub payload_id: PayloadId,
    /// When, in seconds since 1970.
    pub at: u64,
    /// To which boot.
    pub boot: (u32, u32),
    /// To which key.
    pub release_key: &'a [u8],
    /// SHA-256 of the challenge.
    pub challenge_hash: [u8; 32],
    /// V as it is sent.
    pub answer: &'a [u8; WRAPPED_V_BYTES],
    /// Whether the payload is for one boot, and this is it.
    pub spends: bool,
}

/// A receipt that was checked.
#[derive(Clone, Debug)]
pub struct StoredReceipt {
    /// When it came, in seconds since 1970.
    pub at: u64,
    /// Its bytes.
    pub receipt: Vec<u8>,
    /// The challenge that its quote answers.
    pub challenge: Vec<u8>,
    /// The PCR dump.
    pub subject_data: Vec<u8>,
    /// Marshalled `TPMS_ATTEST`.
    pub message: Vec<u8>,
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

/// A release as it is shown.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ReleaseRow {
    payload_id: String,
    at: u64,
    reset_count: u32,
    restart_count: u32,
}

/// A refused release as it is shown.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RefusalRow {
    at: u64,
    code: String,
    reset_count: Option<u32>,
    restart_count: Option<u32>,
    payload_id: String,
}

impl Store {
    /// Puts a deposit on record that waits for its sealed bytes, in the place of one that waited before. `false` if the node is
    /// gone, or this payload is there already.
    ///
    /// # Errors
    /// The database; the system's random numbers.
    pub async fn draft(&self, id: &Uuid, draft: &Draft) -> Result<bool, StoreError> {
        let payload = draft.manifest.payload_id;
        let v = self.at_rest.seal(id.as_str(), &column(payload), &draft.v)?;
        let mut transaction = self.writer.begin().await?;
        sqlx::query("DELETE FROM deposits WHERE uuid = ? AND file IS NULL")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        let done = sqlx::query(
            "INSERT INTO deposits (uuid, payload_id, manifest, signature, signer, u_blob, v)
                SELECT uuid, ?, ?, ?, ?, ?, ? FROM nodes WHERE uuid = ? ON CONFLICT DO NOTHING",
        )
        .bind(payload.to_string())
        .bind(&draft.bytes)
        .bind(&draft.signature)
        .bind(&draft.signer)
        .bind(&draft.u_blob)
        .bind(v)
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// The manifest of a deposit that waits for its sealed bytes.
    ///
    /// # Errors
    /// The database; a record that this program can't have written.
    pub async fn drafted(
        &self,
        id: &Uuid,
        payload: PayloadId,
    ) -> Result<Option<Manifest>, StoreError> {
        let bytes: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT manifest FROM deposits WHERE uuid = ? AND payload_id = ? AND file IS NULL",
        )
        .bind(id.as_str())
        .bind(payload.to_string())
        .fetch_optional(&self.reader)
        .await?;
        bytes.map(|bytes| manifest(id, &bytes)).transpose()
    }

    /// Makes a deposit count, in the place of all others of its node; `None` if it isn't waited for any more.
    ///
    /// # Errors
    /// The database.
    pub async fn complete(
        &self,
        id: &Uuid,
        payload: PayloadId,
        file: &str,
        received_at: u64,
    ) -> Result<Option<Deposit>, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query(
            "UPDATE deposits SET file = ?, received_at = ? WHERE uuid = ? AND payload_id = ? AND file IS NULL",
        )
        .bind(file)
        .bind(number(received_at))
        .bind(id.as_str())
        .bind(payload.to_string())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        sqlx::query("DELETE FROM deposits WHERE uuid = ? AND payload_id <> ?")
            .bind(id.as_str())
            .bind(payload.to_string())
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query(DEPOSIT_OF)
            .bind(id.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        let deposit = deposit(id, &row)?;
        transaction.commit().await?;
        Ok(Some(deposit))
    }

    /// Forgets all deposits of a node.
    ///
    /// # Errors
    /// The database.
    pub async fn withdraw(&self, id: &Uuid) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM deposits WHERE uuid = ?")
            .bind(id.as_str())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// V of a deposit, opened for the moment that it is released.
    ///
    /// # Errors
    /// The database; a value that was changed there.
    pub async fn deposited_v(
        &self,
        id: &Uuid,
        payload: PayloadId,
    ) -> Result<Secret<V_BYTES>, StoreError> {
        let sealed: Vec<u8> =
            sqlx::query_scalar("SELECT v FROM deposits WHERE uuid = ? AND payload_id = ?")
                .bind(id.as_str())
                .bind(payload.to_string())
                .fetch_one(&self.reader)
                .await?;
        let opened = self.at_rest.open(id.as_str(), &column(payload), &sealed)?;
        let v: &[u8; V_BYTES] = opened
            .as_slice()
            .try_into()
            .map_err(|_| StoreError::Damaged {
                uuid: id.to_string(),
                what: "its V has another length",
            })?;
        Ok(Secret::copy_of(v))
    }

    /// What is held for each node: the deposit that counts, and the last boot.
    ///
    /// # Errors
    /// The database; a record that this program can't have written.
    pub async fn held(&self) -> Result<HashMap<String, Held>, StoreError> {
        let mut all: HashMap<String, Held> = HashMap::new();
        let rows = sqlx::query("SELECT * FROM deposits WHERE file IS NOT NULL")
            .fetch_all(&self.reader)
            .await?;
        for row in rows {
            let uuid: String = row.try_get("uuid")?;
            let Some(id) = Uuid::parse(&uuid) else {
                continue;
            };
            match deposit(&id, &row) {
                Ok(deposit) => all.entry(uuid).or_default().deposit = Some(deposit.into()),
                Err(error) => tracing::error!("a deposit is left out: {error}"),
            }
        }
        for row in sqlx::query("SELECT * FROM boots")
            .fetch_all(&self.reader)
            .await?
        {
            let uuid: String = row.try_get("uuid")?;
            all.entry(uuid).or_default().boot = Some(boot(&row)?);
        }
        Ok(all)
    }

    /// Writes the boot that a node was seen in.
    ///
    /// # Errors
    /// The database.
    pub async fn save_boot(&self, id: &Uuid, boot: &Boot) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        write_boot(&mut transaction, id, boot).await?;
        Ok(transaction.commit().await?)
    }

    /// The tenant accepts a cleared TPM: writes the boot, and ends what was open to boots before.
    ///
    /// # Errors
    /// The database.
    pub async fn confirm(&self, id: &Uuid, boot: &Boot) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        write_boot(&mut transaction, id, boot).await?;
        sqlx::query(
            "UPDATE deposits SET spent_reset = -1, spent_restart = -1 WHERE uuid = ? AND spent_reset IS NOT NULL",
        )
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Records a release; only then it may be answered.
    ///
    /// # Errors
    /// The database.
    pub async fn record_release(
        &self,
        id: &Uuid,
        release: &NewRelease<'_>,
    ) -> Result<(), StoreError> {
        let (reset, restart) = release.boot;
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "INSERT INTO releases (uuid, payload_id, at, reset_count, restart_count, release_key, challenge_hash, answer)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id.as_str())
        .bind(release.payload_id.to_string())
        .bind(number(release.at))
        .bind(reset)
        .bind(restart)
        .bind(release.release_key)
        .bind(&release.challenge_hash[..])
        .bind(&release.answer[..])
        .execute(&mut *transaction)
        .await?;
        if release.spends {
            sqlx::query("UPDATE deposits SET spent_reset = ?, spent_restart = ? WHERE uuid = ? AND payload_id = ?")
                .bind(reset)
                .bind(restart)
                .bind(id.as_str())
                .bind(release.payload_id.to_string())
                .execute(&mut *transaction)
                .await?;
        }
        prune(&mut transaction, PRUNE_RELEASES, id).await?;
        Ok(transaction.commit().await?)
    }

    /// Records a refused release.
    ///
    /// # Errors
    /// The database.
    pub async fn record_refusal(
        &self,
        id: &Uuid,
        payload: PayloadId,
        code: &str,
        boot: Option<(u32, u32)>,
        at: u64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "INSERT INTO refusals (uuid, payload_id, at, code, reset_count, restart_count) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(id.as_str())
        .bind(payload.to_string())
        .bind(number(at))
        .bind(code)
        .bind(boot.map(|(reset, _)| reset))
        .bind(boot.map(|(_, restart)| restart))
        .execute(&mut *transaction)
        .await?;
        prune(&mut transaction, PRUNE_REFUSALS, id).await?;
        Ok(transaction.commit().await?)
    }

    /// Records a receipt, once: the same one again changes nothing.
    ///
    /// # Errors
    /// The database.
    pub async fn record_receipt(
        &self,
        id: &Uuid,
        receipt: &StoredReceipt,
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "INSERT INTO receipts (uuid, at, receipt, challenge, subject_data, message, signature)
                SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
                WHERE NOT EXISTS (SELECT 1 FROM receipts WHERE uuid = ?1 AND message = ?6)",
        )
        .bind(id.as_str())
        .bind(number(receipt.at))
        .bind(&receipt.receipt)
        .bind(&receipt.challenge)
        .bind(&receipt.subject_data)
        .bind(&receipt.message)
        .bind(&receipt.signature)
        .execute(&mut *transaction)
        .await?;
        prune(&mut transaction, PRUNE_RECEIPTS, id).await?;
        Ok(transaction.commit().await?)
    }

    /// Releases of a node, oldest first.
    ///
    /// # Errors
    /// The database.
    pub async fn releases(&self, id: &Uuid) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM releases WHERE uuid = ? ORDER BY id")
            .bind(id.as_str())
            .fetch_all(&self.reader)
            .await?;
        let row = |row: &SqliteRow| {
            Ok(ReleaseRow {
                payload_id: row.try_get("payload_id")?,
                at: seconds(row, "at")?,
                reset_count: row.try_get("reset_count")?,
                restart_count: row.try_get("restart_count")?,
            })
        };
        rows.iter().map(row).collect()
    }

    /// Refused releases of a node, oldest first.
    ///
    /// # Errors
    /// The database.
    pub async fn refusals(&self, id: &Uuid) -> Result<Vec<RefusalRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM refusals WHERE uuid = ? ORDER BY id")
            .bind(id.as_str())
            .fetch_all(&self.reader)
            .await?;
        let row = |row: &SqliteRow| {
            Ok(RefusalRow {
                at: seconds(row, "at")?,
                code: row.try_get("code")?,
                reset_count: row.try_get("reset_count")?,
                restart_count: row.try_get("restart_count")?,
                payload_id: row.try_get("payload_id")?,
            })
        };
        rows.iter().map(row).collect()
    }

    /// Receipts of a node, oldest first.
    ///
    /// # Errors
    /// The database.
    pub async fn receipts(&self, id: &Uuid) -> Result<Vec<StoredReceipt>, StoreError> {
        let rows = sqlx::query("SELECT * FROM receipts WHERE uuid = ? ORDER BY id")
            .bind(id.as_str())
            .fetch_all(&self.reader)
            .await?;
        let row = |row: &SqliteRow| {
            Ok(StoredReceipt {
                at: seconds(row, "at")?,
                receipt: row.try_get("receipt")?,
                challenge: row.try_get("challenge")?,
                subject_data: row.try_get("subject_data")?,
                message: row.try_get("message")?,
                signature: row.try_get("signature")?,
            })
        };
        rows.iter().map(row).collect()
    }
}

async fn write_boot(
    transaction: &mut Transaction<'_, Sqlite>,
    id: &Uuid,
    boot: &Boot,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO boots
            (uuid, reset_count, restart_count, safe, capped, opened_reset, opened_restart, cleared_tpm)
            SELECT uuid, ?, ?, ?, ?, ?, ?, ? FROM nodes WHERE uuid = ?",
    )
    .bind(boot.reset_count)
    .bind(boot.restart_count)
    .bind(boot.safe)
    .bind(boot.capped)
    .bind(boot.opened.map(|(reset, _)| reset))
    .bind(boot.opened.map(|(_, restart)| restart))
    .bind(boot.cleared)
    .bind(id.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn prune(
    transaction: &mut Transaction<'_, Sqlite>,
    statement: &'static str,
    id: &Uuid,
) -> Result<(), StoreError> {
    sqlx::query(statement)
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn deposit(id: &Uuid, row: &SqliteRow) -> Result<Deposit, StoreError> {
    let bytes: Vec<u8> = row.try_get("manifest")?;
    let reset: Option<i64> = row.try_get("spent_reset")?;
    let restart: Option<i64> = row.try_get("spent_restart")?;
    let spent = reset.zip(restart).map(|(reset, restart)| {
        let boot = u32::try_from(reset).ok().zip(u32::try_from(restart).ok());
        boot.map_or(Spent::Gone, Spent::By)
    });
    Ok(Deposit {
        manifest: manifest(id, &bytes)?,
        bytes,
        signature: row.try_get("signature")?,
        signer: row.try_get("signer")?,
        u_blob: row.try_get("u_blob")?,
        file: row.try_get("file")?,
        received_at: seconds(row, "received_at")?,
        spent,
    })
}

fn boot(row: &SqliteRow) -> Result<Boot, StoreError> {
    let opened_reset: Option<u32> = row.try_get("opened_reset")?;
    let opened_restart: Option<u32> = row.try_get("opened_restart")?;
    Ok(Boot {
        reset_count: row.try_get("reset_count")?,
        restart_count: row.try_get("restart_count")?,
        safe: row.try_get("safe")?,
        capped: row.try_get("capped")?,
        opened: opened_reset.zip(opened_restart),
        cleared: row.try_get("cleared_tpm")?,
    })
}

fn manifest(id: &Uuid, bytes: &[u8]) -> Result<Manifest, StoreError> {
    Manifest::parse(bytes).map_err(|_| StoreError::Damaged {
        uuid: id.to_string(),
        what: "its deposit's manifest can't be read",
    })
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn seconds(row: &SqliteRow, name: &str) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(name)?;
    Ok(u64::try_from(value).unwrap_or(0))
}

/// V of each payload is sealed for itself.
fn column(payload: PayloadId) -> String {
    format!("payload {payload}")
}

const DEPOSIT_OF: &str = "SELECT * FROM deposits WHERE uuid = ? AND file IS NOT NULL";

/// The last 64 of a node stay.
const PRUNE_RELEASES: &str = "DELETE FROM releases WHERE uuid = ?1 AND id NOT IN
    (SELECT id FROM releases WHERE uuid = ?1 ORDER BY id DESC LIMIT 64)";
const PRUNE_REFUSALS: &str = "DELETE FROM refusals WHERE uuid = ?1 AND id NOT IN
    (SELECT id FROM refusals WHERE uuid = ?1 ORDER BY id DESC LIMIT 64)";
const PRUNE_RECEIPTS: &str = "DELETE FROM receipts WHERE uuid = ?1 AND id NOT IN
    (SELECT id FROM receipts WHERE uuid = ?1 ORDER BY id DESC LIMIT 64)";
