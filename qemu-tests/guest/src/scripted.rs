// SPDX-License-Identifier: GPL-2.0

//! Process 1 of a guest that repeats to the instruction. Nobody talks to it while it runs, since what
//! arrives from outside arrives at another instruction each time: its scripts are in QEMU's fw_cfg.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::time::{clock_gettime, ClockId};

use crate::uevent;

/// The kernel passes words of its command line that it does not know to process 1.
const SWITCH: &str = "scripted";
const ENTRIES: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/vmbus";
const CONSOLE: &str = "/dev/ttyS0";
/// The port of QEMU's pvpanic device, and what stops the machine there.
const PVPANIC: (u64, u8) = (0x505, 1);

/// Whether the command line asks for it.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os(SWITCH).is_some()
}

/// Load the drivers, prepare, let the machine be saved, and do what it is to do once it goes on.
pub(crate) fn run() -> Result<()> {
    Command::new("/sbin/modprobe").arg("qemu_fw_cfg").status()?;
    fs::write("/etc/modprobe.d/vmbus.conf", entry("modprobe")?)?;
    uevent::autoload()?;
    report("prepare", script("prepare")?)?;
    stop_machine()?;
    report("script", script("script")?)
}

/// The kernel's files give what the device has now, not what it had at the boot.
fn entry(name: &str) -> Result<String> {
    let data = fs::read(format!("{ENTRIES}/{name}/raw")).with_context(|| name.to_owned())?;
    let text = String::from_utf8(data)?;
    Ok(text.trim_end_matches('\0').to_owned())
}

fn script(name: &str) -> Result<i32> {
    let console = OpenOptions::new().write(true).open(CONSOLE)?;
    let done = Command::new("/bin/sh")
        .args(["-c", &entry(name)?])
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        .status()?;
    Ok(done.code().unwrap_or(-1))
}

fn report(name: &str, status: i32) -> Result<()> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let line = format!(
        "{name} ended with status {status} at {}.{:09}\n",
        now.tv_sec(),
        now.tv_nsec()
    );
    fs::write(CONSOLE, line).context(CONSOLE)
}

fn stop_machine() -> Result<()> {
    let (port, value) = PVPANIC;
    let ports = OpenOptions::new().write(true).open("/dev/port")?;
    ports.write_all_at(&[value], port).context("/dev/port")
}
