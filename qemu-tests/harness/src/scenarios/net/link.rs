// SPDX-License-Identifier: GPL-2.0

//! The host takes the link away and gives it back.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{self, Wire, IP, USER};
use crate::scenarios::Context;
use crate::storage::script;
use crate::vm::Vm;

const ROUNDS: u32 = 3;

/// What user space was told of links.
const SEEN: &str = "/tmp/links";
/// Until it is.
const SHOWN: Duration = Duration::from_secs(20);

/// Of an indication, 8 is what it says. The host says that the link leads elsewhere instead of that it is lost, once.
const SCRIPT: &str = "on buffer op=7 u32@8=0x4001000c nth=1 do u32 8 0x40010018\n";

/// An adapter of that host.
pub(in crate::scenarios) const CHANGED: Machine = Machine {
    name: "net-link-changed",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[text("changed", SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on",
        "-device hv-net,id=user,netdev=user,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001,fault-script=@/changed",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    wire.ping("")?;
    for _ in 0..ROUNDS {
        net::set_link(vm, "wire", false)?;
        net::wait_carrier(vm, &wire.name, false)?;
        let lost = vm.try_exec(&["sh", "-c", "ping -c 1 -W 2 192.168.7.2"])?;
        expect(lost.status != 0, "no answer without a link", lost.stdout)?;
        net::set_link(vm, "wire", true)?;
        net::wait_carrier(vm, &wire.name, true)?;
        wire.ping("")?;
    }
    // There and gone before anybody looks: who listens is told all the same, and what counts is how it ends.
    listen(vm)?;
    net::set_link(vm, "wire", false)?;
    net::set_link(vm, "wire", true)?;
    expect_loss(vm, &wire.name)?;
    wire.ping("")
}

/// A link that leads elsewhere is lost for a while, so that user space asks for an address again.
pub(in crate::scenarios) fn changed(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    listen(vm)?;
    // What the guest is told of it is something else.
    net::set_link(vm, "user", false)?;
    expect_loss(vm, &name)?;
    net::set_link(vm, "user", true)?;
    net::wait_carrier(vm, &name, true)
}

/// Writes down what user space is told of links.
fn listen(vm: &Vm) -> Result<()> {
    let listen =
        format!("rm -f {SEEN}; timeout 60 {IP} monitor link > {SEEN} 2>&1 < /dev/null & sleep 2");
    script(vm, &listen).map(drop)
}

/// It was told that the link of an interface was lost, and that it is there.
fn expect_loss(vm: &Vm, name: &str) -> Result<()> {
    for what in ["NO-CARRIER", "LOWER_UP"] {
        vm.wait_until(SHOWN, &format!("{what} of {name} told"), || {
            let seen = vm.read(SEEN)?;
            let told = |line: &str| line.contains(&format!(": {name}: ")) && line.contains(what);
            Ok(if seen.lines().any(told) {
                Ok(())
            } else {
                Err(seen)
            })
        })?;
    }
    net::wait_carrier(vm, name, true)
}
