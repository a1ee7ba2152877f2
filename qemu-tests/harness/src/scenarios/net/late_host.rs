// SPDX-License-Identifier: GPL-2.0

//! A host that is late while adapters come: their names are those of the order in which it has offered them, and one
//! for which it is too late comes all the same. Nothing else waits for an adapter.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::drivers::Core;
use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net;
use crate::scenarios::Context;
use crate::storage;
use crate::vm::Vm;

const SLOW: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1301";
const QUICK: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1302";
const LATE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1303";

/// The first answer of RNDIS (a packet of type 7 for control, 1 at 4), to INITIALIZE, takes so long that another adapter is there by then.
const SLOW_SCRIPT: &str = "on send type=7 u32@4=1 nth=1 do delay 4000\n";
/// Longer than a guest waits for it, and once: the second time it is there at once.
const LATE_SCRIPT: &str = "on send type=7 u32@4=1 nth=1 do delay 8000\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-late-host",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[text("slow", SLOW_SCRIPT), text("late", LATE_SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=slow,restrict=on",
        "-device hv-net,id=slow,netdev=slow,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1301,fault-script=@/slow",
        "-netdev user,id=quick,restrict=on",
        "-device hv-net,id=quick,netdev=quick,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1302",
        "-netdev user,id=late,restrict=on",
        "-device hv-net,netdev=late,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1303,fault-script=@/late",
    ],
};

/// The first try and the pause after it, in a slow guest.
const AGAIN: Duration = Duration::from_secs(60);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    for (instance, wanted) in [(SLOW, "eth0"), (QUICK, "eth1")] {
        let name = net::wait_for(vm, instance)?;
        expect(name == wanted, format!("{wanted} of {instance}"), &name)?;
    }
    // The bus of the C core offers a device once.
    if vm.core == Core::Rust {
        vm.wait_until(AGAIN, "the adapter that was late", || {
            Ok(net::find(vm, LATE)?.ok_or_else(|| "no interface".into()))
        })?;
        net::wait_for(vm, LATE)?;
        let log = vm.dmesg()?;
        let line = "the host was late; trying again in 10 s";
        let times = log.matches(line).count();
        expect(times == 1, format!("'{line}' once in the log"), times)?;
        // C's bus waits for the adapter.
        others_go_on(vm)?;
    }
    Ok(())
}

/// An adapter that comes when its driver is there keeps nobody waiting but adapters behind it; that before it, which was
/// probed together with it, can go.
fn others_go_on(vm: &Vm) -> Result<()> {
    let script = json!({ "path": "/machine/peripheral/slow", "property": "fault-script" });
    let script = vm.qmp("qom-get", &script)?;
    for (id, instance) in [("slow", SLOW), ("quick", QUICK)] {
        storage::unplug(vm, id)?;
        storage::wait_unplugged(vm, instance)?;
    }
    let adapter = |id: &str, instance: &str| json!({ "driver": "hv-net", "id": id, "netdev": id, "num-queues": 1, "instanceid": instance });
    let mut slow = adapter("slow", SLOW);
    slow["fault-script"] = script;
    for adapter in [adapter("quick", QUICK), slow] {
        vm.plug_when_gone(&adapter)?;
    }
    vm.wait_until(AGAIN, "the quick adapter", || {
        Ok(net::find(vm, QUICK)?.ok_or_else(|| "no interface".into()))
    })?;
    storage::unplug(vm, "quick")?;
    storage::wait_unplugged(vm, QUICK)?;
    let name = net::find(vm, SLOW)?;
    expect(
        name.is_none(),
        "one adapter gone before the other is there",
        format!("{name:?}"),
    )?;
    net::wait_for(vm, SLOW).map(drop)
}
