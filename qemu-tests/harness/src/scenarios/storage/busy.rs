// SPDX-License-Identifier: GPL-2.0

//! A host that is busy: it refuses reads with an SRB status and a SCSI status that say so. It gets
//! them again, and nobody sees an error.

use anyhow::Result;

use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job, JOB};

const DISK: storage::Address = (0, 0, 0);

const BUSY: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0301";
const FULL: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0302";

/// One controller is busy ten times in a row, for good measure after the scan; the other one's queue is
/// full for six hundred reads, so that those that wait for it are refused many times.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "busy",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("busy-disk", 16),
        disk("full-disk", 16),
        text("busy", 
                "on send reqop=3 req.u8@28=0x28 u8@14=1 from=60 times=10 do u8 14 5 ; u8 15 8 ; u32 24 0\n",
            ),
        text("full", 
                "on send reqop=3 req.u8@28=0x28 u8@14=1 from=60 times=600 do u8 14 5 ; u8 15 0x28 ; u32 24 0\n",
            ),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=busy,file.driver=file,file.filename=@/busy-disk",
        "-blockdev raw,node-name=full,file.driver=file,file.filename=@/full-disk",
        "-device hv-scsi,id=busy,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0301,fault-script=@/busy",
        "-device scsi-hd,bus=busy.0,drive=busy,scsi-id=0,lun=0",
        "-device hv-scsi,id=full,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0302,fault-script=@/full",
        "-device scsi-hd,bus=full.0,drive=full,scsi-id=0,lun=0",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    for (instance, depth) in [(BUSY, 1), (FULL, 64)] {
        let disk = storage::wait_for(vm, instance, DISK)?;
        let reads = format!(
            "fio --name=reads --filename=/dev/{disk} --rw=randread --bs=4k --direct=1 --ioengine=libaio \
             --iodepth={depth} --number_ios=400 --size=16m --readonly --minimal"
        );
        Job::start(vm, "reads", &reads)?.expect_success(JOB)?;
    }
    Ok(())
}
