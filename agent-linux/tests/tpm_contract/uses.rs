//! What the keys and the PCRs are for.

use agent_core::tpm::Tpm;
use agent_core::wire::quote::{Digest, HashAlg, PcrMask, SignAlg};
use agent_linux::tpm::{Commands, NodeTpm, TpmError};
use sha2::Digest as _;
use sha2::{Sha256, Sha384};
use tempfile::TempDir;

use crate::common::Swtpm;
use crate::support::{SECRET, make_credential, mask, open, places_taken, seal, tool};

pub(crate) fn quotes_verify<C: Commands>() {
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
        let mut tpm = NodeTpm::<C>::open(&swtpm.name(), sign, hash).unwrap();
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
            &NodeTpm::<C>::open(&swtpm.name(), sign, hash)
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

pub(crate) fn credentials<C: Commands>() {
    let rows = [
        ("P-256 EK", Swtpm::fresh()),
        ("RSA EK", Swtpm::with_ek_certificate()),
    ];
    for (name, swtpm) in rows {
        for sign in [SignAlg::Ecdsa, SignAlg::Rsassa] {
            let directory = TempDir::new().unwrap();
            let mut tpm = NodeTpm::<C>::open(&swtpm.name(), sign, HashAlg::Sha256).unwrap();
            let (object, secret) = make_credential(&swtpm, directory.path(), tpm.identity());
            let (object, secret) = (object.as_slice(), secret.as_slice());
            let opened = tpm.activate_credential(object, secret).unwrap();
            assert_eq!(
                &opened.bytes.as_ref()[..opened.len],
                SECRET,
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

pub(crate) fn transport_key_stays_in_tpm<C: Commands>() {
    let swtpm = Swtpm::fresh();
    let mut tpm = open::<C>(&swtpm);
    let directory = TempDir::new().unwrap();
    let pem = tpm.identity().transport_pem.clone();
    let rows: [(&[u8], bool); 5] = [
        (&[7; 32], true),
        (&[9; 16], true),
        (&[], true),
        (&[1; 33], false),
        (&[1; 200], false),
    ];
    for (half, fits) in rows {
        let sealed = seal(directory.path(), &pem, half);
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
    let sealed = seal(directory.path(), &pem, &[7; 32]);
    drop(tpm);
    assert_eq!(open::<C>(&swtpm).oaep_decrypt(&sealed).unwrap().len, 32);
}

pub(crate) fn pcrs<C: Commands>() {
    let swtpm = Swtpm::fresh();
    let mut tpm = open::<C>(&swtpm);
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

pub(crate) fn a_bank_that_is_not_there<C: Commands>() {
    let swtpm = Swtpm::with_ek_certificate();
    let mut tpm = open::<C>(&swtpm);
    assert!(tpm.pcr_read(HashAlg::Sha384, mask(1)).is_ok());
    assert_eq!(
        tpm.pcr_read(HashAlg::Sha512, mask(1)),
        Err(TpmError::NoBank { bank: "sha512" })
    );
}
