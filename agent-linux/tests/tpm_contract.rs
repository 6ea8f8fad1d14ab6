//! What [`agent_core::tpm::Tpm`] promises, tried on real software TPMs.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use agent_core::tpm::Tpm;
use agent_core::wire::quote::{Digest, HashAlg, PcrMask, SignAlg};
use agent_linux::tpm::tss::{TssError, TssTpm};
use common::{Swtpm, program};
use sha2::Digest as _;
use sha2::{Sha256, Sha384};
use tempfile::TempDir;

fn open(swtpm: &Swtpm) -> TssTpm {
    TssTpm::open(&swtpm.name(), SignAlg::Ecdsa, HashAlg::Sha256).unwrap()
}

/// Runs one of tpm2-tools on the same TPM.
fn tool(swtpm: &Swtpm, directory: &Path, words: &[&str]) -> bool {
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

fn openssl(directory: &Path, words: &[&str]) {
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
fn attributes(public: &[u8]) -> u32 {
    u32::from_be_bytes(public[6..10].try_into().unwrap())
}

fn mask(bits: u32) -> PcrMask {
    PcrMask::from_bits(bits).unwrap()
}

fn places_taken(swtpm: &Swtpm) -> String {
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

#[test]
fn ak_attributes() {
    let swtpm = Swtpm::fresh();
    for (sign, kind) in [(SignAlg::Ecdsa, 0x0023), (SignAlg::Rsassa, 0x0001)] {
        for hash in [HashAlg::Sha256, HashAlg::Sha384] {
            let tpm = TssTpm::open(&swtpm.name(), sign, hash).unwrap();
            let public = &tpm.identity().ak_public;
            assert_eq!(
                usize::from(u16::from_be_bytes([public[0], public[1]])),
                public.len() - 2
            );
            assert_eq!(u16::from_be_bytes([public[2], public[3]]), kind, "{sign:?}");
            // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign; never decrypt; noDA against lockout.
            assert_eq!(attributes(public), 0x0005_0472, "{sign:?}");
            assert_eq!(attributes(&tpm.identity().ek_public), 0x0003_00B2);
        }
    }
}

#[test]
fn identity_needs_no_file() {
    let mut swtpm = Swtpm::fresh();
    let mut first = open(&swtpm);
    let (identity, seed) = (first.identity().clone(), first.tls_seed().unwrap());
    drop(first);
    let mut again = open(&swtpm);
    assert_eq!(*again.identity(), identity);
    assert!(again.tls_seed().unwrap().same_as(seed.as_ref()));
    drop(again);
    swtpm.power_cycle();
    let mut later = open(&swtpm);
    assert_eq!(*later.identity(), identity);
    assert!(later.tls_seed().unwrap().same_as(seed.as_ref()));
    let other = Swtpm::fresh();
    let mut stranger = open(&other);
    assert_ne!(stranger.identity().ek_public, identity.ek_public);
    assert_ne!(stranger.identity().ak_public, identity.ak_public);
    assert_ne!(stranger.identity().transport_pem, identity.transport_pem);
    assert!(!stranger.tls_seed().unwrap().same_as(seed.as_ref()));
}

#[test]
fn contexts_outlive_their_tpm() {
    let mut swtpm = Swtpm::fresh();
    let mut tpm = open(&swtpm);
    let before = tpm.quote(b"before", HashAlg::Sha256, mask(1)).unwrap();
    swtpm.power_cycle();
    let after = tpm.quote(b"after", HashAlg::Sha256, mask(1)).unwrap();
    assert_ne!(before.attest, after.attest);
}

#[test]
fn quotes_verify() {
    let swtpm = Swtpm::with_ek_certificate();
    let directory = TempDir::new().unwrap();
    let rows = [
        (SignAlg::Ecdsa, HashAlg::Sha256, mask(1 << 16)),
        (SignAlg::Ecdsa, HashAlg::Sha256, mask(0xFF_FFFF)),
        (SignAlg::Ecdsa, HashAlg::Sha384, mask(0x80_0001)),
        (SignAlg::Rsassa, HashAlg::Sha256, mask(0xFF_FFFF)),
        (SignAlg::Rsassa, HashAlg::Sha384, mask(1 << 16)),
    ];
    for (sign, hash, pcrs) in rows {
        let mut tpm = TssTpm::open(&swtpm.name(), sign, hash).unwrap();
        let quote = tpm.quote(b"EC1jOjKKFFAAglK9Aq9V", hash, pcrs).unwrap();
        let values = tpm.pcr_read(hash, pcrs).unwrap();
        let all: Vec<u8> = values
            .iter()
            .flat_map(|(_, value)| value.iter().copied())
            .collect();
        let digest = match hash {
            HashAlg::Sha256 => Sha256::digest(&all).to_vec(),
            _ => Sha384::digest(&all).to_vec(),
        };
        assert!(
            quote.attest.ends_with(&digest),
            "{sign:?} {hash:?}: the quoted digest isn't that of the values read"
        );
        drop(tpm);
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
        write(
            "ak.pub",
            &TssTpm::open(&swtpm.name(), sign, hash)
                .unwrap()
                .identity()
                .ak_public,
        );
        write("quote", &quote.attest);
        write("signature", &quote.signature);
        assert!(tool(
            &swtpm,
            directory.path(),
            &["tpm2_print", "-t", "TPM2B_PUBLIC", "-f", "pem", "ak.pub"]
        ));
        let hex: String = b"EC1jOjKKFFAAglK9Aq9V"
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let check = [
            "tpm2_checkquote",
            "-u",
            "ak.pub",
            "-m",
            "quote",
            "-s",
            "signature",
            "-q",
            &hex,
            "-g",
            hash.name(),
        ];
        assert!(tool(&swtpm, directory.path(), &check), "{sign:?} {hash:?}");
    }
}

#[test]
fn credentials() {
    let rows = [
        ("P-256 EK", Swtpm::fresh()),
        ("RSA EK", Swtpm::with_ek_certificate()),
    ];
    for (name, swtpm) in rows {
        for sign in [SignAlg::Ecdsa, SignAlg::Rsassa] {
            let directory = TempDir::new().unwrap();
            let mut tpm = TssTpm::open(&swtpm.name(), sign, HashAlg::Sha256).unwrap();
            let write = |name: &str, bytes: &[u8]| {
                std::fs::write(directory.path().join(name), bytes).unwrap()
            };
            write("ek.pub", &tpm.identity().ek_public);
            write("secret", b"thirty-two alphanumeric bytes 32");
            let name_of_ak = [
                &[0, 0x0B][..],
                &Sha256::digest(&tpm.identity().ak_public[2..]),
            ]
            .concat();
            let hex: String = name_of_ak
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
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
            assert!(tool(&swtpm, directory.path(), &make), "{name}");
            let blob = std::fs::read(directory.path().join("blob")).unwrap();
            // BADCC0DE and the version, then the two structures.
            let object_len = 2 + usize::from(u16::from_be_bytes([blob[8], blob[9]]));
            let (object, secret) = blob[8..].split_at(object_len);
            let opened = tpm.activate_credential(object, secret).unwrap();
            assert_eq!(
                &opened.bytes.as_ref()[..opened.len],
                b"thirty-two alphanumeric bytes 32",
                "{name} {sign:?}"
            );
            let mut bad = object.to_vec();
            *bad.last_mut().unwrap() ^= 1;
            assert!(
                tpm.activate_credential(&bad, secret).is_err(),
                "{name}: a changed blob"
            );
            for (object, secret) in [
                (&[][..], secret),
                (&object[..5], secret),
                (object, &[][..]),
                (object, &secret[..9]),
            ] {
                assert!(
                    tpm.activate_credential(object, secret).is_err(),
                    "{name}: a cut blob"
                );
            }
            assert_eq!(places_taken(&swtpm), "", "{name}: errors flush too");
            assert!(
                tpm.activate_credential(object, secret).is_ok(),
                "{name}: and the next one works"
            );
        }
    }
}

#[test]
fn transport_key_stays_in_tpm() {
    let swtpm = Swtpm::fresh();
    let mut tpm = open(&swtpm);
    let directory = TempDir::new().unwrap();
    std::fs::write(
        directory.path().join("key.pem"),
        tpm.identity().transport_pem.as_str(),
    )
    .unwrap();
    let oaep = [
        "-pkeyopt",
        "rsa_padding_mode:oaep",
        "-pkeyopt",
        "rsa_oaep_md:sha1",
        "-pkeyopt",
        "rsa_mgf1_md:sha1",
    ];
    let encrypt = [
        "pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "half", "-out", "sealed",
    ];
    let rows: [(&[u8], bool); 5] = [
        (&[7; 32], true),
        (&[9; 16], true),
        (&[], true),
        (&[1; 33], false),
        (&[1; 200], false),
    ];
    for (half, fits) in rows {
        std::fs::write(directory.path().join("half"), half).unwrap();
        openssl(directory.path(), &[&encrypt[..], &oaep[..]].concat());
        let sealed = std::fs::read(directory.path().join("sealed")).unwrap();
        match tpm.oaep_decrypt(&sealed) {
            Ok(opened) => assert_eq!(&opened.bytes.as_ref()[..opened.len], half),
            Err(error) => assert!(!fits, "{error}"),
        }
        let mut bad = sealed.clone();
        bad[200] ^= 1;
        assert!(tpm.oaep_decrypt(&bad).is_err());
    }
    for wrong in [&[][..], &[0; 255], &[0; 257], &[0xFF; 256]] {
        assert!(tpm.oaep_decrypt(wrong).is_err());
    }
    assert_eq!(places_taken(&swtpm), "");
    // A restarted agent opens what was sealed to the one before.
    std::fs::write(directory.path().join("half"), [7; 32]).unwrap();
    openssl(directory.path(), &[&encrypt[..], &oaep[..]].concat());
    drop(tpm);
    let sealed = std::fs::read(directory.path().join("sealed")).unwrap();
    assert_eq!(open(&swtpm).oaep_decrypt(&sealed).unwrap().len, 32);
}

#[test]
fn pcrs() {
    let swtpm = Swtpm::fresh();
    let mut tpm = open(&swtpm);
    tpm.pcr_reset(16).unwrap();
    let digest = Digest::from_slice(&Sha256::digest(b"a key")).unwrap();
    tpm.pcr_extend(16, HashAlg::Sha256, &digest).unwrap();
    let wanted = Sha256::new()
        .chain_update([0; 32])
        .chain_update(&digest)
        .finalize();
    let all = tpm.pcr_read(HashAlg::Sha256, mask(0xFF_FFFF)).unwrap();
    assert_eq!(
        all.iter().map(|(pcr, _)| *pcr).collect::<Vec<_>>(),
        (0..24).collect::<Vec<_>>()
    );
    assert_eq!(all[16].1.as_slice(), wanted.as_slice());
    assert_eq!(
        tpm.pcr_read(HashAlg::Sha256, mask(1 << 16)).unwrap()[0].1,
        all[16].1
    );
    assert!(
        tpm.pcr_read(HashAlg::Sha256, PcrMask::EMPTY)
            .unwrap()
            .is_empty()
    );
    tpm.pcr_reset(16).unwrap();
    assert_eq!(
        tpm.pcr_read(HashAlg::Sha256, mask(1 << 16)).unwrap()[0]
            .1
            .as_slice(),
        &[0; 32]
    );
    assert!(
        tpm.pcr_reset(0).is_err(),
        "PCR 0 can't be reset by software"
    );
    assert!(
        tpm.pcr_extend(16, HashAlg::Sha384, &digest).is_err(),
        "a digest of another hash"
    );
    assert!(tpm.pcr_extend(99, HashAlg::Sha256, &digest).is_err());
    assert_eq!(places_taken(&swtpm), "");
}

#[test]
fn a_bank_that_is_not_there() {
    let swtpm = Swtpm::with_ek_certificate();
    let mut tpm = open(&swtpm);
    assert!(tpm.pcr_read(HashAlg::Sha384, mask(1)).is_ok());
    assert_eq!(
        tpm.pcr_read(HashAlg::Sha512, mask(1)),
        Err(TssError::NoBank { bank: "sha512" })
    );
}

#[test]
fn random_numbers() {
    let swtpm = Swtpm::fresh();
    let mut tpm = open(&swtpm);
    let (mut a, mut b) = ([0; 100], [0; 100]);
    tpm.random(&mut a).unwrap();
    tpm.random(&mut b).unwrap();
    tpm.random(&mut []).unwrap();
    assert!(a != b && a[68..] != [0; 32]);
}

#[test]
fn ek_certificates() {
    let with = Swtpm::with_ek_certificate();
    let mut tpm = open(&with);
    let mut out = [0; 4096];
    let len = tpm.ek_certificate(&mut out).unwrap().unwrap();
    assert_eq!(&out[..2], &[0x30, 0x82]);
    assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])) + 4, len);
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("ek.der"), &out[..len]).unwrap();
    let public = [
        "x509", "-inform", "DER", "-in", "ek.der", "-pubkey", "-noout",
    ];
    let public = program("openssl")
        .args(public)
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(public.stdout).unwrap(),
        tpm.ek_pem(),
        "the certificate is the EK's, PEM as OpenSSL's"
    );
    assert!(matches!(
        tpm.ek_certificate(&mut [0; 100]),
        Err(TssError::Size { .. })
    ));
    assert_eq!(
        open(&Swtpm::fresh()).ek_certificate(&mut out).unwrap(),
        None
    );
}

#[test]
fn a_persistent_ek_is_used() {
    let swtpm = Swtpm::with_ek_certificate();
    let directory = TempDir::new().unwrap();
    // swtpm_setup leaves one there.
    let made = open(&swtpm).identity().ek_public.clone();
    assert!(tool(
        &swtpm,
        directory.path(),
        &["tpm2_readpublic", "-c", "0x81010001"]
    ));
    assert!(tool(
        &swtpm,
        directory.path(),
        &["tpm2_evictcontrol", "-c", "0x81010001"]
    ));
    assert_eq!(open(&swtpm).identity().ek_public, made);
    // Something else at that handle isn't an EK.
    assert!(tool(
        &swtpm,
        directory.path(),
        &[
            "tpm2_createprimary",
            "-C",
            "o",
            "-G",
            "rsa",
            "-c",
            "other.ctx"
        ]
    ));
    assert!(tool(
        &swtpm,
        directory.path(),
        &["tpm2_evictcontrol", "-c", "other.ctx", "0x81010001"]
    ));
    assert!(tool(&swtpm, directory.path(), &["tpm2_flushcontext", "-t"]));
    assert_eq!(open(&swtpm).identity().ek_public, made);
}

#[test]
fn an_endorsement_password_is_named() {
    let swtpm = Swtpm::fresh();
    let directory = TempDir::new().unwrap();
    assert!(tool(
        &swtpm,
        directory.path(),
        &["tpm2_changeauth", "-c", "endorsement", "secret"]
    ));
    let error = TssTpm::open(&swtpm.name(), SignAlg::Ecdsa, HashAlg::Sha256)
        .err()
        .unwrap();
    assert_eq!(error, TssError::EndorsementPassword);
}

#[test]
fn nobody_answers() {
    let name = "swtpm:host=127.0.0.1,port=1".parse().unwrap();
    let error = TssTpm::open(&name, SignAlg::Ecdsa, HashAlg::Sha256)
        .err()
        .unwrap();
    assert!(
        matches!(error, TssError::Open { .. }) && error.to_string().contains("port=1"),
        "{error}"
    );
}

/// Killed agents leave their objects and sessions in a TPM without resource manager.
#[test]
fn killed_agent_starts_again() {
    let swtpm = Swtpm::fresh();
    let directory = TempDir::new().unwrap();
    let identity = open(&swtpm).identity().clone();
    for n in 0..3 {
        // swtpm keeps what a tool loads through a raw connection, as it keeps what a killed agent had loaded.
        let context = format!("{n}.ctx");
        assert!(tool(
            &swtpm,
            directory.path(),
            &["tpm2_createprimary", "-C", "e", "-G", "ecc", "-c", &context]
        ));
        assert!(tool(
            &swtpm,
            directory.path(),
            &[
                "tpm2_startauthsession",
                "-S",
                &format!("{n}.session"),
                "--policy-session"
            ]
        ));
    }
    assert_ne!(places_taken(&swtpm), "");
    let mut tpm = open(&swtpm);
    assert_eq!(*tpm.identity(), identity);
    tpm.quote(b"nonce", HashAlg::Sha256, mask(1)).unwrap();
    assert_eq!(places_taken(&swtpm), "");
}

/// Set for the process that is to be killed: the TPM that it works on.
const VICTIM: &str = "KEYHALF_TEST_VICTIM";

/// An agent killed at any moment, start and quote and errors alike, leaves a TPM that the next one can use.
#[test]
fn killed_at_any_moment() {
    if let Ok(tcti) = std::env::var(VICTIM) {
        loop {
            let mut tpm =
                TssTpm::open(&tcti.parse().unwrap(), SignAlg::Ecdsa, HashAlg::Sha256).unwrap();
            for _ in 0..10 {
                tpm.quote(b"nonce", HashAlg::Sha256, mask(1)).unwrap();
                assert!(
                    tpm.activate_credential(&[0, 2, 0, 0], &[0, 2, 0, 0])
                        .is_err()
                );
            }
        }
    }
    let swtpm = Swtpm::fresh();
    let identity = open(&swtpm).identity().clone();
    for milliseconds in 0..25 {
        let mut victim = program(std::env::current_exe().unwrap())
            .args(["--exact", "killed_at_any_moment"])
            .env(VICTIM, swtpm.tcti())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20 + 4 * milliseconds));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let mut tpm = open(&swtpm);
        assert_eq!(*tpm.identity(), identity);
        tpm.quote(b"nonce", HashAlg::Sha256, mask(1)).unwrap();
    }
}

/// A TPM that stops without `TPM2_Shutdown` counts that against keys with dictionary-attack protection; ours have none.
#[test]
fn unclean_stops_lock_nobody_out() {
    let mut swtpm = Swtpm::fresh();
    for _ in 0..5 {
        open(&swtpm)
            .quote(b"nonce", HashAlg::Sha256, mask(1))
            .unwrap();
        swtpm.power_cycle();
    }
    open(&swtpm)
        .quote(b"nonce", HashAlg::Sha256, mask(1))
        .unwrap();
}
