// SPDX-License-Identifier: GPL-2.0

//! The kernel's own tests of network drivers (`tools/testing/selftests/drivers/net`), those that one adapter is
//! enough for. What each case is to give is in `selftests.txt`, beside this file.

mod expected;
mod tap;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::machine::{Initramfs, Machine};
use crate::net::{
    self, Wire, IP, PEER, PEER_ADDRESS, PEER_ADDRESS6, WIRE_ADDRESS, WIRE_ADDRESS6, WIRE_QUEUES,
};
use crate::scenarios::Context;
use crate::storage::{script, Job};
use crate::vm::Vm;
use expected::{Length, Test};

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "selftests",
    initramfs: Initramfs::Selftests,
    ..net::MACHINE
};

/// What each case of each test gives.
const EXPECTED: &str = include_str!("selftests.txt");
/// Where the tests are in the guest.
const FOLDER: &str = "/kernel/tools/testing/selftests/drivers/net";
/// A test may take so many seconds.
const SECONDS: u64 = 600;

/// Those that `make test` runs.
pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    run_all(cx, Length::Short)
}

/// Those that take long.
pub(in crate::scenarios) fn run_long(cx: &mut Context<'_>) -> Result<()> {
    run_all(cx, Length::Long)
}

fn run_all(cx: &mut Context<'_>, length: Length) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    prepare(vm)?;
    let (mut differ, mut cases) = (String::new(), 0);
    for test in expected::parse(EXPECTED)?
        .iter()
        .filter(|test| test.length == length)
    {
        begin_anew(vm, &wire)?;
        let said = run_one(vm, &wire, test)?;
        let log = format!("selftest-{}-{}.log", vm.core, test.name.replace('/', "-"));
        fs::write(cx.paths.logs.join(log), &said)?;
        let found = tap::parse(&said, test.stem());
        cases += found.len();
        for line in test.differences(vm.core, &found) {
            let _ = writeln!(differ, "{}: {line}", test.name);
        }
    }
    let _ = write!(cx.figures, "{cases} cases");
    expect(
        differ.is_empty(),
        "each case of the kernel's tests to give what selftests.txt says",
        differ.trim(),
    )
}

/// What the tests take for granted. The shell must be one that finds `ip` by the path.
fn prepare(vm: &Vm) -> Result<()> {
    script(
        vm,
        &format!(
            "ln -sf /usr/bin/bash /bin/sh
             mkdir -p /run/netns /root
             mount -t bpf bpf /sys/fs/bpf
             modprobe configfs
             mount -t configfs configfs /sys/kernel/config
             modprobe pppoe
             {IP} link set lo up"
        ),
    )
    .map(drop)
}

/// Whatever the test before has left.
fn begin_anew(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    let name = &wire.name;
    script(
        vm,
        &format!(
            "{IP} link set {name} up mtu 1500
             {IP} link set {name} xdpdrv off
             ethtool -L {name} combined {WIRE_QUEUES}
             ethtool -X {name} default"
        ),
    )?;
    wire.address()?;
    wire.ping("")
}

/// Run a test; gives what it said.
fn run_one(vm: &Vm, wire: &Wire<'_>, test: &Test<'_>) -> Result<String> {
    let command = format!(
        "cd {FOLDER}
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin KSFT_MACHINE_SLOW=yes NETIF={name}
         export LOCAL_V4={WIRE_ADDRESS} LOCAL_V6={WIRE_ADDRESS6} REMOTE_V4={PEER_ADDRESS} REMOTE_V6={PEER_ADDRESS6}
         export REMOTE_TYPE=netns REMOTE_ARGS={PEER}
         timeout -k 5 {SECONDS} python3 {test} > /tmp/said 2>&1 || echo \"status $?\" >> /tmp/said",
        name = wire.name,
        test = test.name,
    );
    let limit = Duration::from_secs(SECONDS + 30);
    Job::start(vm, "selftest", &command)?.expect_success(limit)?;
    vm.read("/tmp/said")
}
