// SPDX-License-Identifier: GPL-2.0

//! Two hosts whose reads fail, one many times: it does not silence the other one, what is left out of
//! the log is said, and failures are counted for each.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage;
use crate::vm::Vm;

const DISK: storage::Address = (0, 0, 0);

const MANY: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0601";
const FEW: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0602";

/// A window of the limit, and some more.
const WINDOW: Duration = Duration::from_secs(6);

/// Reads fail once they are allowed to: for the scan is over by then.
const FAILS: &str =
    "on send reqop=3 req.u8@28=0x28 u8@14=1 from=100 do u8 14 4 ; u8 15 2 ; u32 24 0\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "log",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("many-disk", 16),
        disk("few-disk", 16),
        text("fails", FAILS),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=many,file.driver=file,file.filename=@/many-disk",
        "-blockdev raw,node-name=few,file.driver=file,file.filename=@/few-disk",
        "-device hv-scsi,id=many,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0601,fault-script=@/fails",
        "-device scsi-hd,bus=many.0,drive=many,scsi-id=0,lun=0",
        "-device hv-scsi,id=few,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0602,fault-script=@/fails",
        "-device scsi-hd,bus=few.0,drive=few,scsi-id=0,lun=0",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let many = storage::wait_for(vm, MANY, DISK)?;
    let few = storage::wait_for(vm, FEW, DISK)?;
    for disk in [&many, &few] {
        // Some of them succeed.
        read(vm, disk, 100)?;
    }
    read(vm, &many, 100)?;
    // How many reads of the disk with few failures have failed by now depends on the search for partitions, which reads, too:
    // in a new window it has lines left, and the other one soon has none.
    std::thread::sleep(WINDOW);
    read(vm, &many, 3)?;
    let before = lines(vm, FEW, "cmd 0x28 status")?;
    read(vm, &few, 1)?;
    let few_lines = lines(vm, FEW, "cmd 0x28 status")? - before;
    expect(
        few_lines > 0,
        "a line about the failure of the disk that has few of them",
        few_lines,
    )?;
    // In the next window of the limit.
    std::thread::sleep(WINDOW);
    read(vm, &many, 1)?;
    let said = self::lines(vm, MANY, "lines were suppressed")?;
    expect(said > 0, "a line about lines that are not there", said)?;
    let failed = storage::status(vm, MANY, "commands_failed")?;
    expect(failed >= 100, "failures that are counted", failed)
}

/// Read blocks, whatever comes of it.
fn read(vm: &Vm, disk: &str, count: u32) -> Result<()> {
    let reads = format!(
        "i=0; while [ $i -lt {count} ]; do
             dd if=/dev/{disk} of=/dev/null bs=4k count=1 skip=$i iflag=direct 2>/dev/null
             i=$((i + 1))
         done; true"
    );
    vm.exec(&["sh", "-c", &reads]).map(drop)
}

fn lines(vm: &Vm, instance: &str, words: &str) -> Result<usize> {
    let log = vm.exec(&["dmesg"])?;
    let of_it = |line: &&str| line.contains(instance) && line.contains(words);
    Ok(log.lines().filter(of_it).count())
}
