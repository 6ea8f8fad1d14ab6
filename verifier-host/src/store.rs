//! The program's memory: one SQLite database in the Keylime directory, which survives a `kill -9`.
//!
//! One connection writes, others read; a commit is on disk before its caller hears of it (WAL, `synchronous = FULL`).
//! Key material is sealed before it gets here ([`at_rest`]). Queries stand beside what they serve; this module opens the
//! database and brings it to the newest schema.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use thiserror::Error;

use self::at_rest::{AtRest, AtRestError};

pub mod at_rest;
mod files;
pub mod nodes;
pub mod payloads;
pub mod policies;
pub mod registrations;
pub mod revocations;
mod shown;

/// What a database can't do, or not here.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or a file in it can't be made or read.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process works in this directory.
    #[error("{path} is locked: another keyhalf-verifier works in that directory; stop it first")]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// The database doesn't open or doesn't answer.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A newer program made this database.
    #[error(
        "the database {path} has schema {found}, this program knows up to {known}; start the newer keyhalf-verifier that \
         wrote it, or give this one another --keylime-dir"
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that this program has.
        known: i64,
    },
    /// The at-rest key is missing, unreadable or another one.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// A row holds what this program can't have written.
    #[error("the database's record of {uuid} is damaged: {what}; delete and add the node again")]
    Damaged {
        /// Whose record.
        uuid: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The same of a log of revocations.
    #[error(
        "the database's record of the revocation log {log_id} is damaged: {what}; restore the database from a backup"
    )]
    DamagedLog {
        /// Which log.
        log_id: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The open database and the key that seals secrets in it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    at_rest: AtRest,
    /// Held as long as the store is: two verifiers would ask each node twice and overwrite what the other found.
    _lock: Arc<File>,
}

impl Store {
    /// Opens `<dir>/keyhalf.sqlite` and `<dir>/at_rest.key`, makes what is missing, and migrates to the newest schema.
    ///
    /// # Errors
    /// The directory, the files or the database; a database of a newer program; sealed data without its key.
    pub async fn open(dir: &Path) -> Result<Self, StoreError> {
        files::private_directory(dir)?;
        let lock = files::lock(&dir.join(LOCK_FILE))?;
        let path = dir.join(DATABASE_FILE);
        files::private_file(&path)?;

        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("secure_delete", "ON");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await?;
        migrate(&writer, &path).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await?;
        let at_rest = AtRest::load(&dir.join(at_rest::KEY_FILE), &writer).await?;
        Ok(Self {
            writer,
            reader,
            at_rest,
            _lock: Arc::new(lock),
        })
    }

    /// The one connection that writes.
    #[must_use]
    pub const fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Connections that only read, and wait for no writer.
    #[must_use]
    pub const fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    /// What seals secrets before they are written.
    #[must_use]
    pub const fn at_rest(&self) -> &AtRest {
        &self.at_rest
    }

    /// Writes what is open to the database proper and closes it.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Runs the migrations that the database hasn't seen, each in a transaction of its own.
async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(writer)
        .await?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    let seen = usize::try_from(found).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(seen) {
        let mut transaction = writer.begin().await?;
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Name of the database in the Keylime directory.
pub const DATABASE_FILE: &str = "keyhalf.sqlite";

const LOCK_FILE: &str = "keyhalf.lock";

/// The schema's history. Each step ends with its own `PRAGMA user_version`; a landed step never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("store/migrations/1_first.sql"),
    include_str!("store/migrations/2_payloads.sql"),
    include_str!("store/migrations/3_policies.sql"),
    include_str!("store/migrations/4_revocations.sql"),
];

/// How long a statement waits for another process that holds the database, a backup for example.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reading connections; each costs a thread and about 100 KiB.
const READERS: u32 = 2;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opens_twice_and_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).await.unwrap();
        let sealed = first.at_rest().seal("node", "v", b"half").unwrap();
        first.close().await;
        let second = Store::open(dir.path()).await.err().unwrap();
        assert!(matches!(second, StoreError::InUse { .. }), "{second}");
        drop(first);

        let again = Store::open(dir.path()).await.unwrap();
        assert_eq!(
            *again.at_rest().open("node", "v", &sealed).unwrap(),
            b"half"
        );
    }

    #[tokio::test]
    async fn files_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("keylime");
        let _store = Store::open(&home).await.unwrap();
        for (path, mode) in [
            (home.clone(), 0o700),
            (home.join(DATABASE_FILE), 0o600),
            (home.join("keyhalf.sqlite-wal"), 0o600),
            (home.join(at_rest::KEY_FILE), 0o600),
        ] {
            let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn newer_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 99")
            .execute(store.writer())
            .await
            .unwrap();
        store.close().await;
        drop(store);
        let error = Store::open(dir.path()).await.err().unwrap();
        assert!(
            matches!(error, StoreError::NewerSchema { found: 99, .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn sealed_data_without_its_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        Store::open(dir.path()).await.unwrap().close().await;
        let key = dir.path().join(at_rest::KEY_FILE);

        std::fs::remove_file(&key).unwrap();
        let error = Store::open(dir.path()).await.err().unwrap();
        assert!(
            matches!(error, StoreError::AtRest(AtRestError::Missing { .. })),
            "{error}"
        );
        assert!(!key.exists(), "a lost key is not replaced");

        std::fs::write(&key, [7; 32]).unwrap();
        let error = Store::open(dir.path()).await.err().unwrap();
        assert!(
            matches!(error, StoreError::AtRest(AtRestError::Another { .. })),
            "{error}"
        );

        std::fs::write(&key, [7; 31]).unwrap();
        let error = Store::open(dir.path()).await.err().unwrap();
        assert!(
            matches!(
                error,
                StoreError::AtRest(AtRestError::Size { have: 31, .. })
            ),
            "{error}"
        );
    }
}
