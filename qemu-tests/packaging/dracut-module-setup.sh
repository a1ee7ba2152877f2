#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Where Rust drivers are chosen, the initramfs has them and those in C whose place they take; else nothing changes.

settings=/etc/modprobe.d/vmbus-rust.conf

check() {
	[ -e "$dracutsysrootdir$settings" ]
}

installkernel() {
	local module
	# fails if the machine would not start with this initramfs
	[ ! -x /usr/sbin/vmbus-rust ] || /usr/sbin/vmbus-rust before-initramfs "$kernel" >&2 || exit 1
	for module in hv_storvsc hv_netvsc hv_balloon $(sed -n 's/^# modules: //p' "$dracutsysrootdir$settings"); do
		# a kernel without the Rust ones has those in C all the same
		hostonly='' instmods "$module"
	done
}

install() {
	inst_simple "$settings"
	inst_simple /usr/lib/modprobe.d/vmbus-rust.conf
	inst_multiple /sbin/modprobe sh
}
