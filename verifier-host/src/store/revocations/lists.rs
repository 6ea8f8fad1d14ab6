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
}

impl Store {
    /// The newest list of an anchor.
    ///
    /// # Errors
    /// The database.
    pub async fn list(&self, anchor: &AnchorName) -> Result<Option<List>, StoreError> {
        let row = sqlx::query(
            "SELECT crl, crl_number, crl_issuer FROM revocation_anchors WHERE anchor = ? AND crl IS NOT NULL",
        )
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
            "SELECT cert_serial, at, operator FROM revocations JOIN revocation_logs USING (log_id)
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

    /// Takes a delegate, in the place of the one before; none takes it back. `false` if the anchor isn't known, or there was none
    /// to be taken back.
    ///
    /// # Errors
    /// The database; the system's random numbers.
    pub async fn set_delegate(
        &self,
        anchor: &AnchorName,
        delegate: Option<(&[u8], &str)>,
    ) -> Result<bool, StoreError> {
        let (certificate, key) = delegate.unzip();
        let seal = |key: &str| {
            self.at_rest
                .seal(anchor.as_str(), SIGNER_KEY, key.as_bytes())
        };
        let done = sqlx::query(
            "UPDATE revocation_anchors SET signer_certificate = ?1, signer_key = ?2
                WHERE anchor = ?3 AND (?2 IS NOT NULL OR signer_key IS NOT NULL)",
        )
        .bind(certificate)
        .bind(key.map(seal).transpose()?)
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

const SIGNER_KEY: &str = "list signer's key";
