// SPDX-License-Identifier: GPL-2.0

//! A host that does not answer when a sub-channel is opened. Other devices get theirs meanwhile, and can be let
//! go of; the device itself goes on with the channels it has.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::devices::{counter, BUS};
use crate::failure::{expect, unmet};
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};
use crate::vm::Vm;

/// The host does not answer for its first sub-channel.
const SILENT: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0901";
/// It comes later, and all is well with it.
const GOOD: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0902";
const DISK: storage::Address = (0, 0, 0);
const QUEUES: u64 = 4;

/// The controller has relid 1, and so its first sub-channel has 2: no OPENCHANNEL_RESULT (6).
const SCRIPT: &str = "on message op=6 u32@8=2 do drop\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "silent-sub-channel",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=40",
    files: &[disk("one", 16), disk("two", 16), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=one,file.driver=file,file.filename=@/one",
        "-device hv-scsi,id=one,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0901",
        "-device scsi-hd,bus=one.0,drive=one,scsi-id=0,lun=0",
        "-blockdev raw,node-name=two,file.driver=file,file.filename=@/two",
    ],
};

/// Longer than the guest waits for one answer, twice: for the sub-channel, and for giving it up.
const CHANNELS: Duration = Duration::from_secs(100);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    storage::wait_for(vm, SILENT, DISK)?;
    let controller = json!({
        "driver": "hv-scsi", "id": "two", "num-queues": QUEUES, "instanceid": GOOD,
    });
    vm.qmp("device_add", &controller)?;
    storage::add_disk(
        vm,
        &json!({ "driver": "scsi-hd", "bus": "two.0", "drive": "two" }),
    )?;
    storage::wait_for(vm, GOOD, DISK)?;
    wait_for_channels(vm, GOOD, QUEUES)?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    Job::start(vm, "unbind", &format!("echo {GOOD} > {driver}/unbind"))?
        .expect_success(CHANNELS)?;
    let timeouts = counter(vm, "timeouts")?;
    expect(
        timeouts == 0,
        "a controller with all its channels, and unbound, while the other one waits for an answer",
        format!("{timeouts} answers missed"),
    )?;

    // It is not answered for, and the others are there.
    wait_for_channels(vm, SILENT, QUEUES - 1)?;
    let name = storage::find(vm, SILENT, DISK)?.ok_or_else(|| unmet("its disk", "none"))?;
    let read = format!("dd if=/dev/{name} of=/dev/null bs=64k count=64 iflag=direct");
    storage::script(vm, &read)?;
    vm.write(&format!("{driver}/bind"), GOOD)?;
    storage::wait_for(vm, GOOD, DISK).map(drop)
}

/// Waits until the driver uses so many channels.
fn wait_for_channels(vm: &Vm, instance: &str, wanted: u64) -> Result<()> {
    vm.wait_until(CHANNELS, "channels of a controller", || {
        let count = storage::status(vm, instance, "channels")?;
        Ok(if count == wanted {
            Ok(())
        } else {
            Err(format!("{count} channels, not {wanted}"))
        })
    })
}
