#!/bin/sh
# Without systemd, encrypted disks are opened by jobs of the queue that this stands in: they come after the agent. Jobs of the
# other queue bring up the network meanwhile.
read -r pid </run/keyhalf-boot.pid
while [ ! -e /run/keyhalf-boot/code ] && kill -0 "$pid" 2>/dev/null; do
    # shellcheck disable=SC2154 # dracut's
    for waiting in "$hookdir"/initqueue/*.sh; do
        # shellcheck source=/dev/null
        [ ! -e "$waiting" ] || (job=$waiting && . "$waiting")
    done
    sleep 0.2
done
# Killed itself: no passphrase is asked for before the cap.
[ -e /run/keyhalf-boot/code ] || keyhalf-boot ended
