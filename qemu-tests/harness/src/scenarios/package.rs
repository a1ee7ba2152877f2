// SPDX-License-Identifier: GPL-2.0

//! A Debian machine with its root on the bus and Secure Boot takes the packages: nothing changes, and no choice is
//! taken as long as the machine does not trust who has signed the modules. Once it does, its devices are given to the
//! Rust drivers on the C core, then to those on the Rust core, each time by a start with the kernel, the initramfs and
//! the words that its own tools have made. The packages go, and the machine starts on C.

use std::time::Duration;

use anyhow::Result;
use vmbus_guest::protocol::GuestRequest;

use super::Context;
use crate::devices;
use crate::failure::expect;
use crate::installed::{CERTIFICATE, PACKAGES};
use crate::storage::Job;
use crate::vm::Vm;

/// dpkg, an initramfs and a boot menu, emulated.
const LONG: Duration = Duration::from_secs(900);
/// Until all devices have a driver.
const BOUND: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(90);

/// Drivers of disk, network and memory, in C and in Rust.
const C: [&str; 3] = ["hv_balloon", "hv_netvsc", "hv_storvsc"];
const RUST: [&str; 3] = ["hv_balloon_rust", "hv_netvsc_rust", "hv_storvsc_rust"];
/// A file that has to be there in the end, with its checksum.
const FILE: &str = "/root/file";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    has(vm, C, "")?;
    is_locked_down(vm)?;
    // an installation ends with this
    job(vm, "menu", "update-grub")?;
    job(
        vm,
        "write",
        &format!("head -c 4000000 /dev/urandom > {FILE}; sha256sum {FILE} > {FILE}.sum"),
    )?;

    job(
        vm,
        "install",
        &format!("DEBIAN_FRONTEND=noninteractive dpkg -i {PACKAGES}/*.deb"),
    )?;
    has(vm, C, "")?;
    in_force(vm, "core=c storage=c network=c memory=c")?;
    for choice in ["core=rust", "storage=rust-on-c"] {
        is_refused(vm, choice)?;
    }
    in_force(vm, "core=c storage=c network=c memory=c")?;

    end(vm)?;
    vm.trust(cx.paths, &cx.paths.packages.join(CERTIFICATE))?;
    vm.boot_installed(cx.paths)?;
    job(
        vm,
        "choose-on-c",
        "vmbus-rust set storage=rust-on-c network=rust-on-c memory=rust-on-c",
    )?;
    boot_again(cx)?;
    has(vm, RUST, "hv_vmbus_rust_on_c")?;
    in_force(
        vm,
        "core=c storage=rust-on-c network=rust-on-c memory=rust-on-c",
    )?;

    job(vm, "choose-rust", "vmbus-rust set core=rust")?;
    boot_again(cx)?;
    has(vm, RUST, "hv_vmbus_rust")?;
    in_force(vm, "core=rust")?;
    is_locked_down(vm)?;
    same_file(vm)?;
    not_signed_any_more(vm)?;

    let release = vm.exec(&["uname", "-r"])?;
    job(
        vm,
        "purge",
        &format!(
            "dpkg --purge vmbus-rust-modules-{} vmbus-rust",
            release.trim()
        ),
    )?;
    boot_again(cx)?;
    has(vm, C, "")?;
    same_file(vm)
}

/// The firmware, the shim and GRUB have said that only signed code runs here, and the kernel keeps to it.
fn is_locked_down(vm: &Vm) -> Result<()> {
    let script = "mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security; \
                  cat /sys/kernel/security/lockdown";
    let found = vm.exec(&["sh", "-c", script])?;
    expect(
        found.contains("[integrity]"),
        "a kernel locked down for integrity",
        found,
    )
}

/// The kernel takes none of the modules, and this choice is not taken.
fn is_refused(vm: &Vm, choice: &str) -> Result<()> {
    let done = vm.try_exec(&["vmbus-rust", "set", choice])?;
    expect(
        done.status == 1
            && done
                .stderr
                .contains("this kernel does not take hv_vmbus_rust"),
        format!("{choice} refused, for the kernel does not take the modules"),
        format!("status {}: {}{}", done.status, done.stdout, done.stderr),
    )
}

/// The modules are others, whose signature nobody knows: the machine is not left to a core that would not be loaded.
fn not_signed_any_more(vm: &Vm) -> Result<()> {
    vm.exec(&[
        "sh",
        "-c",
        "for file in $(modinfo -n hv_vmbus_rust hv_vmbus_rust_on_c); do truncate -s -4 $file; done",
    ])?;
    // it says more than that
    let apply =
        "! vmbus-rust apply > /tmp/applied 2>&1; grep 'would start without its disk' /tmp/applied";
    job(vm, "apply", apply)?;
    let menu = vm.read("/boot/grub/grub.cfg")?;
    expect(
        !menu.contains("initcall_blacklist"),
        "a menu that starts the C core",
        menu,
    )
}

/// Which drivers the devices have, and which of our cores is loaded, if one is.
fn has(vm: &Vm, drivers: [&str; 3], core: &str) -> Result<()> {
    vm.wait_until(BOUND, "a driver bound to each device", || {
        let mut found: Vec<String> = devices::list(vm)?
            .into_iter()
            .filter_map(|device| device.driver)
            .filter(|name| C.contains(&name.as_str()) || RUST.contains(&name.as_str()))
            .collect();
        found.sort();
        Ok(if found == drivers {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        })
    })?;
    let modules = vm.read("/proc/modules")?;
    let cores: Vec<&str> = modules
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.starts_with("hv_vmbus_rust"))
        .collect();
    expect(
        cores.concat() == core,
        format!("the core '{core}' loaded"),
        format!("{cores:?}"),
    )
}

/// What `vmbus-rust status` says.
fn in_force(vm: &Vm, chosen: &str) -> Result<()> {
    let said = vm.exec(&["vmbus-rust", "status"])?;
    expect(
        said.contains(&format!("): {chosen}")) && said.contains("what is chosen is in force"),
        format!("'{chosen}' chosen and in force"),
        said,
    )
}

fn same_file(vm: &Vm) -> Result<()> {
    vm.exec(&["sha256sum", "--quiet", "-c", &format!("{FILE}.sum")])
        .map(drop)
}

fn job(vm: &Vm, name: &'static str, command: &str) -> Result<()> {
    Job::start(vm, name, command)?.expect_success(LONG)
}

/// The machine ends in order, and boots with what its disk says.
fn boot_again(cx: &Context<'_>) -> Result<()> {
    end(cx.vm)?;
    cx.vm.boot_installed(cx.paths)
}

fn end(vm: &Vm) -> Result<()> {
    let argv = ["systemctl", "reboot", "--force"].map(str::to_owned).into();
    vm.tell(GuestRequest::Exec { argv })?;
    let ended = vm.wait_for_end(END, "the guest to end")?;
    expect(
        ended.status == Some(0),
        "QEMU to end with status 0",
        format!("{ended:?}"),
    )
}
