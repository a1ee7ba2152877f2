// SPDX-License-Identifier: GPL-2.0

//! Core and driver go and come while the host offers controllers and takes them back: an offer that is on
//! its way when the core goes is nobody's, and what is there when it comes is found.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::devices::expect_none;
use crate::failure::expect;
use crate::kernel_memory::Use;
use crate::machine::{disk, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script, wait_unplugged, Address, Job};
use crate::vm::Vm;

const DISK: Address = (0, 0, 0);

/// Always there.
const GOOD: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0900";
/// They come and go: id on the host and instance.
const MOVING: [(&str, &str); 3] = [
    ("moves-1", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0901"),
    ("moves-2", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0902"),
    ("moves-3", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0903"),
];

/// A guest of that host.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "reload-plug",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[disk("good", 16)],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=good,file.driver=file,file.filename=@/good",
        "-device hv-scsi,id=good,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0900",
        "-device scsi-hd,bus=good.0,drive=good",
        "-device hv-scsi,id=moves-1,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0901",
        "-device hv-scsi,id=moves-2,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0902",
        "-device hv-scsi,id=moves-3,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0903",
    ],
};

/// For a reload, at most.
const RELOAD: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);
/// Changes in one round. While the kernel looks at a controller that has come, its driver cannot be unloaded: where it
/// takes longer than the next one to come, there would be no end.
const CHANGES: u32 = 60;
/// Has the number of the round.
const ROUND: &str = "/tmp/round";

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    storage::wait_for(vm, GOOD, DISK)?;
    reloads(vm, 2)?;
    let before = Use::look(vm)?;
    let rounds = cx.rounds.div_ceil(2);
    let changes = reloads(vm, rounds)?;
    expect(
        changes >= rounds,
        format!("a controller that comes or goes {} times", rounds),
        changes,
    )?;
    let disk = storage::wait_for(vm, GOOD, DISK)?;
    expect_none(vm, &["timeouts", "leaked_pages", "bad_messages"])?;
    // the counters of the cores before this one went with them
    let log = vm.dmesg()?;
    for complaint in ["no reply to", "left to the host"] {
        let found = log.lines().find(|line| line.contains(complaint));
        expect(
            found.is_none(),
            format!("no '{complaint}' in the kernel log"),
            found.unwrap_or_default(),
        )?;
    }
    before.expect_back(vm, rounds)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=64k count=64 iflag=direct");
    script(vm, &read)?;
    *cx.figures = format!(
        "{} reloads, {changes} times a controller came or went",
        rounds
    );
    Ok(())
}

/// Gives whether it was there, and not told before.
fn unplug(vm: &Vm, id: &str) -> Result<bool> {
    let done = vm.try_qmp("device_del", &serde_json::json!({ "id": id }))?;
    Ok(done.is_ok())
}

/// The modules go and come so often, while the controllers do; they are gone afterwards, and the modules
/// are there. Gives how often one of them came or went.
fn reloads(vm: &Vm, rounds: u32) -> Result<u32> {
    let [core, driver] = vm.core.storage_drivers() else {
        anyhow::bail!("not two modules");
    };
    // While a disk is looked at its driver is in use. The pauses differ, so that the host is at another
    // place each time.
    let unload = format!(
        "unload() {{
             tries=0
             while [ -e /sys/module/{core} ]; do
                 modprobe -r {driver} {core} 2> /dev/null || true
                 usleep 20000
                 tries=$((tries + 1))
                 [ $tries -lt 500 ]
             done
         }}"
    );
    let text = format!(
        "{unload}
         round=0
         while [ $round -lt {rounds} ]; do
             echo $round > {ROUND}
             modprobe {core}
             modprobe {driver}
             usleep $((round * 7919 % 300000))
             unload
             usleep $((round * 104729 % 60000))
             round=$((round + 1))
         done
         modprobe {core}
         modprobe {driver}"
    );
    script(vm, &format!("{unload}\nunload"))?;
    let reloads = Job::start(vm, "reloads", &text)?;
    let mut changes = 0;
    let mut round = (String::new(), 0);
    while reloads.status()?.is_none() {
        let now = script(vm, &format!("cat {ROUND} 2>/dev/null || true"))?;
        if now != round.0 {
            round = (now, changes);
        } else if changes - round.1 >= CHANGES {
            sleep(PAUSE);
            continue;
        }
        for (id, _) in MOVING {
            // It may have been told to go before, and not be gone.
            if vm.plug_again(id)?.is_ok() || unplug(vm, id)? {
                changes += 1;
            }
        }
        sleep(PAUSE);
    }
    reloads.expect_success(RELOAD)?;
    for (id, instance) in MOVING {
        unplug(vm, id)?;
        wait_unplugged(vm, instance)?;
    }
    Ok(changes)
}
