// SPDX-License-Identifier: GPL-2.0

//! A host that does not take UNLOAD. When it never does, the pages that it was told about are left to it, and a core that
//! is loaded again has others. When it does late, nothing that it may write to is freed before it has.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::allocations::{Allocations, Who};
use crate::devices::{expect_none, BUS};
use crate::failure::{expect, unmet};
use crate::fio::LOAD;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::{reboot, Context};
use crate::storage::{self, Job};
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e01";
const DISK: storage::Address = (0, 0, 0);

/// The first UNLOAD (16) is refused with a status that means no busy host; the second one with one that does, 90 times,
/// which takes 7 s at least: pauses grow to 100 ms.
const SCRIPT: &str = "\
on post op=16 nth=1 do refuse 5
on post op=16 from=2 times=90 do refuse 0x13
";

/// A controller with one channel on that host's bus.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "unload",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    // not every kernel does by itself
    kernel_arguments: "printk.time=1",
    module_parameters: "",
    files: &[disk("disk", 32), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0e01",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

/// Who asks is a function of a module that has gone, and has no name any more.
const GONE: &str = "call_site=0x";

/// Far less than the time for which a message is posted again.
const BOUND: Duration = Duration::from_secs(60);

/// Of the guest's seconds: less than the host does not take UNLOAD, more than a close takes else.
const HELD: f64 = 4.0;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    LOAD.run(vm, &storage::wait_for(vm, INSTANCE, DISK)?)?;
    never_taken(vm)?;
    LOAD.run(vm, &storage::wait_for(vm, INSTANCE, DISK)?)?;
    expect_none(vm, &["timeouts", "leaked_pages", "bad_messages"])?;
    taken_late(cx)
}

fn never_taken(vm: &Vm) -> Result<()> {
    let modules = vm.core.storage_drivers();
    let [core, driver] = modules else {
        return Err(unmet("two modules", format!("{modules:?}")));
    };
    Job::start(vm, "driver-goes", &format!("rmmod {driver}"))?.expect_success(BOUND)?;
    let allocations = Allocations::watch(vm, &Who::UNLOADS)?;
    Job::start(vm, "goes", &format!("rmmod {core}"))?.expect_success(BOUND)?;
    let asked = allocations.take()?;
    allocations.end()?;
    // Or there might be no UNLOAD. What the kernel does for devices and folders that go asks for memory, and is there to see.
    let own: Vec<_> = asked.iter().filter(|a| a.contains(GONE)).collect();
    expect(
        !asked.is_empty() && own.is_empty(),
        "no memory to be asked for by the core's own functions",
        format!("{own:?}, and by others {} times", asked.len() - own.len()),
    )?;
    let log = vm.dmesg()?;
    for line in [
        "UNLOAD failed: ",
        "the host may use them: pages shared with the host are not freed",
        // interrupt page, two monitor pages; the rings were given back before
        "3 pages were left to the host",
    ] {
        expect(
            log.contains(line),
            format!("'{line}' in the log"),
            "no such line",
        )?;
    }
    let comes = format!("modprobe {core}; modprobe {driver}");
    Job::start(vm, "comes", &comes)?.expect_success(BOUND)
}

/// The machine reboots. While the host does not take the UNLOAD for that, a driver is unbound: it has to wait.
fn taken_late(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let refused = format!("{BUS}/counters/refused_posts");
    let text = format!(
        "before=$(cat {refused})
         until [ $(cat {refused}) -gt $((before + 20)) ]; do sleep 0.1; done
         echo '<1>unbinding' > /dev/kmsg
         echo {INSTANCE} > {driver}/unbind
         echo '<1>unbound' > /dev/kmsg"
    );
    // It ends with the machine.
    let _unbinds = Job::start(vm, "unbinds", &text)?;
    reboot::ends_in_order(vm, "reboot", "reboot: Restarting system")?;

    let console = vm.console.since(0);
    let from = time_of(&console, "unbinding").context("no driver was unbound meanwhile")?;
    let to = time_of(&console, "unbound").or(time_of(&console, "reboot: Restarting system"));
    let held = to.context("a time in the last line")? - from;
    *cx.figures = format!("a driver that was unbound waited {held:.1} s for the end of UNLOAD");
    expect(
        held >= HELD,
        format!("a driver that waits {HELD} s for UNLOAD to be taken"),
        format!("{held:.1} s"),
    )
}

/// When the kernel printed a line that ends like this, in seconds.
fn time_of(console: &[String], end: &str) -> Option<f64> {
    let line = console.iter().rev().find(|line| line.ends_with(end))?;
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']')?.0.trim().parse().ok()
}
