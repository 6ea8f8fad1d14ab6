//! Payload folders as operators have them, and archives that nobody should open.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::Result;

/// The script of Keylime's documentation, word for word.
pub const DOCUMENTED_SCRIPT: &str = "#!/bin/bash

mkdir -p /root/.ssh/
cp payload_id_rsa* /root/.ssh/
chmod 600 /root/.ssh/payload_id_rsa*
";

/// Stands for a private key: a string that must never be found where secrets don't belong.
pub const SECRET: &str = "CANARY-private-key-3f9c1e5ab07d4426";

/// Makes the folder of Keylime's documented example.
///
/// # Errors
/// It can't be written.
pub fn documented(folder: &Path) -> Result {
    write(folder, "payload_id_rsa", SECRET.as_bytes(), 0o600)?;
    write(
        folder,
        "payload_id_rsa.pub",
        b"ssh-rsa AAAA example\n",
        0o644,
    )?;
    script(folder, DOCUMENTED_SCRIPT)
}

/// Writes `autorun.sh` into a payload folder.
///
/// # Errors
/// It can't be written.
pub fn script(folder: &Path, text: &str) -> Result {
    write(folder, "autorun.sh", text.as_bytes(), 0o755)
}

/// Writes a file into a payload folder, with its directories.
///
/// # Errors
/// It can't be written.
pub fn write(folder: &Path, name: &str, content: &[u8], mode: u32) -> Result {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap_or(folder))?;
    fs::write(&path, content)?;
    Ok(fs::set_permissions(
        &path,
        fs::Permissions::from_mode(mode),
    )?)
}

/// An archive of the given names and contents, as they are.
///
/// # Errors
/// The zip library refuses.
pub fn archive(entries: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(0o600);
        zip.start_file(*name, options)?;
        zip.write_all(content)?;
    }
    Ok(zip.finish()?.into_inner())
}
