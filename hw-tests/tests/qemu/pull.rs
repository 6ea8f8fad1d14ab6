//! Keylime's pull model from inside a guest: the agent listens in its initramfs, and uses the kernel's own TPM device.

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::network::reachable_address;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::payload::{self, SECRET};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::tenant::Tenant;

#[test]
fn documented_example_arrives() {
    story(|site| {
        let verifier = Verifier::start_at(site, reachable_address()?, &[])?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut boot = guest.boot()?;
        boot.wait_until_registered()?;
        give(&verifier, &guest)?;
        assert_eq!(boot.does("cat /root/.ssh/payload_id_rsa")?, SECRET);
        let mode = boot.does("stat -c %a /root/.ssh/payload_id_rsa")?;
        assert_eq!(mode.trim(), "600");
        boot.power_off()
    });
}

fn give(verifier: &Verifier<'_>, guest: &Guest<'_>) -> Result {
    let tenant = Tenant::beside(verifier)?;
    payload::documented(&tenant.work().join("payload"))?;
    let ip = guest.ip();
    tenant.does(&["-t", &ip, "--cert", "myca", "--include", "payload"])?;
    Ok(())
}
