#!/bin/sh
keyhalf-boot leave
