// SPDX-License-Identifier: GPL-2.0

//! Hosts of all ages: adapters that know NVSP up to another version each.

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{Initramfs, Machine, Qemu};
use crate::net::{self, IP, TRANSFER};
use crate::scenarios::Context;
use crate::storage::{script, Job};

/// The one that takes no frames longer than 4000 bytes.
const LIMITED: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1106";
/// Each has a user network of its own: 10.0.N.0.
const ADAPTERS: [(u32, &str); 5] = [
    (31, "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1101"),
    (32, "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1102"),
    (34, "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1104"),
    (35, "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1105"),
    (36, "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1106"),
];

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-versions",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=v1,restrict=on,net=10.0.31.0/24,guestfwd=tcp:10.0.31.100:7-cmd:cat",
        "-device hv-net,netdev=v1,max-version=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1101",
        "-netdev user,id=v2,restrict=on,net=10.0.32.0/24,guestfwd=tcp:10.0.32.100:7-cmd:cat",
        "-device hv-net,netdev=v2,max-version=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1102",
        "-netdev user,id=v4,restrict=on,net=10.0.34.0/24,guestfwd=tcp:10.0.34.100:7-cmd:cat",
        "-device hv-net,netdev=v4,max-version=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1104",
        "-netdev user,id=v5,restrict=on,net=10.0.35.0/24,guestfwd=tcp:10.0.35.100:7-cmd:cat",
        "-device hv-net,netdev=v5,max-version=5,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1105",
        "-netdev user,id=v6,restrict=on,net=10.0.36.0/24,guestfwd=tcp:10.0.36.100:7-cmd:cat",
        "-device hv-net,netdev=v6,max-version=6,max-mtu=4000,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1106",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    script(
        vm,
        "dd if=/dev/urandom of=/tmp/data bs=1M count=2 2>/dev/null",
    )?;
    for (net, instance) in ADAPTERS {
        let name = net::wait_for(vm, instance)?;
        script(
            vm,
            &format!("{IP} addr replace 10.0.{net}.15/24 dev {name}"),
        )?;
        net::ping(vm, &format!("10.0.{net}.2"), "-s 1472")?;
        let job = format!("nc 10.0.{net}.100 7 < /tmp/data > /tmp/back");
        Job::start(vm, "echo", &job)?.expect_success(TRANSFER)?;
        script(vm, "cmp /tmp/data /tmp/back; rm /tmp/back")?;
    }
    script(vm, "rm /tmp/data")?;

    // a host that takes frames of 4000 bytes at most, and says so when it is asked for longer ones
    let name = net::wait_for(vm, LIMITED)?;
    let asked = format!("{IP} link set {name} mtu 9000; cat /sys/class/net/{name}/mtu");
    let mtu = script(vm, &asked)?;
    expect(mtu.trim() == "4000", "an MTU of 4000", mtu.trim())
}
