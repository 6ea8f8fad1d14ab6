//! What UEFI firmware measures counts: PCR 4 is the kernel, PCR 9 its command line and its initramfs.

use std::path::{Path, PathBuf};

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::boot::{Boot, Firmware};
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::site::{Site, story};
use hw_tests::tenant::Tenant;

use crate::early_boot::{self, Known, deposit, ends, exit, install, introduce, is_capped};
use crate::steps::{give, has_nothing, has_the_secret, take_back, verifier};

#[test]
fn changed_command_line_is_refused() {
    changed(|guest| {
        guest.append("init=/bin/sh");
        Ok(())
    });
}

#[test]
fn changed_initramfs_is_refused() {
    // The same length: the firmware's measurement of the kernel to PCR 4 depends on the initramfs's size.
    changed(|guest| guest.initramfs().file(FILE, 0o644, b"two".to_vec()));
}

/// Some file of the initramfs that does nothing.
pub(crate) const FILE: &str = "/etc/issue";

/// A boot whose measurements become the policy gets its secret; the next one, changed, doesn't.
fn changed(change: impl FnOnce(&mut Guest<'_>) -> Result) {
    story(|site| {
        let verifier = verifier(site)?;
        let guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        let mut guest = guest.with_firmware(Firmware::Uefi);
        guest.initramfs().file(FILE, 0o644, b"one".to_vec())?;
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        let good = measured(&mut boot)?;
        let told = give(&verifier, &guest, &good)?;
        assert_eq!(told.code, 0, "{}", told.text);
        has_the_secret(&mut boot)?;
        boot.power_off()?;
        take_back(&verifier, &uuid)?;

        change(&mut guest)?;
        let mut boot = guest.boot()?;
        assert_eq!(boot.wait_until_registered()?, uuid);
        assert_ne!(measured(&mut boot)?, good);
        let told = give(&verifier, &guest, &good)?;
        assert_ne!(told.code, 0, "{}", told.text);
        told.says(&["PCR 9"])?;
        has_nothing(&mut boot)
    });
}

/// A policy that wants what this boot has measured.
fn measured(boot: &mut Boot) -> Result<String> {
    let (kernel, rest) = (boot.pcr(4)?, boot.pcr(9)?);
    Ok(format!(r#"{{"4": "{kernel}", "9": "{rest}"}}"#))
}

/// The other way round, where nobody looks: the node calls, is refused, and its tenant reads which measurement it was.
#[test]
fn changed_boots_are_refused_and_the_tenant_reads_why() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?.with_firmware(Firmware::Uefi);
        guest.initramfs().file(FILE, 0o644, b"one".to_vec())?;
        let node = introduce(&guest)?;
        deposit(&tenant, &node)?;

        let kernel = guest.kernel().image().to_owned();
        guest.use_kernel(another_kernel(site, &kernel)?);
        refused(&guest, &tenant, &node, "PCR 4")?;

        guest.use_kernel(kernel);
        guest.initramfs().file(FILE, 0o644, b"two".to_vec())?;
        refused(&guest, &tenant, &node, "PCR 9")?;

        guest.initramfs().file(FILE, 0o644, b"one".to_vec())?;
        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        early_boot::has_the_secret(&mut boot)?;
        boot.power_off()?;

        guest.append("init=/bin/sh");
        refused(&guest, &tenant, &node, "PCR 9")
    });
}

/// Boots, is refused for this PCR, and has nothing; the tenant reads it, and accepts the node again.
pub(crate) fn refused(guest: &Guest<'_>, tenant: &Tenant<'_>, node: &Known, pcr: &str) -> Result {
    let mut boot = guest.boot()?;
    ends(&boot, exit::REFUSED)?;
    early_boot::has_nothing(&mut boot)?;
    is_capped(&mut boot)?;
    let status = tenant.run(&["-c", "status", "-u", &node.uuid])?;
    status.says(&[pcr])?;
    tenant.does(&["-c", "reactivate", "-u", &node.uuid])?;
    boot.power_off()
}

/// The same kernel with some more bytes at its end: it runs the same, and is another one to the firmware.
pub(crate) fn another_kernel(site: &Site, kernel: &Path) -> Result<PathBuf> {
    let mut image = std::fs::read(kernel)?;
    image.extend([0; 16]);
    let another = site.dir().join("another-kernel");
    std::fs::write(&another, image)?;
    Ok(another)
}
