//! Networks that are down, slow, or have several ways.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hw_tests::machine::Machine;
use hw_tests::payload::SECRET;
use hw_tests::servers::{Servers, VERIFIER_PORT, Verifier};
use hw_tests::site::{fresh_address, story};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::edge::{delivered, deposit, deposited, exit, has_nothing, install, registered};

#[test]
fn no_network_meets_deadline() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        // One that refuses, and one that takes the connection and never says a word.
        let silent = TcpListener::bind((fresh_address(), VERIFIER_PORT))?;
        let silent = format!("https://{}", silent.local_addr()?);
        let refusing = format!("https://{}:{VERIFIER_PORT}", fresh_address());
        for urls in [&refusing, &silent] {
            let told = node.run(&["--verifier-url", urls, "--deadline", "2s"])?;
            assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
            let late = Duration::from_secs(3);
            assert!(told.took < late, "{:?} for {urls}", told.took);
        }
        Ok(())
    });
}

#[test]
fn no_tpm_meets_deadline() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        let told = node.run(&["--tcti", "device:/dev/tpmrm7", "--deadline", "1s"])?;
        assert_eq!(told.code, exit::NO_TPM, "{}", told.text);
        assert!(told.took < Duration::from_secs(2), "{:?}", told.took);
        Ok(())
    });
}

#[test]
fn tpm_that_appears_late_is_waited_for() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = deposited(&verifier, &tenant, &[])?;
        node.tpm().cut_power()?;
        node.launch()?.wait_for("TPM")?;
        assert!(has_nothing(&node));
        node.tpm().power_on()?;
        let log = node.log()?.clone();
        let (status, _) = node.wait_for_end()?;
        assert!(status.success(), "{status}: {}", log.text());
        assert_eq!(delivered(&node)?, SECRET);
        Ok(())
    });
}

#[test]
fn several_addresses_are_tried_in_turn() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, _) = deposited(&verifier, &tenant, &[])?;
        let urls = format!(
            "https://{}:{VERIFIER_PORT},https://nowhere.invalid:1,https://{}:{VERIFIER_PORT}",
            fresh_address(),
            Servers::verifier(&verifier)
        );
        let told = node.run(&["--verifier-url", &urls])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        assert_eq!(delivered(&node)?, SECRET);
        Ok(())
    });
}

#[test]
fn another_servers_certificate_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let elsewhere = Arc::new(Machine::new(site, "stranger")?);
        let stranger = Verifier::start_on(site, elsewhere, fresh_address(), &[])?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        let url = format!("https://{}:{VERIFIER_PORT}", Servers::verifier(&stranger));
        let told = node.run(&["--verifier-url", &url, "--deadline", "2s"])?;
        assert_ne!(told.code, exit::DONE, "{}", told.text);
        told.says(&["certificate"])?;
        Ok(())
    });
}

#[test]
fn pinned_certificate_needs_no_name() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        let pinned = verifier.ca_file("server-cert.crt");
        let pinned = pinned.to_str().ok_or("a path that is no text")?;
        let told = node.run(&["--verifier-cert", pinned, "--deadline", "1s"])?;
        assert_eq!(told.code, exit::NOT_ACCEPTED, "{}", told.text);
        let another = verifier.ca_file("client-cert.crt");
        let another = another.to_str().ok_or("a path that is no text")?;
        let told = node.run(&["--verifier-cert", another, "--deadline", "1s"])?;
        assert_ne!(told.code, exit::NOT_ACCEPTED, "{}", told.text);
        told.says(&["certificate"])?;
        Ok(())
    });
}

#[test]
fn deadline_ends_a_script() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&verifier, &tenant)?;
        let script = "#!/bin/sh\nsleep 600\n";
        hw_tests::payload::script(&tenant.work().join("payload"), script)?;
        deposit(&tenant, &uuid, &[])?;
        let told = node.run(&["--deadline", "3s"])?;
        assert_eq!(told.code, exit::DEADLINE, "{}", told.text);
        assert!(told.took < Duration::from_secs(5), "{:?}", told.took);
        Ok(())
    });
}
