// SPDX-License-Identifier: GPL-2.0

//! Guests see the same Hyper-V on the emulated level as under KVM.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::AloneContext;
use crate::devices::{self, ATTRIBUTES, BUS};
use crate::failure::{expect, unmet};
use crate::kernel_log;
use crate::lane::Lane;
use crate::level::Level;
use crate::machine::{disk, Initramfs, Machine, Qemu};
use crate::storage;
use crate::view::{self, Meant, View, ABSENT};
use crate::vm::Vm;

/// A device of each kind.
const MACHINE: Machine = Machine {
    name: "levels",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Drivers,
    kernel_arguments: "",
    module_parameters: "",
    files: &[disk("main", storage::SMALL_MIB), disk("ide", storage::SMALL_MIB)],
    devices: &[
        "-device vmbus-bridge",
        "-device hv-balloon,id=balloon,status-report=on,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
        "-blockdev raw,node-name=main,file.driver=file,file.filename=@/main,cache.no-flush=on",
        "-blockdev raw,node-name=ide,file.driver=file,file.filename=@/ide,cache.no-flush=on",
        "-device hv-scsi,id=main,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0001",
        "-device scsi-hd,bus=main.0,drive=main,scsi-id=0,lun=0",
        "-device hv-ide,id=ide",
        "-device scsi-hd,bus=ide.0,drive=ide",
    ],
};

/// Differences that are meant.
const MEANT: &[Meant] = &[
    Meant {
        name: "msr 40000106*",
        ..LENIENT_KVM
    },
    Meant {
        name: "msr 40000107*",
        ..LENIENT_KVM
    },
    Meant {
        name: "msr 40000108*",
        ..LENIENT_KVM
    },
    Meant {
        name: "msr 40000118*",
        ..LENIENT_KVM
    },
    Meant {
        name: "clockevents/clockevent*",
        emulated: "lapic",
        nested: "lapic-deadline",
        why: "TSC deadlines are a matter of the APIC, and the emulated one has none",
    },
];

/// Reenlightenment and the control of an invariant TSC: the guest has no privilege for them.
const LENIENT_KVM: Meant = Meant {
    name: "",
    emulated: ABSENT,
    nested: "0x0",
    why: "without hv-enforce-cpuid KVM lets everybody read them; \
          the TLFS wants #GP where the privilege is missing",
};

/// What the kernel says of the hypervisor, its clocks and its bus.
const SAID: &str = "Hyper-V|Hypervisor|hypervisor|hv_vmbus|clocksource|sched_clock|x2apic";

const LOOK_TIMEOUT: Duration = Duration::from_secs(120);
const BIND_TIMEOUT: Duration = Duration::from_secs(40);

pub(super) fn run(cx: &mut AloneContext<'_>) -> Result<()> {
    let emulated = see(cx, Level::Emulated)?;
    let nested = see(cx, Level::Nested)?;
    *cx.figures = format!("{} things compared", emulated.len().max(nested.len()));
    let wrong = view::compare(&emulated, &nested, MEANT);
    expect(
        wrong.is_empty(),
        "both levels to show the same, except for what is meant to differ",
        format!("\n      {}", wrong.join("\n      ")),
    )
}

/// What a guest of this level sees; a file among the logs has it too.
fn see(cx: &AloneContext<'_>, level: Level) -> Result<View> {
    let mut lane = Lane::on_level(cx.common, level);
    let view = lane
        .once_in_new_guest(&MACHINE, cx.core, look)
        .with_context(|| format!("on the {level} level"))?;
    let name = format!("view-{}-{level}.log", cx.core).to_lowercase();
    let mut text = String::new();
    for (name, value) in &view {
        writeln!(text, "{name} = {value}")?;
    }
    fs::write(cx.common.paths.logs.join(name), text)?;
    Ok(view)
}

fn look(vm: &Vm) -> Result<View> {
    vm.set_deadline(Instant::now() + LOOK_TIMEOUT);
    storage::load(vm)?;
    devices::wait_for_balloon(vm, BIND_TIMEOUT)?;
    storage::wait_for(vm, storage::IDE, storage::PLAIN)?;
    vm.exec(&["modprobe", "msr"])?;

    let mut view = view::parse(&vm.look()?)?;
    clocks(vm, &mut view)?;
    offers(vm, &mut view)?;
    said(vm, &mut view)?;
    match vm.console.trouble(0, &[]) {
        Some(line) => Err(unmet("a quiet kernel log", line)),
        None => Ok(view),
    }
}

/// Which clocks the kernel has, and uses.
fn clocks(vm: &Vm, view: &mut View) -> Result<()> {
    let files = [
        "clocksource/clocksource0/current_clocksource",
        "clocksource/clocksource0/available_clocksource",
        "clockevents/clockevent0/current_device",
        "clockevents/clockevent1/current_device",
        "clockevents/broadcast/current_device",
    ];
    for file in files {
        let value = vm.read(&format!("/sys/devices/system/{file}"))?;
        view.insert(file.to_owned(), value.trim().to_owned());
    }
    Ok(())
}

/// What the bus offers.
fn offers(vm: &Vm, view: &mut View) -> Result<()> {
    for device in devices::list(vm)? {
        let name = &device.name;
        for (attribute, value) in ATTRIBUTES.iter().zip(device.values) {
            view.insert(format!("device {name} {attribute}"), value);
        }
        let driver = device.driver.unwrap_or_default();
        view.insert(format!("device {name} driver"), driver);
        let channels = vm.list(&format!("{BUS}/devices/{name}/channels"))?;
        view.insert(format!("device {name} channels"), channels.join(" "));
    }
    Ok(())
}

/// What the kernel has said, and which version of the bus it has got.
fn said(vm: &Vm, view: &mut View) -> Result<()> {
    let log = vm.exec(&["sh", "-c", &format!("dmesg | grep -E '{SAID}'")])?;
    let version = kernel_log::negotiated_version(&log).context("no version of the bus")?;
    view.insert("version".into(), version);
    for line in log.lines() {
        view.insert(format!("said: {}", without_times(line)), "yes".into());
    }
    Ok(())
}

/// A line of the log without its time, and without those that `sched_clock` has measured.
fn without_times(line: &str) -> &str {
    let text = line.split_once("] ").map_or(line, |(_, text)| text);
    if text.starts_with("sched_clock: Marking") {
        text.split_once(" (").map_or(text, |(text, _)| text)
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::without_times;

    #[test]
    fn lines_have_no_times() {
        let line = "[    3.6] sched_clock: Marking stable (3304183900, 411)->(3611276500, -2)";
        assert_eq!(without_times(line), "sched_clock: Marking stable");
        let line = "[    0.0] hv_vmbus: Vmbus version:5.3 [x]";
        assert_eq!(without_times(line), "hv_vmbus: Vmbus version:5.3 [x]");
    }
}
