//! Published vectors: what another implementation sealed and tagged.

use agent_core::payload::halves::Key;
use agent_core::payload::seal::{
    NONCE_BYTES, OVERHEAD_BYTES, OpenError, TAG_BYTES, open_single, seal_single,
};

#[test]
fn sealed_by_another_implementation() {
    let mut seen = [0; 3];
    for (row, line) in include_str!("../vectors/seal.txt").lines().enumerate() {
        let fields: Vec<&str> = line.split(' ').collect();
        let &[class, key, sealed, plain] = &fields[..] else {
            panic!("row {row}: {line}");
        };
        let key = Key::from_slice(&unhex(key)).unwrap();
        let (sealed, mut plain) = (unhex(sealed), unhex(plain));
        let mut opened = sealed.clone();
        let result = open_single(&key, &mut opened);
        match class {
            "opens" => {
                assert_eq!(result, Ok(&mut plain[..]), "row {row}");
                seal_again(&key, &sealed, &plain);
                seen[0] += 1;
            }
            "tag" => {
                assert_eq!(result, Err(OpenError::Tag), "row {row}");
                assert_eq!(opened, sealed, "row {row}: changed");
                seen[1] += 1;
            }
            "too-short" => {
                let (need, have) = (OVERHEAD_BYTES, sealed.len());
                assert_eq!(result, Err(OpenError::TooShort { need, have }), "row {row}");
                seen[2] += 1;
            }
            other => panic!("row {row}: {other}"),
        }
    }
    assert_eq!(seen, [22, 25, 4]);
}

/// Sealing the plaintext gives the same bytes.
fn seal_again(key: &Key, sealed: &[u8], plain: &[u8]) {
    let nonce: [u8; NONCE_BYTES] = sealed[..NONCE_BYTES].try_into().unwrap();
    let mut body = plain.to_vec();
    let tag: [u8; TAG_BYTES] = seal_single(key, &nonce, &mut body).unwrap();
    assert_eq!([&nonce[..], &body, &tag].concat(), sealed);
}

#[test]
fn tags_of_another_implementation() {
    for (row, line) in include_str!("../vectors/auth_tag.txt").lines().enumerate() {
        let fields: Vec<Vec<u8>> = line.split(' ').map(unhex).collect();
        let [key, message, tag] = &fields[..] else {
            panic!("row {row}: {line}");
        };
        let key = Key::from_slice(key).unwrap();
        assert_eq!(key.auth_tag(message)[..], tag[..], "row {row}");

        let mut tag: [u8; 48] = tag[..].try_into().unwrap();
        assert!(key.matches(message, &tag), "row {row}");
        tag[row * 5] ^= 1;
        assert!(!key.matches(message, &tag), "row {row}");
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
