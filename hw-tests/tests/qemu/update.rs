//! Updates don't brick: what the next boot measures is computed from its files, so that it is allowed before it is booted.

use std::path::PathBuf;

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::boot::Boot;
use hw_tests::guest::efi::{INITRAMFS, KERNEL, LOADER, Start, UNIFIED};
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::site::story;
use hw_tests::tenant::Tenant;
use serde_json::Value;

use crate::early_boot::{Known, deposit, gets_the_secret, install, introduce};
use crate::firmware::{FILE, another_kernel, refused};
use crate::steps::verifier;

#[test]
fn kernel_of_a_boot_entry_is_measured_as_predicted() {
    measured_as_predicted(Start::Kernel, &["4", "9"]);
}

#[test]
fn kernel_behind_systemd_boot_is_measured_as_predicted() {
    measured_as_predicted(Start::Loader, &["4", "9"]);
}

#[test]
fn unified_kernel_image_is_measured_as_predicted() {
    measured_as_predicted(Start::Unified, &["4", "11", "12", "13"]);
}

/// What the tenant computes from the files is what the TPM then holds, in both of its banks.
fn measured_as_predicted(start: Start, pcrs: &[&str]) {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let guest = Guest::new(site, tpm)?.with_partition(start);
        let files = files(&guest, start)?;
        let banks = ["sha256", "sha384"];
        let policies = banks.map(|bank| next_boot(&tenant, &files, &["--bank", bank]));
        let mut boot = guest.boot()?;
        for (bank, policy) in banks.into_iter().zip(policies) {
            let policy = policy?;
            let named: Vec<_> = policy.as_object().ok_or("no policy")?.keys().collect();
            assert_eq!(named.len(), pcrs.len(), "{named:?}");
            for pcr in pcrs {
                let held = held(&mut boot, bank, pcr)?;
                let predicted = policy[pcr].as_array().ok_or(*pcr)?;
                assert!(
                    predicted.contains(&held),
                    "PCR {pcr} in {bank}: {held}, not in {predicted:?}"
                );
            }
        }
        boot.power_off()
    });
}

fn held(boot: &mut Boot, bank: &str, pcr: &str) -> Result<Value> {
    let value = boot.does(&format!("cat /sys/class/tpm/tpm0/pcr-{bank}/{pcr}"))?;
    Ok(value.trim().to_lowercase().into())
}

/// The update changes all that is measured. It is booted, it is taken back as a failed one is, and at last the old is dropped.
#[test]
fn old_and_updated_boots_get_the_secret_until_the_old_is_dropped() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let start = Start::Unified;
        let mut guest = install(&verifier, &tenant, tpm)?.with_partition(start);
        let old = (
            guest.kernel().image().to_owned(),
            guest.command_line().to_owned(),
        );
        let new = (
            another_kernel(site, &old.0)?,
            format!("{} updated=yes", old.1),
        );
        let boots =
            |guest: &mut Guest<'_>, (kernel, command_line): &(PathBuf, String), file: &str| {
                guest.use_kernel(kernel.clone());
                guest.use_command_line(command_line);
                guest
                    .initramfs()
                    .file(FILE, 0o644, file.as_bytes().to_vec())
            };
        boots(&mut guest, &old, "old")?;
        let uuid = introduce(&guest)?.uuid;
        let now = next_boot(&tenant, &files(&guest, start)?, &[])?.to_string();
        let mut node = Known { uuid, policy: now };
        deposit(&tenant, &node)?;
        gets_the_secret(&guest)?;

        boots(&mut guest, &new, "new")?;
        let beside = ["--policy", &node.policy];
        node.policy = next_boot(&tenant, &files(&guest, start)?, &beside)?.to_string();
        update(&tenant, &node)?;
        gets_the_secret(&guest)?;

        boots(&mut guest, &old, "old")?;
        gets_the_secret(&guest)?;

        boots(&mut guest, &new, "new")?;
        let alone = ["--policy", &node.policy, "--drop-old"];
        node.policy = next_boot(&tenant, &files(&guest, start)?, &alone)?.to_string();
        update(&tenant, &node)?;
        boots(&mut guest, &old, "old")?;
        refused(&guest, &tenant, &node, "PCR 4")?;

        boots(&mut guest, &new, "new")?;
        gets_the_secret(&guest)
    });
}

/// Deposits anew, with the policy that the node has now.
fn update(tenant: &Tenant<'_>, node: &Known) -> Result {
    let usual = ["-c", "update", "-u", &node.uuid, "--push-model"];
    let what = ["--cert", "myca", "--include", "payload"];
    tenant.does(&[&usual[..], &what, &["--tpm_policy", &node.policy]].concat())?;
    Ok(())
}

/// The options that name what a guest boots from.
fn files(guest: &Guest<'_>, start: Start) -> Result<Vec<String>> {
    let partition = guest.partition()?.ok_or("it boots from no partition")?;
    let file = |name: &str| partition.file(name);
    let kernel = |command_line: String| {
        vec![
            "--kernel".to_owned(),
            file(KERNEL),
            "--initrd".to_owned(),
            file(INITRAMFS),
            "--cmdline".to_owned(),
            command_line,
        ]
    };
    Ok(match start {
        Start::Kernel => kernel(partition.load_options().to_owned()),
        Start::Loader => {
            // systemd-boot names the initramfs to kernels that are too old to be handed it.
            let command_line = format!("initrd=\\{INITRAMFS} {}", guest.command_line());
            let loader = vec!["--loader".to_owned(), file(LOADER)];
            [kernel(command_line), loader].concat()
        }
        Start::Unified => vec!["--uki".to_owned(), file(UNIFIED)],
    })
}

/// The policy that the tenant's program computes.
fn next_boot(tenant: &Tenant<'_>, files: &[String], options: &[&str]) -> Result<Value> {
    let mut words = vec!["policy", "next-boot", "--json"];
    words.extend(files.iter().map(String::as_str));
    let told = tenant.does(&[&words[..], options].concat())?;
    let document = told.text.lines().find(|line| line.starts_with('{'));
    let document: Value = serde_json::from_str(document.ok_or("no JSON")?)?;
    Ok(document["tpm_policy"].clone())
}
