// SPDX-License-Identifier: GPL-2.0

//! A host that does not listen to a channel any more, and says so late: what may be a rescind that is on its way
//! becomes a warning and is counted when the rescind does not come.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{counter, expect_none};
use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e01";
const DISK: storage::Address = (0, 0, 0);

/// A controller with one channel. Its rescind (2) is late; the host closes the channel before.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "refused-doorbell",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("disk", 16),
        text("bus", "on message op=2 nth=1 do delay 25000\n"),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e01",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

/// As long as the guest waits for a rescind, and something for the guest being slow.
const NOTICED: Duration = Duration::from_secs(20);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    let read = format!(
        "while dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct; do :; done; exit 1"
    );
    let reader = Job::start(vm, "reader", &read)?;
    reader.expect_running()?;
    storage::unplug(vm, "main")?;
    // If the host had taken the last command before it went, nobody rings until there is another one.
    let late =
        format!("dd if=/dev/{disk} of=/dev/null bs=4k count=1 skip=1000 iflag=direct || true");
    Job::start(vm, "late-reader", &late)?;
    let said = |words: &str| Ok::<_, anyhow::Error>(vm.dmesg()?.contains(words));

    vm.wait_until(
        NOTICED,
        "a line about the host that does not listen",
        || {
            Ok(said("the host does not listen any more")?
                .then_some(())
                .ok_or("none".into()))
        },
    )?;
    // It may be taking the channel back.
    expect_none(vm, &["refused_doorbells"])?;
    vm.wait_until(NOTICED, "the refused doorbell counted", || {
        let count = counter(vm, "refused_doorbells")?;
        Ok((count == 1).then_some(()).ok_or(format!("{count}")))
    })?;
    expect(
        said("refuses the doorbell of relid 1: status 0x12")?,
        "a warning about the doorbell",
        "none",
    )?;
    let (status, said) = reader.wait(Duration::from_secs(60))?;
    expect(status != "0", "an error for the reader", said)?;
    storage::wait_unplugged(vm, INSTANCE)?;
    let count = counter(vm, "refused_doorbells")?;
    expect(count == 1, "nothing counted after the rescind", count)
}
