// SPDX-License-Identifier: GPL-2.0

//! A host that does not answer, or says nonsense, about a virtual function: frames go by the adapter meanwhile,
//! nobody waits for it for long, and it is asked again.

use std::time::Duration;

use anyhow::Result;

use super::vf::{make_peer, wait_joined, wait_path};
use crate::failure::expect;
use crate::machine::{text, Machine};
use crate::net::{Wire, IP, WIRE};
use crate::scenarios::Context;
use crate::storage::{debugfs_number, script};
use crate::vm::Vm;

/// 128 tells of the function with the serial number 7, once cut off and then twice; 129 is what asks for a path. The
/// first and third of these are not answered, the seventh is with something in the answer; 10 s after the fifth the
/// function is said to be gone, and 30 s later to be there again.
const SCRIPT: &str = "\
    on send type=11 reqop=104 do inject 6 0 800000000100 200\n\
    on send type=11 reqop=104 do inject 6 0 80000000010000000700000000000000 500\n\
    on send type=11 reqop=104 do inject 6 0 80000000010000000700000000000000 600\n\
    on send type=11 reqop=129 nth=1 do drop\n\
    on send type=11 reqop=129 nth=3 do drop\n\
    on send type=11 reqop=129 nth=5 do inject 6 0 80000000000000000700000000000000 10000\n\
    on send type=11 reqop=129 nth=5 do inject 6 0 80000000010000000700000000000000 40000\n\
    on send type=11 reqop=129 nth=7 do pad 8\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-vf-host",
    files: &[text("association", SCRIPT)],
    ..super::vf::MACHINE
};

/// 5 s for an answer, a pause, and what a slow guest adds.
const SETTLED: Duration = Duration::from_secs(60);
/// For which RTNL may be held, in hundredths of a second.
const MOST_RTNL: u32 = 800;

fn status(vm: &Vm, name: &str) -> Result<u64> {
    debugfs_number(vm, &format!("hv-netvsc-rust-{WIRE}"), name)
}

fn wait_status(vm: &Vm, name: &str, wanted: u64) -> Result<()> {
    vm.wait_until(SETTLED, &format!("{name}: {wanted}"), || {
        let found = status(vm, name)?;
        Ok(if found == wanted {
            Ok(())
        } else {
            Err(found.to_string())
        })
    })
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    make_peer(vm)?;
    let wire = Wire::connect(vm)?;
    let function = wait_joined(vm, &wire.name)?;

    // the first question is not answered, the second one is
    wire.ping("")?;
    wait_status(vm, "sends_by_function", 1)?;
    wait_path(vm, &wire, true)?;
    expect(
        status(vm, "paths_not_confirmed")? == 1,
        "one question without an answer",
        status(vm, "paths_not_confirmed")?,
    )?;
    expect(
        status(vm, "packets_refused")? >= 1,
        "a message refused that is cut off",
        status(vm, "packets_refused")?,
    )?;

    // neither is the third one, which is asked under RTNL
    let took = script(
        vm,
        &format!(
            "read before rest < /proc/uptime
             {IP} link set {function} down
             read after rest < /proc/uptime
             echo $((${{after%.*}}${{after#*.}} - ${{before%.*}}${{before#*.}}))"
        ),
    )?;
    let took: u32 = took.trim().parse()?;
    *cx.figures = format!("RTNL held for {took} hundredths of a second");
    expect(
        took <= MOST_RTNL,
        format!("RTNL held for at most {MOST_RTNL} hundredths of a second"),
        took,
    )?;
    wait_path(vm, &wire, false)?;
    wait_status(vm, "paths_not_confirmed", 2)?;

    script(vm, &format!("{IP} link set {function} up"))?;
    wait_status(vm, "sends_by_function", 1)?;
    // it is said to be gone while it is in use, and then to be there
    wait_status(vm, "sends_by_function", 0)?;
    wait_path(vm, &wire, false)?;
    // the answer to the seventh question is none
    wait_status(vm, "paths_not_confirmed", 3)?;
    wait_status(vm, "sends_by_function", 1)?;
    wait_path(vm, &wire, true)
}
