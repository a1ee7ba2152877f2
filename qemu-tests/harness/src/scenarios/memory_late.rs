// SPDX-License-Identifier: GPL-2.0

//! A host that is late to confirm that the balloon's channel is closed: until it does, what it was given stays with it.
//! And one that takes the balloon back while it starts: nobody waits for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Context;
use crate::ballooning::{memory, reach, MIB};
use crate::devices::{self, counter, BUS};
use crate::failure::expect;
use crate::machine::{text, Machine};
use crate::qemu::MEMORY;
use crate::storage::{self, Job};
use crate::vm::Vm;

/// The first GPADL_TORNDOWN (12).
const BUS_SCRIPT: &str = "on message op=12 nth=1 do delay 30000\n";
/// Instead of the third answer to a version, which is that of the third time that the device is bound.
const BALLOON_SCRIPT: &str = "on send op=0x00100002 nth=3 do drop ; unplug\n";

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
/// A step of the negotiation takes 5 s where the host does not answer.
const SOON: Duration = Duration::from_secs(3);

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

    Job::start(vm, "unbind", &format!("echo {device} > {driver}/unbind"))?
        .expect_success(GIVEN_UP)?;
    expect_total(
        vm,
        before - GIVEN,
        "what the host was given to stay with it",
    )?;
    expect_line(
        vm,
        "the host has not let go of the channel: 65536 pages stay with it",
    )?;
    vm.wait_until(ANSWERED, "no page left to the host", || {
        let pages = counter(vm, "leaked_pages")?;
        Ok(if pages == 0 {
            Ok(())
        } else {
            Err(pages.to_string())
        })
    })?;
    vm.write(&format!("{driver}/bind"), &device)?;
    let back = "all memory to be back once the host has confirmed";
    vm.wait_until(Duration::from_secs(15), back, || {
        let total = memory(vm)?.total;
        Ok(if total.abs_diff(before) <= TOLERANCE {
            Ok(())
        } else {
            Err(format!("{} KiB of {}", total / 1024, before / 1024))
        })
    })?;
    expect_line(
        vm,
        "65536 pages returned to the guest, which the host had kept",
    )?;

    vm.write(&format!("{driver}/unbind"), &device)?;
    let start = Instant::now();
    // It is not there any more, or goes while it is bound.
    let _ = vm.try_write(&format!("{driver}/bind"), &device)?;
    storage::wait_unplugged(vm, &device)?;
    let took = start.elapsed();
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

fn expect_line(vm: &Vm, text: &str) -> Result<()> {
    let log = vm.dmesg()?;
    let times = log.matches(text).count();
    expect(times == 1, format!("'{text}' once in the log"), times)
}
