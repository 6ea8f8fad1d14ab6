//! What the contract's tests share.

use std::path::Path;
use std::process::Stdio;

use agent_core::tpm::Identity;
use agent_core::wire::quote::{HashAlg, PcrMask, SignAlg};
use agent_linux::tpm::{Commands, NodeTpm};

use sha2::{Digest, Sha256};

use crate::common::{Swtpm, program};

pub(crate) fn open<C: Commands>(swtpm: &Swtpm) -> NodeTpm<C> {
    NodeTpm::open(&swtpm.name(), SignAlg::Ecdsa, HashAlg::Sha256).unwrap()
}

/// Runs one of tpm2-tools on the same TPM.
pub(crate) fn tool(swtpm: &Swtpm, directory: &Path, words: &[&str]) -> bool {
    let mut command = program(words[0]);
    command
        .args(&words[1..])
        .current_dir(directory)
        .env("TPM2TOOLS_TCTI", swtpm.tcti())
        .stdin(Stdio::null());
    let out = command.output().unwrap();
    let is_fine = out.status.success();
    if !is_fine {
        eprintln!("{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    is_fine
}

pub(crate) fn openssl(directory: &Path, words: &[&str]) {
    let out = program("openssl")
        .args(words)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// The object attributes in a TPM2B_PUBLIC: after size, type and name algorithm.
pub(crate) fn attributes(public: &[u8]) -> u32 {
    u32::from_be_bytes(public[6..10].try_into().unwrap())
}

pub(crate) fn mask(bits: u32) -> PcrMask {
    PcrMask::from_bits(bits).unwrap()
}

pub(crate) fn places_taken(swtpm: &Swtpm) -> String {
    let list = |kind: &str| {
        let out = program("tpm2_getcap")
            .arg(kind)
            .env("TPM2TOOLS_TCTI", swtpm.tcti())
            .output()
            .unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    list("handles-transient") + &list("handles-loaded-session")
}

/// What [`make_credential`] hides.
pub(crate) const SECRET: &[u8; 32] = b"thirty-two alphanumeric bytes 32";

/// Has tpm2-tools make a credential for this node: `TPM2B_ID_OBJECT` and `TPM2B_ENCRYPTED_SECRET`.
pub(crate) fn make_credential(
    swtpm: &Swtpm,
    directory: &Path,
    identity: &Identity,
) -> (Vec<u8>, Vec<u8>) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
    write("ek.pub", &identity.ek_public);
    write("secret", SECRET);
    let name = [&[0, 0x0B][..], &Sha256::digest(&identity.ak_public[2..])].concat();
    let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let make = [
        "tpm2_makecredential",
        "-T",
        "none",
        "-u",
        "ek.pub",
        "-s",
        "secret",
        "-n",
        &hex,
        "-o",
        "blob",
    ];
    assert!(tool(swtpm, directory, &make));
    let blob = std::fs::read(directory.join("blob")).unwrap();
    // BADCC0DE and the version, then the two structures.
    let object_len = 2 + usize::from(u16::from_be_bytes([blob[8], blob[9]]));
    let (object, secret) = blob[8..].split_at(object_len);
    (object.to_vec(), secret.to_vec())
}

/// Has OpenSSL encrypt a half to a transport key.
pub(crate) fn seal(directory: &Path, pem: &str, half: &[u8]) -> Vec<u8> {
    std::fs::write(directory.join("key.pem"), pem).unwrap();
    std::fs::write(directory.join("half"), half).unwrap();
    let words = [
        "pkeyutl",
        "-encrypt",
        "-pubin",
        "-inkey",
        "key.pem",
        "-in",
        "half",
        "-out",
        "sealed",
        "-pkeyopt",
        "rsa_padding_mode:oaep",
        "-pkeyopt",
        "rsa_oaep_md:sha1",
        "-pkeyopt",
        "rsa_mgf1_md:sha1",
    ];
    openssl(directory, &words);
    std::fs::read(directory.join("sealed")).unwrap()
}
