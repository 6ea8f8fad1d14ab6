//! Files that only their owner reads.

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::StoreError;

/// Makes the directory with mode 0700, its parents as the system makes them; one that exists stays as it is.
pub(super) fn private_directory(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let made = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| DirBuilder::new().mode(0o700).create(path));
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(StoreError::File {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Makes an empty file with mode 0600 unless there is one. SQLite gives its journals the mode of the database.
pub(super) fn private_file(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(StoreError::File {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
