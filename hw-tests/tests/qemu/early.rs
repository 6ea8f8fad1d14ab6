//! `keyhalf-boot`, the script that initramfs integrations run: the cap comes whatever became of the agent, and failures end as
//! the command line wants. A stand-in for the agent says how it ended; what is called is written down.

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::boot::{Boot, Firmware};
use hw_tests::guest::kernel::Kernel;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::site::{Site, story};

const SCRIPT: &str = include_str!("../../../agent-linux/initramfs/keyhalf-boot");

/// Ends as the row says; a variable that came through is written down too.
const AGENT: &str = r#"#!/bin/sh
echo "$1${KEYHALF_TENANT_SIGNER+ with a variable}" >>/run/calls
echo "$*" >>/run/arguments
[ ! -e /sys/kernel/security/ima/ascii_runtime_measurements ] || echo "$1" >>/run/with-logs
read -r code <"/run/$1"
[ "$code" != killed ] || kill -9 $$
exit "$code"
"#;

/// What init would have; instead, their names are written down.
const OTHERS: [&str; 3] = ["reboot", "poweroff", "sh"];

/// In bash, because busybox's shell takes its own programs for the stand-ins.
const RUN: &str = "bash /usr/bin/keyhalf-boot";

/// Calls of a good boot, and of one whose cap had to be tried again and failed.
const CAPPED: &str = "provision cap";
const NOT_CAPPED: &str = "provision cap cap";

#[test]
fn cap_comes_whatever_became_of_the_agent() {
    story(|site| {
        let mut boot = machine(site, Firmware::Bios)?.boot()?;
        for (name, words, agent, cap, calls) in [
            ("it went well", "", "0", "0", CAPPED),
            ("refused", "", "13", "0", CAPPED),
            ("killed", "", "killed", "0", CAPPED),
            ("no TPM", "", "10", "10", NOT_CAPPED),
            ("goes on", "keyhalf.on-failure=continue", "16", "0", CAPPED),
            (
                "off",
                "keyhalf.on-failure=poweroff",
                "13",
                "0",
                "provision cap poweroff",
            ),
            (
                "off, killed",
                "keyhalf.on-failure=poweroff",
                "killed",
                "0",
                "provision cap poweroff",
            ),
            (
                "nothing failed",
                "keyhalf.on-failure=poweroff",
                "0",
                "0",
                CAPPED,
            ),
            (
                "a shell",
                "keyhalf.on-failure=shell",
                "11",
                "0",
                "provision cap sh",
            ),
            (
                "no shell before the cap",
                "keyhalf.on-failure=shell",
                "11",
                "1",
                NOT_CAPPED,
            ),
            ("unknown", "keyhalf.on-failure=party", "11", "0", CAPPED),
            (
                "nothing to count with",
                "keyhalf.on-failure=reboot",
                "11",
                "0",
                CAPPED,
            ),
            (
                "the last counts",
                "keyhalf.on-failure=shell keyhalf.on-failure=continue",
                "11",
                "0",
                CAPPED,
            ),
            ("a pattern", "* keyhalf.on-failure=*", "11", "0", CAPPED),
        ] {
            assert_eq!(early(&mut boot, words, agent, cap)?, calls, "{name}");
        }
        Ok(())
    });
}

#[test]
fn early_boot_happens_once() {
    story(|site| {
        let mut boot = machine(site, Firmware::Bios)?.boot()?;
        assert_eq!(early(&mut boot, "", "13", "0")?, CAPPED);
        boot.does(RUN)?;
        assert_eq!(calls(&mut boot)?, CAPPED);
        boot.does(&format!("{RUN} cap"))?;
        boot.does(&format!("{RUN} leave"))?;
        assert_eq!(calls(&mut boot)?, "provision cap cap cap");
        Ok(())
    });
}

#[test]
fn agent_finds_the_logs_of_what_was_booted() {
    story(|site| {
        let mut boot = machine(site, Firmware::Bios)?.boot()?;
        boot.does("umount /sys/kernel/security")?;
        for round in ["not mounted before", "mounted before"] {
            early(&mut boot, "", "0", "0")?;
            assert_eq!(
                boot.does("cat /run/with-logs")?,
                "provision\ncap\n",
                "{round}"
            );
        }
        let mounts = boot.does("grep -c ' /sys/kernel/security ' /proc/mounts")?;
        assert_eq!(mounts, "1\n", "it was mounted again");
        Ok(())
    });
}

#[test]
fn anchors_come_from_the_image_alone() {
    story(|site| {
        let mut guest = machine(site, Firmware::Bios)?;
        for name in ["agent.conf", "tenant-signer.pem", "verifier-ca.pem"] {
            let path = format!("/etc/keyhalf/{name}");
            guest.initramfs().file(&path, 0o644, Vec::new())?;
        }
        let mut boot = guest.boot()?;
        early(&mut boot, "keyhalf.tenant-signer=/evil", "0", "0")?;
        let arguments = boot.does("cat /run/arguments")?;
        let wanted = "provision --config /etc/keyhalf/agent.conf --landing-dir /run/keyhalf \
            --tenant-signer /etc/keyhalf/tenant-signer.pem --verifier-tls-ca-cert /etc/keyhalf/verifier-ca.pem\n\
            cap --config /etc/keyhalf/agent.conf --deadline 5s\n";
        assert_eq!(arguments, wanted);
        Ok(())
    });
}

#[test]
fn three_reboots_in_a_row_are_the_most() {
    story(|site| {
        let mut guest = machine(site, Firmware::Uefi)?;
        let module = Kernel::unpacked()?.module("efivarfs")?;
        if let Some(module) = module {
            guest
                .initramfs()
                .file("/lib/efivarfs.ko", 0o644, std::fs::read(module)?)?;
        }
        let mut boot = guest.boot()?;
        boot.does("[ ! -e /lib/efivarfs.ko ] || insmod /lib/efivarfs.ko")?;
        let failing = |boot: &mut Boot| early(boot, "keyhalf.on-failure=reboot", "11", "0");
        let reboots = "provision cap reboot";
        assert_eq!(failing(&mut boot)?, CAPPED, "the image doesn't ask for it");
        boot.does("mkdir -p /etc/keyhalf && touch /etc/keyhalf/count-reboots")?;
        for round in 1..=3 {
            assert_eq!(failing(&mut boot)?, reboots, "{round}");
        }
        assert_eq!(failing(&mut boot)?, CAPPED);
        // It went on: the next failure is the first again. So it is after a boot that went well.
        assert_eq!(failing(&mut boot)?, reboots);
        assert_eq!(early(&mut boot, "", "0", "0")?, CAPPED);
        for round in 1..=3 {
            assert_eq!(failing(&mut boot)?, reboots, "{round}, after a good one");
        }
        Ok(())
    });
}

fn machine(site: &Site, firmware: Firmware) -> Result<Guest<'_>> {
    let mut guest = Guest::new(site, GuestTpm::fresh(site)?)?.with_firmware(firmware);
    let initramfs = guest.initramfs();
    initramfs.file("/usr/bin/keyhalf-boot", 0o755, SCRIPT.into())?;
    initramfs.file("/usr/bin/keyhalf-agent", 0o755, AGENT.into())?;
    for name in OTHERS {
        let script = format!("#!/bin/busybox sh\necho {name} >>/run/calls\n");
        initramfs.file(&format!("/usr/bin/{name}"), 0o755, script.into())?;
    }
    Ok(guest)
}

/// One early boot with these words on the command line, the agent and its cap ending so; what was called.
fn early(boot: &mut Boot, words: &str, agent: &str, cap: &str) -> Result<String> {
    boot.does(&format!(
        "rm -rf /run/keyhalf-boot /run/calls /run/arguments /run/with-logs; \
         echo {agent} >/run/provision; echo {cap} >/run/cap; echo 'quiet {words}' >/run/words; \
         mount --bind /run/words /proc/cmdline; \
         KEYHALF_TENANT_SIGNER=/evil {RUN}; \
         umount /proc/cmdline"
    ))?;
    calls(boot)
}

fn calls(boot: &mut Boot) -> Result<String> {
    let calls = boot.does("cat /run/calls")?;
    Ok(calls.lines().collect::<Vec<_>>().join(" "))
}
