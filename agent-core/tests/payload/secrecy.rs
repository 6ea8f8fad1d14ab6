//! What a secret must not do, and what must not be seen before the seal has verified.

use core::mem::MaybeUninit;

use agent_core::payload::halves::{Half, Key};
use agent_core::payload::inflate::Inflater;
use agent_core::payload::seal::{open_single, seal_single};
use agent_core::payload::zip::{Limits, UnpackError, unpack};
use agent_core::secret::Secret;
use agent_core::tpm::Opened;

use crate::recording::{Recording, file};
use crate::sample::good;

/// Whether a type has a trait: the inherent constant wins where the bound holds, [`Otherwise`]'s is left elsewhere.
macro_rules! implements {
    ($type:ty: $trait:path) => {{
        struct Ask<T: ?Sized>(core::marker::PhantomData<T>);
        impl<T: ?Sized + $trait> Ask<T> {
            // The underscore: of the two constants each expansion uses one.
            const _HOLDS: bool = true;
        }
        <Ask<$type>>::_HOLDS
    }};
}

trait Otherwise {
    const _HOLDS: bool = false;
}

impl<T: ?Sized> Otherwise for T {}

macro_rules! tells_or_copies {
    ($type:ty) => {
        [
            ("Debug", implements!($type: std::fmt::Debug)),
            ("Display", implements!($type: std::fmt::Display)),
            ("Clone", implements!($type: Clone)),
            ("Copy", implements!($type: Copy)),
            ("ToString", implements!($type: ToString)),
            ("PartialEq", implements!($type: PartialEq)),
            ("Serialize", implements!($type: serde::Serialize)),
        ]
    };
}

#[test]
fn secrets_have_no_debug() {
    let detector = tells_or_copies!([u8; 4]);
    assert!(detector.contains(&("Debug", true)), "the detector detects");
    assert!(detector.contains(&("Clone", true)), "the detector detects");
    for (name, found) in [
        ("Secret", tells_or_copies!(Secret<32>)),
        ("Half", tells_or_copies!(Half)),
        ("Key", tells_or_copies!(Key)),
        ("Inflater", tells_or_copies!(Inflater)),
    ] {
        assert!(found.iter().all(|(_, has)| !has), "{name}: {found:?}");
    }
}

#[test]
fn secrets_and_windows_are_wiped_when_they_go() {
    assert!(core::mem::needs_drop::<Secret<32>>());
    assert!(core::mem::needs_drop::<Key>());
    assert!(core::mem::needs_drop::<Half>());
    assert!(core::mem::needs_drop::<Inflater>());
}

/// The bytes are read where they were, after the value is gone.
#[test]
fn a_secret_is_gone_once_it_is_dropped() {
    let kept = left_after_drop([0xA5; 32], |bytes| bytes);
    assert_eq!(kept, [0xA5; 32], "the detector detects");
    let secret = left_after_drop(Secret::copy_of(&[0xA5; 32]), |it| it.as_ref());
    assert_eq!(secret, [0; 32]);
    for bytes in [16, 32] {
        let half = Half::from_slice(&[0xA5; 32][..bytes]).unwrap();
        let key = Key::from_slice(&[0xA5; 32][..bytes]).unwrap();
        assert_eq!(left_after_drop(half, Half::as_bytes), vec![0; bytes]);
        assert_eq!(left_after_drop(key, Key::as_bytes), vec![0; bytes]);
    }
    let opened = Opened {
        bytes: Secret::copy_of(&[0xA5; 32]),
        len: 32,
    };
    assert_eq!(left_after_drop(opened, |it| it.bytes.as_ref()), [0; 32]);
}

/// Drops a value in memory of its own, and reads what its secret bytes have become.
fn left_after_drop<T>(value: T, secret: impl FnOnce(&T) -> &[u8]) -> Vec<u8> {
    let mut place = Box::new(MaybeUninit::new(value));
    // SAFETY: the place was made with a value.
    let bytes = secret(unsafe { place.assume_init_ref() });
    assert_eq!(bytes, vec![0xA5; bytes.len()]);
    let (start, length) = (bytes.as_ptr().addr(), bytes.len());
    let start = start.checked_sub(place.as_ptr().addr()).unwrap();
    assert!(start + length <= size_of::<T>(), "not inside of the value");
    // SAFETY: the place still holds its value, which isn't used again.
    unsafe { place.assume_init_drop() };
    let from = place.as_ptr().cast::<u8>();
    (start..start + length)
        // SAFETY: within the place, which is still this function's; the bytes were written before, and any value is a u8.
        .map(|at| unsafe { from.add(at).read_volatile() })
        .collect()
}

/// The whole way: without the tag nothing is decrypted, and nothing of the ciphertext is taken for an archive.
#[test]
fn nothing_reaches_the_sink_without_the_tag() {
    let key = Key::from_slice(&[0x5A; 32]).unwrap();
    let mut sealed = include_bytes!("../vectors/zip/python-zip64-local.zip").to_vec();
    let tag = seal_single(&key, &[3; 16], &mut sealed).unwrap();
    sealed.splice(..0, [3; 16]);
    sealed.extend(tag);
    for at in 0..=sealed.len() {
        let mut tried = sealed.clone();
        let is_changed = at < sealed.len();
        if is_changed {
            tried[at] ^= 1;
        }
        let mut sink = Recording::default();
        if let Ok(archive) = open_single(&key, &mut tried) {
            unpack(archive, &Limits::default(), &mut Inflater::new(), &mut sink).unwrap();
        }
        let content = file("wide", 0o600, b"zip64 in the local header");
        let want = if is_changed { vec![] } else { vec![content] };
        assert_eq!(sink.events, want, "byte {at}");
    }
}

/// A shorter tag isn't a tag, wherever the cut is.
#[test]
fn nothing_reaches_the_sink_with_part_of_the_tag() {
    let key = Key::from_slice(&[0x5A; 32]).unwrap();
    let mut sealed = good().bytes();
    let tag = seal_single(&key, &[3; 16], &mut sealed).unwrap();
    sealed.splice(..0, [3; 16]);
    sealed.extend(tag);
    for length in 0..sealed.len() {
        let mut cut = sealed[..length].to_vec();
        assert!(open_single(&key, &mut cut).is_err(), "cut to {length}");
        assert_eq!(cut, sealed[..length], "cut to {length}: changed");
    }
}

/// Whatever one byte of the directory becomes: if it is refused for what the directory says, nothing was written.
#[test]
fn nothing_is_written_if_the_directory_is_bad() {
    let archive = good().bytes();
    let signature = b"PK\x01\x02";
    let directory = archive.windows(4).position(|window| window == signature);
    let mut refused = 0;
    for at in directory.unwrap()..archive.len() {
        for change in [1, 4, 0x20, 0x80, 0xFF] {
            let mut bad = archive.clone();
            bad[at] ^= change;
            let mut sink = Recording::default();
            match unpack(&bad, &Limits::default(), &mut Inflater::new(), &mut sink) {
                Ok(_) => {}
                // A size or a CRC that only the content contradicts.
                Err(UnpackError::Entry { fault, .. }) if fault.is_content() => {}
                Err(error) => {
                    refused += 1;
                    assert_eq!(sink.calls, 0, "byte {at} ^ {change}: {error:?}");
                }
            }
        }
    }
    assert!(refused > 500, "only {refused} refused");
}
