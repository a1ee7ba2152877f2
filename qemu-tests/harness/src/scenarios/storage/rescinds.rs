// SPDX-License-Identifier: GPL-2.0

//! Controllers that the host takes back at the worst moments, again and again: while their channel opens,
//! while commands are sent, while it closes, and while a sub-channel opens.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::devices::{expect_none, BUS};
use crate::failure::unmet;
use crate::fio::Verify;
use crate::kernel_memory::Use;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script, wait_unplugged, Address, Job};
use crate::vm::Vm;

const DISK: Address = (0, 0, 0);

/// Nothing is wrong with it.
const GOOD: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0300";

/// When a controller goes.
struct Moment {
    /// Its id on the host.
    id: &'static str,
    instance: &'static str,
}

const OPEN: Moment = Moment {
    id: "at-open",
    instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0301",
};
const SEND: Moment = Moment {
    id: "at-send",
    instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0302",
};
const CLOSE: Moment = Moment {
    id: "at-close",
    instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0303",
};
const SUB_OPEN: Moment = Moment {
    id: "at-sub-open",
    instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0304",
};
const MOMENTS: [Moment; 4] = [OPEN, SEND, CLOSE, SUB_OPEN];

/// Until a device that was taken away can be offered again: longer than the time that the driver gives a host that does
/// not answer, so that its words about that are in the log.
const ROUND: Duration = Duration::from_secs(200);
const PAUSE: Duration = Duration::from_millis(20);

/// A guest of that host.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "rescinds",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("good", 64),
        text("at-open", "on open chan=0 do unplug\n"),
        text("at-send", "on send reqop=3 nth=4 do unplug\n"),
        text("at-close", "on close chan=0 do unplug\n"),
        text("at-sub-open", "on open chan=1 do unplug\n"),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-device hv-scsi,id=good,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0300",
        "-blockdev raw,node-name=good,file.driver=file,file.filename=@/good,cache.no-flush=on",
        "-device scsi-hd,bus=good.0,drive=good",
        "-device hv-scsi,id=at-open,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0301,fault-script=@/at-open",
        "-device hv-scsi,id=at-send,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0302,fault-script=@/at-send",
        "-device hv-scsi,id=at-close,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0303,fault-script=@/at-close",
        "-device hv-scsi,id=at-sub-open,num-queues=2,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0304,fault-script=@/at-sub-open",
    ],
};

const CHECK: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 16,
    jobs: 4,
    mib: 4,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let good = storage::wait_for(vm, GOOD, DISK)?;
    let closer = closer(vm)?;
    // the first ones are those that the guest has started with
    rounds(vm, 2)?;
    let before = Use::look(vm)?;
    rounds(vm, cx.rounds)?;
    closer.expect_running()?;
    script(vm, "touch /tmp/enough; sleep 1")?;
    let rescinds = cx.rounds * u32::try_from(MOMENTS.len())?;
    before.expect_back(vm, rescinds)?;

    expect_none(
        vm,
        &[
            "timeouts",
            "leaked_pages",
            "bad_messages",
            "bad_rescinds",
            "refused_doorbells",
        ],
    )?;
    CHECK.run(vm, &good)?;
    // The core does not go before all devices have gone.
    let [core, driver] = vm.core.storage_drivers() else {
        return Err(unmet("two modules", vm.core));
    };
    let reload = format!("rmmod {driver} {core}; modprobe {core}; modprobe {driver}");
    Job::start(vm, "reload", &reload)?.expect_success(ROUND)?;
    storage::wait_for(vm, GOOD, DISK)?;
    *cx.figures = format!("{} times each", cx.rounds);
    Ok(())
}

/// Unbinds the controller that goes while it is closed, whenever it is bound.
fn closer(vm: &Vm) -> Result<Job<'_>> {
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let text = format!(
        "until [ -e /tmp/enough ]; do
             [ ! -e {driver}/{instance} ] || echo {instance} > {driver}/unbind || true
             sleep 0.3
         done",
        instance = CLOSE.instance,
    );
    Job::start(vm, "closer", &text)
}

/// Each of them goes, comes again, and goes, so often; all are gone afterwards.
fn rounds(vm: &Vm, rounds: u32) -> Result<()> {
    let mut left = MOMENTS.map(|moment| (moment, rounds, Instant::now()));
    while left.iter().any(|(_, left, _)| *left > 0) {
        for (moment, left, since) in &mut left {
            if *left == 0 {
                continue;
            }
            match vm.plug_again(moment.id)? {
                Ok(()) => {
                    *left -= 1;
                    *since = Instant::now();
                }
                Err(refusal) if since.elapsed() > ROUND => {
                    return Err(unmet(
                        format!("'{}' gone after it was taken away", moment.id),
                        format!(
                            "{refusal}, {left} rounds before the end; {}",
                            storage::who_waits(vm)
                        ),
                    ));
                }
                Err(_) => {}
            }
        }
        sleep(PAUSE);
    }
    MOMENTS
        .iter()
        .try_for_each(|moment| wait_unplugged(vm, moment.instance))
}
