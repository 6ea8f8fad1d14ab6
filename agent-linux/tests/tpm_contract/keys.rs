//! Who the node is: its keys and its certificate.

use agent_core::tpm::Tpm;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_linux::tpm::{Commands, NodeTpm, TpmError};
use tempfile::TempDir;

use crate::common::{Swtpm, program};
use crate::support::{attributes, open, tool};

pub(crate) fn ak_attributes<C: Commands>() {
    let swtpm = Swtpm::fresh();
    for (sign, kind) in [(SignAlg::Ecdsa, 0x0023), (SignAlg::Rsassa, 0x0001)] {
        for hash in [HashAlg::Sha256, HashAlg::Sha384] {
            let tpm = NodeTpm::<C>::open(&swtpm.name(), sign, hash).unwrap();
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

pub(crate) fn identity_needs_no_file<C: Commands>() {
    let mut swtpm = Swtpm::fresh();
    let mut first = open::<C>(&swtpm);
    let (identity, seed) = (first.identity().clone(), first.tls_seed().unwrap());
    drop(first);
    let mut again = open::<C>(&swtpm);
    assert_eq!(*again.identity(), identity);
    assert!(again.tls_seed().unwrap().same_as(seed.as_ref()));
    drop(again);
    swtpm.power_cycle();
    let mut later = open::<C>(&swtpm);
    assert_eq!(*later.identity(), identity);
    assert!(later.tls_seed().unwrap().same_as(seed.as_ref()));
    let other = Swtpm::fresh();
    let mut stranger = open::<C>(&other);
    assert_ne!(stranger.identity().ek_public, identity.ek_public);
    assert_ne!(stranger.identity().ak_public, identity.ak_public);
    assert_ne!(stranger.identity().transport_pem, identity.transport_pem);
    assert!(!stranger.tls_seed().unwrap().same_as(seed.as_ref()));
}

pub(crate) fn ek_certificates<C: Commands>() {
    let with = Swtpm::with_ek_certificate();
    let mut tpm = open::<C>(&with);
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
        Err(TpmError::Size { .. })
    ));
    assert_eq!(
        open::<C>(&Swtpm::fresh()).ek_certificate(&mut out).unwrap(),
        None
    );
}

pub(crate) fn a_persistent_ek_is_used<C: Commands>() {
    let swtpm = Swtpm::with_ek_certificate();
    let directory = TempDir::new().unwrap();
    // swtpm_setup leaves one there.
    let made = open::<C>(&swtpm).identity().ek_public.clone();
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
    assert_eq!(open::<C>(&swtpm).identity().ek_public, made);
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
    assert_eq!(open::<C>(&swtpm).identity().ek_public, made);
}

pub(crate) fn an_endorsement_password_is_named<C: Commands>() {
    let swtpm = Swtpm::fresh();
    let directory = TempDir::new().unwrap();
    assert!(tool(
        &swtpm,
        directory.path(),
        &["tpm2_changeauth", "-c", "endorsement", "secret"]
    ));
    let error = NodeTpm::<C>::open(&swtpm.name(), SignAlg::Ecdsa, HashAlg::Sha256)
        .err()
        .unwrap();
    assert_eq!(error, TpmError::EndorsementPassword);
}

pub(crate) fn nobody_answers<C: Commands>() {
    let name = "swtpm:host=127.0.0.1,port=1".parse().unwrap();
    let error = NodeTpm::<C>::open(&name, SignAlg::Ecdsa, HashAlg::Sha256)
        .err()
        .unwrap();
    assert!(
        matches!(error, TpmError::Open { .. }) && error.to_string().contains("port=1"),
        "{error}"
    );
}

pub(crate) fn random_numbers<C: Commands>() {
    let swtpm = Swtpm::fresh();
    let mut tpm = open::<C>(&swtpm);
    let (mut a, mut b) = ([0; 100], [0; 100]);
    tpm.random(&mut a).unwrap();
    tpm.random(&mut b).unwrap();
    tpm.random(&mut []).unwrap();
    assert!(a != b && a[68..] != [0; 32]);
}
