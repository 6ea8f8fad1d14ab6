//! Sealed payloads: one that doesn't open stays as it was and nothing of it is unpacked; one that opens is what was sealed.

use agent_core::payload::halves::{Half, Key};
use agent_core::payload::inflate::Inflater;
use agent_core::payload::seal::{NONCE_BYTES, OpenError, open_single, seal_single};
use agent_core::payload::zip::{Limits, unpack};

use crate::recording::Recording;

/// Two bytes choose a place, one what is done to the byte there, one the key; the others are the payload.
pub fn check(data: &[u8]) {
    let Some((&[high, low, change, seed], payload)) = data.split_first_chunk() else {
        return;
    };
    let key = key(seed);
    check_hostile(&key, payload);

    let nonce = [seed; NONCE_BYTES];
    let mut body = payload.to_vec();
    let tag = seal_single(&key, &nonce, &mut body).unwrap();
    let sealed = [&nonce[..], &body, &tag].concat();
    let mut damaged = sealed.clone();
    let place = usize::from(u16::from_be_bytes([high, low])) % damaged.len();
    damaged[place] ^= change;
    match open_and_unpack(&key, &damaged) {
        Ok((plaintext, sink)) => {
            assert_eq!((change, &plaintext[..]), (0, payload));
            assert_eq!(sink, unpacked(payload));
        }
        Err(error) => assert_eq!((change != 0, error), (true, OpenError::Tag)),
    }
    let cut = open_and_unpack(&key, &sealed[..place]).map(drop);
    assert!(cut.is_err(), "cut to {place}");
    let other = self::key(seed ^ 1);
    assert_eq!(
        open_and_unpack(&other, &sealed).map(drop),
        Err(OpenError::Tag)
    );
}

/// The payload as if it were sealed already. Nobody guesses a tag, so it doesn't open.
fn check_hostile(key: &Key, sealed: &[u8]) {
    assert!(open_and_unpack(key, sealed).is_err());
}

/// The plaintext, and what a sink got of it.
fn open_and_unpack(key: &Key, sealed: &[u8]) -> Result<(Vec<u8>, Recording), OpenError> {
    let mut buffer = sealed.to_vec();
    match open_single(key, &mut buffer) {
        Ok(plaintext) => {
            let sink = unpacked(plaintext);
            Ok((plaintext.to_vec(), sink))
        }
        Err(error) => {
            assert_eq!(buffer, sealed, "changed, and not opened");
            Err(error)
        }
    }
}

fn unpacked(payload: &[u8]) -> Recording {
    let mut sink = Recording::default();
    let limits = Limits {
        bytes: 64 * 1024,
        ..Limits::default()
    };
    let _ = unpack(payload, &limits, &mut Inflater::new(), &mut sink);
    sink
}

/// Of two halves; every other one for AES-128.
fn key(seed: u8) -> Key {
    let half = |byte: u8| {
        let bytes = [byte; 32];
        let length = if seed & 2 == 0 { 32 } else { 16 };
        Half::from_slice(&bytes[..length]).unwrap()
    };
    half(seed).combine(&half(0xA5)).unwrap()
}
