//! Archives: what is unpacked keeps to the rules and the limits, and is what other readers unpack.

use std::convert::Infallible;
use std::io::{Cursor, Read, Write};

use ::zip::read::ZipFile;
use ::zip::write::{SimpleFileOptions, ZipWriter};
use ::zip::{DateTime, ZipArchive};
use agent_core::payload::inflate::{InflateError, Inflater};
use agent_core::payload::zip::{
    Archive, ArchiveFault, DIRECTORY_BYTES, Limits, Summary, UnpackError, is_archive, unpack,
    unpack_pieces,
};
use miniz_oxide::inflate::decompress_slice_iter_to_slice;

use crate::recording::{Event, Recording, Refused, file};

/// The bytes are an archive; or else a deflate stream, and the content of a file.
pub fn check(data: &[u8]) {
    if is_archive(data) {
        check_archive(data);
    } else {
        check_stream(data);
        check_packed(data);
    }
}

fn check_archive(data: &[u8]) {
    let mut sink = Recording::default();
    let result = unpack(data, &LIMITS, &mut Inflater::new(), &mut sink);
    check_pieces(data, &result, &sink.events);
    for event in &sink.events {
        let (Event::Directory(path, mode) | Event::File(path, mode, ..)) = event;
        assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)));
        assert!(!path.contains(['\\', '\0']));
        assert!(*mode <= 0o777);
    }
    match result {
        Ok(summary) => {
            let size = |event: &Event| match event {
                Event::Directory(..) => 0,
                Event::File(_, _, size, content, is_complete) => {
                    assert_eq!((content.len() as u64, *is_complete), (*size, true));
                    *size
                }
            };
            assert_eq!(summary.bytes, sink.events.iter().map(size).sum::<u64>());
            assert_eq!(summary.files + summary.directories, sink.events.len());
            assert!(summary.bytes <= LIMITS.bytes && sink.events.len() <= LIMITS.entries);
            check_reference(data, &sink.events);
        }
        Err(UnpackError::Entry { fault, .. }) if fault.is_content() => {
            assert!(matches!(sink.events.last(), Some(Event::File(.., false))));
        }
        Err(error) => assert_eq!(sink.events, [], "{error}"),
    }
}

/// In pieces, as short as its last byte says, it is the same; of a broken file another part may have come.
fn check_pieces(data: &[u8], want: &Result<Summary, UnpackError<Refused>>, events: &[Event]) {
    let size = 1 + usize::from(*data.last().unwrap());
    let mut sink = Recording::default();
    let result = unpack_pieces(
        &mut Pieces { data, size },
        &mut vec![0; DIRECTORY_BYTES],
        &LIMITS,
        &mut Inflater::new(),
        &mut sink,
    );
    match (&result, want) {
        (Err(UnpackError::Archive(ArchiveFault::DirectoryTooLarge { .. })), _) => {}
        _ => {
            assert_eq!(result, *want);
            assert!(result.is_err() || sink.events == events);
        }
    }
}

/// Pieces of one size.
struct Pieces<'a> {
    data: &'a [u8],
    size: usize,
}

impl Archive for Pieces<'_> {
    type Error = Infallible;

    fn size(&self) -> u64 {
        self.data.len() as u64
    }

    fn piece(&mut self, at: u64) -> Result<&[u8], Infallible> {
        let at = at as usize;
        let end = self.data.len().min((at / self.size + 1) * self.size);
        Ok(self.data.get(at..end).unwrap_or_default())
    }
}

/// The crate zip reads the same, where it reads the archive at all.
fn check_reference(data: &[u8], events: &[Event]) {
    let Ok(mut archive) = ZipArchive::new(Cursor::new(data)) else {
        return;
    };
    assert_eq!(archive.len(), events.len());
    for (at, event) in events.iter().enumerate() {
        // It lists some entries that it can't open then, and that others read.
        let Ok(mut entry) = archive.by_index(at) else {
            continue;
        };
        if is_misread(&entry, data) {
            continue;
        }
        let name = String::from_utf8(entry.name_raw().to_vec()).unwrap();
        match event {
            Event::Directory(path, _) => assert_eq!(name, format!("{path}/")),
            Event::File(path, _, _, content, _) => {
                assert_eq!(name, *path);
                let mut read = Vec::new();
                if entry.read_to_end(&mut read).is_err() {
                    // It calls some streams incomplete that end in their last byte: in one piece they are whole.
                    drop(entry);
                    let Some(whole) = in_one_piece(&mut archive, at, content.len()) else {
                        continue;
                    };
                    read = whole;
                }
                assert!(read == *content, "{name} differs");
            }
        }
    }
}

/// Whether the crate took sizes or the offset of an entry from elsewhere than its record in the directory, though that has them: from
/// an extra field that looks like zip64's. It reads another file then.
fn is_misread(entry: &ZipFile<'_, Cursor<&[u8]>>, data: &[u8]) -> bool {
    let record = data.get(entry.central_header_start() as usize..);
    let said = [
        (20, entry.compressed_size()),
        (24, entry.size()),
        (42, entry.header_start()),
    ];
    said.into_iter().any(|(at, read)| {
        let field = record.and_then(|record| record.get(at..)?.first_chunk());
        let own = field.map_or(u32::MAX, |field| u32::from_le_bytes(*field));
        own != u32::MAX && u64::from(own) != read
    })
}

/// What a deflated file's stream gives in one piece; `None` where the reference finds no stream at all. Then there is nothing to
/// compare with but the CRC, which the archive's own reader has checked.
fn in_one_piece(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    at: usize,
    size: usize,
) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    let mut entry = archive.by_index_raw(at).unwrap();
    entry.read_to_end(&mut packed).unwrap();
    if packed.is_empty() {
        return None;
    }
    let mut read = vec![0; size];
    let pieces = std::iter::once(&packed[..]);
    let have = decompress_slice_iter_to_slice(&mut read, pieces, false, true).unwrap();
    assert_eq!(have, size);
    Some(read)
}

/// A raw deflate stream gives what miniz_oxide gives in one piece.
fn check_stream(data: &[u8]) {
    let mut want = vec![0; STREAM_BYTES];
    let reference = decompress_slice_iter_to_slice(&mut want, std::iter::once(data), false, true);
    let size = *reference.as_ref().unwrap_or(&STREAM_BYTES);
    let mut have = Vec::new();
    let result = Inflater::new().inflate(data, size as u64, |span| {
        have.extend_from_slice(span);
        Ok::<(), InflateError>(())
    });
    assert!(have.len() <= size);
    check_stream_in_pieces(data, size, &result, &have);
    match (reference, result) {
        (Ok(_), Ok(()) | Err(InflateError::Trailing { .. })) => assert!(have == want[..size]),
        (Err(_), Err(_)) => {}
        (reference, result) => panic!("{reference:?}, {result:?}"),
    }
}

/// In pieces a stream gives the same.
fn check_stream_in_pieces(data: &[u8], size: usize, want: &Result<(), InflateError>, bytes: &[u8]) {
    let piece = 1 + usize::from(data.last().copied().unwrap_or_default());
    let (mut inflater, mut have) = (Inflater::new(), Vec::new());
    let mut stream = inflater.begin(data.len() as u64, size as u64);
    let pushed = data.chunks(piece).try_for_each(|piece| {
        stream.push(piece, |span| {
            have.extend_from_slice(span);
            Ok::<(), InflateError>(())
        })
    });
    let result = pushed.and_then(|()| stream.end());
    assert_eq!(result, *want);
    assert!(result.is_err() || have == bytes);
}

/// A file that the crate zip packs comes out as it went in.
fn check_packed(data: &[u8]) {
    let options = SimpleFileOptions::default()
        .last_modified_time(DateTime::DEFAULT)
        .compression_level(Some(1))
        .unix_permissions(0o640);
    let content = &data[..data.len().min(PACKED_BYTES)];
    let mut writer = ZipWriter::new_stream(Vec::new());
    writer.start_file("dir/content", options).unwrap();
    writer.write_all(content).unwrap();
    let archive = writer.finish().unwrap().into_inner();
    let mut sink = Recording::default();
    let result = unpack(&archive, &LIMITS, &mut Inflater::new(), &mut sink);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(sink.events, [file("dir/content", 0o640, content)]);
}

/// Low enough to be reached.
const LIMITS: Limits = Limits {
    entries: 64,
    bytes: 256 * 1024,
    ratio: 200,
};

/// A stream may give more than the window, of 32 KiB, holds.
const STREAM_BYTES: usize = 80 * 1024;

/// What is packed at most, for speed.
const PACKED_BYTES: usize = 2048;
