//! The tenant's part done by hand, for what its program would never do.

use std::fs;
use std::path::Path;

use agent_core::payload::halves::{Half, Key};
use agent_core::payload::seal::{NONCE_BYTES, seal_single};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use verifier_host::transport::TransportKey;

use crate::Result;

/// A sealed payload, with its key and the key's halves.
pub struct Package {
    key: Key,
    u: Half,
    v: Half,
    sealed: Vec<u8>,
}

impl Package {
    /// Seals `plaintext` under a fresh key.
    ///
    /// # Errors
    /// No random numbers.
    pub fn of(plaintext: &[u8]) -> Result<Self> {
        let key = Key::from_slice(&random::<32>()?).map_err(|error| format!("{error}"))?;
        let v = Half::from_slice(&random::<32>()?).map_err(|error| format!("{error}"))?;
        let u = key.other_half(&v).map_err(|error| format!("{error}"))?;
        let nonce = random::<NONCE_BYTES>()?;
        let mut body = plaintext.to_vec();
        let tag = seal_single(&key, &nonce, &mut body).map_err(|error| format!("{error}"))?;
        Ok(Self {
            key,
            u,
            v,
            sealed: [&nonce[..], &body, &tag].concat(),
        })
    }

    /// Flips one bit of what is sealed; `at` counts from the end if it is negative.
    #[must_use]
    pub fn tampered(mut self, at: isize) -> Self {
        let from = if at < 0 { self.sealed.len() } else { 0 };
        if let Some(byte) = from
            .checked_add_signed(at)
            .and_then(|at| self.sealed.get_mut(at))
        {
            *byte ^= 1;
        }
        self
    }

    /// Writes it as files for the tenant's `-k key -p payload`.
    ///
    /// # Errors
    /// They can't be written.
    pub fn write(&self, folder: &Path) -> Result {
        let lines = [self.key.as_bytes(), self.u.as_bytes(), self.v.as_bytes()]
            .map(|part| BASE64.encode(part));
        fs::write(folder.join("key"), lines.join("\n") + "\n")?;
        Ok(fs::write(
            folder.join("payload"),
            BASE64.encode(&self.sealed),
        )?)
    }

    /// The body of `POST keys/ukey`.
    ///
    /// # Errors
    /// `transport` isn't an RSA key.
    pub fn ukey(&self, uuid: &str, transport: &str) -> Result<Value> {
        let encrypted = TransportKey::from_pem(transport)?.encrypt(self.u.as_bytes())?;
        let tag: String = self
            .key
            .auth_tag(uuid.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(json!({
            "encrypted_key": BASE64.encode(encrypted),
            "auth_tag": tag,
            "payload": BASE64.encode(&self.sealed),
        }))
    }

    /// The body of `POST keys/vkey`.
    ///
    /// # Errors
    /// `transport` isn't an RSA key.
    pub fn vkey(&self, transport: &str) -> Result<Value> {
        let encrypted = TransportKey::from_pem(transport)?.encrypt(self.v.as_bytes())?;
        Ok(json!({ "encrypted_key": BASE64.encode(encrypted) }))
    }

    /// K, U and V.
    pub fn parts(&self) -> [&[u8]; 3] {
        [self.key.as_bytes(), self.u.as_bytes(), self.v.as_bytes()]
    }

    /// V as it goes to the verifier.
    pub fn v(&self) -> String {
        BASE64.encode(self.v.as_bytes())
    }

    /// What an agent answers to `keys/verify` once it holds K.
    pub fn proof(&self, challenge: &str) -> String {
        self.key
            .auth_tag(challenge.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The body of `POST agents/{uuid}` to the verifier, as Keylime's tenant sends it.
///
/// `record` is the registrar's; change what the scenario wants changed.
pub fn enrolment(record: &Value, policy: &str, v: Option<&str>) -> Value {
    json!({
        "v": v,
        "cloudagent_ip": record["ip"],
        "cloudagent_port": record["port"],
        "verifier_ip": "127.0.0.1",
        "verifier_port": "8881",
        "tpm_policy": policy,
        "runtime_policy": "",
        "runtime_policy_name": "",
        "runtime_policy_key": "",
        "mb_policy": null,
        "mb_policy_name": "",
        "ima_sign_verification_keys": "",
        "metadata": "{}",
        "revocation_key": "",
        "accept_tpm_hash_algs": ["sha512", "sha384", "sha256"],
        "accept_tpm_encryption_algs": ["ecc", "rsa"],
        "accept_tpm_signing_algs": ["ecdsa", "rsassa"],
        "ak_tpm": record["aik_tpm"],
        "mtls_cert": record["mtls_cert"],
        "supported_version": "2.6",
    })
}

/// Random bytes.
///
/// # Errors
/// The system has none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}

/// SHA-256 of bytes, in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
