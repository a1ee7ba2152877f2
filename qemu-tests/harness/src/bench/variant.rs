// SPDX-License-Identifier: GPL-2.0

//! What is compared: the same two disks, behind different controllers.

use super::symbols::Symbol;
use crate::drivers::Core;
use crate::machine::{disk, Initramfs, Machine, Qemu};

/// What is behind a disk. The guest knows its disks by their sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backend {
    /// Its name.
    pub(super) name: &'static str,
    /// Its size.
    pub(super) mib: u64,
}

/// No host at all: `qemu-tests/floor`.
pub(super) const FLOOR: Backend = Backend {
    name: "floor",
    mib: 2048,
};

/// The host answers at once, with zeroes; and a file.
pub(super) const BACKENDS: [Backend; 2] = [
    Backend {
        name: "null",
        mib: 1024,
    },
    Backend {
        name: "raw",
        mib: 512,
    },
];

/// How a driver tells its device that there is something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doorbell {
    /// A VMBus channel counts it (`events` in sysfs).
    Channels,
    /// By this function.
    Function(&'static str),
}

/// One way to a disk.
pub(super) struct Variant {
    /// Its name.
    pub(super) name: &'static str,
    /// Whose VMBus drivers, if there is a VMBus.
    pub(super) core: Core,
    /// The machine with its controller.
    pub(super) machine: &'static Machine,
    /// The driver to load.
    pub(super) module: &'static str,
    /// Its lines of `/proc/interrupts` have one of these words.
    pub(super) interrupts: &'static [&'static str],
    /// It does only one in so many reads, since each takes long to emulate.
    pub(super) one_in: usize,
    /// How it tells the device.
    pub(super) doorbell: Doorbell,
    /// Whether a function is the driver's own, its bus included.
    pub(super) owns: fn(&Symbol) -> bool,
}

/// A disk on VMBus.
pub(super) const VMBUS: Machine = Machine {
    name: "bench-vmbus",
    qemu: Qemu::Patched,
    // of two, each would wait for locks the other holds
    cpus: 1,
    initramfs: Initramfs::Measure,
    // the same code and the same stack at the same place, so that boots can be compared
    kernel_arguments: "nokaslr randomize_kstack_offset=off",
    module_parameters: "",
    files: &[disk("raw", BACKENDS[1].mib)],
    devices: &[
        NULL_NODE,
        RAW_NODE,
        "-device vmbus-bridge",
        "-device hv-scsi,id=s,num-queues=1,instanceid=839cae23-237d-4d10-82a4-d701961dcf7e",
        "-device scsi-hd,bus=s.0,drive=null,scsi-id=0,lun=0",
        "-device scsi-hd,bus=s.0,drive=raw,scsi-id=0,lun=1",
    ],
};

const VIRTIO: Machine = Machine {
    name: "bench-virtio",
    devices: &[
        NULL_NODE,
        RAW_NODE,
        "-device virtio-scsi-pci,id=s,num_queues=1",
        "-device scsi-hd,bus=s.0,drive=null,scsi-id=0,lun=0",
        "-device scsi-hd,bus=s.0,drive=raw,scsi-id=0,lun=1",
    ],
    ..VMBUS
};

const IDE: Machine = Machine {
    name: "bench-ide",
    devices: &[
        NULL_NODE,
        RAW_NODE,
        "-device piix3-ide,id=i",
        "-device ide-hd,bus=i.0,drive=null",
        "-device ide-hd,bus=i.1,drive=raw",
    ],
    ..VMBUS
};

const AHCI: Machine = Machine {
    name: "bench-ahci",
    devices: &[
        NULL_NODE,
        RAW_NODE,
        "-device ide-hd,bus=ide.0,drive=null",
        "-device ide-hd,bus=ide.1,drive=raw",
    ],
    ..VMBUS
};

const NULL_NODE: &str = "-blockdev null-co,node-name=null,size=1073741824,read-zeroes=on";
const RAW_NODE: &str = "-blockdev raw,node-name=raw,file.driver=file,file.filename=@/raw";

/// All of them, in the order in which they are booted.
pub(super) const VARIANTS: [Variant; 6] = [
    Variant {
        name: "rust",
        core: Core::Rust,
        machine: &VMBUS,
        module: "hv_storvsc_rust",
        interrupts: &["HYP:"],
        one_in: 1,
        doorbell: Doorbell::Channels,
        owns: OWN_RUST,
    },
    Variant {
        name: "c",
        core: Core::C,
        machine: &VMBUS,
        module: "hv_storvsc",
        interrupts: &["HYP:"],
        one_in: 1,
        doorbell: Doorbell::Channels,
        owns: |s| s.module == "hv_storvsc" || OWN_C(s),
    },
    Variant {
        name: "rust-on-c",
        core: Core::RustOnC,
        machine: &VMBUS,
        module: "hv_storvsc_rust_on_c",
        interrupts: &["HYP:"],
        one_in: 1,
        doorbell: Doorbell::Channels,
        owns: OWN_RUST_ON_C,
    },
    Variant {
        name: "ide",
        core: Core::C,
        machine: &IDE,
        module: "ata_piix",
        interrupts: &["ata_piix"],
        one_in: 8,
        doorbell: Doorbell::Function("ata_bmdma_start"),
        owns: |s| matches!(&*s.module, "ata_piix" | "libata"),
    },
    Variant {
        name: "ahci",
        core: Core::C,
        machine: &AHCI,
        module: "ahci",
        interrupts: &["ahci"],
        one_in: 4,
        doorbell: Doorbell::Function("ahci_qc_issue"),
        owns: |s| matches!(&*s.module, "ahci" | "libahci" | "libata"),
    },
    Variant {
        name: "virtio",
        core: Core::C,
        machine: &VIRTIO,
        module: "virtio_scsi",
        interrupts: &["virtio"],
        one_in: 2,
        doorbell: Doorbell::Function("vp_notify"),
        owns: |s| s.module == "virtio_scsi" || OWN_VIRTIO(s),
    },
];

/// The Rust drivers and their core.
pub(super) const OWN_RUST: fn(&Symbol) -> bool = |s| {
    matches!(
        &*s.module,
        "hv_storvsc_rust" | "hv_netvsc_rust" | "hv_vmbus_rust"
    )
};

/// The Rust drivers on the C core, and both halves of that.
pub(super) const OWN_RUST_ON_C: fn(&Symbol) -> bool = |s| {
    matches!(
        &*s.module,
        "hv_storvsc_rust_on_c" | "hv_netvsc_rust_on_c" | "hv_vmbus_rust_on_c"
    ) || OWN_C(s)
};

/// The C core, which is a part of the kernel; that does not say where its functions come from.
pub(super) const OWN_C: fn(&Symbol) -> bool = |s| {
    const FIRST: [&str; 5] = [
        "vmbus_",
        "hv_ringbuffer_",
        "hv_pkt_",
        "__hv_pkt_",
        "__vmbus_",
    ];
    s.module.is_empty() && FIRST.iter().any(|p| s.name.starts_with(p))
};

/// The bus of virtio.
pub(super) const OWN_VIRTIO: fn(&Symbol) -> bool = |s| {
    const FIRST: [&str; 4] = ["virtqueue_", "vring_", "virtio", "vp_"];
    s.module.is_empty() && FIRST.iter().any(|p| s.name.starts_with(p))
};
