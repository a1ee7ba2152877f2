// SPDX-License-Identifier: GPL-2.0

//! The host takes a controller away: in the middle of I/O, where the driver
//! survives that, and between.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::drivers::Core;
use crate::failure::expect;
use crate::scenarios::Context;
use crate::storage::{self, add_disk, script, Job, SPARE};
use crate::vm::Vm;

const ROUNDS: u32 = 3;
const DISK: storage::Address = (0, 0, 0);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    for round in 0..ROUNDS {
        let disk = storage::wait_for(vm, SPARE, DISK)?;
        match vm.core {
            Core::Rust | Core::RustOnC => under_load(vm, &disk, round)?,
            // The C driver never completes what is under way then, and hangs the bus.
            Core::C => {
                storage::wait_scanned(vm, &disk)?;
                storage::unplug(vm, "spare")?;
            }
        }
        storage::wait_unplugged(vm, SPARE)?;
        again(vm)?;
    }
    storage::wait_for(vm, SPARE, DISK).map(drop)
}

/// Readers, writers and a file system lose their disk, get errors, and end.
fn under_load(vm: &Vm, disk: &str, round: u32) -> Result<()> {
    script(
        vm,
        &format!("mkfs.ext4 -q -F /dev/{disk}; mkdir -p /mnt; mount -t ext4 /dev/{disk} /mnt"),
    )?;
    let load = format!(
        "fio --name=load --filename=/dev/{disk} --rw=randread --bs=4k --iodepth=32 --numjobs=2 \
         --ioengine=libaio --direct=1 --time_based --runtime=30 --group_reporting --minimal"
    );
    let load = Job::start(vm, "load", &load)?;
    let reader = format!(
        "fio --name=reader --filename=/dev/{disk} --rw=randread --bs=4k --ioengine=psync --direct=1 --time_based \
         --runtime=30 --minimal"
    );
    let reader = Job::start(vm, "reader", &reader)?;
    let writer = Job::start(
        vm,
        "writer",
        // ends when dd fails, and says so
        "while dd if=/dev/zero of=/mnt/file bs=64k count=100 conv=fsync; do :; done; exit 1",
    )?;
    vm.wait_until(Duration::from_secs(20), "reads under way", || {
        let inflight = vm.read(&format!("/sys/block/{disk}/inflight"))?;
        Ok(match inflight.split_whitespace().next() {
            None | Some("0") => Err(inflight),
            Some(_) => Ok(()),
        })
    })?;
    std::thread::sleep(Duration::from_millis(500 + u64::from(round) * 700));
    load.expect_running()?;
    storage::unplug(vm, "spare")?;
    // Should that one have had no read with the host at the time, then it reads nothing from now on, which is no error to
    // it, and ends in its own time. To the other one it is.
    load.wait(Duration::from_secs(40))?;
    for job in [reader, writer] {
        let (status, said) = job.wait(Duration::from_secs(40))?;
        expect(status != "0", "an error for those who used the disk", said)?;
    }
    script(vm, "umount /mnt || umount -l /mnt").map(drop)
}

/// The host offers it again, at run time.
fn again(vm: &Vm) -> Result<()> {
    let controller = json!({
        "driver": "hv-scsi", "id": "spare", "num-queues": 2, "instanceid": SPARE,
    });
    vm.plug_when_gone(&controller)?;
    let disk =
        json!({ "driver": "scsi-hd", "bus": "spare.0", "drive": "spare", "write-cache": "off" });
    add_disk(vm, &disk)
}
