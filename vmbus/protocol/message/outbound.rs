// SPDX-License-Identifier: GPL-2.0

//! Messages the guest posts.

use super::{MessageHeader, MessageType, MAX_MESSAGE, USER_DEFINED_BYTES};
use crate::{guid::Guid, synic::MESSAGE_SINT, version::Version, GpadlHandle, Relid, VpIndex};
use core::mem::{offset_of, size_of};
use static_assertions::{const_assert, const_assert_eq};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Feature flag of INITIATE_CONTACT, from version 6.0: the guest handles
/// channels whose rings stay encrypted.
pub const FEATURE_CONFIDENTIAL_CHANNELS: u32 = 0x10;

/// Guest-side values that INITIATE_CONTACT carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContactParams {
    /// VP number (not the CPU number) that receives channel messages.
    pub target_vp: VpIndex,
    /// Guest-physical address of the interrupt page; used below version 5.0.
    pub interrupt_page: u64,
    /// The guest's virtual trust level; used from version 5.0.
    pub vtl: u8,
    /// Ask for confidential channels; used from version 6.0.
    pub confidential: bool,
    /// Guest-physical address of the host-to-guest monitor page.
    pub monitor_page1: u64,
    /// Guest-physical address of the guest-to-host monitor page.
    pub monitor_page2: u64,
}

/// INITIATE_CONTACT, in both of its forms.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct InitiateContact {
    /// Type 14.
    pub header: MessageHeader,
    /// Proposed version.
    pub version: U32,
    /// VP number that receives the reply and all later messages.
    pub target_vp: U32,
    /// Below 5.0 the interrupt page's address; from 5.0 SINT, VTL, two zero
    /// bytes and, from 6.0, 32 feature flags.
    pub target_info: [u8; 8],
    /// Host-to-guest monitor page.
    pub monitor_page1: U64,
    /// Guest-to-host monitor page.
    pub monitor_page2: U64,
}

impl InitiateContact {
    /// Builds the form that `version` wants.
    #[must_use]
    pub fn new(version: Version, params: &ContactParams) -> Self {
        let target_info = if version.uses_interrupt_page() {
            params.interrupt_page.to_le_bytes()
        } else {
            let flags = if version.has_feature_flags() && params.confidential {
                FEATURE_CONFIDENTIAL_CHANNELS
            } else {
                0
            };
            let [a, b, c, d] = flags.to_le_bytes();
            [MESSAGE_SINT, params.vtl, 0, 0, a, b, c, d]
        };
        InitiateContact {
            header: MessageHeader::new(MessageType::InitiateContact),
            version: U32::new(version.0),
            target_vp: U32::new(params.target_vp.raw()),
            target_info,
            monitor_page1: U64::new(params.monitor_page1),
            monitor_page2: U64::new(params.monitor_page2),
        }
    }
}

/// REQUESTOFFERS.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RequestOffers {
    /// Type 3.
    pub header: MessageHeader,
}

impl RequestOffers {
    /// Builds the message.
    #[must_use]
    pub fn new() -> Self {
        RequestOffers {
            header: MessageHeader::new(MessageType::RequestOffers),
        }
    }
}

impl Default for RequestOffers {
    fn default() -> Self {
        Self::new()
    }
}

/// UNLOAD.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Unload {
    /// Type 16.
    pub header: MessageHeader,
}

impl Unload {
    /// Builds the message.
    #[must_use]
    pub fn new() -> Self {
        Unload {
            header: MessageHeader::new(MessageType::Unload),
        }
    }
}

impl Default for Unload {
    fn default() -> Self {
        Self::new()
    }
}

/// Values of OPENCHANNEL.
#[derive(Clone, Copy, Debug)]
pub struct OpenParams<'a> {
    /// The channel.
    pub relid: Relid,
    /// Tells this open from earlier ones; the result carries it back.
    pub open_id: u32,
    /// GPADL of the memory that holds both rings.
    pub ring_gpadl: GpadlHandle,
    /// VP number that receives the channel's interrupts.
    pub target_vp: VpIndex,
    /// Where the host-to-guest ring starts in that memory, in 4 KiB pages.
    pub downstream_page_offset: u32,
    /// Up to 120 bytes for the host's end; the rest is sent as zeros.
    pub user_data: &'a [u8],
}

/// OPENCHANNEL.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct OpenChannel {
    /// Type 5.
    pub header: MessageHeader,
    /// See [`OpenParams::relid`].
    pub relid: U32,
    /// See [`OpenParams::open_id`].
    pub open_id: U32,
    /// See [`OpenParams::ring_gpadl`].
    pub ring_gpadl: U32,
    /// See [`OpenParams::target_vp`].
    pub target_vp: U32,
    /// See [`OpenParams::downstream_page_offset`].
    pub downstream_page_offset: U32,
    /// See [`OpenParams::user_data`].
    pub user_data: [u8; USER_DEFINED_BYTES],
}

impl OpenChannel {
    /// Builds the message; `None` when there is too much user data.
    #[must_use]
    pub fn new(params: &OpenParams<'_>) -> Option<Self> {
        let mut user_data = [0; USER_DEFINED_BYTES];
        user_data
            .get_mut(..params.user_data.len())?
            .copy_from_slice(params.user_data);
        Some(OpenChannel {
            header: MessageHeader::new(MessageType::OpenChannel),
            relid: U32::new(params.relid.raw()),
            open_id: U32::new(params.open_id),
            ring_gpadl: U32::new(params.ring_gpadl.raw()),
            target_vp: U32::new(params.target_vp.raw()),
            downstream_page_offset: U32::new(params.downstream_page_offset),
            user_data,
        })
    }
}

/// CLOSECHANNEL.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct CloseChannel {
    /// Type 7.
    pub header: MessageHeader,
    /// The channel.
    pub relid: U32,
}

impl CloseChannel {
    /// Builds the message.
    #[must_use]
    pub fn new(relid: Relid) -> Self {
        CloseChannel {
            header: MessageHeader::new(MessageType::CloseChannel),
            relid: U32::new(relid.raw()),
        }
    }
}

/// RELID_RELEASED.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RelidReleased {
    /// Type 13.
    pub header: MessageHeader,
    /// The channel.
    pub relid: U32,
}

impl RelidReleased {
    /// Builds the message.
    #[must_use]
    pub fn new(relid: Relid) -> Self {
        RelidReleased {
            header: MessageHeader::new(MessageType::RelidReleased),
            relid: U32::new(relid.raw()),
        }
    }
}

/// MODIFYCHANNEL, from version 4.1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ModifyChannel {
    /// Type 22.
    pub header: MessageHeader,
    /// The channel.
    pub relid: U32,
    /// VP number that receives the channel's interrupts from now on.
    pub target_vp: U32,
}

impl ModifyChannel {
    /// Builds the message.
    #[must_use]
    pub fn new(relid: Relid, target_vp: VpIndex) -> Self {
        ModifyChannel {
            header: MessageHeader::new(MessageType::ModifyChannel),
            relid: U32::new(relid.raw()),
            target_vp: U32::new(target_vp.raw()),
        }
    }
}

/// TL_CONNECT_REQUEST: a guest socket connects to the host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TlConnectRequest {
    /// Type 21.
    pub header: MessageHeader,
    /// The guest's endpoint.
    pub guest_endpoint: Guid,
    /// The host's service.
    pub host_service: Guid,
}

impl TlConnectRequest {
    /// Builds the message.
    #[must_use]
    pub fn new(guest_endpoint: Guid, host_service: Guid) -> Self {
        TlConnectRequest {
            header: MessageHeader::new(MessageType::TlConnectRequest),
            guest_endpoint,
            host_service,
        }
    }
}

/// Fixed part of GPADL_HEADER, the one range's head included; page numbers
/// follow. Built by [`crate::gpadl::split`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct GpadlHeader {
    /// Type 8.
    pub header: MessageHeader,
    /// The channel the memory belongs to.
    pub relid: U32,
    /// The guest's handle for it.
    pub gpadl: U32,
    /// Bytes of all ranges, over all messages of this GPADL.
    pub range_buflen: U16,
    /// Number of ranges; always one.
    pub range_count: U16,
    /// Bytes of memory in the range.
    pub byte_count: U32,
    /// Offset into the first page; always zero.
    pub byte_offset: U32,
}

/// Fixed part of GPADL_BODY; page numbers follow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct GpadlBodyHeader {
    /// Type 9.
    pub header: MessageHeader,
    /// Unused by hosts; zero, as Linux sends it.
    pub message_number: U32,
    /// The handle from the header message.
    pub gpadl: U32,
}

/// GPADL_TEARDOWN.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct GpadlTeardown {
    /// Type 11.
    pub header: MessageHeader,
    /// The channel.
    pub relid: U32,
    /// The handle.
    pub gpadl: U32,
}

impl GpadlTeardown {
    /// Builds the message.
    #[must_use]
    pub fn new(relid: Relid, gpadl: GpadlHandle) -> Self {
        GpadlTeardown {
            header: MessageHeader::new(MessageType::GpadlTeardown),
            relid: U32::new(relid.raw()),
            gpadl: U32::new(gpadl.raw()),
        }
    }
}

const_assert_eq!(size_of::<InitiateContact>(), 40);
const_assert_eq!(offset_of!(InitiateContact, version), 8);
const_assert_eq!(offset_of!(InitiateContact, target_vp), 12);
const_assert_eq!(offset_of!(InitiateContact, target_info), 16);
const_assert_eq!(offset_of!(InitiateContact, monitor_page1), 24);
const_assert_eq!(offset_of!(InitiateContact, monitor_page2), 32);
const_assert_eq!(size_of::<RequestOffers>(), 8);
const_assert_eq!(size_of::<Unload>(), 8);
const_assert_eq!(size_of::<OpenChannel>(), 148);
const_assert_eq!(offset_of!(OpenChannel, relid), 8);
const_assert_eq!(offset_of!(OpenChannel, open_id), 12);
const_assert_eq!(offset_of!(OpenChannel, ring_gpadl), 16);
const_assert_eq!(offset_of!(OpenChannel, target_vp), 20);
const_assert_eq!(offset_of!(OpenChannel, downstream_page_offset), 24);
const_assert_eq!(offset_of!(OpenChannel, user_data), 28);
const_assert_eq!(size_of::<CloseChannel>(), 12);
const_assert_eq!(size_of::<RelidReleased>(), 12);
const_assert_eq!(size_of::<ModifyChannel>(), 16);
const_assert_eq!(size_of::<TlConnectRequest>(), 40);
const_assert_eq!(size_of::<GpadlHeader>(), 28);
const_assert_eq!(offset_of!(GpadlHeader, range_buflen), 16);
const_assert_eq!(offset_of!(GpadlHeader, range_count), 18);
const_assert_eq!(offset_of!(GpadlHeader, byte_count), 20);
const_assert_eq!(size_of::<GpadlBodyHeader>(), 16);
const_assert_eq!(size_of::<GpadlTeardown>(), 16);
const_assert!(size_of::<OpenChannel>() <= MAX_MESSAGE);
