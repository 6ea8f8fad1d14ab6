//! Registered nodes: identifiers and the TPM keys that they stand for.
//!
//! One statement decides who gets an identifier, so two that prove themselves at the same time can't both have it.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row as _};

use super::{Store, StoreError};
use crate::registrar::Claim;

/// A node on record: its TPM has proved to hold both keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Endorsement key, marshalled `TPM2B_PUBLIC`.
    pub ek_tpm: Vec<u8>,
    /// Attestation key, marshalled `TPM2B_PUBLIC`.
    pub ak_tpm: Vec<u8>,
    /// EK certificate, DER.
    pub ek_certificate: Option<Vec<u8>>,
    /// Where the node says it is reached.
    pub ip: Option<String>,
    /// Port of its API.
    pub port: Option<u16>,
    /// Its TLS certificate in PEM, or `disabled`.
    pub mtls_cert: String,
    /// How often it has registered.
    pub count: u32,
}

/// What came of recording a proved claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It is on record.
    Here,
    /// The identifier is another TPM's; nothing has changed.
    Taken,
}

impl Registration {
    /// Whether the claim is by the same EK, AK and EK certificate.
    pub(crate) fn is_of(&self, claim: &Claim) -> bool {
        self.ek_tpm == claim.ek.marshalled()
            && self.ak_tpm == claim.ak.marshalled()
            && self.ek_certificate == claim.ek_certificate
    }
}

impl FromRow<'_, SqliteRow> for Registration {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            ek_tpm: row.try_get("ek_tpm")?,
            ak_tpm: row.try_get("aik_tpm")?,
            ek_certificate: row.try_get("ekcert")?,
            ip: row.try_get("ip")?,
            port: row.try_get("port")?,
            mtls_cert: row.try_get("mtls_cert")?,
            count: row.try_get("regcount")?,
        })
    }
}

impl Store {
    /// The record of an identifier.
    ///
    /// # Errors
    /// The database's.
    pub async fn registration(&self, uuid: &str) -> Result<Option<Registration>, StoreError> {
        let query = "SELECT ek_tpm, aik_tpm, ekcert, ip, port, mtls_cert, regcount FROM registrations WHERE uuid = ?";
        Ok(sqlx::query_as(query)
            .bind(uuid)
            .fetch_optional(self.reader())
            .await?)
    }

    /// All identifiers on record, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn registered(&self) -> Result<Vec<String>, StoreError> {
        let query = "SELECT uuid FROM registrations ORDER BY uuid";
        Ok(sqlx::query_scalar(query).fetch_all(self.reader()).await?)
    }

    /// Puts a proved claim on record, or brings the same node's record up to date.
    pub(crate) async fn record(&self, uuid: &str, claim: &Claim) -> Result<Recorded, StoreError> {
        let query = "INSERT INTO registrations (uuid, ek_tpm, aik_tpm, ekcert, ip, port, mtls_cert, regcount)
            VALUES (?, ?, ?, ?, ?, ?, ?, 1)
            ON CONFLICT (uuid) DO UPDATE SET
                ip = excluded.ip, port = excluded.port, mtls_cert = excluded.mtls_cert, regcount = regcount + 1
            WHERE ek_tpm = excluded.ek_tpm AND aik_tpm = excluded.aik_tpm AND ekcert IS excluded.ekcert";
        let done = sqlx::query(query)
            .bind(uuid)
            .bind(claim.ek.marshalled())
            .bind(claim.ak.marshalled())
            .bind(claim.ek_certificate.as_deref())
            .bind(claim.ip.as_deref())
            .bind(claim.port)
            .bind(&claim.mtls_cert)
            .execute(self.writer())
            .await?;
        Ok(match done.rows_affected() {
            0 => Recorded::Taken,
            _ => Recorded::Here,
        })
    }

    /// Removes a record; whether there was one.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_registration(&self, uuid: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM registrations WHERE uuid = ?")
            .bind(uuid)
            .execute(self.writer())
            .await?;
        Ok(done.rows_affected() > 0)
    }
}
