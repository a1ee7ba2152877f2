// SPDX-License-Identifier: GPL-2.0

//! The known device classes.
//!
//! Class GUIDs are from `include/linux/hyperv.h`; the attributes follow
//! `drivers/hv/channel_mgmt.c:vmbus_devs`.

use crate::guid::Guid;

/// What the bus knows about one device class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassInfo {
    /// Short name for logs.
    pub name: &'static str,
    /// The class GUID.
    pub guid: Guid,
    /// The class number that sysfs shows as `device` (`enum vmbus_device_type`).
    pub device_index: u16,
    /// Interrupts are spread over the CPUs; other classes stay on one.
    pub perf_device: bool,
    /// Accepted in a VM that does not trust its host.
    pub allowed_in_isolated: bool,
    /// Ring size the class prefers, in bytes with the header; `None` leaves it
    /// to the driver.
    pub preferred_ring_size: Option<u32>,
}

/// Class number of a device whose class is not in the table.
pub const UNKNOWN_DEVICE_INDEX: u16 = 16;

/// Preferred ring size, in bytes, for classes not in the table.
pub const UNKNOWN_RING_SIZE: u32 = 0x1_1000;

/// Dynamic Memory (balloon).
pub const BALLOON: Guid = Guid::parse("525074dc-8985-46e2-8057-a307dc18a502");
/// Synthetic network interface.
pub const NIC: Guid = Guid::parse("f8615163-df3e-46c5-913f-f2d2f965ed0e");
/// Synthetic SCSI controller.
pub const SCSI: Guid = Guid::parse("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
/// Accelerated IDE disk.
pub const IDE: Guid = Guid::parse("32412632-86cb-44a2-9b5c-50d1417354f5");
/// Synthetic Fibre Channel adapter.
pub const FIBRE_CHANNEL: Guid = Guid::parse("2f9bcc4a-0069-4af3-b76b-6fd0be528cda");
/// Shutdown service.
pub const SHUTDOWN: Guid = Guid::parse("0e0b6031-5213-4934-818b-38d90ced39db");
/// Time synchronisation service.
pub const TIME_SYNC: Guid = Guid::parse("9527e630-d0ae-497b-adce-e80ab0175caf");
/// Heartbeat service.
pub const HEARTBEAT: Guid = Guid::parse("57164f39-9115-4e78-ab55-382f3bd5422d");
/// Key-value pair exchange.
pub const KVP: Guid = Guid::parse("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6");
/// Volume snapshot (backup) service.
pub const VSS: Guid = Guid::parse("35fa2e29-ea23-4236-96ae-3a6ebacba440");
/// Guest file copy service.
pub const FILE_COPY: Guid = Guid::parse("34d14be3-dee4-41c8-9ae7-6b174977c192");
/// Synthetic keyboard.
pub const KEYBOARD: Guid = Guid::parse("f912ad6d-2b17-48ea-bd65-f927a61c7684");
/// Synthetic mouse.
pub const MOUSE: Guid = Guid::parse("cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a");
/// Synthetic video.
pub const VIDEO: Guid = Guid::parse("da0a7802-e377-4aac-8e77-0558eb1073f8");
/// PCI Express pass-through.
pub const PCIE: Guid = Guid::parse("44c4f61d-4444-4400-9d52-802e27ede19f");
/// Network Direct (RDMA).
pub const NETWORK_DIRECT: Guid = Guid::parse("8c2eaf3d-32a7-4b09-ab99-bd1f1c86b501");

/// Automatic virtual machine activation, first class; no Linux driver.
pub const AVMA1: Guid = Guid::parse("f8e65716-3cb3-4a06-9a60-1889c5cccab5");
/// Automatic virtual machine activation, second class; no Linux driver.
pub const AVMA2: Guid = Guid::parse("3375baf4-9e15-4b30-b765-67acb10d607b");
/// Remote desktop virtualisation; no Linux driver.
pub const RDV: Guid = Guid::parse("276aacf4-ac15-426c-98dd-7521ad3f01fe");
/// Initial machine configuration; no Linux driver.
pub const IMC: Guid = Guid::parse("c376c1c3-d276-48d2-90a9-c04748072c60");

/// A vsock service with port 0; the port is the first group.
pub const VSOCK_TEMPLATE: Guid = Guid::parse("00000000-facb-11e6-bd58-64006a7986d3");

const fn info(
    name: &'static str,
    guid: Guid,
    device_index: u16,
    perf_device: bool,
    allowed_in_isolated: bool,
) -> ClassInfo {
    ClassInfo {
        name,
        guid,
        device_index,
        perf_device,
        allowed_in_isolated,
        preferred_ring_size: None,
    }
}

/// Every class a Linux driver exists for.
pub static CLASSES: [ClassInfo; 16] = [
    info("ide", IDE, 0, true, false),
    info("scsi", SCSI, 1, true, true),
    info("fc", FIBRE_CHANNEL, 2, true, false),
    info("nic", NIC, 3, true, true),
    info("nd", NETWORK_DIRECT, 4, true, false),
    info("pcie", PCIE, 5, false, true),
    info("video", VIDEO, 6, false, false),
    info("keyboard", KEYBOARD, 7, false, false),
    info("mouse", MOUSE, 8, false, false),
    info("kvp", KVP, 9, false, false),
    info("timesync", TIME_SYNC, 10, false, true),
    info("heartbeat", HEARTBEAT, 11, false, true),
    info("shutdown", SHUTDOWN, 12, false, true),
    ClassInfo {
        preferred_ring_size: Some(0x4000),
        ..info("fcopy", FILE_COPY, 13, false, false)
    },
    info("vss", VSS, 14, false, false),
    info("balloon", BALLOON, 15, false, false),
];

/// Looks a class up. `None` for those without a Linux driver.
#[must_use]
pub fn by_guid(guid: &Guid) -> Option<&'static ClassInfo> {
    CLASSES.iter().find(|class| class.guid == *guid)
}

/// The port of a vsock service GUID, or `None` for another GUID.
#[must_use]
pub const fn vsock_port(guid: &Guid) -> Option<u32> {
    let [a, b, c, d, rest @ ..] = guid.0;
    let [_, _, _, _, template @ ..] = VSOCK_TEMPLATE.0;
    let mut left: &[u8] = &rest;
    let mut right: &[u8] = &template;
    while let ([x, xs @ ..], [y, ys @ ..]) = (left, right) {
        if *x != *y {
            return None;
        }
        left = xs;
        right = ys;
    }
    Some(u32::from_le_bytes([a, b, c, d]))
}
