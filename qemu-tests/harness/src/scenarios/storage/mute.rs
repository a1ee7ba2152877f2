// SPDX-License-Identifier: GPL-2.0

//! A unit that stops answering while another one of the same controller is busy: it alone goes, the
//! busy one goes on without an error. Others come and go meanwhile, also while the mute one has a command
//! of the midlayer to be answered; when the answers come at last, so does the unit. The modules can be
//! unloaded while such an answer is missing.

use std::time::Duration;

use anyhow::Result;

use crate::failure::{expect, unmet};
use crate::fio::{Passes, LOAD};
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Address, Job};
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0801";

const BUSY: Address = (0, 0, 0);
const MUTE: Address = (0, 0, 1);
const SPARE: Address = (0, 0, 2);

/// How often the host says that something changed, and the units are asked, until the one is mute. The
/// midlayer asks it some times before.
const NOTICES: u32 = 8;

const FOREVER: Address = (0, 0, 3);

/// How late its answer is.
const LATE: Duration = Duration::from_secs(75);

/// How late the data is that is read there, at sector 0x2800, before it is mute.
const READ_LATE: Duration = Duration::from_secs(60);
const READ: &str = "bs=512 skip=10240 count=1 iflag=direct";

/// How long the driver may take to find out that a unit is mute.
const FOUND_OUT: Duration = Duration::from_secs(30);

/// INQUIRYs of units 1 and 3, without a page; a READ(10) of unit 1.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "mute",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("busy", 64),
        disk("silent", 8),
        disk("spare", 8),
        disk("forever", 8),
        text(
            "mute",
            "on send reqop=3 req.u8@28=0x12 req.u8@29=0 req.u8@19=1 nth=5 do delay 75000\n\
             on send reqop=3 req.u8@28=0x28 req.u8@32=0x28 req.u8@19=1 nth=1 do delay 60000\n\
             on send reqop=3 req.u8@28=0x12 req.u8@29=0 req.u8@19=3 nth=5 do drop\n",
        ),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=busy,file.driver=file,file.filename=@/busy,cache.no-flush=on",
        "-blockdev raw,node-name=silent,file.driver=file,file.filename=@/silent",
        "-blockdev raw,node-name=spare,file.driver=file,file.filename=@/spare",
        "-blockdev raw,node-name=forever,file.driver=file,file.filename=@/forever",
        "-device hv-scsi,id=main,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0801,fault-script=@/mute",
        "-device scsi-hd,bus=main.0,drive=busy,scsi-id=0,lun=0,serial=BUSY",
        "-device scsi-hd,bus=main.0,drive=silent,scsi-id=0,lun=1,serial=MUTE",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let busy = storage::wait_for(vm, INSTANCE, BUSY)?;
    let mute = storage::wait_for(vm, INSTANCE, MUTE)?;
    // Not for the commands of these disks, which came when there was no limit.
    storage::set_answer_secs(vm, 4)?;
    let load = Passes::start_slowly(vm, &busy, &[LOAD])?;
    let read = format!("dd if=/dev/{mute} of=/dev/null {READ}");
    let read = Job::start(vm, "read", &read)?;
    notices_until_mute(vm, 1)?;

    // It goes when the host has none of its commands any more; others do not wait for that.
    storage::unplug(vm, "spare-disk")?;
    storage::wait_gone(vm, INSTANCE, SPARE)?;
    read.expect_running()?;
    read.expect_success(READ_LATE)?;
    storage::wait_gone(vm, INSTANCE, MUTE)?;
    load.expect_running()?;
    for (name, wanted) in [
        ("own_commands_unanswered", 1),
        ("bus_resets", 1),
        ("commands_abandoned", 0),
        ("revivals", 0),
    ] {
        let found = storage::status(vm, INSTANCE, name)?;
        expect(found == wanted, format!("{name}: {wanted}"), found)?;
    }

    // The answer comes.
    vm.wait_until(LATE + FOUND_OUT, "the unit that answers at last", || {
        Ok(storage::find(vm, INSTANCE, MUTE)?.ok_or_else(|| "no such disk".to_owned()))
    })?;
    load.stop()?;

    // This one's never does.
    storage::plug(vm, "main", "forever", FOREVER)?;
    storage::wait_for(vm, INSTANCE, FOREVER)?;
    notices_until_mute(vm, 2)?;
    storage::set_answer_secs(vm, 0)?;
    let modules = vm.core.storage_drivers_last_first().join(" ");
    // the driver is in use while the midlayer looks for units
    let reload = format!("until rmmod {modules}; do sleep 0.2; done; modprobe -a {modules}");
    Job::start(vm, "reload", &reload)?.expect_success(FOUND_OUT)?;
    storage::wait_for(vm, INSTANCE, BUSY).map(drop)
}

/// A disk comes and goes, which the host says, until a unit was found to be mute for the `count`th time, for
/// which the controller was reset. The disk comes that time, too.
fn notices_until_mute(vm: &Vm, count: u64) -> Result<()> {
    for _ in 0..NOTICES {
        storage::plug(vm, "main", "spare", SPARE)?;
        storage::wait_for(vm, INSTANCE, SPARE)?;
        if storage::status(vm, INSTANCE, "bus_resets")? == count {
            return vm.wait_until(FOUND_OUT, "a unit found to be mute", || {
                let found = storage::status(vm, INSTANCE, "own_commands_unanswered")?;
                Ok(if found == count {
                    Ok(())
                } else {
                    Err(format!("{found} unanswered"))
                })
            });
        }
        storage::unplug(vm, "spare-disk")?;
        storage::wait_gone(vm, INSTANCE, SPARE)?;
    }
    Err(unmet("a bus reset", "none"))
}
