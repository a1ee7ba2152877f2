// SPDX-License-Identifier: GPL-2.0

//! Another disk takes the place of one that is in use. Nothing written for the old one reaches the new
//! one, which gets a name of its own and is seen as what it is, whatever the host says and when.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script as sh, Address, Job, JOB};
use crate::vm::Vm;

const LATE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0401";
const MANY: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0402";

const PLACE: Address = (0, 0, 3);

/// Disks that are swapped at once, and how often.
const DISKS: u32 = 8;
const ROUNDS: u32 = 4;

/// MiB of the disks that are swapped: old and new.
const OLD_MIB: u64 = 64;
const NEW_MIB: u64 = 32;

/// How long all disks of a round may take to be seen; each of them may have to be removed first.
const SEEN: Duration = Duration::from_secs(30);

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "swap",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("first", 16),
        disk("old", OLD_MIB),
        disk("new", NEW_MIB),
        text("late", "on send op=2 do delay 4000\non send op=11 do delay 4000\n"),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=first,file.driver=file,file.filename=@/first",
        "-blockdev raw,node-name=old,file.driver=file,file.filename=@/old",
        "-blockdev raw,node-name=new,file.driver=file,file.filename=@/new",
        "-device hv-scsi,id=late,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0401,fault-script=@/late",
        "-device scsi-hd,bus=late.0,drive=first,scsi-id=0,lun=0",
        "-device hv-scsi,id=many,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0402",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    storage::wait_for(vm, LATE, (0, 0, 0))?;
    late_notices(vm)?;
    let worst = many_at_once(vm)?;
    *cx.figures = format!("{DISKS} disks swapped in {} ms at most", worst.as_millis());
    Ok(())
}

fn plug(vm: &Vm, bus: &str, id: &str, node: &str, serial: &str, unit: Address) -> Result<()> {
    let (channel, target, lun) = unit;
    let device = json!({
        "driver": "scsi-hd", "bus": format!("{bus}.0"), "drive": node, "id": id, "serial": serial,
        "channel": channel, "scsi-id": target, "lun": lun,
    });
    storage::add_disk(vm, &device)
}

/// The serial number that the guest has for a disk.
fn serial(vm: &Vm, name: &str) -> Result<String> {
    let text = format!("tail -c +5 /sys/block/{name}/device/vpd_pg80 2>/dev/null");
    let said = vm.try_exec(&["sh", "-c", &text])?.stdout;
    Ok(said.trim().to_owned())
}

/// Wait for the disk with this serial number; gives its name.
fn wait_for_serial(vm: &Vm, instance: &str, unit: Address, wanted: &str) -> Result<String> {
    vm.wait_until(SEEN, &format!("disk {wanted} at {unit:?}"), || {
        let Some(name) = storage::find(vm, instance, unit)? else {
            return Ok(Err("no disk".into()));
        };
        let found = serial(vm, &name)?;
        let size = vm
            .try_exec(&["cat", &format!("/sys/block/{name}/size")])?
            .stdout;
        Ok(match (found == wanted, size.trim()) {
            (true, size) if !size.is_empty() && size != "0" => Ok(name),
            _ => Err(format!(
                "{name} has serial '{found}', {} sectors",
                size.trim()
            )),
        })
    })
}

/// The host swaps a disk with dirty pages and says so four seconds later: the new disk is the first
/// one to tell.
fn late_notices(vm: &Vm) -> Result<()> {
    plug(vm, "late", "old-disk", "old", "OLD", PLACE)?;
    let old = wait_for_serial(vm, LATE, PLACE, "OLD")?;
    // More than one command's worth of pages, which wait for the sync.
    sh(
        vm,
        &format!(
            "echo 0 > /proc/sys/vm/dirty_writeback_centisecs
             (exec 3<>/dev/{old}
              yes old | head -c 8388608 >&3
              touch /tmp/dirty
              exec sleep 600) < /dev/null > /dev/null 2>&1 &
             echo $! > /tmp/holder"
        ),
    )?;
    vm.wait_until(JOB, "dirty pages", || {
        let there = vm.try_exec(&["test", "-e", "/tmp/dirty"])?.status == 0;
        Ok(if there {
            Ok(())
        } else {
            Err("none yet".to_owned())
        })
    })?;
    storage::unplug(vm, "old-disk")?;
    plug(vm, "late", "new-disk", "new", "NEW", PLACE)?;
    let sync = Job::start(vm, "sync", "sync")?;
    let (_, said) = sync.wait(JOB)?;
    let new = wait_for_serial(vm, LATE, PLACE, "NEW")
        .with_context(|| format!("after a sync that said '{said}'"));
    // What reached the new disk, before anything else: by whatever name it is known.
    let name = match &new {
        Ok(name) => name.clone(),
        Err(_) => storage::find(vm, LATE, PLACE)?.unwrap_or_default(),
    };
    let begin =
        format!("dd if=/dev/{name} bs=1M count=8 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c");
    let written = vm.exec(&["sh", "-c", &begin])?;
    expect(
        written.trim() == "0",
        "nothing of the old disk on the new one",
        format!("{} bytes", written.trim()),
    )?;
    let new = new?;
    expect(new != old, "a name of its own for the new disk", &new)?;
    let sectors = vm.read(&format!("/sys/block/{new}/size"))?;
    expect(
        sectors.trim() == (NEW_MIB * 2048).to_string(),
        "the new disk's size",
        sectors.trim(),
    )?;
    sh(
        vm,
        "kill $(cat /tmp/holder); echo 500 > /proc/sys/vm/dirty_writeback_centisecs",
    )?;
    // It goes, and is the one that comes back.
    storage::unplug(vm, "new-disk")?;
    storage::wait_gone(vm, LATE, PLACE)
}

/// Eight disks go and others come, all at once and in use. Their removal waits for nothing, and says
/// one line for each.
fn many_at_once(vm: &Vm) -> Result<Duration> {
    let mut worst = Duration::ZERO;
    for round in 0..=ROUNDS {
        let before = vm.exec(&["dmesg"])?.lines().count();
        let gone = storage::status(vm, MANY, "units_gone")?;
        if round > 0 {
            for lun in 0..DISKS {
                storage::unplug(vm, &format!("many{}-{lun}", round - 1))?;
            }
        }
        let start = Instant::now();
        for lun in 0..DISKS {
            let node = format!("m{round}x{lun}");
            let medium = json!({
                "driver": "null-co", "node-name": node, "read-zeroes": true,
                "size": (u64::from(lun + round) + 8) << 20,
            });
            vm.qmp("blockdev-add", &medium)?;
            let id = format!("many{round}-{lun}");
            plug(
                vm,
                "many",
                &id,
                &node,
                &format!("R{round}L{lun}"),
                (0, 0, lun),
            )?;
        }
        for lun in 0..DISKS {
            let name = wait_for_serial(vm, MANY, (0, 0, lun), &format!("R{round}L{lun}"))?;
            // A page in the cache that a flush of the next round would be for.
            sh(
                vm,
                &format!("dd if=/dev/zero of=/dev/{name} bs=4k count=1 2>/dev/null"),
            )?;
        }
        if round > 0 {
            worst = worst.max(start.elapsed());
            one_line_each(vm, before, gone)?;
        }
    }
    Ok(worst)
}

/// What the log says since it had so many lines, and how many units have gone since so many had.
fn one_line_each(vm: &Vm, before: usize, gone_before: u64) -> Result<()> {
    let gone = storage::status(vm, MANY, "units_gone")?.saturating_sub(gone_before);
    expect(
        gone == u64::from(DISKS),
        format!("{DISKS} units gone"),
        gone,
    )?;
    let log = vm.exec(&["dmesg"])?;
    let words: Vec<_> = log
        .lines()
        .skip(before)
        .filter(|l| l.contains(MANY) && l.ends_with("is gone"))
        .collect();
    expect(
        words.len() == DISKS as usize,
        format!("a line for each of {DISKS} units"),
        words.join("\n"),
    )?;
    let lines: Vec<_> = log
        .lines()
        .skip(before)
        .filter(|l| l.contains("cmd 0x35") || l.contains("Synchronize Cache(10) failed"))
        .collect();
    expect(
        lines.is_empty(),
        "no flush of a disk that is gone",
        lines.join("\n"),
    )
}
