// SPDX-License-Identifier: GPL-2.0

//! The QEMU that is the guest's Hyper-V host.

use std::path::Path;

use crate::bed::{Bed, Pace};
use crate::built_in;
use crate::drivers::Core;
use crate::image::Images;
use crate::lane::Common;
use crate::level::Level;
use crate::machine::{Initramfs, Machine, Qemu};
use crate::paths::Paths;

/// QEMU's name, packaged or ours.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// Where the packages have put the firmware; ours does not know.
pub(crate) const FIRMWARE: [&str; 4] = ["-L", "/usr/share/qemu", "-L", "/usr/share/seabios"];

/// Memory of the guest, in bytes.
pub(crate) const MEMORY: u64 = 1 << 30;

/// What the host's trace shows: messages, channels, the balloon's states.
const TRACE: [&str; 4] = [
    "vmbus_initiate_contact",
    "vmbus_recv_message",
    "vmbus_*_channel",
    "hv_balloon*",
];

/// What the patched host's trace shows besides.
const PATCHED_TRACE: [&str; 2] = ["vmbus_fault", "hv_net_data_path"];

/// The enlightenments, the same on every level.
const HYPER_V: &str = "hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,\
                       hv-reset,hv-frequencies";

/// Where time is instructions.
const REPEATABLE: &str = "-accel tcg,thread=single -icount shift=1,sleep=off -seed 1 \
                          -rtc base=2026-01-01,clock=vm";

/// How the guest's CPUs come about.
///
/// Emulated CPUs lack ERMS, FSRM and FSRS: with them the kernel copies and zeroes memory by REP MOVSB
/// and REP STOSB, which the emulator does, and counts, byte by byte. For another kernel than the stock one they
/// lack LA57: while a kernel identifies its first CPU (`identify_cpu`), it does not know for a moment that its
/// page tables have five levels, and KASAN takes what an interrupt touches then for memory that is not there.
fn cpus(bed: &Bed, paths: &Paths) -> Vec<String> {
    let cpu = match bed.level {
        Level::Direct | Level::Nested => "host,kvm=off",
        Level::Emulated if paths.tests_stock_kernel() => "max,-erms,-fsrm,-fsrs",
        Level::Emulated => "max,-erms,-fsrm,-fsrs,-la57",
    };
    let accelerator = match (bed.level, bed.pace) {
        (Level::Direct | Level::Nested, _) => "-accel kvm".to_owned(),
        (Level::Emulated, Pace::Free) => "-accel tcg,thread=multi".to_owned(),
        (Level::Emulated, Pace::Repeatable) => REPEATABLE.to_owned(),
        (Level::Emulated, Pace::Counted) => format!(
            "{REPEATABLE} -plugin {},windows={}",
            paths.qemu.join("libicount.so").display(),
            bed.windows_file().display(),
        ),
    };
    let mut words: Vec<String> = accelerator.split_whitespace().map(str::to_owned).collect();
    words.extend(["-cpu".to_owned(), format!("{cpu},{HYPER_V}")]);
    words
}

/// The command line for a guest with this initramfs and these drivers; the bed's folder has the
/// agent's sockets and the machine's files. S4 is off, or the C balloon driver would not answer requests.
pub(crate) fn arguments(
    common: &Common,
    images: &Images,
    initrd: &Path,
    machine: &Machine,
    core: Core,
    bed: &Bed,
) -> Vec<String> {
    let paths = &common.paths;
    let folder = &bed.folder;
    // KUnit, where there is it, is for one scenario: a module that runs its tests when it is loaded
    // waits for every disk that is found meanwhile.
    let kernel_arguments = format!(
        "console=ttyS0 loglevel=5 panic=1 rcupdate.rcu_cpu_stall_timeout=60 kunit.autorun=0 {} {}",
        match machine.initramfs {
            Initramfs::BuiltIn => machine.built_in_settings(core),
            _ => core.kernel_arguments().to_owned(),
        },
        machine.kernel_arguments,
    );
    // Only the patched one can emulate a host; what a scenario wants of the packaged one, its old
    // protocol, it can do.
    let emulated = bed.level == Level::Emulated;
    let patched = emulated || machine.qemu == Qemu::Patched;
    let program = if patched {
        paths.qemu.join(PROGRAM)
    } else {
        PROGRAM.into()
    };
    let built_in = built_in::kernel(paths, core);
    let kernel = match (machine.initramfs, bed.level) {
        (Initramfs::BuiltIn, _) => &built_in,
        (_, Level::Emulated | Level::Nested) => &images.unpacked_kernel,
        (_, Level::Direct) => &images.kernel,
    };
    let kernel = kernel.to_string_lossy();
    let initrd = initrd.to_string_lossy();
    let mut argv: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|w| (*w).to_owned()));
    add(&[&program.to_string_lossy()]);
    for word in cpus(bed, paths) {
        add(&[&word]);
    }
    if patched {
        add(&FIRMWARE);
    }
    if emulated && machine.qemu == Qemu::Packaged {
        add(&["-global", "vmbus-bridge.max-version=4.0"]);
    } else if let (true, Some(version)) = (patched, common.bus_version) {
        let version = format!("vmbus-bridge.max-version={version}");
        add(&["-global", &version]);
    }
    add(&["-machine", "q35", "-global", "ICH9-LPC.disable_s4=1"]);
    add(&["-smp", &machine.cpus.to_string()]);
    add(&["-m", &format!("{}M", MEMORY >> 20)]);
    add(&[
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    // with a firmware's disk, that says what starts
    if machine.initramfs != Initramfs::Installed {
        add(&["-kernel", &kernel, "-append", kernel_arguments.trim()]);
    }
    if !matches!(machine.initramfs, Initramfs::Installed | Initramfs::BuiltIn) {
        add(&["-initrd", &initrd]);
    }
    for word in machine.device_arguments(folder) {
        add(&[&word]);
    }
    for (id, user) in [
        ("console", "-serial"),
        ("control", "-serial"),
        ("qmp", "-mon"),
    ] {
        add(&["-chardev", &format!("socket,id={id},path={folder}/{id}")]);
        let chardev = format!("chardev:{id}");
        add(&[
            user,
            if id == "qmp" {
                "chardev=qmp,mode=control"
            } else {
                &chardev
            },
        ]);
    }
    let more: &[&str] = if patched { &PATCHED_TRACE } else { &[] };
    for event in TRACE.iter().chain(more) {
        add(&["-trace", event]);
    }
    argv
}
