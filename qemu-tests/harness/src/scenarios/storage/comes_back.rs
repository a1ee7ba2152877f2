// SPDX-License-Identifier: GPL-2.0

//! Hosts that do not get done with a reset. One does when it is asked again, and nobody sees an error;
//! the other one is given up, and comes back by itself, as the same disk.

use std::time::Duration;

use anyhow::Result;

use crate::allocations::{Allocations, Who};
use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Address, Job};
use crate::vm::Vm;

const DISK: Address = (0, 0, 0);

const SLOW: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0701";
const LOST: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0702";

/// In the stack of who takes the folder of a channel out of sysfs that the host has taken back: the kernel tells programs of
/// it. Of a device's it does so with memory that it gets without I/O (`NoIo`), which the trace does not show; of a
/// sub-channel's nobody waits for it.
const GOES: [&str; 2] = ["offer9take_down", "sub13remove_folder"];

/// How long a read may take that has a reset in it.
const READ: Duration = Duration::from_secs(60);

/// A read is noticed after 2 to 4 s. The first reset is not answered, which takes 2 s; the second one is, and then
/// another 2 s are waited for the read, and after the third one again: its answer comes in between.
const SLOW_SCRIPT: &str = "on send reqop=3 req.u8@28=0x28 nth=60 do delay 6500\n\
                           on send reqop=6 nth=1 do drop\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "comes-back",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        text("slow", SLOW_SCRIPT),
        text(
            "lost",
            "on send reqop=3 req.u8@28=0x28 nth=60 do drop\non send reqop=6 do drop\n",
        ),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev null-co,node-name=d-slow,size=16777216,read-zeroes=on",
        "-blockdev null-co,node-name=d-lost,size=16777216,read-zeroes=on",
        "-device hv-scsi,id=slow,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0701,fault-script=@/slow",
        "-device scsi-hd,bus=slow.0,drive=d-slow,serial=SLOW",
        "-device hv-scsi,id=lost,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0702,fault-script=@/lost",
        "-device scsi-hd,bus=lost.0,drive=d-lost,serial=LOST",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let slow = storage::wait_for(vm, SLOW, DISK)?;
    let lost = storage::wait_for(vm, LOST, DISK)?;
    storage::set_answer_secs(vm, 2)?;
    for disk in [&slow, &lost] {
        // Set when the disks came, when there was no limit.
        vm.write(&format!("/sys/block/{disk}/device/timeout"), "2")?;
    }
    let (status, said) = read(vm, &slow)?;
    expect(status == "0", "reads without an error", said)?;
    expect_status(vm, SLOW, "bus_resets", 1)?;
    expect_status(vm, SLOW, "commands_abandoned", 0)?;

    // What waits for memory may wait for this disk: until the command has ended, none is asked for.
    let allocations = Allocations::watch(vm, &Who::KERNEL)?;
    let (status, said) = read(vm, &lost)?;
    let asked = allocations.take()?;
    let asked: Vec<String> = asked
        .into_iter()
        .filter(|a| !GOES.iter().any(|goes| a.contains(goes)))
        .collect();
    expect(status != "0", "an error for the reader", said)?;
    expect(
        asked.is_empty(),
        "no memory to be asked for by who gives a controller up",
        asked.join("\n"),
    )?;
    expect_status(vm, LOST, "commands_abandoned", 1)?;
    storage::wait_for_revival(vm, LOST)?;
    let asked = allocations.take()?;
    expect(
        !asked.is_empty(),
        "memory to be asked for by who opens it again",
        "none",
    )?;
    allocations.end()?;
    let (status, said) = read(vm, &lost)?;
    expect(status == "0", "reads without an error", said)?;
    let found = storage::find(vm, LOST, DISK)?;
    expect(
        found.as_deref() == Some(&lost),
        format!("the same disk {lost}"),
        format!("{found:?}"),
    )?;
    storage::set_answer_secs(vm, 0)
}

fn read(vm: &Vm, disk: &str) -> Result<(String, String)> {
    let reads = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=200 iflag=direct");
    Job::start(vm, "reads", &reads)?.wait(READ)
}

fn expect_status(vm: &Vm, instance: &str, name: &str, wanted: u64) -> Result<()> {
    let found = storage::status(vm, instance, name)?;
    expect(found == wanted, format!("{name}: {wanted}"), found)
}
