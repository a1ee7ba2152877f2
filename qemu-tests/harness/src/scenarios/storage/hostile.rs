// SPDX-License-Identifier: GPL-2.0

//! Hosts that break the rules, one controller for each way of it, all in one guest: answers that come
//! twice, late, under an unknown id, or never; a start that is refused, delayed, or ends with the device
//! gone. The language of the scripts is described in `qemu-tests/qemu/README.md`.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{expect_none, BUS};
use crate::failure::expect;
use crate::fio::Verify;
use crate::machine::{Contents, File, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script as sh, Job};
use crate::vm::Vm;

const DISK: storage::Address = (0, 0, 0);

/// A controller: the id of the device on the host, and its instance.
type Controller = (&'static str, &'static str);

/// What they do is noted and does no harm.
const WORKS: [Controller; 6] = [
    ("answers", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0100"),
    ("setup-twice", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0101"),
    ("old-protocol", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0102"),
    ("odd-properties", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0103"),
    ("unasked", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0104"),
    ("slow-start", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0110"),
];

/// An answer never comes.
const LOST: Controller = ("lost", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0105");

/// Another, and it does not come after a reset either.
const LOST_FOR_GOOD: Controller = ("lost-for-good", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0111");

/// Some commands fail.
const FAILS: Controller = ("no-sense", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0106");

/// They go while the driver starts.
const GONE: [Controller; 6] = [
    ("gone-at-begin", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0107"),
    ("gone-at-version", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0108"),
    ("gone-at-properties", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0109"),
    (
        "gone-at-sub-channels",
        "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010a",
    ),
    ("gone-at-end", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010b"),
    (
        "gone-at-third-command",
        "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010c",
    ),
];

/// They do not start.
const DEAD: [Controller; 3] = [
    ("refusal", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010d"),
    ("other-answer", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010e"),
    ("silence", "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010f"),
];

/// A disk of the IDE class that says once that it is not there, when the midlayer has its controller
/// already.
const NOT_THERE: Controller = ("not-there", "00000000-0000-8899-0000-000000000000");

/// A guest with all of them.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "hostile",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: FILES,
    devices: DEVICES,
};

const fn script(name: &'static str, text: &'static str) -> File {
    File {
        name,
        contents: Contents::Text(text),
        mib: 0,
    }
}

const FILES: &[File] = &[
    crate::machine::disk("disk", 64),
    script(
        "answers",
        "on send reqop=3 req.u8@28=0x28 every=5 do dup
on send reqop=3 req.u8@28=0x2a every=5 do dup
on send reqop=3 req.u8@28=0x28 every=7 do delay 200
on send reqop=3 req.u8@28=0x2a every=7 do delay 200
on send reqop=3 req.u8@28=0x28 every=11 do late 500
on send reqop=3 req.u8@28=0x2a every=13 do inject 11 0x7000000001 0100000000000000
on send reqop=3 req.u8@28=0x28 every=17 do inject 6 0 0b000000
on send reqop=3 req.u8@28=0x2a every=19 do inject 11 0 01000000
",
    ),
    script("setup-twice", "on send times=8 do dup\n"),
    script(
        "old-protocol",
        "on send reqop=9 nth=1 do u32 8 0xc0000059\n",
    ),
    script(
        "odd-properties",
        "on send reqop=10 do u32 24 0xffffffff ; u16 16 0xffff\n",
    ),
    script(
        "unasked",
        "on send reqop=8 do inject 6 0 0b000000 ; inject 6 0 02000000 ; inject 6 0 0b00\n",
    ),
    script("lost", "on send reqop=3 req.u8@28=0x28 nth=60 do drop\n"),
    script(
        "lost-for-good",
        "on send reqop=3 req.u8@28=0x28 nth=60 do drop\n",
    ),
    script(
        "no-sense",
        "on send reqop=3 req.u8@28=0x28 every=4 do u8 14 0x04 ; u8 15 2\n",
    ),
    script("gone-at-begin", "on send reqop=7 do unplug\n"),
    script("gone-at-version", "on send reqop=9 do unplug\n"),
    script("gone-at-properties", "on send reqop=10 do unplug\n"),
    script("gone-at-sub-channels", "on send reqop=13 do unplug\n"),
    script("gone-at-end", "on send reqop=8 do unplug\n"),
    script("gone-at-third-command", "on send reqop=3 nth=3 do unplug\n"),
    script("refusal", "on send reqop=7 do u32 8 1\n"),
    script("other-answer", "on send reqop=7 do u32 0 9\n"),
    script("silence", "on send reqop=7 do drop\n"),
    script(
        "not-there",
        "on send reqop=3 req.u8@28=0x12 nth=1 do u8 14 0x08 ; u8 15 0\n",
    ),
    script("slow-start", "on send reqop=7 do delay 5000\n"),
];

const DEVICES: &[&str] = &[
    "-device vmbus-bridge",
    // The first, so that it would hold up the others.
    "-device hv-scsi,id=silence,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010f,fault-script=@/silence",
    "-blockdev null-co,node-name=d-silence,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=silence.0,drive=d-silence",
    "-device hv-scsi,id=answers,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0100,fault-script=@/answers",
    "-blockdev raw,node-name=d-answers,file.driver=file,file.filename=@/disk,cache.no-flush=on",
    "-device scsi-hd,bus=answers.0,drive=d-answers",
    "-device hv-scsi,id=setup-twice,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0101,fault-script=@/setup-twice",
    "-blockdev null-co,node-name=d-setup-twice,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=setup-twice.0,drive=d-setup-twice",
    "-device hv-scsi,id=old-protocol,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0102,fault-script=@/old-protocol",
    "-blockdev null-co,node-name=d-old-protocol,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=old-protocol.0,drive=d-old-protocol",
    "-device hv-scsi,id=odd-properties,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0103,fault-script=@/odd-properties",
    "-blockdev null-co,node-name=d-odd-properties,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=odd-properties.0,drive=d-odd-properties",
    "-device hv-scsi,id=unasked,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0104,fault-script=@/unasked",
    "-blockdev null-co,node-name=d-unasked,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=unasked.0,drive=d-unasked",
    "-device hv-scsi,id=lost,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0105,fault-script=@/lost",
    "-blockdev null-co,node-name=d-lost,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=lost.0,drive=d-lost",
    "-device hv-scsi,id=lost-for-good,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0111,fault-script=@/lost-for-good",
    "-blockdev null-co,node-name=d-lost-for-good,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=lost-for-good.0,drive=d-lost-for-good",
    "-device hv-scsi,id=no-sense,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0106,fault-script=@/no-sense",
    "-blockdev null-co,node-name=d-no-sense,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=no-sense.0,drive=d-no-sense",
    "-device hv-scsi,id=gone-at-begin,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0107,fault-script=@/gone-at-begin",
    "-blockdev null-co,node-name=d-gone-at-begin,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=gone-at-begin.0,drive=d-gone-at-begin",
    "-device hv-scsi,id=gone-at-version,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0108,fault-script=@/gone-at-version",
    "-blockdev null-co,node-name=d-gone-at-version,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=gone-at-version.0,drive=d-gone-at-version",
    "-device hv-scsi,id=gone-at-properties,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0109,fault-script=@/gone-at-properties",
    "-blockdev null-co,node-name=d-gone-at-properties,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=gone-at-properties.0,drive=d-gone-at-properties",
    "-device hv-scsi,id=gone-at-sub-channels,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010a,fault-script=@/gone-at-sub-channels",
    "-blockdev null-co,node-name=d-gone-at-sub-channels,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=gone-at-sub-channels.0,drive=d-gone-at-sub-channels",
    "-device hv-scsi,id=gone-at-end,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010b,fault-script=@/gone-at-end",
    "-blockdev null-co,node-name=d-gone-at-end,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=gone-at-end.0,drive=d-gone-at-end",
    "-device hv-scsi,id=gone-at-third-command,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010c,fault-script=@/gone-at-third-command",
    "-blockdev null-co,node-name=d-gone-at-third-command,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=gone-at-third-command.0,drive=d-gone-at-third-command",
    "-device hv-scsi,id=refusal,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010d,fault-script=@/refusal",
    "-blockdev null-co,node-name=d-refusal,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=refusal.0,drive=d-refusal",
    "-device hv-scsi,id=other-answer,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f010e,fault-script=@/other-answer",
    "-blockdev null-co,node-name=d-other-answer,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=other-answer.0,drive=d-other-answer",
    "-device hv-scsi,id=slow-start,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0110,fault-script=@/slow-start",
    "-blockdev null-co,node-name=d-slow-start,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=slow-start.0,drive=d-slow-start",
    "-device hv-ide,id=not-there,fault-script=@/not-there",
    "-blockdev null-co,node-name=d-not-there,size=16777216,read-zeroes=on",
    "-device scsi-hd,bus=not-there.0,drive=d-not-there",
];

const CHECK: Verify = Verify {
    pattern: "randwrite",
    block: "4k-64k",
    depth: 16,
    jobs: 2,
    mib: 4,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    for (name, instance) in WORKS {
        let disk = storage::wait_for(vm, instance, DISK)?;
        if name == "answers" {
            CHECK.run(vm, &disk)?;
        } else {
            read(vm, &disk)?;
        }
    }
    let refused = storage::status(vm, WORKS[0].1, "packets_refused")?;
    expect(refused > 0, "answers that were refused", refused)?;
    for (_, instance) in GONE {
        storage::wait_unplugged(vm, instance)?;
    }
    not_there(vm)?;
    failing(vm)?;
    lost(vm)?;
    lost_for_good(vm)?;
    for (name, instance) in DEAD {
        let disk = storage::find(vm, instance, DISK)?;
        expect(
            disk.is_none(),
            format!("no disk of '{name}'"),
            format!("{disk:?}"),
        )?;
        storage::unplug(vm, name)?;
        storage::wait_unplugged(vm, instance)?;
    }
    // Everything can still be put away, and the controllers that work come again.
    let module = vm.core.storage_module();
    sh(vm, &format!("rmmod {module} && modprobe {module}"))?;
    let disk = storage::wait_for(vm, WORKS[0].1, DISK)?;
    CHECK.run(vm, &disk)
}

fn read(vm: &Vm, disk: &str) -> Result<()> {
    sh(
        vm,
        &format!("dd if=/dev/{disk} of=/dev/null bs=4k count=200 iflag=direct"),
    )
    .map(drop)
}

/// A start that fails late is undone: no SCSI host stays, no memory, and the next start works.
fn not_there(vm: &Vm) -> Result<()> {
    let (_, instance) = NOT_THERE;
    let device = format!("{BUS}/devices/{instance}");
    vm.wait_until(Duration::from_secs(20), "a start that failed", || {
        let found = vm.list(&device)?;
        Ok(
            if found
                .iter()
                .any(|name| name == "driver" || name.starts_with("host"))
            {
                Err(found.join(" "))
            } else {
                Ok(())
            },
        )
    })?;
    expect_none(vm, &["leaked_pages"])?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    vm.write(&format!("{driver}/bind"), instance)?;
    read(vm, &storage::wait_for(vm, instance, DISK)?)
}

/// An error for the reader is right, a hang is not.
fn failing(vm: &Vm) -> Result<()> {
    let disk = storage::wait_for(vm, FAILS.1, DISK)?;
    let reads = format!(
        "for i in 1 2 3 4 5 6; do dd if=/dev/{disk} of=/dev/null bs=4k count=20 iflag=direct || true; done"
    );
    Job::start(vm, "failing", &reads)?
        .wait(storage::JOB)
        .map(drop)
}

/// Nobody waits for ever for what got no answer: the reader goes on when the controller goes.
fn lost(vm: &Vm) -> Result<()> {
    let (name, instance) = LOST;
    let disk = storage::wait_for(vm, instance, DISK)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    let job = Job::start(vm, "reader", &read)?;
    std::thread::sleep(Duration::from_secs(4));
    job.expect_running()?;
    let waiting = storage::status(vm, instance, "commands_in_flight")?;
    expect(waiting == 1, "one command without an answer", waiting)?;
    storage::unplug(vm, name)?;
    let (status, said) = job.wait(Duration::from_secs(40))?;
    expect(status != "0", "an error for the reader", said)?;
    storage::wait_unplugged(vm, instance)
}

/// With a limit set, nobody waits for ever even if the controller stays: it is reset, and given up.
fn lost_for_good(vm: &Vm) -> Result<()> {
    let (name, instance) = LOST_FOR_GOOD;
    let disk = storage::wait_for(vm, instance, DISK)?;
    storage::set_answer_secs(vm, 4)?;
    // Set when the disk came, when there was no limit.
    vm.write(&format!("/sys/block/{disk}/device/timeout"), "2")?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    let job = Job::start(vm, "reader", &read)?;
    let (status, said) = job.wait(Duration::from_secs(60))?;
    storage::set_answer_secs(vm, 0)?;
    expect(status != "0", "an error for the reader", said)?;
    for (counter, wanted) in [
        ("bus_resets", 1),
        ("commands_abandoned", 1),
        ("commands_in_flight", 0),
    ] {
        let found = storage::status(vm, instance, counter)?;
        expect(found == wanted, format!("{counter}: {wanted}"), found)?;
    }
    storage::unplug(vm, name)?;
    storage::wait_unplugged(vm, instance)
}
