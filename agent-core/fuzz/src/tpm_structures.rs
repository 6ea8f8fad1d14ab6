//! Structures that a TPM marshals, on both sides of the wire: what is read is all of the bytes, and means them.

use agent_core::wire::quote::{Attest, HashAlg, MAX_DUMP_BYTES, PcrDump, Signature};
use agent_core::wire::register::CredentialBlob;
use verifier_host::evidence::certificate::EkCertificate;
use verifier_host::evidence::credential::Credential;
use verifier_host::evidence::public::{AkPublic, EkPublic, KeyNumbers, Name};

/// The bytes are any of the structures: each begins in its own way.
pub fn check(data: &[u8]) {
    check_attest(data);
    check_signature(data);
    check_dump(data);
    check_ak(data);
    check_ek(data);
    check_certificate(data);
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

fn check_attest(data: &[u8]) {
    let Ok(read) = Attest::parse(data) else {
        return;
    };
    // Source: TPM 2.0 Library part 2, section 10.12.12.
    let written = [
        &[0xFF, 0x54, 0x43, 0x47, 0x80, 0x18][..],
        &sized(read.qualified_signer),
        &sized(read.extra_data),
        &read.clock.clock_ms.to_be_bytes(),
        &read.clock.reset_count.to_be_bytes(),
        &read.clock.restart_count.to_be_bytes(),
        &[u8::from(read.clock.safe)],
        &read.firmware_version.to_be_bytes(),
        &[0, 0, 0, 1],
        &read.bank.tpm_id().to_be_bytes(),
        &[3],
        &read.pcrs.to_select(),
        &sized(read.pcr_digest),
    ]
    .concat();
    assert_eq!(written, data);
}

fn check_signature(data: &[u8]) {
    let Ok(read) = Signature::parse(data) else {
        return;
    };
    let hash = read.hash().tpm_id().to_be_bytes();
    let written = match read {
        Signature::Rsassa { signature, .. } => [&[0, 0x14], &hash[..], &sized(signature)].concat(),
        Signature::Ecdsa { r, s, .. } => [&[0, 0x18], &hash[..], &sized(r), &sized(s)].concat(),
    };
    assert_eq!(written, data);
}

fn check_dump(data: &[u8]) {
    let Ok(read) = PcrDump::parse(data) else {
        return;
    };
    let mut room = [0; MAX_DUMP_BYTES];
    let written = read.encode(&mut room);
    // A TPM may spread the values over more lists than we do.
    assert!(written.len() < data.len() || written == data);
    assert_eq!(PcrDump::parse(written), Ok(read));
}

fn check_ak(data: &[u8]) {
    let Ok(ak) = AkPublic::parse(data) else {
        return;
    };
    assert_eq!(ak.marshalled(), data);
    check_public(data, ak.name(), ak.numbers());
}

fn check_ek(data: &[u8]) {
    let Ok(ek) = EkPublic::parse(data) else {
        return;
    };
    assert_eq!(ek.marshalled(), data);
    check_public(data, ek.name(), ek.numbers());
    assert!(AkPublic::parse(data).is_err(), "one key for both roles");
    let credential = Credential::make(&ek, ek.name(), &[7; 32]).unwrap();
    let blob = credential.registrar_blob();
    let read = CredentialBlob::parse(&blob).unwrap();
    assert_eq!(read.id_object, credential.id_object);
    assert_eq!(read.secret, credential.secret);
}

/// The name is the hash of the area; the numbers make a key that encodes and decodes.
fn check_public(data: &[u8], name: &Name, numbers: &KeyNumbers) {
    let (alg, digest) = name.as_bytes().split_first_chunk().unwrap();
    let alg = HashAlg::from_tpm_id(u16::from_be_bytes(*alg)).unwrap();
    assert_eq!(digest, &alg.digest([&data[2..]])[..]);
    assert!(numbers.spki_der().is_some());
    assert!(numbers.spki_pem().is_some());
}

fn check_certificate(data: &[u8]) {
    let Ok(certificate) = EkCertificate::parse(data) else {
        return;
    };
    assert!(data.starts_with(certificate.der()));
    assert_eq!(EkCertificate::parse(certificate.der()), Ok(certificate));
}
