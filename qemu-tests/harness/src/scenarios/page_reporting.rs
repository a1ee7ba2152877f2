// SPDX-License-Identifier: GPL-2.0

//! The host is told of free memory, and takes what is in it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Context;
use crate::ballooning::{expect_no_complaint, expect_no_oom, MIB};
use crate::devices::{self, BUS};
use crate::failure::expect;
use crate::vm::Vm;

/// Parameters of the kernel's free page reporting: the pause before a pass, in ms, and the smallest block.
const DELAY: &str = "/sys/module/page_reporting/parameters/page_reporting_delay_ms";
const ORDER: &str = "/sys/module/page_reporting/parameters/page_reporting_order";

/// 2 MiB. A kernel without huge pages has larger ones (`pageblock_order`).
const LARGE: u32 = 9;

/// What is in use for a while, and of that, what is hinted at afterwards, at least: some of it is in smaller blocks.
const USED: u64 = 200 * MIB;
const TOLD: u64 = 120 * MIB;

/// What the Rust driver says when it gives up.
const GAVE_UP: &str = "is not told of free memory any more";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let device = devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    vm.write(DELAY, "100")?;

    // A file that is there all the time keeps what it has.
    let kept =
        "dd if=/dev/urandom of=/tmp/kept bs=1M count=64 2>/dev/null; busybox md5sum < /tmp/kept";
    let sum = vm.exec(&["sh", "-c", kept])?;
    let at_first = settle(vm)?;
    expect(
        at_first.bytes >= 256 * MIB,
        "the host to be told of most of the free memory",
        format!("{} MiB", at_first.bytes / MIB),
    )?;
    expect_told(vm)?;

    // This host takes whole large pages only.
    vm.write(ORDER, "3")?;
    use_and_free(vm)?;
    vm.wait_until(
        Duration::from_secs(30),
        "no blocks below 2 MiB to be reported",
        || {
            let order = vm.read(ORDER)?;
            Ok(
                if order.trim().parse().is_ok_and(|order: u32| order >= LARGE) {
                    Ok(())
                } else {
                    Err(format!("order {}", order.trim()))
                },
            )
        },
    )?;
    if vm.core.has_rust_drivers() {
        expect_told(vm)?;
        a_host_that_refuses(vm, &device)?;
    }
    let now = vm.exec(&["sh", "-c", "busybox md5sum < /tmp/kept; rm /tmp/kept"])?;
    expect(now == sum, format!("the file's sum {sum}"), &now)?;
    *cx.figures = format!("{} MiB at first", at_first.bytes / MIB);
    expect_no_oom(vm)?;
    expect_no_complaint(vm)
}

/// The host refuses hints: three, and there are none any more until the device is bound again.
fn a_host_that_refuses(vm: &Vm, device: &str) -> Result<()> {
    vm.qmp(
        "qom-set",
        &json!({ "path": PATH, "property": "cold-discard-refuse", "value": 1000 }),
    )?;
    vm.wait_until(Duration::from_secs(60), "the driver to give up", || {
        use_and_free(vm)?;
        Ok(match vm.dmesg()?.matches(GAVE_UP).count() {
            0 => Err("no such line".to_owned()),
            n => Ok(n),
        })
    })
    .and_then(|lines| expect(lines == 1, "one line", lines))?;
    let before = told(vm)?;
    use_and_free(vm)?;
    std::thread::sleep(Duration::from_secs(3));
    let after = told(vm)?;
    expect(
        after.hints == before.hints,
        "no hint any more",
        after.hints - before.hints,
    )?;
    vm.qmp(
        "qom-set",
        &json!({ "path": PATH, "property": "cold-discard-refuse", "value": 0 }),
    )?;

    let driver = vm
        .link_name(&format!("{BUS}/devices/{device}/driver"))?
        .context("the device is bound")?;
    let folder = format!("{BUS}/drivers/{driver}");
    vm.write(&format!("{folder}/unbind"), device)?;
    use_and_free(vm)?;
    std::thread::sleep(Duration::from_secs(2));
    let unbound = told(vm)?;
    expect(
        unbound.hints == after.hints,
        "no hint while the device is not bound",
        unbound.hints - after.hints,
    )?;
    vm.write(&format!("{folder}/bind"), device)?;
    expect_told(vm)?;

    let lines = vm.dmesg()?.matches(GAVE_UP).count();
    expect(lines == 1, "that it was given up once", lines)
}

/// What is used and then free is told of.
fn expect_told(vm: &Vm) -> Result<()> {
    let before = told(vm)?;
    use_and_free(vm)?;
    vm.wait_until(
        Duration::from_secs(60),
        "the host to be told of memory that was in use",
        || {
            let bytes = told(vm)?.bytes - before.bytes;
            Ok(if bytes >= TOLD {
                Ok(())
            } else {
                Err(format!("{} MiB", bytes / MIB))
            })
        },
    )
}

fn use_and_free(vm: &Vm) -> Result<()> {
    let script = format!(
        "dd if=/dev/zero of=/tmp/used bs=1M count={} 2>/dev/null && rm /tmp/used",
        USED / MIB
    );
    vm.exec(&["sh", "-c", &script]).map(drop)
}

/// The device.
const PATH: &str = "/machine/peripheral/balloon";

/// What the host has heard so far.
struct Told {
    hints: u64,
    bytes: u64,
}

fn told(vm: &Vm) -> Result<Told> {
    let get = |name: &str| {
        vm.qmp("qom-get", &json!({ "path": PATH, "property": name }))?
            .as_u64()
            .context("a number")
    };
    Ok(Told {
        hints: get("cold-discard-hints")?,
        bytes: get("cold-discard-bytes")?,
    })
}

/// Waits until nothing new is told.
fn settle(vm: &Vm) -> Result<Told> {
    let mut last = told(vm)?;
    vm.wait_until(Duration::from_secs(60), "hints to come to rest", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = told(vm)?;
        let rests = now.hints == last.hints && now.hints > 0;
        last = now;
        Ok(if rests {
            Ok(())
        } else {
            Err(format!("{} hints, {} MiB", last.hints, last.bytes / MIB))
        })
    })?;
    Ok(last)
}
