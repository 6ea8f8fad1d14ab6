//! Archives, and payloads that are sealed.

use std::fs;

use super::{here, save};

/// The archives of the tests, those that unpack and those that must not.
pub(super) fn archives() -> std::io::Result<()> {
    for directory in ["zip", "hostile"] {
        for entry in fs::read_dir(here().join("../tests/vectors").join(directory))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "zip") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                save("zip", &name, fs::read(&path)?)?;
            }
        }
    }
    // RFC 1951: a stored block, a fixed block with a match, and the empty stream.
    save(
        "zip",
        "stream-stored",
        [1, 5, 0, 0xFA, 0xFF, b'h', b'e', b'l', b'l', b'o'],
    )?;
    save("zip", "stream-match", [0x4B, 0x4C, 0x44, 0x07, 0x00])?;
    save("zip", "stream-empty", [3, 0])
}

pub(super) fn payloads() -> std::io::Result<()> {
    let archive = fs::read(here().join("../tests/vectors/zip/python-stored.zip"))?;
    save(
        "payload_open",
        "archive",
        [&[0, 0, 0, 0], &archive[..]].concat(),
    )?;
    save(
        "payload_open",
        "archive-damaged",
        [&[0, 77, 1, 2], &archive[..]].concat(),
    )?;
    save(
        "payload_open",
        "script",
        b"\x00\x00\x00\x03#!/bin/sh\necho hi\n",
    )?;
    save(
        "payload_open",
        "tag-damaged",
        b"\x00\x2F\x80\x00sixteen bytes it",
    )?;
    save("payload_open", "empty", [0; 4])
}
