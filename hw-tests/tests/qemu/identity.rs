//! A node is its TPM, whatever is booted, and keeps nothing.

use hw_tests::Result;
use hw_tests::day::untouched_23;
use hw_tests::guest::Guest;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use serde_json::Value;

use crate::steps::{give, has_nothing, has_the_secret, take_back, verifier};

/// What the registrar knows of a node that must stay: its endorsement key, its attestation key, its certificate.
const IDENTITY: [&str; 3] = ["ek_tpm", "aik_tpm", "mtls_cert"];

#[test]
fn five_reboots_are_one_node() {
    story(|site| {
        let verifier = verifier(site)?;
        // No disk: whatever the agent knew of an earlier boot would have to come from its TPM.
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        let first = record(&verifier, &uuid)?;
        boot.power_off()?;
        for round in 1..=5 {
            let mut boot = guest.boot()?;
            assert_eq!(boot.wait_until_registered()?, uuid, "reboot {round}");
            let now = record(&verifier, &uuid)?;
            for field in IDENTITY {
                assert_eq!(now[field], first[field], "{field} after reboot {round}");
            }
            if round == 5 {
                let told = give(&verifier, &guest, &untouched_23())?;
                assert_eq!(told.code, 0, "{}", told.text);
                has_the_secret(&mut boot)?;
            }
            boot.power_off()?;
        }
        Ok(())
    });
}

#[test]
fn secrets_end_with_the_boot() {
    story(|site| {
        let verifier = verifier(site)?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        give(&verifier, &guest, &untouched_23())?;
        has_the_secret(&mut boot)?;
        boot.power_off()?;
        take_back(&verifier, &uuid)?;
        let mut boot = guest.boot()?;
        boot.wait_until_registered()?;
        has_nothing(&mut boot)
    });
}

/// A copied system with another TPM is another node, and the first one's place at the verifier isn't its.
#[test]
fn another_tpm_is_another_node() {
    story(|site| {
        let verifier = verifier(site)?;
        let mut guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        give(&verifier, &guest, &untouched_23())?;
        has_the_secret(&mut boot)?;
        boot.power_off()?;
        guest.use_tpm(GuestTpm::fresh(site)?);
        let mut boot = guest.boot()?;
        assert_ne!(boot.wait_until_registered()?, uuid);
        has_nothing(&mut boot)
    });
}

/// Neither the kernel's driver nor the agent leaves anything in the TPM that a later boot trips over, wherever the power
/// goes. After three unclean stops a TPM would refuse keys that count as attempts at a password.
#[test]
fn power_cuts_do_not_lock_the_node_out() {
    story(|site| {
        let verifier = verifier(site)?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        for moment in [
            "Linux version",
            "2.0 TPM",
            "guest: init runs",
            "guest: the agent starts",
            "agent: listening on",
            "agent: registered as ",
        ] {
            let boot = guest.boot()?;
            boot.says(moment)?;
            boot.cut_power()?;
        }
        let boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        boot.power_off()?;
        let boot = guest.boot()?;
        assert_eq!(boot.wait_until_registered()?, uuid);
        boot.power_off()
    });
}

fn record(verifier: &Verifier<'_>, uuid: &str) -> Result<Value> {
    let path = format!("/v2.6/agents/{uuid}");
    verifier.registrar_client()?.get(&path)?.results()
}
