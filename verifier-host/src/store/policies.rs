//! Policies in the database: names, and what they stand for.

use agent_core::wire::text::Uuid;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{Store, StoreError};
use crate::policies::Text;
use crate::policy::{PolicyKind, PolicyName};

/// A policy as it was stored.
pub struct StoredPolicy {
    /// Its name.
    pub name: PolicyName,
    /// Its text.
    pub text: Text,
}

impl Store {
    /// Puts a policy under a name, in place of the one that is there.
    ///
    /// # Errors
    /// The database; then nothing has changed.
    pub async fn save_policy(&self, name: &PolicyName, text: &Text) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        put(&mut transaction, name, text, None).await?;
        drop_unnamed(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// Forgets a policy; `false` if there was none.
    ///
    /// # Errors
    /// The database; then nothing has changed.
    pub async fn delete_policy(
        &self,
        kind: PolicyKind,
        name: &PolicyName,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let done = sqlx::query("DELETE FROM policies WHERE kind = ? AND name = ?")
            .bind(word(kind))
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await?;
        drop_unnamed(&mut transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// The text of a policy.
    ///
    /// # Errors
    /// The database.
    pub async fn policy_text(
        &self,
        kind: PolicyKind,
        name: &PolicyName,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let text = sqlx::query_scalar(
            "SELECT text FROM policies JOIN policy_texts USING (digest) WHERE kind = ? AND name = ?",
        )
        .bind(word(kind))
        .bind(name.as_str())
        .fetch_optional(&self.reader)
        .await?;
        Ok(text)
    }

    /// All policies. One that this program can't have written is an error of its own: nodes that name it don't pass.
    ///
    /// # Errors
    /// The database.
    pub async fn policies(&self) -> Result<Vec<Result<StoredPolicy, StoreError>>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, name, digest, text FROM policies JOIN policy_texts USING (digest) ORDER BY kind, name",
        )
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(stored).collect())
    }
}

/// Puts a policy under a name, for one node alone if it has an owner.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    name: &PolicyName,
    text: &Text,
    owner: Option<&Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO policy_texts (digest, text) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(&text.digest[..])
        .bind(&text.bytes)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO policies (kind, name, digest, owner) VALUES (?, ?, ?, ?)
         ON CONFLICT (kind, name) DO UPDATE SET digest = excluded.digest",
    )
    .bind(word(text.kind))
    .bind(name.as_str())
    .bind(&text.digest[..])
    .bind(owner.map(Uuid::as_str))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Forgets texts that no name stands for any more.
pub(super) async fn drop_unnamed(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM policy_texts WHERE digest NOT IN (SELECT digest FROM policies)")
        .execute(connection)
        .await?;
    Ok(())
}

fn stored(row: &SqliteRow) -> Result<StoredPolicy, StoreError> {
    let name: String = row.try_get("name")?;
    let kind: String = row.try_get("kind")?;
    let digest: Vec<u8> = row.try_get("digest")?;
    let damaged = |what| StoreError::Damaged {
        uuid: name.clone(),
        what,
    };
    let kind = [PolicyKind::Runtime, PolicyKind::MeasuredBoot]
        .into_iter()
        .find(|known| word(*known) == kind);
    let text = Text {
        kind: kind.ok_or_else(|| damaged("its kind of policy isn't known"))?,
        digest: digest
            .try_into()
            .map_err(|_| damaged("its digest isn't one"))?,
        bytes: row.try_get("text")?,
    };
    let parsed = PolicyName::parse(name.clone());
    Ok(StoredPolicy {
        name: parsed.map_err(|_| damaged("its name is no policy's"))?,
        text,
    })
}

const fn word(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Runtime => "runtime",
        PolicyKind::MeasuredBoot => "measured boot",
    }
}
