//! What [`agent_core::tpm::Tpm`] promises, tried on real software TPMs.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use agent_core::tpm::Tpm;
use agent_core::wire::quote::{HashAlg, PcrMask, SignAlg};
use agent_linux::tpm::tss::TssTpm;
use common::Swtpm;

#[test]
fn smoke() {
    let swtpm = Swtpm::fresh();
    let mut tpm = TssTpm::open(&swtpm.name(), SignAlg::Ecdsa, HashAlg::Sha256).unwrap();
    println!("{}{}", tpm.ek_pem(), tpm.identity().transport_pem);
    let mask = PcrMask::from_bits(0xFF_FFFF).unwrap();
    let values = tpm.pcr_read(HashAlg::Sha256, mask).unwrap();
    assert_eq!(values.len(), 24);
    let quote = tpm.quote(b"nonce", HashAlg::Sha256, mask).unwrap();
    println!("{} {}", quote.attest.len(), quote.signature.len());
    tpm.tls_seed().unwrap();
}
