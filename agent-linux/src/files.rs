//! Small files: read with a bound, replaced as a whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The bytes of a file that has so many at most.
///
/// # Errors
/// The kernel's; [`ErrorKind::FileTooLarge`].
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than it may have shows that it has too many.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Puts a file in the place of another in one step, on the disk where it is one.
///
/// # Errors
/// The kernel's; what was there is still there then.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.file_name().map_or_else(OsString::new, OsString::from);
    new.push(".new");
    let new = path.with_file_name(new);
    remove(&new)?;
    let file = create(&new, bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The name has to be on the disk too; a directory that can't be opened is no reason to fail.
    if let Some(Ok(directory)) = path.parent().map(File::open) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// Makes a file that isn't there yet, for its owner alone.
///
/// # Errors
/// The kernel's; of a file that couldn't be written nothing stays.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Err(error) = file.write_all(bytes) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Removes a file, if it is there.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
