#!/bin/bash
# dracut module: secrets before the root file system. See README.md beside this folder.

# shellcheck disable=SC2154 # dracut's variables
check() {
    require_binaries keyhalf-agent || return 1
    # Configured: in every image; otherwise where somebody asks for it.
    [ -e "${dracutsysrootdir-}/etc/keyhalf/agent.conf" ] && return 0
    return 255
}

depends() {
    echo network
}

installkernel() {
    # Chips and firmware of real machines, whatever this one has; not the kernel's other drivers, for virtual TPMs.
    hostonly='' instmods tpm_tis tpm_crb tpm_tis_spi tpm_tis_i2c
    [ ! -e "${dracutsysrootdir-}/etc/keyhalf/count-reboots" ] || hostonly='' instmods efivarfs
}

install() {
    local file
    inst_multiple keyhalf-agent mkdir sleep mount umount rm reboot poweroff
    inst_script "$moddir/keyhalf-boot" /usr/bin/keyhalf-boot
    for file in agent.conf tenant-signer.pem verifier.pem verifier-ca.pem count-reboots wipe-before-root; do
        [ ! -e "${dracutsysrootdir-}/etc/keyhalf/$file" ] || inst_simple "/etc/keyhalf/$file"
    done
    inst_hook cmdline 10 "$moddir/network.sh"
    if dracut_module_included systemd; then
        inst_simple "$moddir/keyhalf.service" "$systemdsystemunitdir/keyhalf.service"
        # No encrypted disk is opened before this target.
        inst_multiple -o "$systemdsystemunitdir/cryptsetup-pre.target"
        $SYSTEMCTL -q --root "$initdir" add-wants initrd.target keyhalf.service
    else
        inst_hook pre-trigger 90 "$moddir/start.sh"
        inst_hook initqueue/settled 00 "$moddir/wait.sh"
    fi
    # The root file system isn't mounted before the agent has ended.
    inst_hook initqueue/finished 10 "$moddir/finished.sh"
    inst_hook pre-pivot 10 "$moddir/leave.sh"
    # dracut's own shells.
    inst_hook emergency 01 "$moddir/cap.sh"
    inst_hook shutdown-emergency 01 "$moddir/cap.sh"
    dracut_need_initqueue
}
