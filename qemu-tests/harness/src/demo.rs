// SPDX-License-Identifier: GPL-2.0

//! `make run`: shows what the drivers do, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::ballooning::{expect_agreement, host_memory, memory, request, wait, Memory, MIB};
use crate::devices::{self, Device};
use crate::failure::expect;
use crate::kernel_log::negotiated_version;
use crate::machine::{disk, Initramfs, Machine, Qemu};
use crate::qemu::MEMORY;
use crate::storage::{self, script, Address};
use crate::vm::Vm;

const TARGET: u64 = MEMORY / 2;

/// Instance of the controller.
const CONTROLLER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f00d0";
/// Its disk.
const DISK: Address = (0, 0, 0);
/// How much is written there and read back.
const WRITTEN_MIB: u64 = 64;

/// Memory to give and take, and a disk.
pub(crate) const MACHINE: Machine = Machine {
    name: "demo",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Drivers,
    kernel_arguments: "",
    files: &[disk("disk", WRITTEN_MIB)],
    devices: &[
        "-device vmbus-bridge",
        "-device hv-balloon,id=balloon,status-report=on,post-init-wait-ms=2000,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk,cache.no-flush=on",
        "-device hv-scsi,id=scsi,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f00d0",
        "-device scsi-hd,bus=scsi.0,drive=disk,scsi-id=0,lun=0",
    ],
};

/// Classes of devices, and what people call them.
const CLASSES: [(&str, &str); 3] = [
    (devices::DYNAMIC_MEMORY, "dynamic memory"),
    ("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f", "SCSI controller"),
    ("f8615163-df3e-46c5-913f-f2d2f965ed0e", "network"),
];

/// Show it in this guest.
pub(crate) fn run(vm: &Vm) -> Result<()> {
    let release = vm.exec(&["uname", "-r"])?;
    println!(
        "guest: stock Debian kernel {}, {} drivers",
        release.trim(),
        vm.core
    );
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let disk = storage::wait_for(vm, CONTROLLER, DISK)?;
    let version = negotiated_version(&vm.dmesg()?).context("no negotiated version in the log")?;
    println!("VMBus: version {version} negotiated\n");
    print_devices(&devices::list(vm)?);

    let moved = show_memory(vm)?;
    let storage = show_disk(vm, &disk)?;
    println!(
        "summary: {} drivers, VMBus {version}; {moved}; {storage}",
        vm.core
    );
    println!("console: {}", vm.console.path().display());
    Ok(())
}

/// A table of the bus.
fn print_devices(devices: &[Device]) {
    println!("{:38} {:16} driver", "device", "class");
    for device in devices {
        let class = CLASSES
            .iter()
            .find(|(id, _)| device.values[1].contains(id))
            .map_or(device.values[1].as_str(), |(_, name)| name);
        let driver = device.driver.as_deref().unwrap_or("(none)");
        println!("{:38} {class:16} {driver}", device.name);
    }
    println!();
}

/// Half of the memory to the host and back; gives what was measured, in words.
fn show_memory(vm: &Vm) -> Result<String> {
    let before = memory(vm)?;
    println!(
        "{:12} {:>10} {:>10} {:>10} {:>8}",
        "memory, MiB", "host says", "MemTotal", "available", "took"
    );
    print_memory("before", before, None);
    wait_for_host(vm)?;
    let start = Instant::now();
    wait(vm, TARGET)?;
    let there = start.elapsed();
    print_memory("ballooned", expect_agreement(vm, before)?, Some(there));
    request(vm, MEMORY)?;
    let start = Instant::now();
    wait(vm, MEMORY)?;
    let back = start.elapsed();
    let after = expect_agreement(vm, before)?;
    print_memory("after", after, Some(back));
    println!();
    expect(
        after.total == before.total,
        "all memory back",
        format!("{} KiB", after.total / 1024),
    )?;
    Ok(format!(
        "{} MiB to the host in {:.1} s and back in {:.1} s",
        (before.host - TARGET) / MIB,
        there.as_secs_f64(),
        back.as_secs_f64()
    ))
}

fn print_memory(when: &str, m: Memory, took: Option<Duration>) {
    let took = took.map_or(String::new(), |t| format!("{:.1} s", t.as_secs_f64()));
    println!(
        "{when:12} {:10} {:10} {:10} {took:>8}",
        m.host / MIB,
        m.total / MIB,
        m.available / MIB
    );
}

/// The host does nothing for a while after the handshake; show that it is waiting.
fn wait_for_host(vm: &Vm) -> Result<()> {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{msg} {spinner} {elapsed}")?);
    bar.set_message("waiting for the host's balloon");
    bar.enable_steady_tick(Duration::from_millis(200));
    request(vm, TARGET)?;
    vm.wait_until(Duration::from_secs(60), "the balloon to begin", || {
        let now = host_memory(vm)?;
        Ok(if now == MEMORY {
            Err("the host has taken nothing yet".into())
        } else {
            Ok(())
        })
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// Random data to the disk, and from it again past the cache; gives what was measured, in words.
fn show_disk(vm: &Vm, disk: &str) -> Result<String> {
    println!("disk {disk}: {WRITTEN_MIB} MiB by {CONTROLLER}");
    let out = script(
        vm,
        &format!(
            "dd if=/dev/urandom of=/tmp/data bs=1M count={WRITTEN_MIB} 2>/dev/null
             sha256sum < /tmp/data
             cut -d' ' -f1 /proc/uptime
             dd if=/tmp/data of=/dev/{disk} bs=1M conv=fsync 2>/dev/null
             cut -d' ' -f1 /proc/uptime
             rm /tmp/data
             echo 3 > /proc/sys/vm/drop_caches
             cut -d' ' -f1 /proc/uptime
             dd if=/dev/{disk} of=/tmp/back bs=1M count={WRITTEN_MIB} 2>/dev/null
             cut -d' ' -f1 /proc/uptime
             sha256sum < /tmp/back
             rm /tmp/back"
        ),
    )?;
    let lines: Vec<&str> = out.lines().collect();
    let [wrote, began, written, again, end, read] = lines[..] else {
        anyhow::bail!("the guest's script printed '{out}'");
    };
    let rate = |from: &str, to: &str| -> Result<f64> {
        let seconds = to.parse::<f64>()? - from.parse::<f64>()?;
        Ok(WRITTEN_MIB as f64 / seconds.max(0.01))
    };
    let (out, back) = (rate(began, written)?, rate(again, end)?);
    let digest = |line: &str| {
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    println!("  written      sha256 {}  {out:5.0} MiB/s", digest(wrote));
    println!("  read back    sha256 {}  {back:5.0} MiB/s", digest(read));
    println!();
    expect(wrote == read, format!("sha256 {wrote}"), read)?;
    Ok(format!(
        "{WRITTEN_MIB} MiB to a disk at {out:.0} MiB/s and back, the same, at {back:.0} MiB/s"
    ))
}
