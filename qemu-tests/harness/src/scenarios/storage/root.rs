// SPDX-License-Identifier: GPL-2.0

//! A root file system on a disk: the initramfs loads drivers by device events, mounts it and hands
//! over, and the guest runs from it until a reboot.

use anyhow::{Context as _, Result};

use crate::devices::BUS;
use crate::failure::{expect, unmet};
use crate::kernel_log;
use crate::root_disk::SUMS;
use crate::scenarios::{reboot, Context};
use crate::storage::{self, script, Job, MAIN, PLAIN};
use crate::vm::Vm;

/// What must come from the disk when all its files are read, in sectors; they are about 30 MiB.
const LEAST_READ: u64 = 24 << 11;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    only_needed(vm)?;
    storage::load(vm)?;
    let version = kernel_log::negotiated_version(&vm.dmesg()?);
    expect(
        version.as_deref() == Some("4.0"),
        "version 4.0 negotiated",
        format!("{version:?}"),
    )?;
    let disk = storage::wait_for(vm, MAIN, PLAIN)?;
    vm.enter_root(&disk)?;
    is_root(vm, &disk)?;
    is_debian(vm)?;
    checksums(vm, &disk)?;
    files_stay(vm)?;
    kernel_log::expect_no_complaint(vm)?;
    reboot::ends_in_order(vm, "reboot", "reboot: Restarting system")
}

/// The initramfs has no other driver of the bus that could do it.
fn only_needed(vm: &Vm) -> Result<()> {
    let found = script(
        vm,
        "find /lib/modules -name 'hv*.ko' | sed 's|.*/||' | sort",
    )?;
    let mut needed = vm.core.storage_drivers().to_vec();
    needed.sort_unstable();
    expect(
        found
            .lines()
            .eq(needed.iter().map(|name| format!("{name}.ko"))),
        format!("{} and no other driver in the initramfs", needed.join(", ")),
        found,
    )
}

/// `/` and process 1 are on the disk, which is the controller's, which has the driver under test.
fn is_root(vm: &Vm, disk: &str) -> Result<()> {
    let mounts = vm.read("/proc/1/mounts")?;
    let at_root: Vec<_> = mounts.lines().filter(|l| l.contains(" / ")).collect();
    expect(
        at_root
            .last()
            .is_some_and(|l| l.starts_with(&format!("/dev/{disk} / ext4 rw"))),
        format!("/dev/{disk} as / with ext4"),
        at_root.join("; "),
    )?;
    let number = vm.read(&format!("/sys/block/{disk}/dev"))?;
    let number = number.trim();
    let found = vm.exec(&["stat", "-L", "-c", "%Hd:%Ld", "/", "/proc/1/exe"])?;
    expect(
        found.lines().eq([number, number]),
        format!("/ and the program of process 1 on device {number}"),
        found.trim(),
    )?;
    let again = storage::find(vm, MAIN, PLAIN)?;
    expect(
        again.as_deref() == Some(disk),
        format!("{disk} on controller {MAIN}"),
        format!("{again:?}"),
    )?;
    let bound = vm.link_name(&format!("{BUS}/devices/{MAIN}/driver"))?;
    let driver = vm.core.storage_driver();
    expect(
        bound.as_deref() == Some(driver),
        format!("driver {driver} for the controller"),
        format!("{bound:?}"),
    )?;
    let module = vm.core.storage_module();
    let loaded = vm.read("/proc/modules")?;
    for name in [module, "sd_mod", "ext4"] {
        expect(
            loaded.lines().any(|l| l.split(' ').next() == Some(name)),
            format!("module {name}, loaded by the initramfs"),
            &loaded,
        )?;
    }
    Ok(())
}

/// It is Debian, and its programs run.
fn is_debian(vm: &Vm) -> Result<()> {
    let version = vm.read("/etc/debian_version")?;
    expect(
        version.starts_with(|c: char| c.is_ascii_digit()),
        "a version in /etc/debian_version",
        version.trim(),
    )?;
    let said = vm.exec(&["dpkg", "--version"])?;
    expect(
        said.contains("package management program"),
        "dpkg to say what it is",
        said,
    )?;
    let status = vm.exec(&["dpkg-query", "-W", "-f", "${Status}", "coreutils"])?;
    expect(
        status == "install ok installed",
        "coreutils installed, as dpkg sees it",
        status,
    )?;
    let said = vm.exec(&[
        "perl",
        "-e",
        "use File::Basename; print basename($^X), ' ', 6 * 7",
    ])?;
    expect(said == "perl 42", "'perl 42' from perl", said)
}

/// All files are what they were when the disk was made, and they come from it.
fn checksums(vm: &Vm, disk: &str) -> Result<()> {
    script(vm, "sync; echo 3 > /proc/sys/vm/drop_caches")?;
    let before = sectors_read(vm, disk)?;
    let check = format!("cd / && sha256sum --quiet -c {SUMS}");
    Job::start(vm, "checksums", &check)?.expect_success(storage::JOB)?;
    let read = sectors_read(vm, disk)? - before;
    expect(
        read > LEAST_READ,
        format!("more than {LEAST_READ} sectors read from the disk"),
        read,
    )
}

fn sectors_read(vm: &Vm, disk: &str) -> Result<u64> {
    let text = vm.read(&format!("/sys/block/{disk}/stat"))?;
    let field = text.split_whitespace().nth(2);
    field
        .ok_or_else(|| unmet("sectors read in the disk's stat", &text))?
        .parse()
        .context("a count of sectors")
}

/// What is written is on the disk, and what is not to be written is not.
fn files_stay(vm: &Vm) -> Result<()> {
    let text = "mkdir /home/files
                for i in 1 2 3 4 5 6 7 8; do
                    head -c $((i * 123457)) /dev/urandom > /home/files/random$i
                done
                sha256sum /home/files/* > /tmp/sums
                sync
                mount -o remount,ro /
                if touch /home/files/more; then exit 1; fi
                echo 3 > /proc/sys/vm/drop_caches
                sha256sum --quiet -c /tmp/sums
                mount -o remount,rw /
                rm /home/files/random3
                sync
                mount -o remount,ro /";
    script(vm, text).map(drop)
}
