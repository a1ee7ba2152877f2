// SPDX-License-Identifier: GPL-2.0

//! A bus whose messages break the rules: repeated, malformed, unasked for, about channels that do
//! not exist, and refusals. What can work does; the rest is counted and can be tried again.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{counter, expect_none, BUS};
use crate::failure::{expect, unmet};
use crate::fio::Verify;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script, Address};
use crate::vm::Vm;

/// With relid 1, since it is the first device. The host says that it cannot be opened, and then, since
/// that was a lie, refuses to open it again.
const OPEN_REFUSED: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0200";
/// With relid 2. The host refuses its first GPADL.
const GPADL_REFUSED: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0201";
/// Its offer names a monitor that does not exist.
const ODD_MONITOR: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0202";
/// Nothing of its own is wrong. It has sub-channels.
const GOOD: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0203";
/// Offers that no guest can take: of a relid too high, of relid 0, of a sub-channel of nothing.
const REFUSED: [&str; 3] = [
    "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0204",
    "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0205",
    "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0206",
];
/// An offer of a class that nobody knows: a device without a driver.
const UNKNOWN: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0207";

/// The offer of its sub-channel has an index beyond what was asked for.
const BEYOND: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0208";

const DISK: Address = (0, 0, 0);

/// How long the host may have to wait.
const APPEAR: Duration = Duration::from_secs(20);

/// Messages start with their number; an offer then has class and instance, each of 16 bytes, and
/// ends with the index of the sub-channel (180), relid (184), monitor (188) and whether it is used. An answer to
/// a version says at 8 whether it is accepted. At first the host is older than each of the seven that are
/// proposed. A refusal is not repeated: it names no version, so the second one is the answer to the next
/// proposal, and a host older than 5.3 would have refused all of them.
const SCRIPT: &str = "\
on message op=1 u16@38=0x0202 do u8 188 0xfe ; u8 189 1
on message op=1 u16@38=0x0402 do u32 184 5000
on message op=1 u16@38=0x0502 do u32 184 0
on message op=1 u16@38=0x0602 do u16 180 7
on message op=1 u16@38=0x0702 do u32 8 0xdeadbeef
on message op=1 u16@38=0x0802 u16@180=1 do u16 180 7
on message op=1 u16@38=0x0302 do dup
on message op=2 do dup
on message op=4 do dup
on message op=6 u32@8=1 nth=1 do u32 16 0xc0000001
on message op=6 do dup 2
on message op=10 u32@8=2 nth=1 do u32 16 0xc0000001
on message op=10 do dup
on message op=12 do dup
on message op=15 times=7 do u8 8 0
on message op=15 u8@8=1 do dup
on message op=4 do inject 0 0 6300000000000000
on message op=4 do inject 0 0 0100000000000000ffffffff
on message op=4 do inject 0 0 02000000
on message op=4 do inject 0 0 0200000000000000ffffffff00000000
on message op=4 do inject 0 0 0200000000000000d007000000000000
on message op=4 do inject 0 0 0600000000000000d0070000010000000000000000000000
on message op=4 do inject 0 0 0a00000000000000d0070000010000000000000000000000
on message op=4 do inject 0 0 0c00000000000000ffffffff00000000
on message op=4 do inject 0 0 1800000000000000010000000000000000000000
on message op=4 do inject 0 0 0500000000000000
";

/// A guest of that host.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "hostile-bus",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        crate::machine::disk("good", 64),
        text("bus", SCRIPT),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-device hv-scsi,id=open-refused,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0200",
        "-blockdev null-co,node-name=d0,size=16777216,read-zeroes=on",
        "-device scsi-hd,bus=open-refused.0,drive=d0",
        "-device hv-scsi,id=gpadl-refused,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0201",
        "-blockdev null-co,node-name=d1,size=16777216,read-zeroes=on",
        "-device scsi-hd,bus=gpadl-refused.0,drive=d1",
        "-device hv-scsi,id=odd-monitor,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0202",
        "-blockdev null-co,node-name=d2,size=16777216,read-zeroes=on",
        "-device scsi-hd,bus=odd-monitor.0,drive=d2",
        "-device hv-scsi,id=good,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0203",
        "-blockdev raw,node-name=d3,file.driver=file,file.filename=@/good,cache.no-flush=on",
        "-device scsi-hd,bus=good.0,drive=d3",
        "-device hv-scsi,id=high-relid,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0204",
        "-device hv-scsi,id=relid-0,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0205",
        "-device hv-scsi,id=orphan,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0206",
        "-device hv-scsi,id=unknown,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0207",
        "-device hv-scsi,id=beyond,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0208",
        "-blockdev null-co,node-name=d4,size=16777216,read-zeroes=on",
        "-device scsi-hd,bus=beyond.0,drive=d4",
    ],
};

const CHECK: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 16,
    jobs: 4,
    mib: 4,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    too_old(vm)?;
    vm.load_core()?;
    let good = storage::wait_for(vm, GOOD, DISK)?;
    CHECK.run_on_each_cpu(vm, &good)?;
    storage::wait_for(vm, ODD_MONITOR, DISK)?;
    beyond(vm)?;
    refused_once(vm)?;
    devices(vm)?;

    handed_back(vm)?;
    storage::unplug(vm, "odd-monitor")?;
    storage::wait_unplugged(vm, ODD_MONITOR)?;
    counted(vm)?;
    // All can be put away and comes again, on the same bus.
    let modules = vm.core.storage_drivers();
    let [core, driver] = modules else {
        return Err(unmet("two modules", format!("{modules:?}")));
    };
    script(
        vm,
        &format!("rmmod {driver} {core} && modprobe {core} && modprobe {driver}"),
    )?;
    storage::wait_for(vm, OPEN_REFUSED, DISK)?;
    let good = storage::wait_for(vm, GOOD, DISK)?;
    CHECK.run(vm, &good)
}

/// The core does not stay, and says why.
fn too_old(vm: &Vm) -> Result<()> {
    const LINE: &str = "the host has none of this driver's versions (4.0 and newer";
    let status = vm.try_exec(&["modprobe", "hv_vmbus_rust"])?.status;
    expect(status != 0, "the core to be refused", status)?;
    expect(
        vm.dmesg()?.matches(LINE).count() == 1,
        format!("one line '{LINE}' in the log"),
        "another number",
    )
}

/// The driver is not bound to what the host refused, and can be when the host thinks better of it.
fn refused_once(vm: &Vm) -> Result<()> {
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    for instance in [OPEN_REFUSED, GPADL_REFUSED] {
        let bound = vm.list(&driver)?.iter().any(|name| name == instance);
        expect(!bound, format!("{instance} not bound"), "it is")?;
    }
    let again = vm.try_write(&format!("{driver}/bind"), OPEN_REFUSED)?;
    expect(again.is_some(), "another refusal", "none")?;
    vm.write(&format!("{driver}/bind"), GPADL_REFUSED)?;
    storage::wait_for(vm, GPADL_REFUSED, DISK).map(drop)
}

/// A sub-channel that was not asked for is not opened, and its controller works without it.
fn beyond(vm: &Vm) -> Result<()> {
    let disk = storage::wait_for(vm, BEYOND, DISK)?;
    vm.wait_until(APPEAR, "a line about the sub-channel not asked for", || {
        let log = vm.dmesg()?;
        let line = log
            .lines()
            .find(|l| l.contains(BEYOND) && l.contains("sub-channel"));
        Ok(match line {
            Some(line) if line.contains("sub-channel 7 not used: ") => Ok(()),
            other => Err(other.unwrap_or("none").to_owned()),
        })
    })?;
    let channels = storage::status(vm, BEYOND, "channels")?;
    expect(channels == 1, "one channel", channels)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    script(vm, &read).map(drop)
}

fn devices(vm: &Vm) -> Result<()> {
    let devices = vm.list(&format!("{BUS}/devices"))?;
    let there = |instance: &str| devices.iter().any(|name| name == instance);
    let of_refused: Vec<_> = REFUSED.into_iter().filter(|i| there(i)).collect();
    let state = vm.read(&format!("{BUS}/devices/{UNKNOWN}/state"))?;
    expect(state.trim() == "2", "state 2: may be opened", state)?;
    expect(
        there(UNKNOWN) && of_refused.is_empty(),
        "the device of an unknown class, and none of a refused offer",
        devices.join(" "),
    )
}

/// The host keeps the number of an offer, and the device, until the guest has handed it back, also one that it
/// could not take.
fn handed_back(vm: &Vm) -> Result<()> {
    storage::unplug(vm, "orphan")?;
    vm.wait_until(APPEAR, "a refused offer handed back", || {
        vm.plug_again("orphan")
    })
}

fn counted(vm: &Vm) -> Result<()> {
    for name in [
        "bad_messages",
        "stray_replies",
        "refused_offers",
        "bad_rescinds",
    ] {
        expect(counter(vm, name)? > 0, format!("{name} counted"), 0)?;
    }
    expect_none(vm, &["timeouts", "leaked_pages"])
}
