// SPDX-License-Identifier: GPL-2.0

//! fio writes and compares without a pause while another disk is unplugged and plugged again, CPUs go
//! and come, and channels move with them. Then the guest powers off.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::drivers::Core;
use crate::failure::expect;
use crate::fio::{Compared, Passes, Verify};
use crate::scenarios::{reboot, Context};
use crate::storage::{self, script, Address, MAIN, PLAIN};
use crate::vm::Vm;

/// How long, in minutes; without it, [`ROUNDS`].
const MINUTES: &str = "VMBUS_TEST_SOAK_MINUTES";
/// At least so many: the disk has been at each place, and each CPU has stayed when others went.
const ROUNDS: usize = 4;

const CPUS: usize = 4;

/// Where the other disk is plugged, one after the other. The C driver never takes away what is on
/// another channel than 0.
const PLACES: [Address; 3] = [(0, 1, 63), (0, 0, 7), (3, 0, 254)];
const PLACES_OF_C: usize = 2;

/// What both drivers say here: a flush finds the unplugged disk gone; the CD-ROM is asked what only
/// a recorder knows.
const SAID_ANYWAY: [&str; 2] = [" cmd 0x35 status: scsi 0x0 srb 0x20", " cmd 0x52 "];

/// What fio does, one after the other.
const PASSES: [Verify; 3] = [
    pass("512-4k", 64, 2),
    pass("4k-128k", 32, 16),
    pass("512-1m", 8, 32),
];

const fn pass(block: &'static str, depth: u32, mib: u32) -> Verify {
    Verify {
        pattern: "randwrite",
        block,
        depth,
        jobs: 2,
        mib,
    }
}

#[derive(Default)]
struct Counts {
    replugs: usize,
    cpus: usize,
    channels: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} times a disk came and went, {} times a CPU, {} times a channel was moved",
            self.replugs, self.cpus, self.channels
        )
    }
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let duration = duration()?;
    vm.set_deadline(Instant::now() + duration + storage::JOB);
    storage::load(vm)?;
    let disk = storage::wait_for(vm, MAIN, PLAIN)?;
    let channels = storage::channels(vm, MAIN)?;
    let before = vm.console.len();
    let mut counts = Counts::default();

    let start = Instant::now();
    let load = Passes::start(vm, &disk, &PASSES)?;
    for round in 0.. {
        load.expect_running()?;
        replug(vm, round, &mut counts)?;
        move_cpus(vm, &channels, round, &mut counts)?;
        if round + 1 >= ROUNDS && start.elapsed() >= duration {
            break;
        }
    }
    let Compared { passes, mib } = load.stop()?;
    *cx.figures = format!("{passes} passes of fio compared {mib} MiB; {counts}");

    no_trouble(vm, &disk, before)?;
    reboot::ends_in_order(vm, "poweroff", "reboot: Power down")
}

fn duration() -> Result<Duration> {
    std::env::var(MINUTES).map_or(Ok(Duration::ZERO), |minutes| {
        let minutes: u64 = minutes.parse().context(MINUTES)?;
        Ok(Duration::from_secs(minutes * 60))
    })
}

/// The disk comes with what was written to it the last time, and goes.
fn replug(vm: &Vm, round: usize, counts: &mut Counts) -> Result<()> {
    let places = match vm.core {
        Core::C => &PLACES[..PLACES_OF_C],
        Core::Rust | Core::RustOnC => &PLACES[..],
    };
    let place = places[round % places.len()];
    storage::plug(vm, "main", "extra", place)?;
    let disk = storage::wait_for(vm, MAIN, place)?;
    let last = if round == 0 {
        ""
    } else {
        "dd if=/dev/$disk bs=64k count=16 iflag=direct | cmp - /tmp/extra"
    };
    let text = format!(
        "disk={disk}
         {last}
         head -c 1048576 /dev/urandom > /tmp/extra
         dd if=/tmp/extra of=/dev/$disk bs=64k oflag=direct"
    );
    script(vm, &text)?;
    storage::unplug(vm, "extra-disk")?;
    storage::wait_gone(vm, MAIN, place)?;
    counts.replugs += 1;
    Ok(())
}

/// CPUs go, and the driver has to move what is theirs; they come, and it is spread anew.
fn move_cpus(vm: &Vm, channels: &[String], round: usize, counts: &mut Counts) -> Result<()> {
    let stays = round % CPUS;
    let go = || (1..CPUS).filter(|cpu| *cpu != stays);
    for cpu in go() {
        vm.write(&online(cpu), "0")?;
        counts.cpus += 1;
    }
    for channel in channels {
        let cpu = vm.read(&format!("{channel}/cpu"))?;
        let cpu = cpu.trim();
        expect(
            go().all(|gone| gone.to_string() != cpu),
            format!("{channel} on a CPU that is there"),
            format!("CPU {cpu}"),
        )?;
    }
    for cpu in go() {
        vm.write(&online(cpu), "1")?;
    }
    for (i, channel) in channels.iter().enumerate() {
        let cpu = (i + round) % CPUS;
        vm.write(&format!("{channel}/cpu"), &cpu.to_string())?;
        counts.channels += 1;
    }
    Ok(())
}

fn online(cpu: usize) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}/online")
}

/// Warnings and errors are on the console; and no request to the disk that stayed was lost or late.
fn no_trouble(vm: &Vm, disk: &str, before: usize) -> Result<()> {
    let error = format!("dev {disk},");
    let said = vm.console.since(before);
    let complaint = said.iter().find(|l| {
        l.contains(&error) || l.contains("hv_") && !SAID_ANYWAY.iter().any(|s| l.contains(s))
    });
    expect(
        complaint.is_none(),
        "no complaint of a VMBus driver, no error of the disk",
        complaint.map_or("", String::as_str),
    )?;
    let counters = format!("cd /sys/block/{disk}/device; cat iorequest_cnt iodone_cnt iotmo_cnt");
    let counters = script(vm, &counters)?;
    let fine = match counters.lines().collect::<Vec<_>>()[..] {
        [requests, done, late] => requests == done && late == "0x0",
        _ => false,
    };
    expect(fine, "each request of the disk done, in time", counters)
}
