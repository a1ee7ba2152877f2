// SPDX-License-Identifier: GPL-2.0

//! A CPU is to go offline, and the host does not say that it agrees; meanwhile it offers a controller. Whoever
//! reads the host's messages may not wait for CPU hotplug: it would not read that the host agrees, either.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::devices::BUS;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, add_disk, Job};

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0601";
const PLUGGED: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0602";
const DISK: storage::Address = (0, 0, 0);

/// A controller with one channel; the second MODIFYCHANNEL_RESPONSE (24) is lost.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "plug-and-cpu",
    qemu: Qemu::Patched,
    cpus: 3,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=20",
    files: &[
        disk("disk", 16),
        disk("plugged", 16),
        text("bus", "on message op=24 nth=2 do drop\n"),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-blockdev raw,node-name=plugged,file.driver=file,file.filename=@/plugged",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0601",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

/// The guest waits 20 s.
const NO_ANSWER: Duration = Duration::from_secs(50);
/// A device takes a moment.
const SOON: Duration = Duration::from_secs(15);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    storage::wait_for(vm, INSTANCE, DISK)?;
    let channels = storage::channels(vm, INSTANCE)?;
    let file = format!("{}/cpu", channels.first().context("a channel")?);
    let from = vm.read(&file)?;
    let cpu = if from.trim() == "1" { 2 } else { 1 };
    vm.write(&file, &cpu.to_string())?;

    let online = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    let goes = Job::start(vm, "goes", &format!("! echo 0 > {online}"))?;
    std::thread::sleep(Duration::from_secs(3));
    let controller = json!({
        "driver": "hv-scsi", "id": "plugged", "num-queues": 1, "instanceid": PLUGGED,
    });
    vm.qmp("device_add", &controller)?;
    add_disk(
        vm,
        &json!({ "driver": "scsi-hd", "bus": "plugged.0", "drive": "plugged" }),
    )?;
    vm.wait_until(SOON, "the controller on the bus", || {
        let devices = vm.list(&format!("{BUS}/devices"))?;
        Ok(if devices.iter().any(|name| name == PLUGGED) {
            Ok(())
        } else {
            Err(devices.join(" "))
        })
    })?;
    goes.expect_running()?;
    goes.expect_success(NO_ANSWER)?;
    // Its driver may have waited for the CPU.
    storage::wait_for(vm, PLUGGED, DISK).map(drop)
}
