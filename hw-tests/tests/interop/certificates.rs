//! Certificates of the one used by the programs of the other.

use std::sync::Arc;

use hw_tests::keylime::Keylime;
use hw_tests::machine::Machine;
use hw_tests::node::Node;
use hw_tests::operator::{Maker, Operator};
use hw_tests::servers::Verifier;
use hw_tests::site::{fresh_address, story};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::steps::{self, RSASSA};

#[test]
fn keylimes_certificates_serve_our_programs() {
    story(|site| {
        let machine = Arc::new(Machine::new(site, "operator")?);
        let address = fresh_address();
        Keylime::install_at(site, Arc::clone(&machine), address, &[])?.make_certificates()?;

        let verifier = Verifier::start_on(site, machine, address, &[])?;
        let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &RSASSA)?;
        steps::documented_example(&Tenant::beside(&verifier)?, &node)
    });
}

#[test]
fn our_certificates_serve_keylimes_programs() {
    story(|site| {
        let machine = Arc::new(Machine::new(site, "operator")?);
        let address = fresh_address();
        drop(Verifier::start_on(
            site,
            Arc::clone(&machine),
            address,
            &[],
        )?);

        let mut keylime = Keylime::install_at(site, machine, address, &[])?;
        keylime.start_verifier()?;
        keylime.start_registrar()?;
        let node = Node::boot_with(&keylime, Swtpm::fresh(site)?, &RSASSA)?;
        steps::documented_example(&Tenant::keylimes_beside(&keylime)?, &node)
    });
}

/// Keylime's certificate has the addresses that its verifier was told of. At another one our tenant doesn't believe it, and
/// says what Keylime's option for it is.
#[test]
fn a_server_at_another_address_is_refused() {
    story(|site| {
        let only_its_own = [("verifier", "cert_subject_alternative_names", "")];
        let (registrar, verifier) = (Maker::Keyhalf, Maker::Keylime);
        let operator = Operator::start_with(site, registrar, verifier, &only_its_own)?;
        let _manufacturer = Swtpm::fresh(site)?;
        let tenant = operator.tenant(Maker::Keyhalf)?;
        tenant.does(&["-c", "cvlist"])?;
        tenant
            .fails(&["-c", "reglist"])?
            .says(&["not valid for name", "cert_subject_alternative_names"])?;
        Ok(())
    });
}

/// Keylime's `keylime_ca` makes a CA, and our tenant takes it for its own as far as that has the key: it doesn't, so it
/// says so and leaves every file as it was.
#[test]
fn keylimes_ca_directory_is_left_alone() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keyhalf, Maker::Keyhalf)?;
        let node = Node::boot(&operator, Swtpm::fresh(site)?)?;
        let tenant = operator.tenant(Maker::Keyhalf)?;
        operator.keylimes_tool("ca", &["-c", "init", "-d", "theirs"])?;
        let before = steps::files_of(&tenant.work().join("theirs"))?;
        assert!(before.contains_key("private.yml"), "{:?}", before.keys());

        let (ip, uuid) = (node.ip(), node.uuid()?);
        tenant
            .fails(&["-t", &ip, "-u", &uuid, "--cert", "theirs"])?
            .says(&["theirs"])?;
        assert_eq!(steps::files_of(&tenant.work().join("theirs"))?, before);
        Ok(())
    });
}
