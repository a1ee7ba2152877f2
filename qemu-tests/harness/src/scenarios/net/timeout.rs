// SPDX-License-Identifier: GPL-2.0

//! A host that takes frames and does not say that it is done with them: the queue stops, and after a
//! while the adapter is connected anew. When the host does not answer either, the interface has no link until it
//! does.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{self, GATEWAY, IP, USER, WIRE};
use crate::scenarios::Context;
use crate::storage::{debugfs_number, script, Job};
use crate::vm::Vm;

/// 108 completes a frame or an RNDIS message, which 0 at 4 of the packet tells apart. The first frames
/// are those of an interface that comes up.
const SCRIPT: &str = "on send type=11 op=108 req.u32@4=0 from=20 times=40 do drop\n";

/// No frame is done, and of the requests that set something (their answers are 0x80000005, and name the
/// request at 8) none is answered after those that an interface needs to come up.
const DEAF_SCRIPT: &str = "on send type=11 op=108 req.u32@4=0 from=20 do drop\n\
                           on buffer op=0x80000005 from=20 do u32 8 0x777777\n";
/// The same for a while: the first nine of those answers do not come, nor is anything said of 40 frames.
const ABSENT_SCRIPT: &str = "on send type=11 op=108 req.u32@4=0 from=20 times=40 do drop\n\
                             on buffer op=0x80000005 from=20 times=9 do u32 8 0x777777\n";
/// The adapters that they are for, and what is behind them.
const DEAF: &str = WIRE;
const DEAF_NETWORK: &str = "10.0.3";
const ABSENT: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1003";
const ABSENT_NETWORK: &str = "10.0.4";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-timeout",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        text("faults", SCRIPT),
        text("deaf", DEAF_SCRIPT),
        text("absent", ABSENT_SCRIPT),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on",
        "-device hv-net,id=user,netdev=user,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001,fault-script=@/faults",
        "-netdev user,id=deaf,net=10.0.3.0/24,restrict=on",
        "-device hv-net,id=deaf,netdev=deaf,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002,fault-script=@/deaf",
        "-netdev user,id=absent,net=10.0.4.0/24,restrict=on",
        "-device hv-net,id=absent,netdev=absent,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1003,fault-script=@/absent",
    ],
};

/// The stack looks every 10 s for a queue that has been stopped for 10 s.
const NOTICED: Duration = Duration::from_secs(30);
/// 40 frames may stop it more than once.
const RECOVERED: Duration = Duration::from_secs(120);
/// Bytes that may be under way in a queue: less than 40 frames of this load.
const QUEUED: &str = "40000";
/// For which RTNL may be held: an answer of the host, and what a slow guest adds to that. In hundredths of a
/// second.
const MOST_RTNL: u32 = 800;
/// For which a host may be asked, and then the same for a request before that.
const NO_LINK: Duration = Duration::from_secs(30);
/// Nine answers that do not come are waited for, 5 s each, with pauses of 1 to 32 s in between.
const BACK: Duration = Duration::from_secs(240);
/// What bringing the interface down and up, and unbinding, may take with a host that does not answer.
const UNBOUND: Duration = Duration::from_secs(10);

/// Takes RTNL again and again until `/tmp/enough` is there, and says how long that took at most, in hundredths
/// of a second.
pub(super) const LONGEST: &str = "longest=0
    while [ ! -e /tmp/enough ]; do
        read before rest < /proc/uptime
        /usr/sbin/ip link set lo txqueuelen 1000
        read after rest < /proc/uptime
        took=$((${after%.*}${after#*.} - ${before%.*}${before#*.}))
        [ $took -le $longest ] || longest=$took
        sleep 0.3
    done
    echo $longest";

/// A number of the driver's file in debugfs.
fn status(vm: &Vm, instance: &str, name: &str) -> Result<u64> {
    debugfs_number(vm, &format!("hv-netvsc-rust-{instance}"), name)
}

/// How often an adapter was connected.
fn connections(vm: &Vm, instance: &str) -> Result<usize> {
    let log = vm.dmesg()?;
    let of_adapter = |line: &&str| line.contains(instance) && line.contains("network protocol");
    Ok(log.lines().filter(of_adapter).count())
}

/// Sends more than the host is done with, until that is noticed.
fn overload<'a>(
    vm: &'a Vm,
    (instance, interface): (&str, &str),
    name: &'static str,
    gateway: &str,
) -> Result<Job<'a>> {
    let noticed = status(vm, instance, "transmit_timeouts")?;
    // fewer than the host forgets stop the queue, however slow the guest is
    let limit = format!("/sys/class/net/{interface}/queues/tx-0/byte_queue_limits/limit_max");
    vm.write(&limit, QUEUED)?;
    // several, since each may have only so much under way
    let load = format!(
        "for n in 1 2 3 4; do ping -s 1400 -i 0.01 -c 100 -W 1 {gateway} > /dev/null & done; wait"
    );
    let load = Job::start(vm, name, &load)?;
    vm.wait_until(NOTICED, "a time-out of frames", || {
        let timeouts = status(vm, instance, "transmit_timeouts")?;
        Ok(if timeouts > noticed {
            Ok(())
        } else {
            Err(format!("{timeouts} time-outs"))
        })
    })?;
    Ok(load)
}

/// Frames that the host forgot.
fn forgetful(vm: &Vm, name: &str) -> Result<()> {
    script(vm, &format!("{IP} addr replace 10.0.2.15/24 dev {name}"))?;
    let before = connections(vm, USER)?;
    let load = overload(vm, (USER, name), "load", GATEWAY)?;
    vm.wait_until(RECOVERED, "a connection that was made anew", || {
        let now = connections(vm, USER)?;
        Ok(if now > before {
            Ok(())
        } else {
            Err(format!("{before} and {now} connections"))
        })
    })?;
    load.wait(RECOVERED)?;

    // Some of the 40 may be left, and stop it again.
    let all = format!("ping -c 20 -i 0.1 -s 1400 -W 5 {GATEWAY}");
    vm.wait_until(RECOVERED, "frames that are all sent", || {
        let done = vm.try_exec(&["sh", "-c", &all])?;
        Ok(if done.stdout.contains(" 0% packet loss") {
            Ok(())
        } else {
            Err(done.stdout)
        })
    })?;
    // The last few of the 40 need not have stopped it: they are the host's until the channel closes.
    script(vm, &format!("{IP} link set {name} mtu 1400"))?;
    vm.wait_until(RECOVERED, "no frame under way", || {
        let left = status(vm, USER, "frames_in_flight")?;
        Ok(if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} frames under way"))
        })
    })
}

/// A host that forgets frames, and does not answer either, from now on.
fn silence<'a>(
    vm: &'a Vm,
    instance: &str,
    name: &str,
    network: &str,
    job: &'static str,
) -> Result<Job<'a>> {
    script(vm, &format!("{IP} addr replace {network}.15/24 dev {name}"))?;
    // until it does not answer; one at a time is under way
    let mode = format!(
        "{IP} link set {name} promisc on; sleep 0.2; {IP} link set {name} promisc off; sleep 0.2"
    );
    vm.wait_until(RECOVERED, "a host that does not answer", || {
        script(vm, &mode)?;
        let log = vm.dmesg()?;
        let silent =
            |line: &str| line.contains(instance) && line.contains("the host does not answer");
        Ok(if log.lines().any(silent) {
            Ok(())
        } else {
            Err("it answers".into())
        })
    })?;
    let load = overload(vm, (instance, name), job, &format!("{network}.2"))?;
    net::wait_carrier_within(vm, name, false, NO_LINK)?;
    Ok(load)
}

/// It stays away: there is no link, and nobody waits for it.
fn deaf(vm: &Vm, name: &str) -> Result<()> {
    silence(vm, DEAF, name, DEAF_NETWORK, "deaf")?.wait(RECOVERED)?;

    let asked = Instant::now();
    script(
        vm,
        &format!("{IP} link set {name} down; {IP} link set {name} up"),
    )?;
    vm.write("/sys/bus/vmbus/drivers/hv_netvsc_rust/unbind", DEAF)?;
    let took = asked.elapsed();
    expect(took < UNBOUND, "unbinding to end soon", format!("{took:?}"))
}

/// It comes back: so does the link, and frames are sent.
fn absent(vm: &Vm, name: &str) -> Result<()> {
    silence(vm, ABSENT, name, ABSENT_NETWORK, "absent")?.wait(RECOVERED)?;
    net::wait_carrier_within(vm, name, true, BACK)?;
    let once = format!("ping -c 1 -W 1 {ABSENT_NETWORK}.2");
    vm.wait_until(BACK, "frames that are sent again", || {
        let done = vm.try_exec(&["sh", "-c", &once])?;
        Ok(if done.status == 0 {
            Ok(())
        } else {
            Err(done.stdout)
        })
    })
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    let deaf_name = net::wait_for(vm, DEAF)?;
    let absent_name = net::wait_for(vm, ABSENT)?;

    let rtnl = Job::start(vm, "rtnl", LONGEST)?;
    forgetful(vm, &name)?;
    deaf(vm, &deaf_name)?;
    absent(vm, &absent_name)?;
    script(vm, "touch /tmp/enough")?;
    let (status, longest) = rtnl.wait(RECOVERED)?;
    expect(
        status == "0" && longest.parse().is_ok_and(|took: u32| took < MOST_RTNL),
        format!("RTNL within {MOST_RTNL} hundredths of a second"),
        format!("status {status}: {longest}"),
    )?;

    net::ping(vm, GATEWAY, "")?;
    let module = vm.core.net_module();
    script(vm, &format!("rmmod {module}")).map(drop)
}
