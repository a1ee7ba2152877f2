// SPDX-License-Identifier: GPL-2.0

//! A host that is not told that a channel is closed, or asked for its memory, since it does not take the message. It may
//! write to the memory until it is: the memory is left to it, it is told again, and the controller can be bound again.
//! Nor is it told that a relid is released, without which it does not offer the device again: it is told that later, too.
//! One that does not take the proposal of a version has the next one proposed.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::devices::{counter, expect_none, BUS};
use crate::failure::expect;
use crate::fio::LOAD;
use crate::machine::{disk, text, BusVersion, Initramfs, Machine, Qemu};
use crate::net;
use crate::scenarios::Context;
use crate::storage::{self, script, Job};
use crate::vm::Vm;

/// With relid 1.
const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c01";
/// With relid 2: its second OPENCHANNEL is not answered, and the CLOSECHANNEL behind it not posted.
const UNANSWERED: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c02";
/// With relid 3: a network adapter, whose buffers are memory of a channel that is not closed.
const ADAPTER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c03";
const DISK: storage::Address = (0, 0, 0);

/// CLOSECHANNEL (7) and GPADL_TEARDOWN (11) are refused with a status that means no busy host: they are not posted
/// again at once. A close is refused twice, and posted 10 s later. The first teardown of relid 1 is that of the first
/// round, after its third close. The fiftieth GPADL_BODY (9) is one of the adapter's buffer, which has three times as many
/// and is the only one with more than a few: it ends there, and the adapter is closed. The RELID_RELEASED (13) of relid 2
/// is refused once, and INITIATE_CONTACT (14) of version 5.3.
const SCRIPT: &str = "\
on post op=7 u32@8=1 times=2 do refuse 5
on post op=11 u32@8=1 nth=2 do refuse 5
on message op=6 u32@8=2 nth=2 do drop
on post op=7 u32@8=2 nth=2 do refuse 5
on post op=9 nth=50 do refuse 5
on post op=7 u32@8=3 from=2 times=2 do refuse 5
on post op=13 u32@8=2 nth=1 do refuse 5
on post op=14 u32@8=0x50003 do refuse 5
";

/// Two controllers with one channel each and an adapter on that host's bus.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "untold",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=10",
    files: &[
        disk("disk", 32),
        disk("unanswered", 32),
        text("bus", SCRIPT),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c01",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
        "-blockdev raw,node-name=unanswered,file.driver=file,file.filename=@/unanswered",
        "-device hv-scsi,id=unanswered,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c02",
        "-device scsi-hd,bus=unanswered.0,drive=unanswered,scsi-id=0,lun=0",
        "-netdev user,id=user,restrict=on",
        "-device hv-net,id=net,netdev=user,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c03",
    ],
};

/// Until the host has let go of everything: it is told again 10 s later.
const BOUND: Duration = Duration::from_secs(30);
/// Until a device for which the host was late has been probed again, twice.
const AGAIN: Duration = Duration::from_secs(60);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    next_version(cx)?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    for (round, left) in [
        ("a channel not closed, twice", true),
        ("memory not asked for", false),
        ("nothing refused", false),
    ] {
        let disk = storage::wait_for(vm, INSTANCE, DISK)?;
        LOAD.run(vm, &disk)?;
        vm.write(&format!("{driver}/unbind"), INSTANCE)?;
        if left {
            expect_left(vm, round)?;
        }
        all_back(vm, round)?;
        vm.write(&format!("{driver}/bind"), INSTANCE)?;
    }
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    LOAD.run(vm, &disk)?;

    adapter(vm)?;
    expect_none(vm, &["timeouts", "bad_messages"])?;
    let log = vm.dmesg()?;
    for (line, wanted) in [("not closed yet", 2), ("not torn down", 1)] {
        let times = log.matches(line).count();
        expect(
            times == wanted,
            format!("'{line}' {wanted} times in the log"),
            times,
        )?;
    }
    unanswered(vm, &driver)?;
    unreleased(vm)
}

/// The newest version that the host has could not be proposed.
fn next_version(cx: &Context<'_>) -> Result<()> {
    let version = match cx.bus_version {
        BusVersion::V5_3 => "5.2",
        BusVersion::V4_0 => "4.0",
    };
    let log = cx.vm.dmesg()?;
    let line = log.lines().find(|line| line.contains("Vmbus version:"));
    expect(
        line.is_some_and(|line| line.ends_with(&format!("version:{version}"))),
        format!("version {version}"),
        line.unwrap_or("none"),
    )
}

/// The buffers of an adapter whose channel is not closed are left to the host, too, and a buffer of which it knows a part.
fn adapter(vm: &Vm) -> Result<()> {
    let driver = format!("{BUS}/drivers/{}", vm.core.net_driver());
    script(vm, &format!("modprobe {}", vm.core.net_module()))?;
    all_back(vm, "half a list of pages")?;
    let log = vm.dmesg()?;
    let failed = log.matches("initialisation failed").count();
    expect(failed == 1, "an adapter without a buffer", failed)?;
    vm.write(&format!("{driver}/bind"), ADAPTER)?;
    net::wait_for(vm, ADAPTER)?;
    vm.write(&format!("{driver}/unbind"), ADAPTER)?;
    let pages = expect_left(vm, "an adapter not closed")?;
    // Its rings are fewer.
    expect(pages > 1_000, "its buffers are left to the host", pages)?;
    all_back(vm, "an adapter not closed")?;
    vm.write(&format!("{driver}/bind"), ADAPTER)?;
    net::wait_for(vm, ADAPTER).map(drop)
}

/// The controller comes back by itself once the host has let go of it.
fn unanswered(vm: &Vm, driver: &str) -> Result<()> {
    storage::wait_for(vm, UNANSWERED, DISK)?;
    vm.write(&format!("{driver}/unbind"), UNANSWERED)?;
    let bind = format!("! echo {UNANSWERED} > {driver}/bind");
    Job::start(vm, "bind", &bind)?.expect_success(AGAIN)?;
    let disk = storage::wait_for_long(vm, UNANSWERED, DISK, AGAIN)?;
    LOAD.run(vm, &disk)?;
    all_back(vm, "an open not answered")?;
    let timeouts = counter(vm, "timeouts")?;
    expect(timeouts == 1, "one answer waited for in vain", timeouts)
}

/// The host cannot offer the controller again before its relid is released.
fn unreleased(vm: &Vm) -> Result<()> {
    vm.qmp("device_del", &json!({ "id": "unanswered" }))?;
    storage::wait_unplugged(vm, UNANSWERED)?;
    vm.wait_until(BOUND, "the controller offered again", || {
        vm.plug_again("unanswered")
    })?;
    vm.wait_until(BOUND, "the controller on the bus", || {
        let devices = vm.list(&format!("{BUS}/devices"))?;
        Ok(if devices.iter().any(|name| name == UNANSWERED) {
            Ok(())
        } else {
            Err(devices.join(" "))
        })
    })?;
    let log = vm.dmesg()?;
    let refused = log.matches("relid 2 is not released yet").count();
    expect(refused == 1, "one RELID_RELEASED that was refused", refused)
}

/// Gives how many pages are left to the host.
fn expect_left(vm: &Vm, round: &str) -> Result<u64> {
    let pages = counter(vm, "leaked_pages")?;
    expect(pages > 0, format!("{round}: pages left to the host"), pages)?;
    Ok(pages)
}

/// The host has given all memory back.
fn all_back(vm: &Vm, round: &str) -> Result<()> {
    let what = format!("{round}: no page left to the host");
    vm.wait_until(BOUND, &what, || {
        let pages = counter(vm, "leaked_pages")?;
        Ok(if pages == 0 {
            Ok(())
        } else {
            Err(format!("{pages} pages"))
        })
    })
}
