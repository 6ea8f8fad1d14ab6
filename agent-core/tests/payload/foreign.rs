//! Archives that others write come out as they went in.

use std::io::{Cursor, Write};

use agent_core::payload::zip::Summary;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use crate::pieces::unpack_all;
use crate::recording::{Event, directory, file};

const AUTORUN: &[u8] = b"#!/bin/sh\necho hi\n";

#[test]
fn archives_of_other_writers() {
    let text = b"ssh-rsa AAAA keyhalf\n".repeat(500);
    let mut infozip_text = b"infozip ".repeat(400);
    infozip_text.truncate(3200);
    let infozip = [
        file("autorun.sh", 0o755, AUTORUN),
        directory("sub", 0o711),
        file("sub/text", 0o644, &infozip_text),
    ];
    let rows: &[(&str, &[u8], &[Event])] = &[
        (
            "python-stored",
            include_bytes!("../vectors/zip/python-stored.zip"),
            &[
                file("cacert.crt", 0o600, &b"cacert.crt".repeat(10)),
                file(
                    "RevocationNotifier-cert.crt",
                    0o600,
                    &b"RevocationNotifier-cert.crt".repeat(10),
                ),
                file(
                    "autorun.sh",
                    0o600,
                    b"#!/bin/bash\ncp payload_id_rsa* /root/.ssh/\n",
                ),
            ],
        ),
        (
            "python-deflated-comment",
            include_bytes!("../vectors/zip/python-deflated-comment.zip"),
            &[
                directory("keys", 0o750),
                file("keys/text", 0o640, &text),
                file("empty", 0o400, b""),
            ],
        ),
        (
            "python-descriptor",
            include_bytes!("../vectors/zip/python-descriptor.zip"),
            &[
                file("deflated", 0o600, &text),
                file("stored", 0o600, b"as it is"),
            ],
        ),
        (
            "python-zip64-local",
            include_bytes!("../vectors/zip/python-zip64-local.zip"),
            &[file("wide", 0o600, b"zip64 in the local header")],
        ),
        (
            "python-zip64-descriptor",
            include_bytes!("../vectors/zip/python-zip64-descriptor.zip"),
            &[file("wide", 0o600, b"a wide descriptor")],
        ),
        (
            "infozip",
            include_bytes!("../vectors/zip/infozip.zip"),
            &infozip,
        ),
        (
            "infozip-stream",
            include_bytes!("../vectors/zip/infozip-stream.zip"),
            &infozip,
        ),
        (
            "infozip-zip64",
            include_bytes!("../vectors/zip/infozip-zip64.zip"),
            &infozip,
        ),
        ("7zip", include_bytes!("../vectors/zip/7zip.zip"), &infozip),
        (
            "7zip-stored",
            include_bytes!("../vectors/zip/7zip-stored.zip"),
            &infozip,
        ),
        (
            "7zip-stream",
            include_bytes!("../vectors/zip/7zip-stream.zip"),
            &infozip,
        ),
        ("rust", include_bytes!("../vectors/zip/rust.zip"), &infozip),
        (
            "rust-stream",
            include_bytes!("../vectors/zip/rust-stream.zip"),
            &infozip,
        ),
        (
            "rust-zip64",
            include_bytes!("../vectors/zip/rust-zip64.zip"),
            &infozip,
        ),
        (
            "rust-zip64-stream",
            include_bytes!("../vectors/zip/rust-zip64-stream.zip"),
            &infozip,
        ),
        (
            // Found by fuzzing: the crate zip 8.6.0 calls a stream of it incomplete, zlib doesn't.
            "fuzzed-last-byte",
            include_bytes!("../vectors/zip/fuzzed-last-byte.zip"),
            &infozip,
        ),
        (
            // Found by fuzzing: the crate zip 8.6.0 lists its entries and can't open one, Info-ZIP and Python read all.
            "fuzzed-extra-field",
            include_bytes!("../vectors/zip/fuzzed-extra-field.zip"),
            &infozip,
        ),
        (
            // Found by fuzzing: the crate zip 8.6.0 believes a zip64 field that nothing in the entry refers to.
            "fuzzed-zip64-field",
            include_bytes!("../vectors/zip/fuzzed-zip64-field.zip"),
            &infozip,
        ),
    ];
    for (name, archive, want) in rows {
        let (result, events) = unpack_all(archive);
        assert_eq!(result, Ok(summary_of(want)), "{name}");
        assert_eq!(events, *want, "{name}");
    }
}

/// The tenant writes with this crate. Sizes around the window are where spans meet.
#[test]
fn archives_of_the_zip_crate() {
    let sizes = [0, 1, 32_767, 32_768, 32_769, 65_536, 65_537, 300_000];
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        for (kind, byte_at) in [("noise", noise as fn(usize) -> u8), ("text", text)] {
            let files: Vec<(String, Vec<u8>)> = sizes
                .iter()
                .map(|size| {
                    (
                        format!("dir/{kind}-{size}"),
                        (0..*size).map(byte_at).collect(),
                    )
                })
                .collect();
            for is_streamed in [false, true] {
                let archive = written_by_the_zip_crate(&files, method, is_streamed);
                let mut want = vec![directory("dir", 0o755)];
                want.extend(
                    files
                        .iter()
                        .map(|(path, content)| file(path, 0o640, content)),
                );
                let (result, events) = unpack_all(&archive);
                assert_eq!(
                    result,
                    Ok(summary_of(&want)),
                    "{method} {kind} {is_streamed}"
                );
                assert!(events == want, "{method} {kind} {is_streamed}");
            }
        }
    }
}

fn written_by_the_zip_crate(
    files: &[(String, Vec<u8>)],
    method: CompressionMethod,
    is_streamed: bool,
) -> Vec<u8> {
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .last_modified_time(DateTime::DEFAULT);
    if is_streamed {
        let mut writer = ZipWriter::new_stream(Vec::new());
        add_all(&mut writer, files, options);
        writer.finish().unwrap().into_inner()
    } else {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        add_all(&mut writer, files, options);
        writer.finish().unwrap().into_inner()
    }
}

fn add_all<W: Write + std::io::Seek>(
    writer: &mut ZipWriter<W>,
    files: &[(String, Vec<u8>)],
    options: SimpleFileOptions,
) {
    writer
        .add_directory("dir", options.unix_permissions(0o755))
        .unwrap();
    for (path, content) in files {
        writer
            .start_file(path, options.unix_permissions(0o640))
            .unwrap();
        writer.write_all(content).unwrap();
    }
}

fn summary_of(events: &[Event]) -> Summary {
    let mut summary = Summary::default();
    for event in events {
        match event {
            Event::Directory(..) => summary.directories += 1,
            Event::File(_, _, size, ..) => {
                summary.files += 1;
                summary.bytes += size;
            }
        }
    }
    summary
}

/// Bytes that don't pack.
fn noise(at: usize) -> u8 {
    let mixed = (at as u64)
        .wrapping_add(0x9E37_79B9)
        .wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 56) as u8 ^ (mixed >> 29) as u8
}

/// Bytes that pack well, with matches that reach far back.
fn text(at: usize) -> u8 {
    b"abcdefgh"[(at / 7 + at / 4099) % 8]
}
