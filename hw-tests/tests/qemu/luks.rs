//! A root file system that is encrypted: the payload's key unlocks it, and where none comes somebody's passphrase does, after
//! the cap.

use hw_tests::Result;
use hw_tests::guest::boot::Ended;
use hw_tests::guest::configuration;
use hw_tests::guest::distribution::{Maker, disk};
use hw_tests::guest::luks::{Luks, UUID, fresh_key};
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::node::Build;
use hw_tests::payload;
use hw_tests::process::in_order;
use hw_tests::site::{Site, programs, story};
use hw_tests::tenant::Tenant;

use crate::early_boot::{deposit_with, install, introduce, signer};
use crate::integration::NETWORK;
use crate::steps::{take_back, verifier};

/// Where the key lands, as crypttab has it.
const KEY: &str = "/run/keyhalf/secure/unzipped/disk.key";

/// What somebody types.
const PASSPHRASE: &str = "correct horse battery staple";

/// The encrypted root's: writes to its disk, as a system does, and says that it runs.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc 2>/dev/null
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox date >/etc/booted
/bin/busybox sync
echo \"root: runs, the agent ended with $(/bin/busybox cat /run/keyhalf-boot/code)\" >/dev/kmsg
/bin/busybox poweroff -f
";

#[test]
fn initramfs_tools_unlocks_the_root() {
    let options = "luks,initramfs,keyscript=/usr/share/keyhalf/keyscript";
    let prompt = "Please unlock disk root: ";
    story(|site| unlocks_the_root(site, Maker::InitramfsTools, options, prompt));
}

#[test]
fn dracut_unlocks_the_root() {
    story(|site| {
        unlocks_the_root(
            site,
            Maker::Dracut,
            "luks,x-initrd.attach",
            "Enter passphrase for /dev/vda",
        )
    });
}

#[test]
fn dracut_with_systemd_unlocks_the_root() {
    let (options, prompt) = ("luks,x-initrd.attach", "Please enter passphrase for disk");
    story(|site| unlocks_the_root(site, Maker::DracutSystemd, options, prompt));
}

fn unlocks_the_root(site: &Site, maker: Maker, options: &str, prompt: &str) -> Result {
    let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
    let tenant = Tenant::beside(&verifier)?;
    let guest = install(&verifier, &tenant, tpm)?;
    let mut node = introduce(&guest)?;
    let key = fresh_key::<32>()?;
    payload::write(&tenant.work().join("payload"), "disk.key", &key, 0o600)?;
    deposit_with(&tenant, &node, SCRIPT)?;

    let luks = Luks::over(site, &disk(site, INIT)?, &key, PASSPHRASE)?;
    let crypttab = format!("root UUID={UUID} {KEY} {options}\n");
    let agent = std::fs::read(programs()?.join(Build::Static.program()))?;
    let files = configuration(&verifier, &signer(&tenant)?)?;
    let files = files
        .each_ref()
        .map(|(name, content)| (*name, &content[..]));
    let files = [&files[..], &[("crypttab", crypttab.as_bytes())]].concat();
    let image = maker.image(site, &agent, &files)?;
    let mut guest = guest
        .with_image(image, luks.disk().to_owned())
        .keeping_its_disk();
    guest.append(&format!(
        "root=/dev/mapper/root rd.luks.uuid={UUID} rw {NETWORK} keyhalf.deadline=90s"
    ));
    let boot = guest.boot()?;
    boot.says("root: runs, the agent ended with 0")?;
    in_order(boot.console(), &["PCR 15 is capped", "root: runs"])?;
    assert!(!boot.console().text().contains(prompt));
    assert_eq!(boot.wait_for_end()?, Ended::Off);
    assert!(!luks.contains(&key)?, "the key is on the disk");

    // A boot that the tenant doesn't know.
    take_back(&verifier, &node.uuid)?;
    node.policy = format!(r#"{{"0": "{}"}}"#, "11".repeat(32));
    deposit_with(&tenant, &node, SCRIPT)?;
    let mut boot = guest.boot()?;
    boot.asks(prompt)?;
    let console = boot.console().text();
    assert!(console.contains("PCR 15 is capped"), "asked before the cap");
    assert!(!console.contains("root: runs"), "unlocked without the key");
    boot.types(PASSPHRASE)?;
    boot.says("root: runs, the agent ended with 13")?;
    assert_eq!(boot.wait_for_end()?, Ended::Off);
    Ok(())
}

const SCRIPT: &str = "#!/bin/sh\ntest -s disk.key\n";
