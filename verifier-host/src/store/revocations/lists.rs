//! Revocation lists in the database, and who signs them.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};
use x509_parser::num_bigint::BigUint;
use zeroize::Zeroizing;

use super::{Store, StoreError, number};
use crate::revocation::anchor::AnchorName;
use crate::revocation::list::List;

/// Who signs an anchor's lists in its CA's place.
pub struct StoredDelegate {
    /// DER of its certificate.
    pub certificate: Vec<u8>,
    /// PEM of its key; wiped with the value.
    pub key: Zeroizing<Vec<u8>>,
}

/// A certificate that an entry revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRevoked {
    /// Decimal text.
    pub serial: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Whether an operator revoked its node.
    pub operator: bool,
    /// Why.
    pub reason: String,
}

impl Store {
    /// The newest list of an anchor.
    ///
    /// # Errors
    /// The database.
    pub async fn list(&self, anchor: &AnchorName) -> Result<Option<List>, StoreError> {
        let row = sqlx::query(SELECT_LIST)
            .bind(anchor.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(list_of).transpose().map(Option::flatten)
    }

    /// The newest lists of the anchors whose names begin so, two at most.
    ///
    /// # Errors
    /// The database.
    pub async fn lists_of(&self, prefix: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let lists = sqlx::query_scalar(
            "SELECT crl FROM revocation_anchors
                WHERE substr(anchor, 1, length(?1)) = ?1 AND crl IS NOT NULL LIMIT 2",
        )
        .bind(prefix)
        .fetch_all(&self.reader)
        .await?;
        Ok(lists)
    }

    /// Certificates that entries of all logs of an anchor revoked.
    ///
    /// # Errors
    /// The database.
    pub async fn revoked_under(
        &self,
        anchor: &AnchorName,
    ) -> Result<Vec<StoredRevoked>, StoreError> {
        let rows = sqlx::query(
            "SELECT cert_serial, at, operator, reason FROM revocations JOIN revocation_logs USING (log_id)
                WHERE anchor = ? AND cert_serial IS NOT NULL ORDER BY at",
        )
        .bind(anchor.as_str())
        .fetch_all(&self.reader)
        .await?;
        let one = |row: &SqliteRow| {
            Ok(StoredRevoked {
                serial: row.try_get("cert_serial")?,
                at: number(row, "at")?,
                operator: row.try_get("operator")?,
                reason: row.try_get("reason")?,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Who signs lists of an anchor, opened for the moment that it signs.
    ///
    /// # Errors
    /// The database; a value that was changed there.
    pub async fn delegate(
        &self,
        anchor: &AnchorName,
    ) -> Result<Option<StoredDelegate>, StoreError> {
        let row = sqlx::query(
            "SELECT signer_certificate, signer_key FROM revocation_anchors
                WHERE anchor = ? AND signer_key IS NOT NULL",
        )
        .bind(anchor.as_str())
        .fetch_optional(&self.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: Vec<u8> = row.try_get("signer_key")?;
        Ok(Some(StoredDelegate {
            certificate: row.try_get("signer_certificate")?,
            key: self.at_rest.open(anchor.as_str(), SIGNER_KEY, &sealed)?,
        }))
    }

    /// Takes a delegate, in the place of the one before, and the list from which it goes on, unless a newer one is there.
    ///
    /// # Errors
    /// The database; the system's random numbers. Then nothing has changed.
    pub async fn set_delegate(
        &self,
        anchor: &AnchorName,
        (certificate, key): (&[u8], &str),
        list: Option<&List>,
    ) -> Result<(), StoreError> {
        let key = self
            .at_rest
            .seal(anchor.as_str(), SIGNER_KEY, key.as_bytes())?;
        let mut transaction = self.writer.begin().await?;
        sqlx::query(
            "UPDATE revocation_anchors SET signer_certificate = ?, signer_key = ? WHERE anchor = ?",
        )
        .bind(certificate)
        .bind(key)
        .bind(anchor.as_str())
        .execute(&mut *transaction)
        .await?;
        if let Some(list) = list {
            let row = sqlx::query(SELECT_LIST)
                .bind(anchor.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
            let known = row.as_ref().map(list_of).transpose()?.flatten();
            if known.is_none_or(|known| known.number < list.number) {
                put(&mut transaction, anchor, list).await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Forgets a delegate; `false` if there was none.
    ///
    /// # Errors
    /// The database.
    pub async fn drop_delegate(&self, anchor: &AnchorName) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE revocation_anchors SET signer_certificate = NULL, signer_key = NULL
                WHERE anchor = ? AND signer_key IS NOT NULL",
        )
        .bind(anchor.as_str())
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Makes a list the newest of its anchor.
pub(super) async fn put(
    transaction: &mut Transaction<'_, Sqlite>,
    anchor: &AnchorName,
    list: &List,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE revocation_anchors SET crl = ?, crl_number = ?, crl_issuer = ? WHERE anchor = ?",
    )
    .bind(&list.der)
    .bind(list.number.to_string())
    .bind(&list.issuer)
    .bind(anchor.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn list_of(row: &SqliteRow) -> Result<Option<List>, StoreError> {
    let text: String = row.try_get("crl_number")?;
    let number = BigUint::parse_bytes(text.as_bytes(), 10);
    Ok(match number {
        Some(number) => Some(List {
            der: row.try_get("crl")?,
            number,
            issuer: row.try_get("crl_issuer")?,
        }),
        None => None,
    })
}

const SELECT_LIST: &str = "SELECT crl, crl_number, crl_issuer FROM revocation_anchors WHERE anchor = ? AND crl IS NOT NULL";
const SIGNER_KEY: &str = "list signer's key";
