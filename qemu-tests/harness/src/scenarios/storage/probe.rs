// SPDX-License-Identifier: GPL-2.0

//! The driver comes by device events and finds what the host has.

use anyhow::{Context as _, Result};

use crate::failure::{expect, unmet};
use crate::kernel_log;
use crate::scenarios::Context;
use crate::storage::{self, Address, BIG_SECTORS, CD, IDE, MAIN, PLAIN, SPARE};

/// Controller, place, MiB and bytes of a sector of each disk.
const DISKS: [(&str, Address, u64, &str); 4] = [
    (MAIN, PLAIN, storage::PLAIN_MIB, "512"),
    (MAIN, BIG_SECTORS, storage::BIG_SECTORS_MIB, "4096"),
    (SPARE, (0, 0, 0), storage::SMALL_MIB, "512"),
    (IDE, (0, 0, 0), storage::SMALL_MIB, "512"),
];

/// Files of each channel that both cores have.
const FILES: [&str; 12] = [
    "cpu",
    "events",
    "in_mask",
    "interrupts",
    "intr_in_full",
    "intr_out_empty",
    "out_full_first",
    "out_full_total",
    "out_mask",
    "read_avail",
    "subchannel_id",
    "write_avail",
];

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    for (controller, address, mib, sector) in DISKS {
        let name = storage::wait_for(vm, controller, address)?;
        let size = vm.read(&format!("/sys/block/{name}/size"))?;
        let found = vm.read(&format!("/sys/block/{name}/queue/logical_block_size"))?;
        expect(
            size.trim() == (mib << 11).to_string() && found.trim() == sector,
            format!("{} sectors, {sector} bytes each, at {address:?}", mib << 11),
            format!("{name}: {} sectors, {} bytes", size.trim(), found.trim()),
        )?;
    }

    let cd = storage::wait_for(vm, MAIN, CD)?;
    let read = format!(
        "dd if=/dev/{cd} bs=2048 count=1 2>/dev/null | head -c {}",
        storage::CD_TEXT.len()
    );
    let text = vm.exec(&["sh", "-c", &read])?;
    expect(text == storage::CD_TEXT, "the CD-ROM's first words", text)?;

    let channels = storage::channels(vm, MAIN)?;
    expect(
        channels.len() == storage::MAIN_QUEUES,
        format!("{} channels", storage::MAIN_QUEUES),
        channels.len(),
    )?;
    let folder = channels.first().context("a channel")?;
    let files = vm.list(folder)?;
    for name in FILES {
        expect(
            files.iter().any(|file| file == name),
            format!("{name} of each channel"),
            files.join(" "),
        )?;
    }
    let version = kernel_log::negotiated_version(&vm.dmesg()?)
        .ok_or_else(|| unmet("the negotiated version in the kernel log", "no such line"))?;
    let wanted = cx.bus_version.to_string();
    expect(
        version == wanted,
        format!("version {wanted} negotiated"),
        &version,
    )?;
    let modules = vm.read("/proc/modules")?;
    let module = vm.core.storage_module();
    expect(
        modules.lines().any(|l| l.split(' ').next() == Some(module)),
        format!("module {module} loaded by its alias"),
        modules,
    )
}
