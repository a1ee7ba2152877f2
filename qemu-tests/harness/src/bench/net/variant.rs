// SPDX-License-Identifier: GPL-2.0

//! What is compared: adapters of different kinds, in the same places.

use crate::bench::symbols::Symbol;
use crate::bench::variant::{Doorbell, BACKENDS, OWN_C, OWN_RUST, OWN_RUST_ON_C, OWN_VIRTIO};
use crate::drivers::Core;
use crate::machine::{disk, Initramfs, Machine, Qemu};

/// Ethernet address of the adapter whose host takes all and gives nothing.
pub(in crate::bench) const SENDER_MAC: &str = "52:54:00:00:20:01";
/// Of the adapter that gets what the [`FEED_MAC`] sends.
pub(in crate::bench) const RECEIVER_MAC: &str = "52:54:00:00:20:02";
/// Of an emulated adapter at the other end of the receiver's wire.
pub(in crate::bench) const FEED_MAC: &str = "52:54:00:00:20:04";

/// One kind of adapter.
pub(in crate::bench) struct Variant {
    /// Its name.
    pub(in crate::bench) name: &'static str,
    /// Whose VMBus drivers; the symbols go out over a disk of VMBus everywhere.
    pub(in crate::bench) core: Core,
    /// The machine with its adapters.
    pub(in crate::bench) machine: &'static Machine,
    /// The driver to load.
    pub(in crate::bench) module: &'static str,
    /// Its lines of `/proc/interrupts` have one of these words.
    pub(in crate::bench) interrupts: &'static [&'static str],
    /// How it tells the device, where that can be counted.
    pub(in crate::bench) doorbell: Option<Doorbell>,
    /// Whether a function is the driver's own, its bus included.
    pub(in crate::bench) owns: fn(&Symbol) -> bool,
}

/// Adapters on VMBus.
const VMBUS: Machine = Machine {
    name: "bench-net-vmbus",
    qemu: Qemu::Patched,
    // of two, each would wait for locks the other holds
    cpus: 1,
    initramfs: Initramfs::MeasureNet,
    // the same code and the same stack at the same place, so that boots can be compared
    kernel_arguments: "nokaslr randomize_kstack_offset=off",
    module_parameters: "",
    files: &[disk("raw", BACKENDS[1].mib)],
    devices: &[FILE, PLACES, ADAPTERS],
};

const E1000E: Machine = Machine {
    name: "bench-net-e1000e",
    devices: &[
        FILE,
        PLACES,
        "-device e1000e,netdev=void,romfile=,mac=52:54:00:00:20:01",
        "-device e1000e,netdev=wire,romfile=,mac=52:54:00:00:20:02",
    ],
    ..VMBUS
};

const VIRTIO: Machine = Machine {
    name: "bench-net-virtio",
    devices: &[
        FILE,
        PLACES,
        "-device virtio-net-pci,netdev=void,romfile=,mac=52:54:00:00:20:01",
        "-device virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:00:20:02",
    ],
    ..VMBUS
};

/// The disk that the symbols go out over.
const FILE: &str =
    "-blockdev raw,node-name=raw,file.driver=file,file.filename=@/raw -device vmbus-bridge \
     -device hv-scsi,id=s,num-queues=1,instanceid=839cae23-237d-4d10-82a4-d701961dcf7e \
     -device scsi-hd,bus=s.0,drive=raw,scsi-id=0,lun=1";

/// A hub with an end that takes all and leads nowhere, and a wire with an adapter at the other end whose device sends in the very
/// instruction of its driver.
pub(in crate::bench) const PLACES: &str =
    "-netdev hubport,id=void,hubid=1 -netdev hubport,id=nowhere,hubid=1 -netdev hubport,id=wire,hubid=2 -netdev hubport,id=feed,hubid=2 \
     -device e1000e,netdev=feed,romfile=,mac=52:54:00:00:20:04";

/// The adapters on VMBus. Frames come one by one: the time that the host waits for more is this
/// machine's.
pub(in crate::bench) const ADAPTERS: &str =
    "-device hv-net,netdev=void,num-queues=1,mac=52:54:00:00:20:01,\
     instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f2001 \
     -device hv-net,netdev=wire,num-queues=1,rx-batch=1,mac=52:54:00:00:20:02,\
     instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f2002";

/// All of them, in the order in which they are booted.
pub(in crate::bench) const VARIANTS: [Variant; 5] = [
    Variant {
        name: "rust",
        core: Core::Rust,
        machine: &VMBUS,
        module: "hv_netvsc_rust",
        interrupts: &["HYP:"],
        doorbell: Some(Doorbell::Channels),
        owns: OWN_RUST,
    },
    Variant {
        name: "c",
        core: Core::C,
        machine: &VMBUS,
        module: "hv_netvsc",
        interrupts: &["HYP:"],
        doorbell: Some(Doorbell::Channels),
        owns: |s| s.module == "hv_netvsc" || OWN_C(s),
    },
    Variant {
        name: "rust-on-c",
        core: Core::RustOnC,
        machine: &VMBUS,
        module: "hv_netvsc_rust_on_c",
        interrupts: &["HYP:"],
        doorbell: Some(Doorbell::Channels),
        owns: OWN_RUST_ON_C,
    },
    Variant {
        name: "e1000e",
        core: Core::C,
        machine: &E1000E,
        module: "e1000e",
        interrupts: &["nut-"],
        doorbell: None,
        owns: |s| s.module == "e1000e",
    },
    Variant {
        name: "virtio",
        core: Core::C,
        machine: &VIRTIO,
        module: "virtio_net",
        interrupts: &["virtio"],
        doorbell: Some(Doorbell::Function("vp_notify")),
        owns: |s| s.module == "virtio_net" || OWN_VIRTIO(s),
    },
];
