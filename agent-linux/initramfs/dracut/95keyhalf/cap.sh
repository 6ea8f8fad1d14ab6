#!/bin/sh
keyhalf-boot cap
