// SPDX-License-Identifier: GPL-2.0

//! A host that takes frames and does not say that it is done with them: the queue stops, and after a
//! while the adapter is connected anew.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{self, GATEWAY, IP, USER};
use crate::scenarios::Context;
use crate::storage::{debugfs_number, script, Job};
use crate::vm::Vm;

/// 108 completes a frame or an RNDIS message, which 0 at 4 of the packet tells apart. The first frames
/// are those of an interface that comes up.
const SCRIPT: &str = "on send type=11 op=108 req.u32@4=0 from=20 times=40 do drop\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-timeout",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[text("faults", SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on",
        "-device hv-net,id=user,netdev=user,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001,fault-script=@/faults",
    ],
};

/// The stack looks every 10 s for a queue that has been stopped for 10 s, and 40 frames may stop it
/// more than once.
const RECOVERED: Duration = Duration::from_secs(120);
/// What one of the host's answers may take under RTNL.
const RTNL: Duration = Duration::from_secs(5);

/// A number of the driver's file in debugfs.
fn status(vm: &Vm, name: &str) -> Result<u64> {
    debugfs_number(vm, &format!("hv-netvsc-rust-{USER}"), name)
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    script(vm, &format!("{IP} addr replace 10.0.2.15/24 dev {name}"))?;

    // several, since each may have only so much under way
    let load = format!(
        "for n in 1 2 3 4; do ping -s 1400 -i 0.01 -c 100 -W 1 {GATEWAY} > /dev/null & done; wait"
    );
    let load = Job::start(vm, "load", &load)?;
    vm.wait_until(RECOVERED, "a connection that was made anew", || {
        let timeouts = status(vm, "transmit_timeouts")?;
        Ok(if timeouts > 0 {
            Ok(())
        } else {
            Err(format!("{timeouts} time-outs"))
        })
    })?;
    // whoever needs RTNL waits for an answer of the host at most
    let asked = std::time::Instant::now();
    script(vm, &format!("{IP} link set {name} txqueuelen 999"))?;
    let waited = asked.elapsed();
    expect(
        waited < 4 * RTNL,
        "RTNL is free again soon",
        format!("{waited:?}"),
    )?;
    load.wait(RECOVERED)?;

    let once = format!("ping -c 1 -W 1 {GATEWAY}");
    vm.wait_until(RECOVERED, "frames that are sent", || {
        let done = vm.try_exec(&["sh", "-c", &once])?;
        Ok(if done.status == 0 {
            Ok(())
        } else {
            Err(done.stdout)
        })
    })?;
    net::ping(vm, GATEWAY, "-c 20 -i 0.1 -s 1400")?;
    let left = status(vm, "frames_in_flight")?;
    expect(left < 40, "none of the 40 frames is waited for", left)
}
