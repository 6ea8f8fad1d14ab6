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

/// The action of Keylime's documentation, word for word.
pub const DOCUMENTED_ACTION: &str = "import os

async def execute(json_revocation):
\tos.remove(\"/root/.ssh/payload_id_rsa\")
\tos.remove(\"/root/.ssh/payload_id_rsa.pub\")
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

/// Makes the folder of Keylime's documented example with the action that takes the keys away again.
///
/// # Errors
/// It can't be written.
pub fn documented_with_action(folder: &Path) -> Result {
    documented(folder)?;
    let action = DOCUMENTED_ACTION.as_bytes();
    write(folder, "local_action_rm_ssh.py", action, 0o644)
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

/// Archives that must be refused as a whole, each with the reason for its place here.
///
/// # Errors
/// The zip library refuses to make one.
pub fn hostile() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let good: (&str, &[u8]) = ("good", b"good");
    let renamed = |from: &str, to: &str| -> Result<Vec<u8>> {
        assert_eq!(from.len(), to.len(), "offsets must stay");
        Ok(replace(
            &archive(&[good, (from, b"bad")])?,
            from.as_bytes(),
            to.as_bytes(),
        ))
    };
    let overlap = {
        let mut zip = archive(&[("one", b"one"), ("two", b"two")])?;
        let places = find(&zip, b"PK\x01\x02");
        // Offset 42 of a central header: where the local header is.
        let first: Vec<u8> = zip[places[0] + 42..places[0] + 46].to_vec();
        zip[places[1] + 42..places[1] + 46].copy_from_slice(&first);
        zip
    };
    let mut encrypted = archive(&[good])?;
    for (signature, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        for at in find(&encrypted, signature) {
            encrypted[at + flags] |= 1;
        }
    }
    let mut cut = archive(&[good])?;
    cut.truncate(cut.len() - 10);
    let mut link = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    link.add_symlink("link", "/etc/passwd", SimpleFileOptions::default())?;
    let link = link.finish()?.into_inner();
    Ok(vec![
        ("a name with ../", renamed("xx/escaped", "../escaped")?),
        (
            "a name with .. inside",
            renamed("a/xx/xx/escaped", "a/../../escaped")?,
        ),
        (
            "an absolute name",
            renamed("xroot/escaped", "/root/escaped")?,
        ),
        ("a name with NUL", renamed("escapedx", "escaped\0")?),
        ("a name twice", renamed("gooe", "good")?),
        ("overlapping entries", overlap),
        ("a symbolic link", link),
        ("an encrypted entry", encrypted),
        ("a bomb", archive(&[good, ("zeros", &vec![0; 50 << 20])])?),
        ("a directory cut short", cut),
        (
            "no archive at all",
            b"PK\x03\x04 and nothing of the kind".to_vec(),
        ),
    ])
}

/// An archive whose directory is fine, and whose second entry's content isn't what its checksum says.
///
/// # Errors
/// The zip library refuses.
pub fn wrong_in_the_middle() -> Result<Vec<u8>> {
    let mut zip = archive(&[("first", b"first"), ("second", &[b'x'; 4096])])?;
    for (signature, crc) in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16)] {
        if let Some(at) = find(&zip, signature).get(1) {
            zip[at + crc] ^= 1;
        }
    }
    Ok(zip)
}

/// An archive whose only entry has the setuid and setgid bits.
///
/// # Errors
/// The zip library refuses.
pub fn setuid() -> Result<Vec<u8>> {
    let mut zip = archive(&[("tool", b"#!/bin/sh\n")])?;
    for at in find(&zip, b"PK\x01\x02") {
        // Offset 38 of a central header: external attributes, their upper half is the Unix mode; 4 is its version byte.
        zip[at + 5] = 3;
        zip[at + 40..at + 42].copy_from_slice(&0o106_755_u16.to_le_bytes());
    }
    Ok(zip)
}

fn find(text: &[u8], what: &[u8]) -> Vec<usize> {
    text.windows(what.len())
        .enumerate()
        .filter(|(_, window)| *window == what)
        .map(|(at, _)| at)
        .collect()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for at in find(&text, from) {
        text[at..at + from.len()].copy_from_slice(to);
    }
    text
}
