//! Both ways to one TPM make the same node.

use agent_core::secret::Secret;
use agent_core::tpm::{MAX_KEPT_BYTES, Opened, OutboundTpm, Tpm};
use agent_core::wire::quote::{Digest, HashAlg, SignAlg};
use agent_core::wire::text::Uuid;
use agent_linux::identity::UuidMode;
use agent_linux::tpm::raw::Raw;
use agent_linux::tpm::tss::Tss;
use agent_linux::tpm::{Commands, NodeTpm, TpmError};
use tempfile::TempDir;

use crate::common::Swtpm;
use crate::support::{SECRET, make_credential, mask, open, seal};

fn uuid<C: Commands>(tpm: &NodeTpm<C>) -> Uuid {
    UuidMode::HashEk.resolve(tpm.ek_pem(), [0; 16]).unwrap()
}

fn bytes(opened: &Opened) -> &[u8] {
    &opened.bytes.as_ref()[..opened.len]
}

#[test]
fn both_backends_are_one_identity() {
    let rows = [
        ("P-256 EK", Swtpm::fresh()),
        (
            "RSA EK, certificate, persistent",
            Swtpm::with_ek_certificate(),
        ),
    ];
    for (name, swtpm) in rows {
        for sign in [SignAlg::Ecdsa, SignAlg::Rsassa] {
            for hash in [HashAlg::Sha256, HashAlg::Sha384] {
                let mut tss = NodeTpm::<Tss>::open(&swtpm.name(), sign, hash).unwrap();
                let mut raw = NodeTpm::<Raw>::open(&swtpm.name(), sign, hash).unwrap();
                // The AK's name is the digest of its public area.
                assert_eq!(tss.identity(), raw.identity(), "{name} {sign:?} {hash:?}");
                assert_eq!(tss.ek_pem(), raw.ek_pem(), "{name}");
                assert_eq!(uuid(&tss), uuid(&raw), "{name}");
                let seed = tss.tls_seed().unwrap();
                assert!(raw.tls_seed().unwrap().same_as(seed.as_ref()), "{name}");
                let (mut of_tss, mut of_raw) = ([0; 4096], [0; 4096]);
                assert_eq!(
                    tss.ek_certificate(&mut of_tss).unwrap(),
                    raw.ek_certificate(&mut of_raw).unwrap()
                );
                assert_eq!(of_tss, of_raw, "{name}");
            }
        }
    }
}

#[test]
fn what_is_made_for_one_opens_with_the_other() {
    for swtpm in [Swtpm::fresh(), Swtpm::with_ek_certificate()] {
        let directory = TempDir::new().unwrap();
        let mut tss = open::<Tss>(&swtpm);
        let mut raw = open::<Raw>(&swtpm);
        let (object, secret) = make_credential(&swtpm, directory.path(), raw.identity());
        for opened in [
            tss.activate_credential(&object, &secret).unwrap(),
            raw.activate_credential(&object, &secret).unwrap(),
        ] {
            assert_eq!(bytes(&opened), SECRET);
        }
        let sealed = seal(directory.path(), &tss.identity().transport_pem, &[7; 32]);
        assert_eq!(bytes(&tss.oaep_decrypt(&sealed).unwrap()), [7; 32]);
        assert_eq!(bytes(&raw.oaep_decrypt(&sealed).unwrap()), [7; 32]);
    }
}

#[test]
fn both_see_the_same_pcrs() {
    let swtpm = Swtpm::fresh();
    let mut tss = open::<Tss>(&swtpm);
    let mut raw = open::<Raw>(&swtpm);
    let digest = Digest::from_slice(&[7; 32]).unwrap();
    tss.pcr_extend(16, HashAlg::Sha256, &digest).unwrap();
    raw.pcr_extend(16, HashAlg::Sha256, &digest).unwrap();
    let all = mask(0xFF_FFFF);
    assert_eq!(
        tss.pcr_read(HashAlg::Sha256, all),
        raw.pcr_read(HashAlg::Sha256, all)
    );
}

#[test]
fn what_one_keeps_the_other_recalls() {
    let swtpm = Swtpm::fresh();
    let (mut tss, mut raw) = (open::<Tss>(&swtpm), open::<Raw>(&swtpm));
    let (bank, pcrs, secret) = (HashAlg::Sha256, mask(1 << 15), Secret::copy_of(&[7; 32]));
    let mut out = [0; MAX_KEPT_BYTES];
    let len = tss.keep(bank, pcrs, &secret, &mut out).unwrap();
    assert!(
        raw.recall(bank, pcrs, &out[..len])
            .unwrap()
            .same_as(&[7; 32])
    );
    let len = raw.keep(bank, pcrs, &secret, &mut out).unwrap();
    assert!(
        tss.recall(bank, pcrs, &out[..len])
            .unwrap()
            .same_as(&[7; 32])
    );
    assert_eq!(
        raw.create_counter(0x0180_0001),
        tss.create_counter(0x0180_0001)
    );
}

/// What the TPM refuses, both say in the same words.
#[test]
fn errors_agree() {
    let swtpm = Swtpm::fresh();
    let mut tss = open::<Tss>(&swtpm);
    let mut raw = open::<Raw>(&swtpm);
    type Row = (
        &'static str,
        fn(&mut dyn Tpm<Error = TpmError>) -> Option<TpmError>,
    );
    let rows: [Row; 5] = [
        ("TPM2_PCR_Reset failed: TPM_RC_LOCALITY", |tpm| {
            tpm.pcr_reset(0).err()
        }),
        ("number of a PCR is malformed", |tpm| {
            tpm.pcr_reset(99).err()
        }),
        ("TPM2_RSA_Decrypt failed: TPM_RC_", |tpm| {
            tpm.oaep_decrypt(&[0xFF; 256]).err()
        }),
        ("TPM2_ActivateCredential failed: TPM_RC_", |tpm| {
            tpm.activate_credential(&[0, 2, 0, 0], &[0, 2, 0, 0]).err()
        }),
        ("the nonce has 67 bytes", |tpm| {
            tpm.quote(&[0; 67], HashAlg::Sha256, mask(1)).err()
        }),
    ];
    for (text, refused) in rows {
        let (of_tss, of_raw) = (refused(&mut tss).unwrap(), refused(&mut raw).unwrap());
        assert_eq!(of_tss, of_raw);
        assert!(of_raw.to_string().contains(text), "{of_raw}");
    }
}
