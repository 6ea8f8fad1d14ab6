#!/bin/sh
# keyhalf.net= is ip= of the kernel, for this purpose alone; without it, whatever brings the network up elsewhere counts.
net=$(getarg keyhalf.net=)
mkdir -p /etc/cmdline.d
{
    [ -z "$net" ] || echo "ip=$net"
    echo "rd.neednet=1"
} >/etc/cmdline.d/90-keyhalf.conf
