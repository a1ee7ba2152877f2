// SPDX-License-Identifier: GPL-2.0

//! A host that keeps a command, and does not give a channel's memory back within the minute that the guest
//! waits for it. The command's memory is nobody's until it does, ten seconds later.

use std::time::Duration;

use anyhow::Result;

use crate::devices::BUS;
use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0501";
const DISK: storage::Address = (0, 0, 0);

/// A controller with one channel. The first GPADL_TORNDOWN (12) is late, a READ is never answered.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "withheld",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("disk", 16),
        text("bus", "on message op=12 nth=1 do delay 75000\n"),
        text("lost", "on send reqop=3 req.u8@28=0x28 nth=60 do drop\n"),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0501,fault-script=@/lost",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    vm.write(storage::ANSWER_SECS, "4")?;
    // Set when the disk came, when there was no limit.
    vm.write(&format!("/sys/block/{disk}/device/timeout"), "2")?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    let job = Job::start(vm, "reader", &read)?;

    // Reset, given up, closed; 60 s later the guest waits no longer.
    vm.wait_until(Duration::from_secs(100), "pages left to the host", || {
        let pages = leaked(vm)?;
        Ok(if pages > 0 {
            Ok(())
        } else {
            Err("none".into())
        })
    })?;
    job.expect_running()?;
    let waiting = storage::status(vm, INSTANCE, "commands_in_flight")?;
    expect(waiting == 1, "the command kept", waiting)?;

    let (status, said) = job.wait(Duration::from_secs(40))?;
    expect(status != "0", "an error for the reader", said)?;
    let pages = leaked(vm)?;
    expect(pages == 0, "no page left to the host", pages)?;
    vm.write(storage::ANSWER_SECS, "0")?;

    let driver = format!("{BUS}/drivers/{}", vm.core.storage_module());
    vm.write(&format!("{driver}/unbind"), INSTANCE)?;
    vm.write(&format!("{driver}/bind"), INSTANCE)?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    storage::script(vm, &read).map(drop)
}

fn leaked(vm: &Vm) -> Result<u64> {
    Ok(vm
        .read(&format!("{BUS}/counters/leaked_pages"))?
        .trim()
        .parse()?)
}
