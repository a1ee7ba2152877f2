// SPDX-License-Identifier: GPL-2.0

//! A host that keeps a command, and does not give a channel's memory back while the guest waits for it. The
//! command's memory is nobody's until it does, ten seconds after that; who unbinds the controller meanwhile
//! waits until then, and can see what for. So does who resets the host.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::devices::{counter, expect_none, BUS};
use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0501";
/// Of a controller whose ring the host breaks when it has lost a command.
const BROKEN: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0502";
const DISK: storage::Address = (0, 0, 0);
const BESIDE: storage::Address = (0, 0, 1);

/// It loses a command, and breaks the ring instead of answering the next one or the one after.
const BROKEN_SCRIPT: &str = "on send reqop=3 req.u8@28=0x28 nth=60 do drop\n\
                             on send reqop=3 req.u8@28=0x28 nth=61 do drop ; index 0xfffffff0\n";

/// Controllers with one channel. The first two GPADL_TORNDOWN (12) are late, a READ of each is never answered.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "withheld",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=10",
    files: &[
        disk("disk", 16),
        disk("other", 16),
        text("bus", "on message op=12 from=1 times=2 do delay 20000\n"),
        text("lost", "on send reqop=3 req.u8@28=0x28 nth=60 do drop\n"),
        disk("beside", 16),
        text("broken", BROKEN_SCRIPT),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0501,fault-script=@/lost",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
        "-blockdev raw,node-name=other,file.driver=file,file.filename=@/other",
        "-device hv-scsi,id=other,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0502,fault-script=@/broken",
        "-device scsi-hd,bus=other.0,drive=other,scsi-id=0,lun=0",
        "-blockdev raw,node-name=beside,file.driver=file,file.filename=@/beside",
        "-device scsi-hd,bus=other.0,drive=beside,scsi-id=0,lun=1",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    // who looks for more disks has the queues of all wait
    storage::wait_scanned(vm, &disk)?;
    storage::set_answer_secs(vm, 4)?;
    // Set when the disk came, when there was no limit.
    vm.write(&format!("/sys/block/{disk}/device/timeout"), "2")?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    let job = Job::start(vm, "reader", &read)?;

    // Reset, given up, closed; 10 s later the guest waits no longer.
    wait_for_pages_left(vm)?;
    job.expect_running()?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let unbind = Job::start(vm, "unbind", &format!("echo {INSTANCE} > {driver}/unbind"))?;
    std::thread::sleep(Duration::from_secs(3));
    unbind.expect_running()?;
    job.expect_running()?;
    for name in ["commands_in_flight", "commands_withheld"] {
        let waiting = storage::status(vm, INSTANCE, name)?;
        expect(waiting == 1, format!("{name}: 1"), waiting)?;
    }

    let (status, said) = job.wait(Duration::from_secs(40))?;
    expect(status != "0", "an error for the reader", said)?;
    unbind.expect_success(Duration::from_secs(20))?;
    expect_none(vm, &["leaked_pages"])?;
    storage::set_answer_secs(vm, 0)?;

    vm.write(&format!("{driver}/bind"), INSTANCE)?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    storage::script(vm, &read)?;
    nobody_else_waits(vm)
}

fn wait_for_pages_left(vm: &Vm) -> Result<()> {
    vm.wait_until(Duration::from_secs(100), "pages left to the host", || {
        Ok(match counter(vm, "leaked_pages")? {
            0 => Err("none".into()),
            _ => Ok(()),
        })
    })
}

/// Not for error handling, which this host does not let begin: not even who writes, which one after the other may to a
/// disk that is silent.
fn nobody_else_waits(vm: &Vm) -> Result<()> {
    let disk = storage::wait_for(vm, BROKEN, DISK)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    let reader = Job::start(vm, "reader", &read)?;
    vm.wait_until(Duration::from_secs(20), "a command that is lost", || {
        let before = storage::status(vm, BROKEN, "commands_in_flight")?;
        std::thread::sleep(Duration::from_secs(1));
        let after = storage::status(vm, BROKEN, "commands_in_flight")?;
        Ok(if (before, after) == (1, 1) && reader.status()?.is_none() {
            Ok(())
        } else {
            Err(format!("{before}, {after} in flight"))
        })
    })?;
    // this one waits for it
    let write = format!("dd if=/dev/zero of=/dev/{disk} bs=4k count=1 oflag=direct");
    let early = Job::start(vm, "early-writer", &write)?;
    std::thread::sleep(Duration::from_secs(1));
    early.expect_running()?;

    let beside = storage::wait_for(vm, BROKEN, BESIDE)?;
    let read = format!("dd if=/dev/{beside} of=/dev/null bs=4k count=100 iflag=direct");
    let breaker = Job::start(vm, "breaker", &read)?;
    wait_for_pages_left(vm)?;
    let late = Job::start(vm, "late-writer", &write)?;
    for writer in [early, late] {
        let (status, said) = writer.wait(Duration::from_secs(4))?;
        expect(status != "0", "an error for the writer", said)?;
    }
    reader.expect_running()?;
    // A reset by hand is error handling: whoever asked for it may use the memory of all commands afterwards.
    let reset = reset(vm, &beside)?;
    std::thread::sleep(Duration::from_secs(3));
    reset.expect_running()?;
    for reader in [&reader, &breaker] {
        reader.expect_running()?;
    }
    ends_after_commands(vm, &reset)?;
    for reader in [reader, breaker] {
        let (status, said) = reader.wait(Duration::from_secs(40))?;
        expect(status != "0", "an error for the reader", said)?;
    }
    reset.expect_success(Duration::from_secs(1))?;
    storage::wait_for_revival(vm, BROKEN)
}

/// A reset of the host that a disk is of, which fails.
fn reset<'a>(vm: &'a Vm, disk: &str) -> Result<Job<'a>> {
    storage::script(vm, "modprobe sg")?;
    let nodes = vm.list(&format!("/sys/block/{disk}/device/scsi_generic"))?;
    let node = nodes.first().context("a node for the reset")?;
    Job::start(vm, "reset", &format!("! sg_reset -H /dev/{node}"))
}

/// No command is with the host when it has ended.
fn ends_after_commands(vm: &Vm, reset: &Job<'_>) -> Result<()> {
    vm.wait_until(Duration::from_secs(40), "the end of the reset", || {
        Ok(reset.status()?.ok_or_else(|| "it still runs".to_owned()))
    })?;
    let left = storage::status(vm, BROKEN, "commands_in_flight")?;
    expect(left == 0, "no command in flight after the reset", left)
}
