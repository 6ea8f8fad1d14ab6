//! What nodes showed when they failed last, packed.

use agent_core::wire::text::Uuid;
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use super::{Store, StoreError};
use crate::evidence::shown::Shown;

impl Store {
    /// Keeps what a node showed, in place of what it showed before. A node that is gone has shown nothing.
    ///
    /// # Errors
    /// The database.
    pub async fn save_shown(&self, id: &Uuid, at: u64, shown: &Shown) -> Result<(), StoreError> {
        let text = serde_json::to_vec(shown).map_err(|_| damaged(id))?;
        sqlx::query(
            "INSERT INTO evidence (uuid, at, evidence) SELECT uuid, ?, ? FROM nodes WHERE uuid = ?
             ON CONFLICT (uuid) DO UPDATE SET at = excluded.at, evidence = excluded.evidence",
        )
        .bind(i64::try_from(at).unwrap_or(i64::MAX))
        .bind(compress_to_vec(&text, FAST))
        .bind(id.as_str())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// What a node showed when it failed last, and when that was, in seconds since 1970.
    ///
    /// # Errors
    /// The database.
    pub async fn shown(&self, id: &Uuid) -> Result<Option<(i64, Shown)>, StoreError> {
        let row: Option<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT at, evidence FROM evidence WHERE uuid = ?")
                .bind(id.as_str())
                .fetch_optional(&self.reader)
                .await?;
        let Some((at, packed)) = row else {
            return Ok(None);
        };
        let text = decompress_to_vec_with_limit(&packed, MAX_TEXT_BYTES);
        let text = text.map_err(|_| damaged(id))?;
        let shown = serde_json::from_slice(&text).map_err(|_| damaged(id))?;
        Ok(Some((at, shown)))
    }
}

fn damaged(id: &Uuid) -> StoreError {
    StoreError::Damaged {
        uuid: id.to_string(),
        what: "what it showed is no evidence of this program",
    }
}

/// Lists pack well at any level.
const FAST: u8 = 1;

/// A list, a boot log in base64, and a policy.
const MAX_TEXT_BYTES: usize = 96 << 20;
