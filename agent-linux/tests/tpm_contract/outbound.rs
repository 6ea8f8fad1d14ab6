//! What an agent that calls its verifier asks of a TPM.

use std::time::{Duration, Instant};

use agent_core::secret::Secret;
use agent_core::tpm::{MAX_KEPT_BYTES, OutboundTpm, Tpm};
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_core::wire::statement::CAP_TEXT;
use agent_linux::tpm::{NodeTpm, OutboundCommands, PlainTpm, TpmError, Use};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384};
use tempfile::TempDir;

use crate::common::{Swtpm, program};
use crate::support::{mask, open, openssl, places_taken, tool};

pub(crate) fn every_bank_is_capped<C: OutboundCommands>() {
    let swtpm = Swtpm::with_banks("sha1,sha256,sha384");
    let mut tpm = open::<C>(&swtpm);
    tpm.extend_all_banks(15, CAP_TEXT).unwrap();
    assert_eq!(banks(&swtpm), capped());
    assert!(tpm.extend_all_banks(99, CAP_TEXT).is_err());
    assert!(tpm.extend_all_banks(15, &[0; 2000]).is_err());
    assert_eq!(banks(&swtpm), capped(), "what fails extends nothing");
    assert_eq!(places_taken(&swtpm), "");
}

/// PCR 15 of each bank.
fn banks(swtpm: &Swtpm) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    let read = [
        "tpm2_pcrread",
        "sha1:15+sha256:15+sha384:15",
        "-o",
        "values",
    ];
    assert!(tool(swtpm, directory.path(), &read));
    let values = std::fs::read(directory.path().join("values")).unwrap();
    assert_eq!(values.len(), 20 + 32 + 48);
    values
}

/// The same after one cap.
fn capped() -> Vec<u8> {
    fn extended<D: Digest>() -> Vec<u8> {
        let zeros = vec![0; <D as Digest>::output_size()];
        let capped = D::new().chain_update(zeros);
        capped.chain_update(D::digest(CAP_TEXT)).finalize().to_vec()
    }
    [
        extended::<Sha1>(),
        extended::<Sha256>(),
        extended::<Sha384>(),
    ]
    .concat()
}

pub(crate) fn an_ak_certifies_itself<C: OutboundCommands>() {
    let swtpm = Swtpm::fresh();
    for (sign, hash, name) in [
        (SignAlg::Ecdsa, HashAlg::Sha256, "-sha256"),
        (SignAlg::Rsassa, HashAlg::Sha384, "-sha384"),
    ] {
        let directory = TempDir::new().unwrap();
        let mut tpm = NodeTpm::<C>::open(&swtpm.name(), sign, hash).unwrap();
        let certified = tpm.certify_ak(b"proof").unwrap();
        let attest = &certified.attest;
        // TPM_GENERATED_VALUE, TPM_ST_ATTEST_CERTIFY; a quote has 0x8018 there.
        assert_eq!(attest[..6], [0xFF, b'T', b'C', b'G', 0x80, 0x17]);
        let ak_name = [
            &[0, 0x0B][..],
            &Sha256::digest(&tpm.identity().ak_public[2..]),
        ]
        .concat();
        // Name, then qualified name, of 34 bytes each.
        let at = attest.len() - 2 * (2 + ak_name.len());
        assert_eq!(attest[at + 2..][..ak_name.len()], ak_name);
        assert!(attest.windows(7).any(|part| part == b"\0\x05proof"));

        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        };
        write("ak.pub", &tpm.identity().ak_public);
        write("attest", attest);
        write("signature", &openssl_signature(&certified.signature));
        let print = ["tpm2_print", "-t", "TPM2B_PUBLIC", "-f", "pem", "ak.pub"];
        let pem = program(print[0])
            .args(&print[1..])
            .current_dir(directory.path())
            .output()
            .unwrap();
        write("ak.pem", &pem.stdout);
        let verify = [
            "dgst",
            name,
            "-verify",
            "ak.pem",
            "-signature",
            "signature",
            "attest",
        ];
        openssl(directory.path(), &verify);
        assert!(tpm.certify_ak(&[0; 67]).is_err());
        assert_eq!(places_taken(&swtpm), "");
    }
}

/// A `TPMT_SIGNATURE` as OpenSSL takes it.
fn openssl_signature(signature: &[u8]) -> Vec<u8> {
    let sized = |at: usize| {
        let len = usize::from(u16::from_be_bytes([signature[at], signature[at + 1]]));
        signature[at + 2..][..len].to_vec()
    };
    if signature[..2] == [0x00, 0x14] {
        return sized(4);
    }
    let r = sized(4);
    let s = sized(4 + 2 + r.len());
    let integer = |bytes: Vec<u8>| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap();
        let sign = if bytes[start] & 0x80 == 0 {
            &[][..]
        } else {
            &[0]
        };
        let value = [sign, &bytes[start..]].concat();
        [&[0x02, u8::try_from(value.len()).unwrap()], &*value].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &*body].concat()
}

const INDEX: u32 = 0x0180_0F00;

pub(crate) fn counters<C: OutboundCommands>() {
    let mut swtpm = Swtpm::fresh();
    let mut tpm = open::<C>(&swtpm);
    assert_eq!(tpm.counter(INDEX), Ok(None));
    assert!(tpm.raise_counter(INDEX).is_err());
    let first = tpm.create_counter(INDEX).unwrap();
    assert_eq!(tpm.counter(INDEX), Ok(Some(first)));
    assert_eq!(tpm.create_counter(INDEX), Ok(first), "there already");
    tpm.raise_counter(INDEX).unwrap();
    tpm.raise_counter(INDEX).unwrap();
    assert_eq!(tpm.counter(INDEX), Ok(Some(first + 2)));
    drop(tpm);
    swtpm.power_cycle();
    let mut tpm = open::<C>(&swtpm);
    assert_eq!(tpm.counter(INDEX), Ok(Some(first + 2)), "after a power cut");
    // Whoever removes it gains nothing: the next one starts above it.
    let directory = TempDir::new().unwrap();
    assert!(tool(
        &swtpm,
        directory.path(),
        &["tpm2_nvundefine", "0x1800f00"]
    ));
    assert_eq!(tpm.counter(INDEX), Ok(None));
    assert!(tpm.create_counter(INDEX).unwrap() > first + 2);
    assert_eq!(places_taken(&swtpm), "");
}

pub(crate) fn what_is_no_counter<C: OutboundCommands>() {
    let swtpm = Swtpm::fresh();
    let directory = TempDir::new().unwrap();
    let define = |attributes: &str| {
        let words = ["tpm2_nvdefine", "0x1800f00", "-s", "8", "-a", attributes];
        assert!(tool(&swtpm, directory.path(), &words));
    };
    let mut tpm = open::<C>(&swtpm);
    let refused = TpmError::NoCounter { index: INDEX };
    for attributes in [
        "authread|authwrite|ownerread|no_da",
        "ownerread|ownerwrite|nt=counter",
    ] {
        define(attributes);
        assert_eq!(tpm.counter(INDEX), Err(refused.clone()), "{attributes}");
        assert_eq!(tpm.create_counter(INDEX), Err(refused.clone()));
        assert!(tool(
            &swtpm,
            directory.path(),
            &["tpm2_nvundefine", "0x1800f00"]
        ));
    }
    // One that somebody stopped making: without a value, but made good.
    define("authread|authwrite|ownerread|no_da|nt=counter");
    assert!(tpm.counter(INDEX).is_err());
    assert!(tpm.create_counter(INDEX).is_ok());
    for index in [0, 0x8100_0001] {
        assert_eq!(tpm.counter(index), Err(TpmError::NoCounter { index }));
    }
}

pub(crate) fn an_owner_password_is_named<C: OutboundCommands>() {
    let swtpm = Swtpm::fresh();
    let directory = TempDir::new().unwrap();
    let words = ["tpm2_changeauth", "-c", "owner", "secret"];
    assert!(tool(&swtpm, directory.path(), &words));
    let mut tpm = open::<C>(&swtpm);
    assert_eq!(tpm.create_counter(INDEX), Err(TpmError::OwnerPassword));
    let kept = tpm.keep(
        HashAlg::Sha256,
        mask(1),
        &Secret::copy_of(&[7; 32]),
        &mut [0; MAX_KEPT_BYTES],
    );
    assert_eq!(kept, Err(TpmError::OwnerPassword));
}

pub(crate) fn kept_for_this_tpm_and_its_pcrs<C: OutboundCommands>() {
    let mut swtpm = Swtpm::fresh();
    let mut tpm = open::<C>(&swtpm);
    let (bank, pcrs) = (HashAlg::Sha256, mask(1 << 7 | 1 << 15));
    let secret = Secret::copy_of(&[7; 32]);
    let mut out = [0; MAX_KEPT_BYTES];
    assert!(tpm.keep(bank, pcrs, &secret, &mut out[1..]).is_err());
    let len = tpm.keep(bank, pcrs, &secret, &mut out).unwrap();
    let kept = &out[..len];
    assert!(tpm.recall(bank, pcrs, kept).unwrap().same_as(&[7; 32]));
    assert_eq!(places_taken(&swtpm), "");

    // Another process, and another boot.
    drop(tpm);
    assert!(
        open::<C>(&swtpm)
            .recall(bank, pcrs, kept)
            .unwrap()
            .same_as(&[7; 32])
    );
    swtpm.power_cycle();
    let mut tpm = open::<C>(&swtpm);
    assert!(tpm.recall(bank, pcrs, kept).unwrap().same_as(&[7; 32]));

    // A session for other PCRs, or another bank, is another policy.
    for (bank, pcrs) in [(bank, mask(1 << 7)), (HashAlg::Sha384, pcrs)] {
        assert!(tpm.recall(bank, pcrs, kept).is_err(), "{bank:?}");
    }
    for at in [2, len / 2, len - 1] {
        let mut changed = kept.to_vec();
        changed[at] ^= 1;
        assert!(tpm.recall(bank, pcrs, &changed).is_err(), "byte {at}");
    }
    assert!(tpm.recall(bank, pcrs, &kept[..len - 1]).is_err());
    assert!(tpm.recall(bank, pcrs, &[]).is_err());

    let another = Swtpm::fresh();
    let mut other = open::<C>(&another);
    assert!(other.recall(bank, pcrs, kept).is_err(), "another TPM");

    tpm.extend_all_banks(15, CAP_TEXT).unwrap();
    let error = tpm.recall(bank, pcrs, kept).err().unwrap().to_string();
    assert!(error.contains("TPM_RC_POLICY_FAIL"), "{error}");
    assert_eq!(places_taken(&swtpm), "", "errors flush too");

    // What it was sealed to is back, but its owner isn't.
    swtpm.power_cycle();
    let mut tpm = open::<C>(&swtpm);
    assert!(tpm.recall(bank, pcrs, kept).is_ok());
    let directory = TempDir::new().unwrap();
    assert!(tool(&swtpm, directory.path(), &["tpm2_clear"]));
    assert!(open::<C>(&swtpm).recall(bank, pcrs, kept).is_err());
}

pub(crate) fn capping_needs_no_keys<C: OutboundCommands>() {
    let swtpm = Swtpm::with_banks("sha1,sha256,sha384");
    let directory = TempDir::new().unwrap();
    for hierarchy in ["endorsement", "owner"] {
        let words = ["tpm2_changeauth", "-c", hierarchy, "secret"];
        assert!(tool(&swtpm, directory.path(), &words));
    }
    let mut tpm = PlainTpm::<C>::open(&swtpm.name(), Instant::now()).unwrap();
    tpm.extend_all_banks(15, CAP_TEXT).unwrap();
    assert_eq!(banks(&swtpm), capped());
    assert_eq!(tpm.counter(INDEX), Ok(None));
    assert_eq!(tpm.create_counter(INDEX), Err(TpmError::OwnerPassword));
}

pub(crate) fn provisioning_makes_no_rsa_key<C: OutboundCommands>() {
    let swtpm = Swtpm::fresh();
    let open = |purpose| {
        let (sign, hash) = (SignAlg::Ecdsa, HashAlg::Sha256);
        NodeTpm::<C>::open_for(purpose, &swtpm.name(), sign, hash, Instant::now()).unwrap()
    };
    let mut outbound = open(Use::Outbound);
    let pull = open(Use::Pull);
    assert_eq!(outbound.identity().transport_pem, "");
    assert_eq!(outbound.identity().ek_public, pull.identity().ek_public);
    assert_eq!(outbound.identity().ak_public, pull.identity().ak_public);
    assert_eq!(
        outbound.oaep_decrypt(&[1; 256]).err(),
        Some(TpmError::NoTransportKey)
    );
}

pub(crate) fn a_tpm_is_waited_for<C: OutboundCommands>() {
    // Nobody there: as long as it is said, and no longer.
    let name = "swtpm:host=127.0.0.1,port=1".parse().unwrap();
    let start = Instant::now();
    let patience = Duration::from_millis(100);
    let opened = PlainTpm::<C>::open(&name, start + patience);
    assert!(matches!(opened, Err(TpmError::Open { .. })));
    assert!((patience..Duration::from_secs(5)).contains(&start.elapsed()));

    let mut swtpm = Swtpm::fresh();
    swtpm.stop();
    let name = swtpm.name();
    let waiting = std::thread::spawn(move || {
        PlainTpm::<C>::open(&name, Instant::now() + Duration::from_secs(20)).is_ok()
    });
    swtpm.power_cycle();
    assert!(waiting.join().unwrap());
}
