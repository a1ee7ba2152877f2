// SPDX-License-Identifier: GPL-2.0

//! A host that is late to confirm that the balloon's channel is closed, or never does: until it has, what it was given
//! stays with it. And one that takes the balloon back while it starts: nobody waits for it.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::ballooning::{memory, reach, MIB};
use crate::devices::{self, counter, BUS};
use crate::failure::expect;
use crate::guest_files;
use crate::machine::{text, Machine};
use crate::qemu::MEMORY;
use crate::storage::{self, Job};
use crate::vm::Vm;

/// The first two GPADL_TORNDOWN (12).
const BUS_SCRIPT: &str = "on message op=12 nth=1 do delay 30000\n\
                          on message op=12 nth=2 do drop\n";
/// Instead of the fourth answer to a version, which is that of the fourth time that the device is bound.
const BALLOON_SCRIPT: &str = "on send op=0x00100002 nth=4 do drop ; unplug\n";

/// A guest of that host.
pub(super) const MACHINE: Machine = Machine {
    name: "memory-late",
    module_parameters: "hv_vmbus_rust.answer_secs=10 hv_balloon_rust.pressure_report_delay=5",
    files: &[text("bus", BUS_SCRIPT), text("balloon", BALLOON_SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-device hv-balloon,id=balloon,status-report=on,fault-script=@/balloon,\
         instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
        "-global hv-balloon.post-init-wait-ms=2000",
    ],
    ..Machine::BALLOON
};

/// What the host is given.
const GIVEN: u64 = 256 * MIB;
/// Other memory comes and goes meanwhile.
const TOLERANCE: u64 = 4 * MIB;
/// Until the host is given up, and until its answer comes.
const GIVEN_UP: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(60);
/// Of the guest's time. A step of the negotiation takes 5 s where the host does not answer.
const SOON: Duration = Duration::from_secs(3);
/// What the driver says of a balloon that it keeps.
const KEPT: &str = "the host has not let go of the channel: 65536 pages stay with it";
/// The figures of the driver.
const STATUS: &str = "/sys/kernel/debug/hv-balloon-rust/status";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let device = devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let driver = vm
        .link_name(&format!("{BUS}/devices/{device}/driver"))?
        .context("the device is bound")?;
    let driver = format!("{BUS}/drivers/{driver}");
    let before = memory(vm)?.total;
    reach(vm, MEMORY - GIVEN)?;

    let unbind = || {
        Job::start(vm, "unbind", &format!("echo {device} > {driver}/unbind"))?
            .expect_success(GIVEN_UP)
    };
    let bind = || vm.write(&format!("{driver}/bind"), &device);
    let stays = "what the host was given to stay with it";

    unbind()?;
    expect_total(vm, before - GIVEN, stays)?;
    expect_line(vm, KEPT, 1)?;
    vm.wait_until(ANSWERED, "no page left to the host", || {
        let pages = counter(vm, "leaked_pages")?;
        Ok(if pages == 0 {
            Ok(())
        } else {
            Err(pages.to_string())
        })
    })?;
    let back = "all memory to be back once the host has confirmed, without a balloon";
    vm.wait_until(Duration::from_secs(15), back, || {
        let total = memory(vm)?.total;
        Ok(if total.abs_diff(before) <= TOLERANCE {
            Ok(())
        } else {
            Err(format!("{} KiB of {}", total / 1024, before / 1024))
        })
    })?;
    let returned = "65536 pages returned to the guest, which the host had kept";
    expect_line(vm, returned, 1)?;

    bind()?;
    reach(vm, MEMORY - GIVEN)?;
    unbind()?;
    expect_total(vm, before - GIVEN, stays)?;
    expect_line(vm, KEPT, 2)?;
    bind()?;
    let withheld = guest_files::counter(&vm.read(STATUS)?, "pages_withheld:");
    expect(
        withheld == Some(65536),
        "65536 pages withheld",
        format!("{withheld:?}"),
    )?;
    let module = vm.core.balloon_module();
    vm.exec(&["modprobe", "-r", module])?;
    expect_total(vm, before - GIVEN, stays)?;
    expect_line(vm, "65536 pages are left to the host", 1)?;

    let start = uptime(vm)?;
    // Its device goes while the driver asks for a version.
    vm.exec(&["modprobe", module])?;
    storage::wait_unplugged(vm, &device)?;
    let took = uptime(vm)? - start;
    expect(
        took < SOON,
        format!("a balloon that goes while it starts gone within {SOON:?}"),
        format!("{took:?}"),
    )?;
    let log = vm.dmesg()?;
    let wrong = log.lines().find(|line| line.contains("negotiation failed"));
    expect(
        wrong.is_none(),
        "no word of a host that does not answer",
        wrong.unwrap_or_default(),
    )
}

fn expect_total(vm: &Vm, wanted: u64, what: &str) -> Result<()> {
    let total = memory(vm)?.total;
    expect(
        total.abs_diff(wanted) <= TOLERANCE,
        format!("{what}: MemTotal of {} KiB", wanted / 1024),
        format!("{} KiB", total / 1024),
    )
}

fn expect_line(vm: &Vm, text: &str, times: usize) -> Result<()> {
    let log = vm.dmesg()?;
    let found = log.matches(text).count();
    expect(
        found == times,
        format!("'{text}' {times} times in the log"),
        found,
    )
}

/// The guest's own time.
fn uptime(vm: &Vm) -> Result<Duration> {
    let text = vm.read("/proc/uptime")?;
    let seconds = text.split_whitespace().next().and_then(|s| s.parse().ok());
    seconds.map(Duration::from_secs_f64).context(text)
}
