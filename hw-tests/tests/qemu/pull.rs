//! Keylime's pull model from inside a guest: the agent listens in its initramfs, and uses the kernel's own TPM device.

use hw_tests::day::untouched_23;
use hw_tests::guest::Guest;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::process::{LIMIT, until};
use hw_tests::site::story;
use hw_tests::tenant::Tenant;

use crate::steps::{give, has_nothing, has_the_secret, verifier};

#[test]
fn documented_example_arrives() {
    story(|site| {
        let verifier = verifier(site)?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut boot = guest.boot()?;
        boot.wait_until_registered()?;
        let told = give(&verifier, &guest, &untouched_23())?;
        assert_eq!(told.code, 0, "{}", told.text);
        has_the_secret(&mut boot)?;
        boot.power_off()
    });
}

/// RSA keys take a TPM's slots longer, and the other bank has its own place in the kernel's view.
#[test]
fn documented_example_arrives_with_rsa_and_sha384() {
    story(|site| {
        let verifier = verifier(site)?;
        let kind = ["--tpm-hash-alg", "sha384", "--tpm-signing-alg", "rsassa"];
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &kind)?;
        let mut boot = guest.boot()?;
        boot.wait_until_registered()?;
        let told = give(&verifier, &guest, "{}")?;
        assert_eq!(told.code, 0, "{}", told.text);
        has_the_secret(&mut boot)
    });
}

#[test]
fn changed_pcr_is_refused() {
    story(|site| {
        let verifier = verifier(site)?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut boot = guest.boot()?;
        boot.wait_until_registered()?;
        boot.extend(23, 1)?;
        let told = give(&verifier, &guest, &untouched_23())?;
        assert_ne!(told.code, 0, "{}", told.text);
        told.says(&["23"])?;
        has_nothing(&mut boot)
    });
}

#[test]
fn change_after_the_payload_is_noticed() {
    story(|site| {
        let verifier = verifier(site)?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        give(&verifier, &guest, &untouched_23())?;
        has_the_secret(&mut boot)?;
        boot.extend(23, 1)?;
        let tenant = Tenant::beside(&verifier)?;
        until(LIMIT, "failed attestation", || {
            let told = tenant.run(&["-c", "cvstatus", "-u", &uuid]).ok()?;
            told.text.contains("Invalid Quote").then_some(())
        })
    });
}

/// The agent is up before the network is: it tries again until it works.
#[test]
fn network_comes_late() {
    story(|site| {
        let verifier = verifier(site)?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut boot = guest.boot()?;
        boot.set_link(false)?;
        boot.says("agent: warning: ")?;
        boot.set_link(true)?;
        boot.wait_until_registered()?;
        let told = give(&verifier, &guest, &untouched_23())?;
        assert_eq!(told.code, 0, "{}", told.text);
        has_the_secret(&mut boot)
    });
}
