// SPDX-License-Identifier: GPL-2.0

//! The QEMU that is the guest's Hyper-V host.

use crate::drivers::Core;
use crate::image::Images;

/// Memory of the guest, in bytes.
pub(crate) const MEMORY: u64 = 1 << 30;

/// The hv-balloon device's instance, fixed so that lists can be compared.
pub(crate) const BALLOON_INSTANCE: &str = "6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11";

/// What the host's trace shows: messages, channels, the balloon's states.
const TRACE: [&str; 4] = [
    "vmbus_initiate_contact",
    "vmbus_recv_message",
    "vmbus_*_channel",
    "hv_balloon*",
];

/// The command line for a guest with these drivers; `folder` has the agent's
/// sockets. S4 is off, or the C balloon driver would not answer requests.
pub(crate) fn arguments(images: &Images, core: Core, folder: &str) -> Vec<String> {
    let kernel_arguments = format!(
        "console=ttyS0 loglevel=5 panic=1 rcupdate.rcu_cpu_stall_timeout=60 {}",
        core.kernel_arguments()
    );
    let cpu = "host,kvm=off,hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,\
               hv-reset,hv-frequencies";
    let balloon = format!("hv-balloon,id=balloon,status-report=on,instanceid={BALLOON_INSTANCE}");
    let kernel = images.kernel.to_string_lossy();
    let initrd = images.guest.to_string_lossy();
    let mut argv: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|w| (*w).to_owned()));
    add(&["qemu-system-x86_64", "-accel", "kvm", "-cpu", cpu]);
    add(&["-machine", "q35", "-global", "ICH9-LPC.disable_s4=1"]);
    add(&["-smp", "2", "-m", &format!("{}M", MEMORY >> 20)]);
    add(&[
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    add(&["-device", "vmbus-bridge", "-device", &balloon]);
    add(&[
        "-kernel",
        &kernel,
        "-initrd",
        &initrd,
        "-append",
        kernel_arguments.trim(),
    ]);
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
    for event in TRACE {
        add(&["-trace", event]);
    }
    argv
}
