//! Signed policies: nothing that was changed is believed, and nothing is read without its key.

use verifier_host::policy::runtime::{PolicyKey, RuntimePolicy, RuntimePolicyError};

/// The key that the seeds are signed by.
const KEY: &[u8] = include_bytes!("../../../verifier-host/src/policy/runtime/vectors/p256.pem");

/// What the seeds say.
const POLICY: &[u8] =
    include_bytes!("../../../verifier-host/src/policy/runtime/vectors/policy.json");

/// The bytes are an envelope, or a key in PEM.
pub fn check(data: &[u8]) {
    let key = PolicyKey::from_pem(KEY).unwrap();
    if let Ok(policy) = RuntimePolicy::read(data, Some(&key)) {
        // One policy was ever signed by this key, and its bytes may be wrapped in any way.
        assert_eq!(Ok(policy), RuntimePolicy::read(POLICY, None));
        assert_eq!(
            RuntimePolicy::read(data, None),
            Err(RuntimePolicyError::NoKey)
        );
    }
    if let Ok(key) = PolicyKey::from_pem(data) {
        let again = PolicyKey::from_pem(key.pem().as_bytes()).unwrap();
        assert_eq!(again.pem(), key.pem());
        let _ = RuntimePolicy::read(data, Some(&key));
    }
}
