// SPDX-License-Identifier: GPL-2.0

//! A host that loses frames, lies about lengths and offsets, refuses packets, and is late now and then:
//! what is wrong is dropped, and TCP brings everything across.

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{self, ECHO, ECHO_PORT, GATEWAY, IP, TRANSFER, USER};
use crate::scenarios::Context;
use crate::storage::{script, Job};

/// Of an RNDIS packet, 0 is its type, 4 its length, 8 the frame's offset, 12 the frame's length, 28 and 32
/// where the records are. Of the descriptor, 12 and 8 where the first message is.
/// What is changed in the guest's packets makes the host refuse them.
const SCRIPT: &str = "\
    on buffer op=1 every=401 from=20 do drop\n\
    on buffer op=1 every=409 from=20 do trunc 20\n\
    on buffer op=1 every=419 from=20 do u32 4 0xffffffff\n\
    on buffer op=1 every=421 from=20 do u32 8 0xfffffff0\n\
    on buffer op=1 every=431 from=20 do u32 12 0xffff\n\
    on buffer op=1 every=433 from=20 do u32 32 0x10000\n\
    on buffer op=1 every=439 from=20 do pad 60000\n\
    on send type=7 u32@4=0 every=443 from=20 do desc.u32 12 0x7fffff00\n\
    on send type=7 u32@4=0 every=449 from=20 do desc.u32 8 0xfffffff0\n\
    on send type=7 u32@4=0 every=149 from=20 do delay 50\n\
    on send type=11 op=108 every=151 from=20 do delay 50\n\
    on recv op=107 every=157 from=60 do u32 8 0x7fffffff\n\
    on recv op=107 every=163 from=60 do u32 12 0xffffffff\n\
    on recv op=107 every=167 from=60 do u32 4 7\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-faults",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[text("faults", SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat",
        "-device hv-net,id=user,netdev=user,rx-batch=8,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001,fault-script=@/faults",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    script(
        vm,
        &format!(
            "{IP} addr replace 10.0.2.15/24 dev {name}
             dd if=/dev/urandom of=/tmp/data bs=1M count=1 2>/dev/null"
        ),
    )?;
    for _ in 0..2 {
        let job = format!("nc {ECHO} {ECHO_PORT} < /tmp/data > /tmp/back");
        Job::start(vm, "echo", &job)?.expect_success(TRANSFER)?;
        script(vm, "cmp /tmp/data /tmp/back; rm /tmp/back")?;
    }
    let pings = script(vm, &format!("ping -c 20 -i 0.1 -W 2 {GATEWAY} || true"))?;
    expect(
        pings.matches("bytes from").count() >= 15,
        "most of 20 pings answered",
        pings,
    )?;
    script(vm, "rm /tmp/data").map(drop)
}
