// SPDX-License-Identifier: GPL-2.0

//! NVSP: the guest's messages (`struct nvsp_message`).

use crate::vf::Path;
use core::{fmt, mem::size_of};
use static_assertions::const_assert_eq;
use zerocopy::{
    little_endian::{U32, U64},
    transmute, IntoBytes as _,
};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of every message that the guest sends, whatever the version.
pub const MESSAGE_LEN: usize = 40;
/// Words of a message behind its type.
const BODY_WORDS: usize = 9;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// 1: no configuration, 1500 bytes.
    pub const V1: Self = Self(0x0_0002);
    /// 2: jumbo frames, VLANs.
    pub const V2: Self = Self(0x3_0002);
    /// 4: virtual functions.
    pub const V4: Self = Self(0x4_0000);
    /// 5: sub-channels.
    pub const V5: Self = Self(0x5_0000);
    /// 6.
    pub const V6: Self = Self(0x6_0000);
    /// 6.1: receive coalescing.
    pub const V6_1: Self = Self(0x6_0001);
    /// What is proposed, in this order.
    pub const PROPOSED: [Self; 6] = [Self::V6_1, Self::V6, Self::V5, Self::V4, Self::V2, Self::V1];

    /// The one to propose after this one was refused.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::PROPOSED.into_iter().find(|other| *other < self)
    }

    /// `SEND_NDIS_CONFIG` exists, and frames can be longer than 1500 bytes.
    #[must_use]
    pub fn has_config(self) -> bool {
        self >= Self::V2
    }

    /// Sub-channels, link speed and receive scaling exist.
    #[must_use]
    pub fn has_sub_channels(self) -> bool {
        self >= Self::V5
    }

    /// The guest says whether virtual functions are welcome. Earlier ones know the messages, but
    /// the C driver does not ask for functions there.
    #[must_use]
    pub fn has_functions(self) -> bool {
        self >= Self::V5
    }

    /// The NDIS version that goes with it: major, minor.
    #[must_use]
    pub fn ndis(self) -> (u32, u32) {
        if self >= Self::V5 {
            (6, 0x1e)
        } else {
            (6, 1)
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V1 => f.write_str("1"),
            Self::V2 => f.write_str("2"),
            other => write!(f, "{}.{}", other.0 >> 16, other.0 & 0xffff),
        }
    }
}

/// Message types (`NVSP_MSG_*`).
///
/// Not an enum: the host may send any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// Proposes a version.
    pub const INIT: Self = Self(1);
    /// Answer to [`Self::INIT`].
    pub const INIT_COMPLETE: Self = Self(2);
    /// The guest's NDIS version.
    pub const NDIS_VERSION: Self = Self(100);
    /// Names the receive buffer.
    pub const RECEIVE_BUFFER: Self = Self(101);
    /// Answer to [`Self::RECEIVE_BUFFER`].
    pub const RECEIVE_BUFFER_COMPLETE: Self = Self(102);
    /// Takes the receive buffer back; no answer.
    pub const REVOKE_RECEIVE_BUFFER: Self = Self(103);
    /// Names the send buffer.
    pub const SEND_BUFFER: Self = Self(104);
    /// Answer to [`Self::SEND_BUFFER`].
    pub const SEND_BUFFER_COMPLETE: Self = Self(105);
    /// Takes the send buffer back; no answer.
    pub const REVOKE_SEND_BUFFER: Self = Self(106);
    /// Carries an RNDIS message, either way.
    pub const RNDIS: Self = Self(107);
    /// The RNDIS message was consumed, either way.
    pub const RNDIS_COMPLETE: Self = Self(108);
    /// Frame size and capabilities of the guest; no answer.
    pub const NDIS_CONFIG: Self = Self(125);
    /// A virtual function comes or goes.
    pub const VF_ASSOCIATION: Self = Self(128);
    /// Where the guest wants frames to go; its completion has no payload.
    pub const SWITCH_DATA_PATH: Self = Self(129);
    /// Asks for sub-channels, and is the answer too.
    pub const SUB_CHANNEL: Self = Self(133);
    /// On which channels the host wants packets with which hash.
    pub const SEND_INDIRECTION_TABLE: Self = Self(134);
}

/// Status in answers (`NVSP_STAT_*`): success.
pub const STATUS_SUCCESS: u32 = 1;
/// Status in answers: failure.
pub const STATUS_FAIL: u32 = 2;

/// Number of the receive buffer in NVSP messages and transfer-page packets.
pub const RECEIVE_BUFFER_ID: u16 = 0xcafe;
/// Number of the send buffer.
pub const SEND_BUFFER_ID: u16 = 0;
/// No section of the send buffer.
pub const NO_SECTION: u32 = u32::MAX;

/// What an RNDIS message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A frame.
    Data = 0,
    /// A message about the interface.
    Control = 1,
}

/// Capabilities of the guest (`struct nvsp_2_vsc_capability`).
mod caps {
    /// Virtual functions are welcome.
    pub(super) const SRIOV: u64 = 1 << 2;
    /// VLAN tags travel beside the frame.
    pub(super) const VLAN: u64 = 1 << 3;
    /// Needed to hear of changes of the link's speed.
    pub(super) const TEAMING: u64 = 1 << 5;
    /// Coalesced packets over the bus.
    pub(super) const RSC: u64 = 1 << 7;
}

/// A message, as it is sent.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Message {
    kind: U32,
    body: [U32; BODY_WORDS],
}

const_assert_eq!(size_of::<Message>(), MESSAGE_LEN);

impl Message {
    #[inline]
    fn new(kind: Kind, words: [u32; 4]) -> Self {
        let [a, b, c, d] = words.map(U32::new);
        let zero = U32::new(0);
        Message {
            kind: U32::new(kind.0),
            body: [a, b, c, d, zero, zero, zero, zero, zero],
        }
    }

    /// Proposes one version.
    #[must_use]
    pub fn init(version: Version) -> Self {
        Self::new(Kind::INIT, [version.0, version.0, 0, 0])
    }

    /// Says how long frames are, `frame` bytes with their header, and what the guest can do in
    /// `version`; virtual functions are welcome if `functions` and the version say so.
    #[must_use]
    pub fn ndis_config(version: Version, frame: u32, functions: bool) -> Self {
        let mut capabilities = caps::VLAN;
        if version >= Version::V5 {
            capabilities |= caps::TEAMING;
        }
        if functions && version.has_functions() {
            capabilities |= caps::SRIOV;
        }
        if version >= Version::V6_1 {
            capabilities |= caps::RSC;
        }
        let [low, high]: [U32; 2] = transmute!(U64::new(capabilities));
        Self::new(Kind::NDIS_CONFIG, [frame, 0, low.get(), high.get()])
    }

    /// Says which NDIS version goes with `version`.
    #[must_use]
    pub fn ndis_version(version: Version) -> Self {
        let (major, minor) = version.ndis();
        Self::new(Kind::NDIS_VERSION, [major, minor, 0, 0])
    }

    /// Names the memory that the host may write frames to.
    #[must_use]
    pub fn receive_buffer(gpadl: u32) -> Self {
        Self::new(
            Kind::RECEIVE_BUFFER,
            [gpadl, RECEIVE_BUFFER_ID.into(), 0, 0],
        )
    }

    /// Names the memory that the host reads short frames from.
    #[must_use]
    pub fn send_buffer(gpadl: u32) -> Self {
        Self::new(Kind::SEND_BUFFER, [gpadl, SEND_BUFFER_ID.into(), 0, 0])
    }

    /// Takes the receive buffer back.
    #[must_use]
    pub fn revoke_receive_buffer() -> Self {
        Self::new(
            Kind::REVOKE_RECEIVE_BUFFER,
            [RECEIVE_BUFFER_ID.into(), 0, 0, 0],
        )
    }

    /// Takes the send buffer back.
    #[must_use]
    pub fn revoke_send_buffer() -> Self {
        Self::new(Kind::REVOKE_SEND_BUFFER, [SEND_BUFFER_ID.into(), 0, 0, 0])
    }

    /// Asks for `count` sub-channels.
    #[must_use]
    pub fn sub_channels(count: u32) -> Self {
        Self::new(Kind::SUB_CHANNEL, [1, count, 0, 0])
    }

    /// Says by which path frames are to go both ways.
    #[must_use]
    pub fn switch_data_path(path: Path) -> Self {
        let active = match path {
            Path::Synthetic => 0,
            Path::Function => 1,
        };
        Self::new(Kind::SWITCH_DATA_PATH, [active, 0, 0, 0])
    }

    /// Carries an RNDIS message: in `section` of the send buffer, which it
    /// fills with `bytes` bytes, or else in the pages that the packet names.
    #[inline]
    #[must_use]
    pub fn rndis(channel: Channel, section: Option<(u32, u32)>) -> Self {
        let (section, bytes) = section.unwrap_or((NO_SECTION, 0));
        Self::new(Kind::RNDIS, [channel as u32, section, bytes, 0])
    }

    /// Its bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    /// The same in units of 8 bytes.
    #[inline]
    #[must_use]
    pub fn units(self) -> [U64; MESSAGE_LEN / 8] {
        transmute!(self)
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind(self.kind.get())
    }
}

/// The completion of a transfer-page packet: whether the guest took all of it.
#[inline]
#[must_use]
pub fn rndis_complete(all: bool) -> [U64; 1] {
    let status = if all { STATUS_SUCCESS } else { STATUS_FAIL };
    transmute!([U32::new(Kind::RNDIS_COMPLETE.0), U32::new(status)])
}
