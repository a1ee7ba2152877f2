// SPDX-License-Identifier: GPL-2.0

//! A host that refuses to list its logical units: they are all found, and none of those that are there
//! is taken away.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Address};

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0501";

const DISKS: [Address; 3] = [(0, 0, 0), (0, 0, 3), (0, 0, 254)];
const LATER: Address = (2, 1, 77);

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "unlisted",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("first", 8),
        disk("third", 8),
        disk("last", 8),
        disk("later", 8),
        text("unlisted", "on send reqop=3 req.u8@28=0xa0 do u8 14 0x20 ; u8 15 0\n"),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=first,file.driver=file,file.filename=@/first",
        "-blockdev raw,node-name=third,file.driver=file,file.filename=@/third",
        "-blockdev raw,node-name=last,file.driver=file,file.filename=@/last",
        "-blockdev raw,node-name=later,file.driver=file,file.filename=@/later",
        "-device hv-scsi,id=main,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0501,fault-script=@/unlisted",
        "-device scsi-hd,bus=main.0,drive=first,scsi-id=0,lun=0",
        "-device scsi-hd,bus=main.0,drive=third,scsi-id=0,lun=3",
        "-device scsi-hd,bus=main.0,drive=last,scsi-id=0,lun=254",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let mut names = Vec::new();
    for unit in DISKS {
        names.push(storage::wait_for(vm, INSTANCE, unit)?);
    }
    storage::plug(vm, "main", "later", LATER)?;
    storage::wait_for(vm, INSTANCE, LATER)?;
    // Nothing goes afterwards, either.
    std::thread::sleep(Duration::from_secs(2));
    for (unit, name) in DISKS.into_iter().zip(&names) {
        let found = storage::find(vm, INSTANCE, unit)?;
        expect(
            found.as_deref() == Some(name),
            format!("disk {unit:?} still as {name}"),
            format!("{found:?}"),
        )?;
        vm.exec(&[
            "dd",
            &format!("if=/dev/{name}"),
            "of=/dev/null",
            "bs=1M",
            "iflag=direct",
        ])?;
    }
    storage::unplug(vm, "later-disk")?;
    storage::wait_gone(vm, INSTANCE, LATER)
}
