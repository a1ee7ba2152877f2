// SPDX-License-Identifier: GPL-2.0

//! `make run`: shows what the drivers do, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::ballooning::{
    expect_agreement, host_memory, memory, request, wait, Memory, HOST_DELAY, MIB,
};
use crate::devices::{self, ATTRIBUTES};
use crate::failure::expect;
use crate::kernel_log::negotiated_version;
use crate::qemu::MEMORY;
use crate::vm::Vm;

const TARGET: u64 = MEMORY / 2;

/// Show it in this guest.
pub(crate) fn run(vm: &Vm) -> Result<()> {
    let release = vm.exec(&["uname", "-r"])?;
    println!(
        "guest: stock Debian kernel {}, {} drivers",
        release.trim(),
        vm.core
    );
    vm.load_core()?;
    let loaded = Instant::now();
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let version = negotiated_version(&vm.dmesg()?).context("no negotiated version in the log")?;
    println!("VMBus: version {version} negotiated");
    println!();
    print_devices(vm)?;

    let before = memory(vm)?;
    println!(
        "{:12} {:>10} {:>10} {:>10}",
        "memory, MiB", "host says", "MemTotal", "available"
    );
    print_memory("before", before);
    request(vm, TARGET)?;
    wait_with_bar(vm, loaded)?;
    wait(vm, TARGET)?;
    print_memory("ballooned", expect_agreement(vm, before)?);
    request(vm, MEMORY)?;
    wait(vm, MEMORY)?;
    let after = expect_agreement(vm, before)?;
    print_memory("after", after);
    println!();
    expect(
        after.total == before.total,
        "all memory back",
        format!("{} KiB", after.total / 1024),
    )?;
    println!(
        "summary: {} drivers, VMBus {version}, {} MiB went to the host and came back",
        vm.core,
        (before.host - TARGET) / MIB,
    );
    println!("console: {}", vm.console.path().display());
    Ok(())
}

fn print_devices(vm: &Vm) -> Result<()> {
    for device in devices::list(vm)? {
        println!("device {}", device.name);
        for (name, value) in ATTRIBUTES.iter().zip(&device.values) {
            println!("  {name:10} {value}");
        }
        println!(
            "  {:10} {}",
            "driver",
            device.driver.as_deref().unwrap_or("(none)")
        );
    }
    println!();
    Ok(())
}

fn print_memory(when: &str, m: Memory) {
    println!(
        "{when:12} {:10} {:10} {:10}",
        m.host / MIB,
        m.total / MIB,
        m.available / MIB
    );
}

/// The host does nothing for 50 s after the handshake; show that it is waiting.
fn wait_with_bar(vm: &Vm, since: Instant) -> Result<()> {
    let bar = ProgressBar::new(HOST_DELAY.as_secs());
    bar.set_style(ProgressStyle::with_template(
        "{msg} [{bar:30}] {pos}/{len} s",
    )?);
    bar.set_message("hv-balloon's start delay");
    while since.elapsed() < HOST_DELAY && host_memory(vm)? == MEMORY {
        bar.set_position(since.elapsed().as_secs());
        std::thread::sleep(Duration::from_millis(500));
    }
    bar.finish_and_clear();
    Ok(())
}
