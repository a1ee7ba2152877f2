// SPDX-License-Identifier: GPL-2.0

//! A host that keeps a command, and does not give a channel's memory back while the guest waits for it. The
//! command's memory is nobody's until it does, ten seconds after that; who unbinds the controller meanwhile
//! waits until then, and can see what for.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{counter, expect_none, BUS};
use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0501";
const DISK: storage::Address = (0, 0, 0);

/// A controller with one channel. The first GPADL_TORNDOWN (12) is late, a READ is never answered.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "withheld",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=10",
    files: &[
        disk("disk", 16),
        text("bus", "on message op=12 nth=1 do delay 20000\n"),
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
    storage::set_answer_secs(vm, 4)?;
    // Set when the disk came, when there was no limit.
    vm.write(&format!("/sys/block/{disk}/device/timeout"), "2")?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    let job = Job::start(vm, "reader", &read)?;

    // Reset, given up, closed; 10 s later the guest waits no longer.
    vm.wait_until(Duration::from_secs(100), "pages left to the host", || {
        let pages = counter(vm, "leaked_pages")?;
        Ok(if pages > 0 {
            Ok(())
        } else {
            Err("none".into())
        })
    })?;
    job.expect_running()?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let unbind = Job::start(vm, "unbind", &format!("echo {INSTANCE} > {driver}/unbind"))?;
    std::thread::sleep(Duration::from_secs(3));
    unbind.expect_running()?;
    job.expect_running()?;
    for name in ["commands_in_flight", "commands_withheld"] {
        let waiting = storage::status(vm, INSTANCE, name)?;
        expect(waiting == 1, format!("{name}: 1"), waiting)?;
    }

    let (status, said) = job.wait(Duration::from_secs(40))?;
    expect(status != "0", "an error for the reader", said)?;
    unbind.expect_success(Duration::from_secs(20))?;
    expect_none(vm, &["leaked_pages"])?;
    storage::set_answer_secs(vm, 0)?;

    vm.write(&format!("{driver}/bind"), INSTANCE)?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    storage::script(vm, &read).map(drop)
}
