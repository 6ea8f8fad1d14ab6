//! From power-on to secret: the node calls from its initramfs, and gets its secret at each boot, while nobody watches.

use hw_tests::guest::tpm::GuestTpm;
use hw_tests::site::story;
use hw_tests::tenant::Tenant;

use crate::early_boot::{
    Known, asks_again, deposit, ends, exit, has_nothing, has_the_secret, install, introduce,
    is_capped, measured,
};
use crate::steps::verifier;

#[test]
fn first_boot_registers_and_the_next_gets_the_secret() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        guest.append("keyhalf.deadline=12s");
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        ends(&boot, exit::NOT_ACCEPTED)?;
        has_nothing(&mut boot)?;
        is_capped(&mut boot)?;
        let policy = measured(&mut boot)?;
        boot.power_off()?;

        guest.append("keyhalf.deadline=30s");
        deposit(&tenant, &Known { uuid, policy })?;
        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        has_the_secret(&mut boot)?;
        is_capped(&mut boot)?;
        boot.power_off()
    });
}

/// The tenant isn't there, and there is no disk: whatever the node knows of an earlier boot comes from its TPM.
#[test]
fn five_reboots_get_the_secret_without_the_tenant() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let guest = install(&verifier, &tenant, tpm)?;
        let node = introduce(&guest)?;
        let record = || {
            let path = format!("/v2.6/agents/{}", node.uuid);
            verifier.registrar_client()?.get(&path)?.results()
        };
        let first = record()?;
        deposit(&tenant, &node)?;
        for _reboot in 1..=5 {
            let mut boot = guest.boot()?;
            ends(&boot, exit::DONE)?;
            has_the_secret(&mut boot)?;
            is_capped(&mut boot)?;
            assert_eq!(
                boot.does("mount | grep -c -e /dev/ -e ext4 || true")?,
                "0\n"
            );
            boot.power_off()?;
        }
        for field in ["ek_tpm", "aik_tpm"] {
            assert_eq!(record()?[field], first[field], "{field}");
        }
        let status = tenant.does(&["-c", "status", "-u", &node.uuid])?;
        assert!(!status.text.contains("capped:"), "{}", status.text);
        Ok(())
    });
}

#[test]
fn killed_agent_is_capped_by_the_hook() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let guest = install(&verifier, &tenant, tpm)?;
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        let policy = measured(&mut boot)?;
        boot.does("killall -9 keyhalf-agent")?;
        // As a shell has it: 128, and SIGKILL.
        ends(&boot, 137)?;
        is_capped(&mut boot)?;
        let node = Known { uuid, policy };
        deposit(&tenant, &node)?;
        let told = asks_again(&mut boot)?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["capped"])?;
        has_nothing(&mut boot)?;
        boot.power_off()?;

        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        has_the_secret(&mut boot)
    });
}

#[test]
fn second_request_in_a_boot_is_refused() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let guest = install(&verifier, &tenant, tpm)?;
        let node = introduce(&guest)?;
        deposit(&tenant, &node)?;
        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        let told = asks_again(&mut boot)?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        told.says(&["capped"])?;
        let again = boot.does("find /run/again -type f -size +0c")?;
        assert_eq!(again, "");
        let status = tenant.does(&["-c", "status", "-u", &node.uuid])?;
        status.says(&["capped"])?;
        boot.power_off()
    });
}

/// A machine whose clock's battery is empty: the image is younger than its clock.
#[test]
fn clock_at_1970_boots() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        guest.set_clock("1970-01-01T00:00:00");
        let node = introduce(&guest)?;
        deposit(&tenant, &node)?;
        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        assert_eq!(boot.does("date +%Y")?, "1970\n");
        has_the_secret(&mut boot)
    });
}

/// Whoever copies all that a node's image says, the identifier too, hasn't its TPM.
#[test]
fn copied_system_with_another_tpm_gets_nothing() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        let node = introduce(&guest)?;
        deposit(&tenant, &node)?;
        guest.append(&format!("keyhalf.uuid={} keyhalf.deadline=10s", node.uuid));
        let own = guest.use_tpm(GuestTpm::fresh(site)?);
        let mut boot = guest.boot()?;
        assert!(ends(&boot, exit::DONE).is_err());
        has_nothing(&mut boot)?;
        boot.power_off()?;

        guest.append("keyhalf.deadline=30s");
        guest.use_tpm(own);
        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        has_the_secret(&mut boot)
    });
}
