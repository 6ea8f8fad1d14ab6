//! Writes the archives of Rust's crate zip that the reader is tested with: `cargo run --example zips`.

use std::io::{Cursor, Seek, Write};
use std::path::Path;

use zip::result::ZipResult;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

fn main() -> ZipResult<()> {
    let rows = [("rust", false), ("rust-zip64", true)];
    for (name, is_wide) in rows {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        add_all(&mut writer, is_wide)?;
        writer.set_comment("written by Rust, with PK\u{5}\u{6} in it")?;
        save(name, &writer.finish()?.into_inner())?;

        let mut writer = ZipWriter::new_stream(Vec::new());
        add_all(&mut writer, is_wide)?;
        save(&format!("{name}-stream"), &writer.finish()?.into_inner())?;
    }
    Ok(())
}

/// The tree of Info-ZIP's archives.
fn add_all<W: Write + Seek>(writer: &mut ZipWriter<W>, is_wide: bool) -> ZipResult<()> {
    let plain = SimpleFileOptions::default().last_modified_time(DateTime::DEFAULT);
    let options = plain.large_file(is_wide);
    let stored = options.compression_method(CompressionMethod::Stored);
    writer.start_file("autorun.sh", stored.unix_permissions(0o755))?;
    writer.write_all(b"#!/bin/sh\necho hi\n")?;
    // A large directory would get sizes of all ones in its own header, and of zero in the archive's.
    writer.add_directory("sub", plain.unix_permissions(0o711))?;
    writer.start_file("sub/text", options.unix_permissions(0o644))?;
    writer
        .write_all(&b"infozip ".repeat(400))
        .map_err(Into::into)
}

fn save(name: &str, archive: &[u8]) -> std::io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/zip");
    std::fs::write(directory.join(name).with_extension("zip"), archive)
}
