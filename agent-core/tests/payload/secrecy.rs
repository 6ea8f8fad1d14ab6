//! What a secret must not do, and what must not be seen before the seal has verified.

use agent_core::payload::halves::{Half, Key};
use agent_core::payload::inflate::Inflater;
use agent_core::payload::seal::{open_single, seal_single};
use agent_core::payload::zip::{Limits, unpack};
use agent_core::secret::Secret;

use crate::recording::{Recording, file};

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
