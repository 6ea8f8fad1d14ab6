#!/bin/sh
[ -e /run/keyhalf-boot/code ]
