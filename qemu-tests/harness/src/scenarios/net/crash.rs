// SPDX-License-Identifier: GPL-2.0

//! A panic under traffic starts a crash kernel, on another CPU than the first and with no other. It finds both
//! adapters, gets an address, and sends the beginning of the memory image to the host.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{Initramfs, Machine, Qemu};
use crate::net::{self, ECHO, ECHO_PORT, GATEWAY, IP, TRANSFER, USER};
use crate::scenarios::{panic, reboot, Context};
use crate::storage::{self, script, Job};
use crate::vm::Vm;

const OTHER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1402";
const OTHER_GATEWAY: &str = "10.0.4.2";
const OTHER_ECHO: &str = "10.0.4.100";

/// Addresses of the guest that crashes. The crash kernel gets others: what is on its way for a connection of the
/// former kernel is not for it.
const ADDRESSES: [(&str, &str); 2] = [(USER, "10.0.2.20"), (OTHER, "10.0.4.20")];
const QUEUES: usize = 4;

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-crash",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::CrashKernel,
    kernel_arguments: "crashkernel=256M",
    module_parameters: "",
    files: &[],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat",
        "-device hv-net,id=user,netdev=user,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001",
        "-netdev user,id=other,restrict=on,net=10.0.4.0/24,guestfwd=tcp:10.0.4.100:7-cmd:cat",
        "-device hv-net,id=other,netdev=other,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1402",
    ],
};

const CPU: usize = 3;
/// Connections to each host that sends back what comes, without an end.
const CONNECTIONS: u32 = 4;
const APPEAR: Duration = Duration::from_secs(30);

/// Blocks of 64 KiB that are sent.
const BLOCKS: u32 = 64;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let mut names = Vec::new();
    for (instance, address) in ADDRESSES {
        let name = net::wait_for(vm, instance)?;
        wait_channels(vm, instance, QUEUES)?;
        script(vm, &format!("{IP} addr replace {address}/24 dev {name}"))?;
        names.push(name);
    }
    vm.load_crash_kernel()?;
    let load = format!(
        "for host in {ECHO} {OTHER_ECHO}; do
             for n in $(seq {CONNECTIONS}); do
                 nc $host {ECHO_PORT} < /dev/zero > /dev/null &
             done
         done
         wait"
    );
    let job = Job::start(vm, "load", &load)?;
    for name in &names {
        net::wait_flow(vm, name, || job.expect_running())?;
    }
    vm.crash(CPU)?;
    panic::expect_unload(vm, 0)?;

    let sent = send(vm)?;
    cx.figures.push_str(&sent);
    reboot::ends_in_order(vm, "reboot", "reboot: Restarting system")?;
    vm.boot_again()?;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    net::lease(vm, &name)?;
    ping(vm, GATEWAY)
}

/// Wait for the channels of an adapter.
fn wait_channels(vm: &Vm, instance: &str, count: usize) -> Result<()> {
    vm.wait_until(APPEAR, &format!("{count} channels"), || {
        let found = storage::channels(vm, instance)?.len();
        Ok(if found == count {
            Ok(())
        } else {
            Err(format!("{found}"))
        })
    })
}

/// The same as [`net::ping`], by busybox.
fn ping(vm: &Vm, address: &str) -> Result<()> {
    let done = vm.try_exec(&["ping", "-c", "3", "-W", "5", address])?;
    expect(
        done.stdout.contains(" 0% packet loss"),
        format!("{address} answers"),
        format!("{}{}", done.stdout, done.stderr),
    )
}

/// In the crash kernel: memory of the other one to the host and back, by the one channel of its one CPU, and frames by
/// the other adapter. Gives what was sent.
fn send(vm: &Vm) -> Result<String> {
    vm.load_core()?;
    for (instance, _) in ADDRESSES {
        let name = net::wait_for(vm, instance)?;
        let channels = storage::channels(vm, instance)?.len();
        expect(channels == 1, "one channel", channels)?;
        net::lease(vm, &name)?;
    }
    ping(vm, OTHER_GATEWAY)?;
    script(
        vm,
        &format!(
            "head -c $(({BLOCKS} << 16)) /proc/vmcore > /tmp/saved
             head -c 65536 /tmp/saved | grep -q OSRELEASE="
        ),
    )?;
    let dump = format!("nc {ECHO} {ECHO_PORT} < /tmp/saved > /tmp/back");
    Job::start(vm, "dump", &dump)?.expect_success(TRANSFER)?;
    let sum = |file| script(vm, &format!("wc -c < {file}; sha256sum < {file}"));
    let (sent, back) = (sum("/tmp/saved")?, sum("/tmp/back")?);
    expect(back == sent, sent.trim(), back.trim())?;
    let bytes = sent.lines().next().unwrap_or_default();
    Ok(format!("{bytes} bytes to the host and back"))
}
