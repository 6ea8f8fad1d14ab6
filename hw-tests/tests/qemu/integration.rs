//! keyhalf in initramfs images of dracut and initramfs-tools: it runs before the root file system is mounted, with the network
//! up, and no shell opens before the cap. A stand-in for the agent says on the console what it is asked for.

use std::path::Path;
use std::process::Command;

use hw_tests::Result;
use hw_tests::guest::boot::Ended;
use hw_tests::guest::distribution::{Maker, disk};
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::guest::{Guest, configuration};
use hw_tests::node::Build;
use hw_tests::payload::SECRET;
use hw_tests::process::in_order;
use hw_tests::site::{Site, programs, story};
use hw_tests::tenant::Tenant;

use crate::early_boot::{deposit_with, install, introduce, signer};
use crate::steps::verifier;

/// Waits for a route, leaves a secret in the landing zone, and is killed.
const AGENT: &str = r#"#!/bin/sh
echo "agent: $1" >/dev/kmsg
[ "$1" = provision ] || exit 0
[ ! -e /sys/kernel/security/ima/ascii_runtime_measurements ] || echo "agent: finds the logs" >/dev/kmsg
mkdir -p /run/keyhalf/secure
mount -t tmpfs tmpfs /run/keyhalf/secure
echo secret >/run/keyhalf/secure/secret
try=0
# The gateway 10.0.2.2 in the kernel's form.
while ! grep -q 0202000A /proc/net/route; do
    try=$((try + 1))
    [ "$try" -lt 120 ] || exit 11
    sleep 0.5
done
echo "agent: the network is up" >/dev/kmsg
kill -9 $$
"#;

/// The root's: what came through.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc 2>/dev/null
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
echo \"root: $(/bin/busybox cat /run/keyhalf/secure/secret /run/keyhalf-boot/code 2>&1 | /bin/busybox xargs)\" >/dev/kmsg
/bin/busybox poweroff -f
";

/// The root's, where the agent is the real one.
const RECEIVER: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc 2>/dev/null
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
cd /run/keyhalf/secure/unzipped
echo \"root: $(/bin/busybox cat payload_id_rsa 2>&1) $(/bin/busybox cat /run/keyhalf-boot/code)\" >/dev/kmsg
/bin/busybox poweroff -f
";

const CONFIGURED: (&str, &[u8]) = ("keyhalf/agent.conf", b"[agent]\n");

/// A killed agent's exit code in a shell.
const KILLED: &str = "root: secret 137";

/// QEMU has a server for it.
const DHCP: &str = "keyhalf.net=dhcp";
pub(crate) const NETWORK: &str = "keyhalf.net=10.0.2.15::10.0.2.2:255.255.255.0:::none";

#[test]
fn dracut_caps_after_a_killed_script() {
    story(|site| killed_script_is_capped(site, Maker::Dracut));
}

#[test]
fn dracut_with_systemd_caps_after_a_killed_script() {
    story(|site| killed_script_is_capped(site, Maker::DracutSystemd));
}

#[test]
fn initramfs_tools_caps_after_a_killed_script() {
    story(|site| killed_script_is_capped(site, Maker::InitramfsTools));
}

#[test]
fn dracut() {
    story(|site| runs_before_the_root(site, Maker::Dracut));
}

#[test]
fn dracut_with_systemd() {
    story(|site| runs_before_the_root(site, Maker::DracutSystemd));
}

#[test]
fn initramfs_tools() {
    story(|site| runs_before_the_root(site, Maker::InitramfsTools));
}

#[test]
fn capped_before_any_shell_of_dracut() {
    story(|site| {
        capped_before_any_shell(
            site,
            Maker::Dracut,
            "rd.break=cmdline",
            "Dropping to debug shell",
        )
    });
}

#[test]
fn capped_before_any_shell_of_dracut_with_systemd() {
    story(|site| {
        capped_before_any_shell(
            site,
            Maker::DracutSystemd,
            "rd.break=cmdline",
            "Entering emergency mode",
        )
    });
}

#[test]
fn capped_before_any_shell_of_initramfs_tools() {
    story(|site| {
        capped_before_any_shell(
            site,
            Maker::InitramfsTools,
            "break=premount panic=",
            "(initramfs)",
        )
    });
}

#[test]
fn dracut_gets_the_secret() {
    story(|site| gets_the_secret(site, Maker::Dracut, NETWORK));
}

#[test]
fn dracut_with_systemd_gets_the_secret() {
    story(|site| gets_the_secret(site, Maker::DracutSystemd, NETWORK));
}

#[test]
fn initramfs_tools_gets_the_secret() {
    story(|site| gets_the_secret(site, Maker::InitramfsTools, NETWORK));
}

#[test]
fn dracut_gets_the_secret_by_dhcp() {
    story(|site| gets_the_secret(site, Maker::Dracut, DHCP));
}

#[test]
fn dracut_with_systemd_gets_the_secret_by_dhcp() {
    story(|site| gets_the_secret(site, Maker::DracutSystemd, DHCP));
}

#[test]
fn initramfs_tools_gets_the_secret_by_dhcp() {
    story(|site| gets_the_secret(site, Maker::InitramfsTools, DHCP));
}

#[test]
fn dracut_wipes_the_secret_before_the_root() {
    story(|site| wipes_the_secret(site, Maker::Dracut));
}

#[test]
fn dracut_with_systemd_wipes_the_secret_before_the_root() {
    story(|site| wipes_the_secret(site, Maker::DracutSystemd));
}

#[test]
fn initramfs_tools_wipes_the_secret_before_the_root() {
    story(|site| wipes_the_secret(site, Maker::InitramfsTools));
}

/// The module for EFI variables, which it takes to count.
#[test]
fn images_count_reboots_only_if_asked() {
    story(|site| {
        for maker in [Maker::Dracut, Maker::DracutSystemd, Maker::InitramfsTools] {
            // In this order: a system keeps its files.
            for (files, wanted) in [
                (&[CONFIGURED][..], false),
                (&[CONFIGURED, ("keyhalf/count-reboots", b"")], true),
            ] {
                let image = maker.image(site, AGENT.as_bytes(), files)?;
                // dracut takes it along with systemd, whoever asks.
                let module = wanted || maker == Maker::DracutSystemd;
                for (file, wanted) in [
                    ("etc/keyhalf/agent.conf", true),
                    ("etc/keyhalf/count-reboots", wanted),
                    ("efivarfs.ko", module),
                ] {
                    assert_eq!(has(&image, file)?, wanted, "{maker:?}: {file}");
                }
            }
        }
        Ok(())
    });
}

/// Whether an image has a file whose path ends so: in its archive a zero comes after each.
fn has(image: &Path, path: &str) -> Result<bool> {
    let mut search = Command::new("sh");
    // dracut is told not to compress, initramfs-tools to do it so.
    search.args([
        "-c",
        "gzip -dcf \"$0\" | LC_ALL=C grep -qaP \"\\Q$1\\E\\x00\"",
    ]);
    match search.arg(image).arg(path).status()?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        other => Err(format!("grep: {other:?}").into()),
    }
}

/// The agent itself: what the initramfs got is there in the root file system.
fn gets_the_secret(site: &Site, maker: Maker, network: &str) -> Result {
    let line = takes_into_the_root(site, maker, network, &[])?;
    assert!(line.ends_with(&format!("root: {SECRET} 0")), "{line}");
    Ok(())
}

/// The initramfs got it, and the root file system has nothing of it.
fn wipes_the_secret(site: &Site, maker: Maker) -> Result {
    let wipe = [("keyhalf/wipe-before-root", &b""[..])];
    let line = takes_into_the_root(site, maker, NETWORK, &wipe)?;
    assert!(!line.contains(SECRET) && line.ends_with(" 0"), "{line}");
    Ok(())
}

/// Boots into a root that says what it finds; what it said.
fn takes_into_the_root(
    site: &Site,
    maker: Maker,
    network: &str,
    more: &[(&str, &[u8])],
) -> Result<String> {
    let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
    let tenant = Tenant::beside(&verifier)?;
    let guest = install(&verifier, &tenant, tpm)?;
    // The firmware and the TPM are all that counts here: any initramfs can introduce them.
    let node = introduce(&guest)?;
    // Not every image has the documented script's bash.
    deposit_with(&tenant, &node, "#!/bin/sh\ntest -s payload_id_rsa\n")?;
    let agent = std::fs::read(programs()?.join(Build::Static.program()))?;
    let files = configuration(&verifier, &signer(&tenant)?)?;
    let files = files
        .each_ref()
        .map(|(name, content)| (*name, &content[..]));
    let image = maker.image(site, &agent, &[&files[..], more].concat())?;
    let mut guest = guest.with_image(image, disk(site, RECEIVER)?);
    guest.append(&format!("root=/dev/vda ro {network} keyhalf.deadline=90s"));
    let boot = guest.boot()?;
    let line = boot.says("root: ")?;
    in_order(boot.console(), &["PCR 15 is capped", "root: "])?;
    assert_eq!(boot.wait_for_end()?, Ended::Off);
    Ok(line)
}

fn runs_before_the_root(site: &Site, maker: Maker) -> Result {
    let boot = machine(site, maker, NETWORK)?.boot()?;
    boot.says("root: ")?;
    in_order(
        boot.console(),
        &[
            "agent: provision",
            "agent: finds the logs",
            "agent: the network is up",
            "agent: cap",
            "agent: cap",
            KILLED,
        ],
    )?;
    assert_eq!(boot.wait_for_end()?, Ended::Off);
    Ok(())
}

/// Not the agent is killed but keyhalf-boot, which started it.
fn killed_script_is_capped(site: &Site, maker: Maker) -> Result {
    let agent = AGENT.replace("kill -9 $$", "kill -9 $PPID");
    let boot = machine_with(site, maker, &agent, NETWORK)?.boot()?;
    boot.says("root: ")?;
    let wanted = [
        "agent: the network is up",
        "agent: cap",
        "root: secret killed",
    ];
    in_order(boot.console(), &wanted)?;
    assert_eq!(boot.wait_for_end()?, Ended::Off);
    Ok(())
}

fn capped_before_any_shell(site: &Site, maker: Maker, words: &str, shell: &str) -> Result {
    let boot = machine(site, maker, words)?.boot()?;
    boot.says("agent: cap")?;
    // A prompt has no line of its own until something follows it: the console so far has to do.
    let text = boot.console().text();
    assert!(!text.contains(shell), "{shell} came first");
    Ok(())
}

fn machine<'site>(site: &'site Site, maker: Maker, words: &str) -> Result<Guest<'site>> {
    machine_with(site, maker, AGENT, words)
}

fn machine_with<'site>(
    site: &'site Site,
    maker: Maker,
    agent: &str,
    words: &str,
) -> Result<Guest<'site>> {
    let image = maker.image(site, agent.as_bytes(), &[CONFIGURED])?;
    let disk = disk(site, INIT)?;
    let mut guest = Guest::new(site, GuestTpm::fresh(site)?)?.with_image(image, disk);
    guest.append(&format!("root=/dev/vda ro {words}"));
    Ok(guest)
}
