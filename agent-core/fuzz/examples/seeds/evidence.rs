//! What nodes show, and policies about it.

use std::fs;

use super::{here, save};

/// Real logs: made by firmware, and published ones.
pub(super) fn event_logs() -> std::io::Result<()> {
    let vectors = here().join("../../verifier-host/tests/vectors/eventlog");
    for name in [
        "cel-example",
        "ovmf-efi-stub",
        "ovmf-shim-grub",
        "ovmf-uki",
        "tss-hcrtm",
    ] {
        let log = fs::read(vectors.join(format!("{name}.bin")))?;
        save("event_log", name, log)?;
    }
    Ok(())
}

pub(super) fn ima() -> std::io::Result<()> {
    let lists = [
        ("published", "keylime.txt"),
        ("guest", "guest.txt"),
        ("guest-binary", "guest.bin"),
    ];
    copy("ima_list", "tests/vectors/ima", &lists)
}

pub(super) fn policies() -> std::io::Result<()> {
    let vectors = "src/policy/runtime/vectors";
    copy("runtime_policy", vectors, &[("signed", "policy.json")])?;
    save("runtime_policy", "every-part", EVERY_PART)?;
    let signed = [
        ("p256", "signed-p256.json"),
        ("p384", "signed-p384.json"),
        ("x509", "signed-x509.json"),
        ("key", "p256.pem"),
        ("certificate", "certificate.pem"),
    ];
    copy("dsse", vectors, &signed)
}

/// What verifier-host has as vectors.
fn copy(target: &str, vectors: &str, names: &[(&str, &str)]) -> std::io::Result<()> {
    let vectors = here().join("../../verifier-host").join(vectors);
    names
        .iter()
        .try_for_each(|(name, file)| save(target, name, fs::read(vectors.join(file))?))
}

/// A policy with something in each part; the key is the generator of P-256.
const EVERY_PART: &str = r#"{"meta":{"version":1,"generator":2},"release":0,"digests":{"/a":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"excludes":["/tmp/.*","/b(c|[^d-f]+)?$"],"keyrings":{".ima":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"ima":{"ignored_keyrings":[".evm"],"log_hash_alg":"sha1","dm_policy":null},"ima-buf":{"kexec-cmdline":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"verification-keys":"{\"keyids\":[7],\"pubkeys\":[\"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\"]}"}"#;
