//! What to look at, where a boot hasn't come to a node that is known.

use crate::timeline::Moment;

/// What this boot lacks first, and how it comes by it; nothing if a node was heard of.
pub(crate) fn advice(seen: &[Moment]) -> Option<&'static str> {
    let has = |moment| seen.contains(&moment);
    if !has(Moment::KernelRuns) {
        Some(NO_KERNEL)
    } else if has(Moment::KernelPanics) {
        Some(PANIC)
    } else if has(Moment::Registered) || has(Moment::Released) {
        None
    } else if has(Moment::AgentSpeaks) || has(Moment::Capped) {
        Some(NO_WAY)
    } else {
        Some(NO_AGENT)
    }
}

const NO_KERNEL: &str = "\
The console shows no kernel. Is the file of --kernel one for x86-64 (vmlinuz-...), built with a serial console? With
--append earlyprintk=ttyS0 it speaks earlier.";

const PANIC: &str = "\
The kernel has given up: its lines before \"Kernel panic\" say why. Often there is no /init in the initramfs (is the file of
--initrd one?), or no root file system (--disk FILE, and --append root=/dev/vda).";

const NO_WAY: &str = "\
The agent runs, and has neither registered nor got a secret in this boot: its warnings above say why. Does the image bring the network up
(--append keyhalf.net=10.0.2.15::10.0.2.2:255.255.255.0:::none with keyhalf's integration), and does its agent call
192.0.2.1?";

const NO_AGENT: &str = "\
The image boots, and nothing in it asks for a secret: neither console nor registrar has heard of an agent. To put it in:
make what it has to know with ./hw-tests/boot --prepare, install keyhalf's module for dracut or initramfs-tools
(agent-linux/initramfs/README.md), put the prepared files into /etc/keyhalf, and make the image anew. It is in there if
lsinitrd or lsinitramfs lists usr/bin/keyhalf-agent and usr/bin/keyhalf-boot.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_boot_is_told_what_it_lacks_first() {
        use Moment::{AgentSpeaks, Capped, KernelPanics, KernelRuns, Registered, TpmFound};
        for (seen, said) in [
            (&[][..], Some(NO_KERNEL)),
            (&[KernelRuns, KernelPanics], Some(PANIC)),
            (&[KernelRuns, TpmFound], Some(NO_AGENT)),
            (&[KernelRuns, AgentSpeaks], Some(NO_WAY)),
            (&[KernelRuns, AgentSpeaks, Registered], None),
            (&[KernelRuns, Capped], Some(NO_WAY)),
        ] {
            assert_eq!(advice(seen), said, "{seen:?}");
        }
    }
}
