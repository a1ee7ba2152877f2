// SPDX-License-Identifier: GPL-2.0

//! A host that loses frames, lies about lengths and offsets, refuses packets, and is late now and then:
//! what is wrong is dropped, and TCP brings everything across.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{self, ECHO, ECHO_PORT, GATEWAY, IP, TRANSFER, USER};
use crate::scenarios::Context;
use crate::storage::{script, Job};
use crate::vm::Vm;

/// Of an RNDIS packet, 0 is its type, 4 its length, 8 the frame's offset, 12 the frame's length, 28 and 32
/// where the records are. Of the descriptor, 12 and 8 where the first message is.
/// What is changed in the guest's packets makes the host refuse them.
const SCRIPT: &str = "\
    on buffer op=1 every=401 from=20 do drop\n\
    on buffer op=1 every=409 from=20 do trunc 20\n\
    on buffer op=1 every=419 from=20 do u32 4 0xffffffff\n\
    on buffer op=1 every=421 from=20 do u32 8 0xfffffff0\n\
    on buffer op=1 every=431 from=20 do u32 12 0xffff\n\
    on buffer op=1 every=433 from=20 do u32 32 0x10000\n\
    on buffer op=1 every=439 from=20 do pad 60000\n\
    on send type=7 u32@4=0 every=443 from=20 do desc.u32 12 0x7fffff00\n\
    on send type=7 u32@4=0 every=449 from=20 do desc.u32 8 0xfffffff0\n\
    on send type=7 u32@4=0 every=149 from=20 do delay 50\n\
    on send type=11 op=108 every=151 from=20 do delay 50\n\
    on recv op=107 every=157 from=60 do u32 8 0x7fffffff\n\
    on recv op=107 every=163 from=60 do u32 12 0xffffffff\n\
    on recv op=107 every=167 from=60 do u32 4 7\n";

/// Of another adapter: it says a second late that it is done with frames, and with each channel that is opened
/// comes a packet, before the driver hears that it is open: there is no virtual function.
const LATE_SCRIPT: &str = "\
    on open do inject 6 0 80000000000000000000000000000000\n\
    on send type=11 op=108 req.u32@4=0 do delay 1000\n";
const LATE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1004";
/// As many senders as it takes to have more frames under way than a queue has room for: a socket has room for about 90
/// of them.
const SENDERS: u32 = 24;
/// Bytes that may be under way in a queue, if the stack counts them: more than that. It looks at the limit when a frame
/// is done; until then what does not fit waits, and of more than 1,000 frames the rest is dropped.
const QUEUED: u32 = 100_000_000;
/// The host is a second late, and a guest may be slow.
const GOES_ON: Duration = Duration::from_secs(20);

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-faults",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[text("faults", SCRIPT), text("late", LATE_SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat",
        "-device hv-net,id=user,netdev=user,rx-batch=8,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001,fault-script=@/faults",
        "-netdev user,id=late,restrict=on,net=10.0.4.0/24",
        "-device hv-net,id=late,netdev=late,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1004,fault-script=@/late",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    script(
        vm,
        &format!(
            "{IP} addr replace 10.0.2.15/24 dev {name}
             dd if=/dev/urandom of=/tmp/data bs=1M count=1 2>/dev/null"
        ),
    )?;
    for _ in 0..2 {
        let job = format!("nc {ECHO} {ECHO_PORT} < /tmp/data > /tmp/back");
        Job::start(vm, "echo", &job)?.expect_success(TRANSFER)?;
        script(vm, "cmp /tmp/data /tmp/back; rm /tmp/back")?;
    }
    let pings = script(vm, &format!("ping -c 20 -i 0.1 -W 2 {GATEWAY} || true"))?;
    expect(
        pings.matches("bytes from").count() >= 15,
        "most of 20 pings answered",
        pings,
    )?;
    script(vm, "rm /tmp/data")?;

    let name = net::wait_for(vm, LATE)?;
    script(vm, &format!("{IP} addr replace 10.0.4.15/24 dev {name}"))?;
    net::ping(vm, "10.0.4.2", "")?;
    // a queue of C takes as many frames as the ring does
    if vm.core.has_rust_drivers() {
        stops_and_goes_on(vm, &name, cx.figures)?;
    }
    Ok(())
}

/// A queue that is full of frames with which the host is done late stops, and goes on.
fn stops_and_goes_on(vm: &Vm, name: &str, figures: &mut String) -> Result<()> {
    script(
        vm,
        &format!(
            "for limit in /sys/class/net/{name}/queues/tx-*/byte_queue_limits/limit_min; do
                 [ ! -e $limit ] || echo {QUEUED} > $limit
             done"
        ),
    )?;
    net::ping(vm, "10.0.4.2", "")?;
    vm.wait_until(GOES_ON, "no frame under way", || {
        let limits = format!("/sys/class/net/{name}/queues/tx-*/byte_queue_limits");
        let all = script(vm, &format!("cat {limits}/inflight 2>/dev/null || true"))?;
        Ok(if all.lines().all(|bytes| bytes == "0") {
            Ok(())
        } else {
            Err(format!("bytes in each queue: {all}"))
        })
    })?;
    let load = format!(
        "for n in $(seq {SENDERS}); do
             ping -s 60000 -i 0.01 -c 2 -W 1 10.0.4.2 > /dev/null &
         done; wait"
    );
    Job::start(vm, "load", &load)?.wait(TRANSFER)?;
    let stopped = vm.wait_until(GOES_ON, "a queue that has stopped and gone on", || {
        let numbers = script(vm, &format!("ethtool -S {name}"))?;
        let number = |counter| net::driver_statistic(&numbers, counter);
        let (stopped, woken) = (number("stop_queue")?, number("wake_queue")?);
        Ok(if stopped != 0 && woken != 0 {
            Ok(stopped)
        } else {
            Err(format!("stopped {stopped} times, gone on {woken} times"))
        })
    })?;
    figures.push_str(&format!("a queue has stopped {stopped} times"));
    // what waits before it goes first, and may stop the queue again
    vm.wait_until(GOES_ON, "the host, which answers", || {
        let said = vm.try_exec(&["sh", "-c", "ping -c 1 -W 5 10.0.4.2"])?;
        Ok(if said.status == 0 {
            Ok(())
        } else {
            Err(said.stdout)
        })
    })
}
