//! What a node outlives: power cuts, kills, and what others leave in its TPM.

use std::process::Stdio;
use std::time::Duration;

use agent_core::tpm::Tpm;
use agent_core::wire::quote::{HashAlg, SignAlg};
use agent_linux::tpm::{Commands, NodeTpm};
use tempfile::TempDir;

use crate::common::{Swtpm, program};
use crate::support::{mask, open, places_taken, tool};

pub(crate) fn contexts_outlive_their_tpm<C: Commands>() {
    let mut swtpm = Swtpm::fresh();
    let mut tpm = open::<C>(&swtpm);
    let before = tpm.quote(b"before", HashAlg::Sha256, mask(1)).unwrap();
    swtpm.power_cycle();
    let after = tpm.quote(b"after", HashAlg::Sha256, mask(1)).unwrap();
    assert_ne!(before.attest, after.attest);
}

/// Killed agents leave their objects and sessions in a TPM without resource manager.
pub(crate) fn killed_agent_starts_again<C: Commands>() {
    let swtpm = Swtpm::fresh();
    let directory = TempDir::new().unwrap();
    let identity = open::<C>(&swtpm).identity().clone();
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
    let mut tpm = open::<C>(&swtpm);
    assert_eq!(*tpm.identity(), identity);
    tpm.quote(b"nonce", HashAlg::Sha256, mask(1)).unwrap();
    assert_eq!(places_taken(&swtpm), "");
}

/// A TPM that stops without `TPM2_Shutdown` counts that against keys with dictionary-attack protection; ours have none.
pub(crate) fn unclean_stops_lock_nobody_out<C: Commands>() {
    let mut swtpm = Swtpm::fresh();
    for _ in 0..5 {
        open::<C>(&swtpm)
            .quote(b"nonce", HashAlg::Sha256, mask(1))
            .unwrap();
        swtpm.power_cycle();
    }
    open::<C>(&swtpm)
        .quote(b"nonce", HashAlg::Sha256, mask(1))
        .unwrap();
}

/// Set for the process that is to be killed: the TPM that it works on.
const VICTIM: &str = "KEYHALF_TEST_VICTIM";

/// An agent killed at any moment, start and quote and errors alike, leaves a TPM that the next one can use. `test` is the
/// whole name of the test that calls this.
pub(crate) fn killed_at_any_moment<C: Commands>(test: &str) {
    if let Ok(tcti) = std::env::var(VICTIM) {
        loop {
            let mut tpm =
                NodeTpm::<C>::open(&tcti.parse().unwrap(), SignAlg::Ecdsa, HashAlg::Sha256)
                    .unwrap();
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
    let identity = open::<C>(&swtpm).identity().clone();
    for milliseconds in 0..25 {
        let mut victim = program(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(VICTIM, swtpm.tcti())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20 + 4 * milliseconds));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let mut tpm = open::<C>(&swtpm);
        assert_eq!(*tpm.identity(), identity);
        tpm.quote(b"nonce", HashAlg::Sha256, mask(1)).unwrap();
    }
}
