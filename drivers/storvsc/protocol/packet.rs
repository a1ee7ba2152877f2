// SPDX-License-Identifier: GPL-2.0

//! Wire formats: 64-byte packets with one of several bodies
//! (`struct vstor_packet`).

use core::mem::{offset_of, size_of};
use static_assertions::const_assert_eq;
use zerocopy::{
    little_endian::{U16, U32, U64},
    transmute, IntoBytes as _,
};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of every packet that the guest sends, and of every answer.
pub const PACKET_LEN: usize = 64;
/// Bytes of the part that depends on the operation.
pub const BODY_LEN: usize = 52;
/// Longest command descriptor block, in bytes.
pub const MAX_CDB: usize = 16;
/// Most bytes of sense data in an answer.
pub const MAX_SENSE: usize = 20;

/// What a packet is about (`enum vstor_packet_operation`).
///
/// Not an enum: the host may send any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(pub u32);

impl Operation {
    /// Answer to a packet of the guest.
    pub const COMPLETE_IO: Self = Self(1);
    /// The host took a logical unit away.
    pub const REMOVE_DEVICE: Self = Self(2);
    /// A SCSI command.
    pub const EXECUTE_SRB: Self = Self(3);
    /// Resets the bus.
    pub const RESET_BUS: Self = Self(6);
    /// First step of the initialisation.
    pub const BEGIN_INITIALIZATION: Self = Self(7);
    /// Last step of the initialisation.
    pub const END_INITIALIZATION: Self = Self(8);
    /// Proposes a version.
    pub const QUERY_PROTOCOL_VERSION: Self = Self(9);
    /// Asks for [`Properties`].
    pub const QUERY_PROPERTIES: Self = Self(10);
    /// The host changed the set of logical units.
    pub const ENUMERATE_BUS: Self = Self(11);
    /// World-wide names of a Fibre Channel adapter.
    pub const FCHBA_DATA: Self = Self(12);
    /// Asks for more channels.
    pub const CREATE_SUB_CHANNELS: Self = Self(13);
}

/// A version of the protocol, `major << 8 | minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    /// 6.2: Windows Server 2016 and later.
    pub const WIN10: Self = Self(0x0602);
    /// 6.0: Windows Server 2012 R2, and paravisors.
    pub const WIN8_1: Self = Self(0x0600);
    /// What is proposed, in this order.
    pub const PROPOSED: [Self; 2] = [Self::WIN10, Self::WIN8_1];

    /// The major number.
    #[must_use]
    pub const fn major(self) -> u8 {
        let [major, _] = self.0.to_be_bytes();
        major
    }

    /// The minor number.
    #[must_use]
    pub const fn minor(self) -> u8 {
        let [_, minor] = self.0.to_be_bytes();
        minor
    }
}

/// Bit of a packet's flags: the guest wants an answer.
pub const REQUEST_COMPLETION: u32 = 1;

/// Head of a packet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Head {
    /// An [`Operation`].
    pub operation: U32,
    /// [`REQUEST_COMPLETION`] or 0.
    pub flags: U32,
    /// NT status of an answer; 0 is success.
    pub status: U32,
}

/// A whole packet, its body not interpreted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Packet {
    /// The head.
    pub head: Head,
    /// The rest.
    pub body: [u8; BODY_LEN],
}

/// Which way the data of a command goes (`data_in`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// To the device.
    Write = 0,
    /// From the device.
    Read = 1,
    /// There is none.
    None = 2,
}

/// Flags of a SCSI request (`SRB_FLAGS_*`), as far as they are used.
pub mod srb_flags {
    /// The queue action is valid.
    pub const QUEUE_ACTION_ENABLE: u32 = 0x2;
    /// No synchronous transfer negotiation.
    pub const DISABLE_SYNCH_TRANSFER: u32 = 0x8;
    /// Data from the device.
    pub const DATA_IN: u32 = 0x40;
    /// Data to the device.
    pub const DATA_OUT: u32 = 0x80;
    /// An error does not freeze the queue.
    pub const NO_QUEUE_FREEZE: u32 = 0x100;
}

/// A SCSI request and its answer (`struct vmscsi_request`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Srb {
    /// Bytes of this structure.
    pub length: U16,
    /// How the host's storage stack judges it.
    pub srb_status: u8,
    /// SCSI status byte.
    pub scsi_status: u8,
    /// Number of the adapter, for the host's log.
    pub port: u8,
    /// SCSI channel.
    pub path: u8,
    /// SCSI target.
    pub target: u8,
    /// Logical unit.
    pub lun: u8,
    /// Bytes of the command block.
    pub cdb_length: u8,
    /// Bytes of sense data that fit, or are there.
    pub sense_length: u8,
    /// A [`Direction`].
    pub data_in: u8,
    /// Zero.
    pub reserved: u8,
    /// Bytes of data.
    pub transfer_length: U32,
    /// Command block of a request, sense data of an answer.
    pub cdb_or_sense: [u8; MAX_SENSE],
    /// Zero.
    pub reserved2: U16,
    /// Tag for the host: 0xff for any.
    pub queue_tag: u8,
    /// 0x20: simple queue tag.
    pub queue_action: u8,
    /// [`srb_flags`].
    pub flags: U32,
    /// Seconds that the host's storage stack may take.
    pub timeout: U32,
    /// Zero.
    pub queue_sort_key: U32,
}

/// Body of the answer to `QUERY_PROPERTIES`
/// (`struct vmstorage_channel_properties`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Properties {
    /// Zero.
    pub reserved: U32,
    /// Most sub-channels.
    pub max_channels: U16,
    /// Zero.
    pub reserved1: U16,
    /// Bit 0: sub-channels are supported.
    pub flags: U32,
    /// Most bytes that one request may transfer.
    pub max_transfer_bytes: U32,
    /// Zero.
    pub reserved2: U64,
}

impl Properties {
    /// Bit of `flags`: sub-channels are supported.
    pub const MULTI_CHANNEL: u32 = 1;
}

/// A SCSI request as it is sent.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Execute {
    /// The head.
    pub head: Head,
    /// The request.
    pub srb: Srb,
}

const_assert_eq!(size_of::<Packet>(), PACKET_LEN);
const_assert_eq!(size_of::<Execute>(), PACKET_LEN);
const_assert_eq!(size_of::<Srb>(), BODY_LEN);
const_assert_eq!(size_of::<Properties>(), 24);
const_assert_eq!(offset_of!(Srb, transfer_length), 12);
const_assert_eq!(offset_of!(Srb, cdb_or_sense), 16);
const_assert_eq!(offset_of!(Srb, queue_tag), 38);
const_assert_eq!(offset_of!(Srb, flags), 40);
const_assert_eq!(offset_of!(Properties, max_transfer_bytes), 12);

/// Where a logical unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// SCSI channel, the host's path.
    pub channel: u8,
    /// SCSI target.
    pub target: u8,
    /// Logical unit.
    pub lun: u8,
}

/// A command block: some bytes of a command, and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; MAX_CDB],
    len: u8,
}

impl Cdb {
    /// The first `len` of `bytes`, or all when there are no more. The rest may
    /// be anything.
    #[inline]
    #[must_use]
    pub const fn new(bytes: [u8; MAX_CDB], len: u8) -> Self {
        let (len, keep) = match len {
            0 => (0, 0),
            1..=15 => (len, (1 << (len * 8)) - 1),
            _ => (16, u128::MAX),
        };
        Cdb {
            bytes: (u128::from_le_bytes(bytes) & keep).to_le_bytes(),
            len,
        }
    }
}

/// What is sent for one SCSI command.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// To whom.
    pub address: Address,
    /// Number of the adapter.
    pub port: u8,
    /// The command block.
    pub cdb: Cdb,
    /// Which way the data goes.
    pub direction: Direction,
    /// Bytes of data; 0 exactly when there are none.
    pub data_len: u32,
    /// The device queues commands.
    pub tagged: bool,
}

/// Seconds that the host's storage stack may take for a command.
const HOST_TIMEOUT_SECS: u32 = 60;
const QUEUE_TAG_ANY: u8 = 0xff;
const SIMPLE_QUEUE_TAG: u8 = 0x20;

impl Execute {
    /// Lays a command out. Every byte of the packet is set, whatever was in
    /// the command's memory before.
    #[inline]
    #[must_use]
    pub fn new(request: &Request) -> Self {
        let mut flags = srb_flags::DISABLE_SYNCH_TRANSFER;
        match request.direction {
            Direction::Write => flags |= srb_flags::DATA_OUT,
            Direction::Read => flags |= srb_flags::DATA_IN,
            Direction::None => {}
        }
        if request.tagged {
            flags |= srb_flags::QUEUE_ACTION_ENABLE | srb_flags::NO_QUEUE_FREEZE;
        }
        let (queue_tag, queue_action) = if request.tagged {
            (QUEUE_TAG_ANY, SIMPLE_QUEUE_TAG)
        } else {
            (0, 0)
        };
        let mut cdb_or_sense = [0; MAX_SENSE];
        if let Some(cdb) = cdb_or_sense.first_chunk_mut::<MAX_CDB>() {
            *cdb = request.cdb.bytes;
        }
        Execute {
            head: head(Operation::EXECUTE_SRB),
            srb: Srb {
                length: U16::new(52),
                srb_status: 0,
                scsi_status: 0,
                port: request.port,
                path: request.address.channel,
                target: request.address.target,
                lun: request.address.lun,
                cdb_length: request.cdb.len,
                sense_length: 20,
                data_in: request.direction as u8,
                reserved: 0,
                transfer_length: U32::new(request.data_len),
                cdb_or_sense,
                reserved2: U16::new(0),
                queue_tag,
                queue_action,
                flags: U32::new(flags),
                timeout: U32::new(HOST_TIMEOUT_SECS),
                queue_sort_key: U32::new(0),
            },
        }
    }

    /// The packet in units of 8 bytes, as the ring takes it.
    #[inline]
    #[must_use]
    pub fn units(&self) -> [U64; PACKET_LEN / 8] {
        transmute!(*self)
    }
}

#[inline]
fn head(operation: Operation) -> Head {
    Head {
        operation: U32::new(operation.0),
        flags: U32::new(REQUEST_COMPLETION),
        status: U32::new(0),
    }
}

impl Packet {
    /// A packet with an empty body.
    #[must_use]
    pub fn new(operation: Operation) -> Self {
        Packet {
            head: head(operation),
            body: [0; BODY_LEN],
        }
    }

    /// A packet whose body starts with `value`.
    #[must_use]
    pub fn with_u16(operation: Operation, value: u16) -> Self {
        let mut packet = Packet::new(operation);
        for (to, from) in packet.body.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
        packet
    }

    /// Resets the bus at `channel`.
    #[must_use]
    pub fn reset_bus(channel: u8) -> Self {
        let mut packet = Packet::new(Operation::RESET_BUS);
        if let Some(path) = packet.body.get_mut(offset_of!(Srb, path)) {
            *path = channel;
        }
        packet
    }

    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}
