//! What the logs of a boot say decides: IMA's list by a runtime policy, the firmware's event log by a measured-boot policy.

use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::boot::{Boot, Firmware};
use hw_tests::guest::efi::Start;
use hw_tests::guest::initramfs::BEFORE;
use hw_tests::guest::kernel::packages;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::process::{LIMIT, until};
use hw_tests::site::story;
use hw_tests::tenant::{Tenant, Told};
use serde_json::Value;

use crate::early_boot::{self, deposit_by, ends, exit, gets_the_secret, install, is_capped};
use crate::firmware::another_kernel;
use crate::steps::{give_by, has_nothing, has_the_secret, verifier};

/// What runs, and what root reads, is measured; and so it is in the initramfs, which a tmpfs would hide.
const IMA: &str = "ima_policy=tcb rootfstype=ramfs";

/// IMA's list and the firmware's event log in the guest.
const IMA_LIST: &str = "/sys/kernel/security/ima/ascii_runtime_measurements";
const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// The firmware measures nothing of the initramfs here: IMA alone sees the foreign program.
#[test]
fn foreign_program_before_the_agent_is_refused_and_named() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        guest.append(IMA);
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        keep(&mut boot, IMA_LIST, &tenant, "list")?;
        boot.power_off()?;
        let create = "policy create runtime --ima-log list -o runtime.json";
        tenant.does(&words(create))?;
        deposit_by(&tenant, &uuid, &["--runtime-policy", "runtime.json"])?;
        gets_the_secret(&guest)?;

        let good = guest.initramfs().clone();
        guest.initramfs().before_the_agent(foreign_program()?)?;
        refused(&guest)?.power_off()?;
        forgiven(&tenant, &uuid)?.says(&["of the IMA list", BEFORE])?;

        *guest.initramfs() = good;
        gets_the_secret(&guest)
    });
}

/// The other way round: the node listens, and its policy was made of its initramfs before it booted for the first time.
#[test]
fn foreign_program_fails_a_node_that_listens() {
    story(|site| {
        let verifier = verifier(site)?;
        let mut guest = Guest::serving(&verifier, GuestTpm::fresh(site)?, &[])?;
        guest.append(IMA);
        let tenant = Tenant::beside(&verifier)?;
        fs::write(tenant.work().join("image"), guest.initramfs().archive()?)?;
        let create = "policy create runtime --initrd image --exclude /root/ -o runtime.json";
        tenant.does(&words(create))?;
        let policies = ["--runtime-policy", "runtime.json", "--tpm_policy"];
        let good = guest.initramfs().clone();

        guest.initramfs().before_the_agent(foreign_program()?)?;
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        let firmware = firmware(&mut boot)?;
        let policies = [&policies[..], &[&firmware]].concat();
        let told = give_by(&verifier, &guest, &policies)?;
        assert_ne!(told.code, 0, "{}", told.text);
        told.says(&[BEFORE])?;
        has_nothing(&mut boot)?;
        boot.power_off()?;

        *guest.initramfs() = good;
        let mut boot = guest.boot()?;
        assert_eq!(boot.wait_until_registered()?, uuid);
        let told = give_by(&verifier, &guest, &policies)?;
        assert_eq!(told.code, 0, "{}", told.text);
        has_the_secret(&mut boot)?;
        // Later rounds see what runs after the payload.
        boot.does("cp /bin/bash /stranger && /stranger -c true")?;
        until(LIMIT, "failed attestation", || {
            let told = tenant.run(&["-c", "cvstatus", "-u", &uuid]).ok()?;
            told.text.contains("/stranger").then_some(())
        })?;
        explained(&tenant, &uuid)?.says(&["of the IMA list", "/stranger"])?;
        boot.power_off()
    });
}

/// An update that the policy doesn't know is refused with the event that shows it; one policy for both lets both boot.
#[test]
fn kernel_update_passes_once_the_measured_boot_policy_has_both() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?.with_firmware(Firmware::Uefi);
        let old = guest.kernel().image().to_owned();
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        let policy = measured_boot_policy(&mut boot, &tenant, "old")?;
        boot.power_off()?;
        let named = words("--mb-policy old.json --mb-policy-name fleet");
        deposit_by(&tenant, &uuid, &named)?;
        gets_the_secret(&guest)?;

        let new = another_kernel(site, &old)?;
        guest.use_kernel(new.clone());
        let mut boot = refused(&guest)?;
        let updated = measured_boot_policy(&mut boot, &tenant, "new")?;
        boot.power_off()?;
        let decides = ["event ", "PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION"];
        forgiven(&tenant, &uuid)?.says(&decides)?;

        let both = with_images_of(policy, &updated)?;
        fs::write(tenant.work().join("both.json"), both.to_string())?;
        let explain = ["policy", "explain", "--agent", &uuid];
        tenant.does(&[&explain[..], &["--mb-policy", "both.json"]].concat())?;
        let update = "-c updatembpolicy --mb-policy both.json --mb-policy-name fleet";
        tenant.does(&words(update))?;
        for kernel in [new, old] {
            guest.use_kernel(kernel);
            gets_the_secret(&guest)?;
        }
        Ok(())
    });
}

#[test]
fn unified_kernel_image_passes_as_it_was_measured_alone() {
    passes_as_measured_alone(Start::Unified, "PCR 4");
}

#[test]
fn kernel_behind_systemd_boot_passes_as_it_was_measured_alone() {
    passes_as_measured_alone(Start::Loader, "PCR 9");
}

/// A boot's log makes a policy that the same boot passes, and one with another command line doesn't.
fn passes_as_measured_alone(start: Start, changed: &str) {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?.with_partition(start);
        let mut boot = guest.boot()?;
        let uuid = boot.wait_until_registered()?;
        measured_boot_policy(&mut boot, &tenant, "boot")?;
        boot.power_off()?;
        deposit_by(&tenant, &uuid, &["--mb-policy", "boot.json"])?;
        gets_the_secret(&guest)?;

        guest.append("updated=yes");
        refused(&guest)?.power_off()?;
        forgiven(&tenant, &uuid)?.says(&["event ", changed])?;
        Ok(())
    });
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

/// A program that no image has at that place: it does nothing, and ends.
fn foreign_program() -> Result<Vec<u8>> {
    Ok(fs::read(packages()?.join("bash/bin/bash-static"))?)
}

/// Boots, is refused, and has nothing.
fn refused(guest: &Guest<'_>) -> Result<Boot> {
    let mut boot = guest.boot()?;
    ends(&boot, exit::REFUSED)?;
    early_boot::has_nothing(&mut boot)?;
    is_capped(&mut boot)?;
    Ok(boot)
}

/// Why the node was refused; then its tenant accepts it again.
fn forgiven(tenant: &Tenant<'_>, uuid: &str) -> Result<Told> {
    let told = explained(tenant, uuid)?;
    tenant.does(&["-c", "reactivate", "-u", uuid])?;
    Ok(told)
}

/// Why the node was refused, as the tenant has it explained.
fn explained(tenant: &Tenant<'_>, uuid: &str) -> Result<Told> {
    tenant.fails(&["policy", "explain", "--agent", uuid])
}

/// Copies a file of the guest to where the tenant stands.
fn keep(boot: &mut Boot, path: &str, tenant: &Tenant<'_>, name: &str) -> Result {
    let told = boot.does(&format!("base64 {path}"))?;
    let content = BASE64_STANDARD.decode(told.replace('\n', ""))?;
    Ok(fs::write(tenant.work().join(name), content)?)
}

/// A measured-boot policy of what this boot measured.
fn measured_boot_policy(boot: &mut Boot, tenant: &Tenant<'_>, name: &str) -> Result<Value> {
    let (log, policy) = (format!("{name}.log"), format!("{name}.json"));
    keep(boot, EVENT_LOG, tenant, &log)?;
    let create = format!("policy create measured-boot --event-log {log} -o {policy}");
    tenant.does(&words(&create))?;
    Ok(serde_json::from_slice(&fs::read(
        tenant.work().join(policy),
    )?)?)
}

/// The policy, with the images too that another one lists.
fn with_images_of(mut policy: Value, other: &Value) -> Result<Value> {
    let images = "/builtins/0/efi_stub/images/sha256";
    let others = other.pointer(images).and_then(Value::as_array);
    let listed = policy.pointer_mut(images).and_then(Value::as_array_mut);
    let (listed, others) = listed.zip(others).ok_or("no images")?;
    listed.extend_from_slice(others);
    Ok(policy)
}

/// A policy that wants PCRs 0 to 9 as they are: what IMA's first line sums up.
fn firmware(boot: &mut Boot) -> Result<String> {
    let mut policy = serde_json::Map::new();
    for pcr in 0..=9 {
        policy.insert(pcr.to_string(), boot.pcr(pcr)?.into());
    }
    Ok(Value::from(policy).to_string())
}
