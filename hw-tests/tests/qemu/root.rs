//! What a root file system finds of the secret: a host key and configuration before its services start; and a root in memory,
//! on a machine without a disk.

use std::process::Command;

use hw_tests::guest::boot::Ended;
use hw_tests::guest::configuration;
use hw_tests::guest::distribution::{Maker, system_disk};
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::node::Build;
use hw_tests::payload::SECRET;
use hw_tests::process::in_order;
use hw_tests::site::{programs, story};
use hw_tests::tenant::Tenant;

use crate::early_boot::{deposit, deposit_with, install, introduce, signer};
use crate::integration::NETWORK;
use crate::steps::verifier;

/// The payload's: it runs in the initramfs, and `/run` goes on into the root.
const DROPS: &str = "#!/bin/sh
set -e
mkdir -p /run/sysctl.d /run/systemd/system/story.service.d
cp node.conf /run/sysctl.d/90-node.conf
cp story.conf /run/systemd/system/story.service.d/node.conf
";

/// What systemd-sysctl finds before any service starts.
const SYSCTL: &str = "net.ipv4.ip_default_ttl = 77\n";

/// What systemd itself finds: a service's environment.
const DROP_IN: &str = "[Service]\nEnvironment=ROLE=database\n";

/// A service with the host key: ssh-keygen reads it as sshd would.
const SERVICE: &str = "[Unit]
Description=Story
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo \"root: $ROLE $(cat /proc/sys/net/ipv4/ip_default_ttl) \
$(ssh-keygen -y -f /run/keyhalf/secure/unzipped/ssh_host_ed25519_key)\" >/dev/kmsg'
";

const TARGET: &str = "[Unit]
Description=The story's services
Requires=basic.target story.service
After=basic.target
";

#[test]
fn host_key_and_configuration_are_there_before_services_start() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let guest = install(&verifier, &tenant, tpm)?;
        let node = introduce(&guest)?;
        let folder = tenant.work().join("payload");
        std::fs::create_dir_all(&folder)?;
        let key = folder.join("ssh_host_ed25519_key");
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-C", "node", "-f"]);
        assert!(make.arg(&key).status()?.success());
        let public = std::fs::read_to_string(key.with_extension("pub"))?;
        std::fs::write(folder.join("node.conf"), SYSCTL)?;
        std::fs::write(folder.join("story.conf"), DROP_IN)?;
        deposit_with(&tenant, &node, DROPS)?;

        let agent = std::fs::read(programs()?.join(Build::Static.program()))?;
        let files = configuration(&verifier, &signer(&tenant)?)?;
        let files = files
            .each_ref()
            .map(|(name, content)| (*name, &content[..]));
        let image = Maker::InitramfsTools.image(site, &agent, &files)?;
        let disk = system_disk(
            site,
            &[
                ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
                ("etc/group", "root:x:0:\n"),
                ("etc/machine-id", "6b65796861c64000800000000000000a\n"),
                ("etc/systemd/system/story.service", SERVICE),
                ("etc/systemd/system/story.target", TARGET),
            ],
        )?;
        let mut guest = guest.with_image(image, disk);
        guest.append(&format!(
            "root=/dev/vda rw {NETWORK} keyhalf.deadline=90s systemd.unit=story.target"
        ));
        let boot = guest.boot()?;
        let line = boot.says("root: ")?;
        let wanted = format!("root: database 77 {}", public.trim_end());
        assert!(line.ends_with(&wanted), "{line}");
        in_order(boot.console(), &["PCR 15 is capped", "root: "])?;
        assert_eq!(boot.wait_for_end()?, Ended::Off);
        Ok(())
    });
}

/// Process 1 of a machine whose root is a file system in memory: what our own init does, as far as it is needed, and then on
/// to that root.
const DISKLESS: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
mount -t tmpfs -o mode=0755 run /run
while read -r module; do insmod "/lib/modules/$module"; done </etc/guest/modules
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
keyhalf-boot >/dev/kmsg 2>&1
keyhalf-boot leave >/dev/kmsg 2>&1
mkdir /root.new
mount -t tmpfs root /root.new
mkdir /root.new/bin /root.new/proc /root.new/dev /root.new/run
cp /bin/busybox /root.new/bin/
mv /next /root.new/next
for place in proc dev run; do mount --move "/$place" "/root.new/$place"; done
exec switch_root /root.new /next
"#;

/// The root's.
const NEXT: &str = "#!/bin/busybox sh
cd /run/keyhalf/secure/unzipped
disks=$(/bin/busybox grep -c -e vd -e sd /proc/partitions)
echo \"root: $(/bin/busybox cat payload_id_rsa 2>&1) disks: $disks\" >/dev/kmsg
/bin/busybox poweroff -f
";

#[test]
fn diskless_node_takes_its_secret_into_a_root_in_memory() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        deposit(&tenant, &introduce(&guest)?)?;
        let initramfs = guest.initramfs();
        initramfs.file("/init", 0o755, DISKLESS.into())?;
        initramfs.file("/next", 0o755, NEXT.into())?;
        let boot = guest.boot()?;
        let line = boot.says("root: ")?;
        assert!(
            line.ends_with(&format!("root: {SECRET} disks: 0")),
            "{line}"
        );
        in_order(boot.console(), &["PCR 15 is capped", "root: "])?;
        assert_eq!(boot.wait_for_end()?, Ended::Off);
        Ok(())
    });
}
