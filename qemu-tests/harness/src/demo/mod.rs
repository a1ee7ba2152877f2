// SPDX-License-Identifier: GPL-2.0

//! `make run`: shows what the drivers do, step by step.

mod disk;
mod memory;
mod network;

use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use crate::devices::{self, Device};
use crate::kernel_log::negotiated_version;
use crate::machine::{disk, text, Contents, File, Initramfs, Machine, Qemu};
use crate::paths::Paths;
use crate::storage::{self, Address};
use crate::vm::Vm;

/// Instance of the controller.
const CONTROLLER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f00d0";
/// Its disk with the root.
const ROOT: Address = (0, 0, 0);
/// Its disk to write to.
const DISK: Address = (0, 1, 0);

/// Memory to give and take, a disk with a root, one to write to, and a network.
pub(crate) const MACHINE: Machine = Machine {
    name: "demo",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Reached,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        File {
            name: "root",
            contents: Contents::Reached,
            mib: 0,
        },
        text("serve", network::SERVER),
        disk("disk", disk::WRITTEN_MIB),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-device hv-balloon,id=balloon,status-report=on,post-init-wait-ms=2000,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
        "-blockdev raw,node-name=root,file.driver=file,file.filename=@/root,cache.no-flush=on",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk,cache.no-flush=on",
        "-device hv-scsi,id=scsi,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f00d0",
        "-device scsi-hd,bus=scsi.0,drive=root,scsi-id=0,lun=0",
        "-device scsi-hd,bus=scsi.0,drive=disk,scsi-id=1,lun=0",
        "-netdev 'user,id=user,restrict=on,hostfwd=tcp:127.0.0.1:0-:22,guestfwd=tcp:10.0.2.100:80-cmd:sh @/serve'",
        "-device hv-net,id=user,netdev=user,num-queues=2,mac=52:54:00:00:10:01,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001",
    ],
};

/// Classes of devices, and what people call them.
const CLASSES: [(&str, &str); 3] = [
    (devices::DYNAMIC_MEMORY, "dynamic memory"),
    ("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f", "SCSI controller"),
    ("f8615163-df3e-46c5-913f-f2d2f965ed0e", "network"),
];

/// Where lines for the person go.
pub(crate) type Say<'a> = &'a dyn Fn(&str);

/// Where `make run` prints them.
pub(crate) fn print(line: &str) {
    println!("{line}");
}

/// `make run`.
pub(crate) fn show(vm: &Vm, paths: &Paths) -> Result<()> {
    run(&print, ProgressBar::new_spinner, vm, paths)
}

/// Show it in this guest; `bar` makes what shows that something is waited for.
pub(crate) fn run(say: Say<'_>, bar: fn() -> ProgressBar, vm: &Vm, paths: &Paths) -> Result<()> {
    let release = vm.exec(&["uname", "-r"])?;
    say(&format!(
        "guest: stock Debian kernel {}, {} drivers",
        release.trim(),
        vm.core
    ));
    let Started { disk, interface } = start(say, vm)?;
    let version = negotiated_version(&vm.dmesg()?).context("no negotiated version in the log")?;
    say(&format!("VMBus: version {version} negotiated\n"));
    print_devices(say, &devices::list(vm)?);

    let moved = memory::show(say, bar(), vm)?;
    let storage = disk::show(say, vm, &disk)?;
    let network = network::show(say, vm, paths, &interface)?;
    say(&format!(
        "summary: {} drivers, VMBus {version}; {moved}; {storage}; {network}",
        vm.core
    ));
    say(&format!("console: {}", vm.console.path().display()));
    Ok(())
}

/// What a started guest has.
struct Started {
    /// The disk to write to.
    disk: String,
    /// The network interface.
    interface: String,
}

/// Load the drivers, go on from the root on the disk, and take up the network.
fn start(say: Say<'_>, vm: &Vm) -> Result<Started> {
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let root = storage::wait_for(vm, CONTROLLER, ROOT)?;
    let disk = storage::wait_for(vm, CONTROLLER, DISK)?;
    vm.enter_root(&root)?;
    say(&format!("root: Debian on {root}, a disk of {CONTROLLER}"));
    let interface = network::start(vm)?;
    Ok(Started { disk, interface })
}

/// Start the guest of `make shell`, and say how it is reached besides.
pub(crate) fn start_shell(say: Say<'_>, vm: &Vm, paths: &Paths) -> Result<()> {
    let Started { disk, interface } = start(say, vm)?;
    say(&format!(
        "network: {interface}; {disk} is a disk to try things on"
    ));
    if let Some(port) = network::port(vm)? {
        std::fs::write(paths.guest_port(), port.to_string())?;
        say(&format!(
            "'make ssh' in another terminal logs in (port {port})"
        ));
    }
    Ok(())
}

/// A table of the bus.
fn print_devices(say: Say<'_>, devices: &[Device]) {
    say(&format!("{:38} {:16} driver", "device", "class"));
    for device in devices {
        let class = CLASSES
            .iter()
            .find(|(id, _)| device.values[1].contains(id))
            .map_or(device.values[1].as_str(), |(_, name)| name);
        let driver = device.driver.as_deref().unwrap_or("(none)");
        say(&format!("{:38} {class:16} {driver}", device.name));
    }
    say("");
}
