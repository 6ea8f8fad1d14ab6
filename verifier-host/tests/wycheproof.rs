//! Wycheproof's vectors for RSA-OAEP with SHA-1: what the padding that key halves travel in takes, and what it must not.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::{Oaep, PrivateKey};
use serde_json::Value;
use sha1::Sha1;
use verifier_host::transport::TransportKey;

/// An invalid vector that the crate rsa 0.10 opens on purpose: it doesn't look at the first byte (its test
/// `decrypt_ignores_first_octet`), where RFC 8017, section 7.1.2, wants zero. In the product only TPMs decrypt.
const TAKEN_BY_THE_CRATE: &str = "First byte is 1";

#[test]
fn rsa_oaep_sha1_of_2048_bits() {
    let vectors = include_str!(
        "../../agent-core/tests/vectors/wycheproof/rsa_oaep_2048_sha1_mgf1sha1_test.json"
    );
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = PrivateKey::from_pkcs8_der(&unhex(&group["privateKeyPkcs8"])).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let (id, message) = (&test["tcId"], unhex(&test["msg"]));
            let result = key.decrypt(Oaep::<Sha1>::new(), &unhex(&test["ct"]));
            // Our label is empty, so one under another label is refused.
            let is_ours = test["result"] == "valid" && test["label"] == "";
            if is_ours || test["comment"] == TAKEN_BY_THE_CRATE {
                assert_eq!(result.unwrap(), message, "test {id}");
                opened += 1;
            } else {
                assert!(result.is_err(), "test {id}");
                refused += 1;
            }
        }
        encrypts_as_they_do(&key);
    }
    assert_eq!((opened, refused), (11, 25));
}

/// What we encrypt to such a key opens in the same way.
fn encrypts_as_they_do(key: &PrivateKey) {
    let public = key.to_public_key();
    let pem = public.to_public_key_pem(LineEnding::LF).unwrap();
    let sealed = TransportKey::from_pem(&pem).unwrap().encrypt(&[7; 32]);
    let opened = key.decrypt(Oaep::<Sha1>::new(), &sealed.unwrap());
    assert_eq!(opened.unwrap(), [7; 32]);
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
