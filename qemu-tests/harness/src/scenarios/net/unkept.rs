// SPDX-License-Identifier: GPL-2.0

//! A host that promises more sub-channels than it ever offers: whoever asks for them gets those that there are, in
//! time, and keeps nobody else waiting for long; and who unbinds the adapter does not wait for them.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::timeout::LONGEST;
use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{self, GATEWAY, IP, USER};
use crate::scenarios::Context;
use crate::storage::{debugfs_number, script, Job};
use crate::vm::Vm;

/// Of the answer that says what the host can do to spread (0x88 at 24), the number of channels is at 36; of NVSP's
/// answer about sub-channels (133) their number is at 8. The host has two channels, says that there are four, and
/// promises all that it is asked for.
const SCRIPT: &str = "\
    on buffer op=0x80000004 u32@16=18 u8@24=0x88 do u32 36 4\n\
    on send type=11 op=133 do u32 8 3\n";
/// Channels in use.
const THERE: u64 = 2;

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-unkept",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[text("promises", SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on",
        "-device hv-net,id=user,netdev=user,num-queues=2,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001,fault-script=@/promises",
    ],
};

/// All that is waited for here takes seconds.
const ENDS: Duration = Duration::from_secs(60);
/// How long the driver waits for them, and the most that a change, and anybody who wants RTNL meanwhile, takes, in
/// hundredths of a second.
const COME: u32 = 200;
const MOST: u32 = 500;
/// Who wants RTNL notices at least so much of that.
const HELD: u32 = 100;
/// For which who changes something goes on waiting once the adapter is being unbound, at most.
const WOKEN: u32 = 100;

/// Shell functions that say how late it is, and how long a command takes, in hundredths of a second.
const CLOCK: &str = "now() { read up rest < /proc/uptime; echo ${up%.*}${up#*.}; }
    took() { before=$(now); \"$@\"; echo $(($(now) - before)); }";

fn number(text: &str) -> Result<u32> {
    let line = text.trim();
    line.parse().with_context(|| format!("no number: {line}"))
}

fn expect_there(vm: &Vm, name: &str) -> Result<()> {
    for number in ["channels", "queues"] {
        let found = debugfs_number(vm, &format!("hv-netvsc-rust-{USER}"), number)?;
        expect(found == THERE, format!("{number}: {THERE}"), found)?;
    }
    let there = script(vm, &format!("ls -d /sys/class/net/{name}/queues/rx-*"))?;
    expect(
        there.lines().count() as u64 == THERE,
        format!("{THERE} queues of the stack"),
        there.trim(),
    )
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    script(vm, &format!("{IP} addr replace 10.0.2.15/24 dev {name}"))?;
    net::ping(vm, GATEWAY, "")?;

    let rtnl = Job::start(vm, "rtnl", LONGEST)?;
    // another number, and the same again, which is on its way as far as anybody knows
    let mut changes = Vec::new();
    for _ in 0..2 {
        let change = script(vm, &format!("{CLOCK}\ntook ethtool -L {name} combined 3"))?;
        changes.push(number(&change)?);
        expect_there(vm, &name)?;
        net::ping(vm, GATEWAY, "")?;
    }
    script(vm, "touch /tmp/enough")?;
    let (status, longest) = rtnl.wait(ENDS)?;
    let longest = number(&longest).with_context(|| format!("status {status}"))?;
    expect(
        changes.iter().all(|took| (COME..MOST).contains(took)) && (HELD..MOST).contains(&longest),
        format!("{COME} to {MOST} hundredths of a second for ethtool -L, {HELD} to {MOST} for who wants RTNL"),
        format!("{changes:?}, {longest}"),
    )?;

    let woken = unbind_while_waiting(vm, &name)?;
    vm.write("/sys/bus/vmbus/drivers/hv_netvsc_rust/bind", USER)?;
    let name = net::wait_for(vm, USER)?;
    script(vm, &format!("{IP} addr replace 10.0.2.15/24 dev {name}"))?;
    net::ping(vm, GATEWAY, "")?;
    *cx.figures = format!(
        "in hundredths of a second: ethtool -L {changes:?}, RTNL {longest}, and {woken} when unbound"
    );
    Ok(())
}

/// Unbinds the adapter while sub-channels are waited for. Returns for how long they still were.
fn unbind_while_waiting(vm: &Vm, name: &str) -> Result<u32> {
    let status = format!("/sys/kernel/debug/hv-netvsc-rust-{USER}/status");
    // it is the new connection whose buffer has another size, and when it has a second channel, more are waited for
    let ends = script(
        vm,
        &format!(
            "{CLOCK}
             sections() {{ grep '^receive_sections:' {status}; }}
             before=$(sections)
             rm -f /tmp/ended
             (ethtool -G {name} rx 1000 > /dev/null 2>&1 || true; now > /tmp/ended) &
             until [ \"$(sections)\" != \"$before\" ] && grep -q '^channels: {THERE}$' {status}; do
                 :
             done
             sleep 0.1
             [ ! -e /tmp/ended ]
             now
             echo {USER} > /sys/bus/vmbus/drivers/hv_netvsc_rust/unbind
             wait
             cat /tmp/ended"
        ),
    )?;
    let (begun, ended) = ends.trim().split_once('\n').context("two times")?;
    let took = number(ended)?.saturating_sub(number(begun)?);
    expect(
        took < WOKEN,
        format!("nobody to wait for sub-channels {WOKEN} hundredths of a second after unbinding has begun"),
        took,
    )?;
    Ok(took)
}
