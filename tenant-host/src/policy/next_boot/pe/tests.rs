#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use agent_core::wire::text::Hex;

use super::*;
use crate::policy::next_boot::testing::{
    CHECKSUM, HEADERS, OPTIONAL, SECTIONS, SIGNATURES, image, put,
};

const BANK: HashAlg = HashAlg::Sha256;

fn hash(file: &[u8]) -> String {
    let digest = Image::parse(file).and_then(|image| image.authenticode(BANK));
    digest.map_or_else(|error| error.to_string(), |digest| Hex(&digest).to_string())
}

/// With a signature of so many bytes at its end.
fn signed(mut file: Vec<u8>, size: usize) -> Vec<u8> {
    let start = u32::try_from(file.len()).unwrap();
    put(&mut file, SIGNATURES, &start.to_le_bytes());
    put(
        &mut file,
        SIGNATURES + 4,
        &u32::try_from(size).unwrap().to_le_bytes(),
    );
    file.resize(file.len() + size, 0xaa);
    file
}

#[test]
fn an_image_is_hashed_as_it_is_signed() {
    let plain = image(&[(".text", b"some code"), (".data", b"and some data")]);
    // What `osslsigncode verify` 2.9 and `sbsign` 0.9.4 compute for this file.
    assert_eq!(hash(&plain), OTHERS_COMPUTE);
    let with = |at: usize, byte: u8| {
        let mut file = plain.clone();
        file[at] = byte;
        hash(&file)
    };
    let longer = [&plain[..], b"trailing"].concat();
    let rows = [
        ("another checksum", with(CHECKSUM, 1), true),
        ("signed", hash(&signed(plain.clone(), 64)), true),
        ("another signature's place", with(SIGNATURES, 1), true),
        ("another header", with(OPTIONAL + 16, 1), false),
        ("more code", with(0x409, 1), false),
        ("padding of a section", with(0x5ff, 1), false),
        ("the last byte", with(plain.len() - 1, 1), false),
        ("trailing data", hash(&longer), false),
        (
            "trailing data, signed",
            hash(&signed(longer.clone(), 8)),
            false,
        ),
    ];
    for (name, found, same) in rows {
        assert_eq!(found == OTHERS_COMPUTE, same, "{name}: {found}");
    }
    assert_eq!(hash(&longer), hash(&signed(longer, 8)));
    // The section table's order isn't the file's.
    let mut swapped = plain.clone();
    let (first, second) = (SECTIONS, SECTIONS + 40);
    for byte in 0..40 {
        swapped.swap(first + byte, second + byte);
    }
    let parts = [
        &swapped[..CHECKSUM],
        &swapped[CHECKSUM + 4..SIGNATURES],
        &swapped[SIGNATURES + 8..],
    ];
    assert_eq!(hash(&swapped), Hex(&BANK.digest(parts)).to_string());
}

#[test]
fn hostile_images_are_refused() {
    let good = image(&[(".text", b"some code"), (".data", b"and some data")]);
    let error = |file: &[u8]| {
        Image::parse(file)
            .and_then(|image| image.authenticode(BANK))
            .err()
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        put(&mut file, at, bytes);
        error(&file)
    };
    let mut rest = [&good[..], &[0]].concat();
    put(&mut rest, SIGNATURES + 4, &[2]);
    let truncated = |part, need| {
        Some(PeError::Truncated {
            part,
            need,
            have: good.len(),
        })
    };
    let beyond_headers = |need| {
        Some(PeError::Truncated {
            part: "optional header",
            need,
            have: 0x60,
        })
    };
    let end = u64::from(u32::MAX);
    let rows = [
        ("as it is", with(0, b"MZ"), None),
        (
            "no DOS header",
            with(0, b"ZM"),
            Some(PeError::Foreign { missing: "MZ" }),
        ),
        (
            "no PE header",
            with(0x40, b"NE"),
            Some(PeError::Foreign { missing: "PE" }),
        ),
        (
            "PE header outside",
            with(0x3c, &[0xff; 4]),
            truncated("PE header", end + 4),
        ),
        (
            "32 bits",
            with(OPTIONAL, &[0x0b, 0x01]),
            Some(PeError::NotPe32Plus { found: 0x010b }),
        ),
        (
            "a driver",
            with(OPTIONAL + 68, &[11]),
            Some(PeError::NotAnApplication { found: 11 }),
        ),
        (
            "headers outside",
            with(OPTIONAL + 60, &[0xff; 4]),
            truncated("headers", end),
        ),
        (
            "headers too short",
            with(OPTIONAL + 60, &[0x60, 0, 0, 0]),
            beyond_headers(0xf0),
        ),
        (
            "97 sections",
            with(0x46, &[97]),
            Some(PeError::TooManySections { found: 97 }),
        ),
        (
            "section outside",
            with(SECTIONS + 16, &[0xff; 4]),
            truncated("section", end + 0x400),
        ),
        (
            "section table outside",
            with(0x54, &[0xff; 2]),
            truncated("section table", 0x1005f),
        ),
        (
            "signatures longer than the rest",
            error(&rest),
            Some(PeError::Overlapping {
                sum: 0x802,
                have: 0x801,
            }),
        ),
    ];
    for (name, found, wanted) in rows {
        assert_eq!(found, wanted, "{name}");
    }
    for length in 0..good.len() {
        assert!(Image::parse(&good[..length]).is_err(), "{length} bytes");
    }
    for at in 0..HEADERS as usize {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let _refused_or_not = with(at, &[byte; 4]);
        }
    }
}

const OTHERS_COMPUTE: &str = "5ab16c54dbe22d2c0af3493744114b8eb0eec3c179dd39eeb65a13a4951034d9";
