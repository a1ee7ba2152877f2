// SPDX-License-Identifier: GPL-2.0

//! A panic under I/O starts a crash kernel, on another CPU than the first and with no other. It finds
//! the disk and saves the beginning of the memory image to it, which the next boot finds there.

use anyhow::Result;

use crate::failure::expect;
use crate::scenarios::{panic, reboot, Context};
use crate::storage::{self, script, Address, Job, MAIN, PLAIN};
use crate::vm::Vm;

const LOADED_DISK: Address = (0, 0, 1);
const CPU: usize = 3;

/// Blocks of 64 KiB that are saved.
const BLOCKS: u32 = 64;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let loaded = storage::wait_for(vm, MAIN, LOADED_DISK)?;
    vm.load_crash_kernel()?;
    let load =
        format!("while dd if=/dev/zero of=/dev/{loaded} bs=64k count=256 oflag=direct; do :; done");
    let job = Job::start(vm, "load", &load)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    job.expect_running()?;
    vm.crash(CPU)?;
    panic::expect_unload(vm, 0)?;

    let saved = save(vm)?;
    reboot::ends_in_order(vm, "reboot", "reboot: Restarting system")?;
    vm.boot_again()?;
    storage::load(vm)?;
    let disk = storage::wait_for(vm, MAIN, PLAIN)?;
    let found = script(
        vm,
        &format!("dd if=/dev/{disk} bs=64k count={BLOCKS} iflag=direct | sha256sum"),
    )?;
    expect(found == saved, saved.trim(), found.trim())
}

/// In the crash kernel: memory of the other one to the disk, by the one channel of its one CPU. Gives
/// the checksum.
fn save(vm: &Vm) -> Result<String> {
    storage::load(vm)?;
    let disk = storage::wait_for(vm, MAIN, PLAIN)?;
    let channels = storage::channels(vm, MAIN)?.len();
    expect(channels == 1, "one channel", channels)?;
    script(
        vm,
        &format!(
            "head -c $(({BLOCKS} << 16)) /proc/vmcore > /tmp/saved
             head -c 65536 /tmp/saved | grep -q OSRELEASE=
             dd if=/tmp/saved of=/dev/{disk} bs=64k oflag=direct
             sha256sum < /tmp/saved"
        ),
    )
}
