//! Wycheproof's vectors, each with its class; a pass that isn't expected fails.

use agent_core::payload::halves::{AUTH_TAG_BYTES, Key};
use agent_core::payload::seal::{OpenError, open_single, seal_single};
use serde_json::Value;

use crate::vectors::unhex;

#[test]
fn aes_gcm_with_nonces_of_128_bits() {
    let vectors = include_str!("../vectors/wycheproof/aes_gcm_test.json");
    let (mut opened, mut refused) = (0, 0);
    for test in tests(vectors) {
        let field = |name: &str| unhex(test[name].as_str().unwrap());
        let id = &test["tcId"];
        let key = Key::from_slice(&field("key")).unwrap();
        let (iv, message, tag) = (field("iv"), field("msg"), field("tag"));
        let sealed = [iv.clone(), field("ct"), tag].concat();
        let mut buffer = sealed.clone();
        let result = open_single(&key, &mut buffer);
        // Nothing is authenticated beside the payload, so a tag that is over something else is wrong.
        if test["result"] == "valid" && field("aad").is_empty() {
            assert_eq!(result.unwrap(), message, "test {id}");
            let nonce = iv.try_into().unwrap();
            let mut body = message.clone();
            let tag = seal_single(&key, &nonce, &mut body).unwrap();
            assert_eq!([&nonce[..], &body, &tag].concat(), sealed, "test {id}");
            opened += 1;
        } else {
            assert_eq!(result, Err(OpenError::Tag), "test {id}");
            assert_eq!(buffer, sealed, "test {id}: changed");
            refused += 1;
        }
    }
    assert_eq!((opened, refused), (38, 1));
}

/// Zeros after a key that is shorter than the hash's block change no HMAC (RFC 2104, section 2), so shorter keys than ours
/// count, filled up.
#[test]
fn hmac_sha384() {
    let vectors = include_str!("../vectors/wycheproof/hmac_sha384_test.json");
    let rows = tests(vectors).into_iter().map(|test| {
        assert_eq!(test["result"], "valid");
        ["key", "msg", "tag"].map(|name| unhex(test[name].as_str().unwrap()))
    });
    let rfc = include_str!("../vectors/rfc4231.txt").lines().map(|line| {
        let fields: Vec<Vec<u8>> = line.split(' ').map(unhex).collect();
        <[Vec<u8>; 3]>::try_from(fields).unwrap()
    });
    let mut count = 0;
    for [mut key, message, tag] in rows.chain(rfc) {
        key.resize(32, 0);
        let key = Key::from_slice(&key).unwrap();
        let mut tag: [u8; AUTH_TAG_BYTES] = tag.try_into().unwrap();
        assert!(key.matches(&message, &tag), "row {count}");
        tag[AUTH_TAG_BYTES - 1] ^= 1;
        assert!(!key.matches(&message, &tag), "row {count}, changed");
        count += 1;
    }
    assert_eq!(count, 3 + 4);
}

fn tests(vectors: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let groups = vectors["testGroups"].as_array().unwrap();
    let tests = groups.iter().flat_map(|group| group["tests"].as_array());
    tests.flatten().cloned().collect()
}
