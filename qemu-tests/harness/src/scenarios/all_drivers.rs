// SPDX-License-Identifier: GPL-2.0

//! All drivers in one guest. What the core does for one of them it does for others, with the same locks and work, and
//! what may be waited for differs: a controller is what memory waits for, an adapter asks for memory. The debug kernel says
//! what does not go together.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::devices;
use crate::drivers::Core;
use crate::machine::{Initramfs, Machine, Qemu};
use crate::net;
use crate::storage::{self, script, Address};

const DISK: Address = (0, 0, 0);
const CONTROLLER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e01";
const ADAPTER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e02";

pub(super) const MACHINE: Machine = Machine {
    name: "all-drivers",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[],
    devices: &[
        "-device vmbus-bridge",
        "-device hv-balloon,id=balloon",
        "-netdev user,id=user,restrict=on",
        "-device hv-net,id=user,netdev=user,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e02",
        "-blockdev null-co,node-name=disk,size=16777216,read-zeroes=on",
        "-device hv-scsi,id=controller,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e01",
        "-device scsi-hd,id=disk,bus=controller.0,drive=disk",
    ],
};

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let disk = storage::wait_for(vm, CONTROLLER, DISK)?;
    storage::wait_scanned(vm, &disk)?;
    net::wait_for(vm, ADAPTER)?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    // More answers at once than an interrupt takes.
    script(
        vm,
        &format!(
            "fio --name=deep --filename=/dev/{disk} --rw=randread --bs=4k --iodepth=256 --ioengine=libaio --direct=1 \
             --iodepth_batch_submit=256 --iodepth_batch_complete_min=256 --size=16m --loops=2 --minimal; \
             sg_reset -H /dev/{disk}"
        ),
    )?;
    storage::unplug(vm, "controller")?;
    storage::wait_unplugged(vm, CONTROLLER)?;
    if vm.core == Core::C {
        // Its network driver may wait for completions of what it has sent for ever, see net-unplug.
        return Ok(());
    }
    storage::unplug(vm, "user")?;
    storage::wait_unplugged(vm, ADAPTER)
}
