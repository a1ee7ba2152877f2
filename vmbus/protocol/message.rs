// SPDX-License-Identifier: GPL-2.0

//! Channel messages: what the guest posts and what the host delivers in SynIC
//! messages (`include/linux/hyperv.h`, `struct vmbus_channel_*`).
//!
//! Outbound messages are byte-complete types without padding, so no memory
//! that was not written on purpose can reach the host. Inbound messages are
//! parsed by value from a private copy ([`crate::synic::Message`]).

mod inbound;
mod outbound;

pub use inbound::{
    GpadlCreated, GpadlTorndown, Inbound, MessageError, ModifyChannelResponse, Offer, OfferFlags,
    OpenResult, TlConnectResult, VersionResponse, OFFER_LEN,
};
pub use outbound::{
    CloseChannel, ContactParams, GpadlBodyHeader, GpadlHeader, GpadlTeardown, InitiateContact,
    ModifyChannel, OpenChannel, OpenParams, RelidReleased, RequestOffers, TlConnectRequest, Unload,
    FEATURE_CONFIDENTIAL_CHANNELS,
};

use zerocopy::little_endian::U32;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Largest channel message, in bytes: the payload of a SynIC message.
pub const MAX_MESSAGE: usize = 240;

/// Bytes of user data in an offer and in OPENCHANNEL.
pub const USER_DEFINED_BYTES: usize = 120;

/// Size of the relid space; valid relids are 1 to 2047.
pub const MAX_CHANNEL_RELIDS: u32 = 2048;

/// Numbers of the channel messages (`enum vmbus_channel_message_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MessageType {
    /// Host offers a channel.
    Offer = 1,
    /// Host takes a channel back.
    Rescind = 2,
    /// Guest asks for all offers.
    RequestOffers = 3,
    /// Host has sent all boot-time offers.
    AllOffersDelivered = 4,
    /// Guest opens a channel.
    OpenChannel = 5,
    /// Host's answer to it.
    OpenResult = 6,
    /// Guest closes a channel; no answer.
    CloseChannel = 7,
    /// Guest describes shared memory.
    GpadlHeader = 8,
    /// More page numbers of the same GPADL.
    GpadlBody = 9,
    /// Host's answer to a complete GPADL.
    GpadlCreated = 10,
    /// Guest revokes a GPADL.
    GpadlTeardown = 11,
    /// Host's answer to it.
    GpadlTorndown = 12,
    /// Guest has let go of a rescinded channel.
    RelidReleased = 13,
    /// Guest proposes a version.
    InitiateContact = 14,
    /// Host's answer to it.
    VersionResponse = 15,
    /// Guest ends the connection.
    Unload = 16,
    /// Host's answer to it.
    UnloadResponse = 17,
    /// Guest connects a socket to the host.
    TlConnectRequest = 21,
    /// Guest moves a channel's interrupt.
    ModifyChannel = 22,
    /// Host's answer to TlConnectRequest.
    TlConnectResult = 23,
    /// Host's answer to ModifyChannel, from version 5.3.
    ModifyChannelResponse = 24,
}

impl MessageType {
    /// The number on the wire.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self as u32
    }

    /// The type of a number on the wire.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<MessageType> {
        Some(match raw {
            1 => MessageType::Offer,
            2 => MessageType::Rescind,
            3 => MessageType::RequestOffers,
            4 => MessageType::AllOffersDelivered,
            5 => MessageType::OpenChannel,
            6 => MessageType::OpenResult,
            7 => MessageType::CloseChannel,
            8 => MessageType::GpadlHeader,
            9 => MessageType::GpadlBody,
            10 => MessageType::GpadlCreated,
            11 => MessageType::GpadlTeardown,
            12 => MessageType::GpadlTorndown,
            13 => MessageType::RelidReleased,
            14 => MessageType::InitiateContact,
            15 => MessageType::VersionResponse,
            16 => MessageType::Unload,
            17 => MessageType::UnloadResponse,
            21 => MessageType::TlConnectRequest,
            22 => MessageType::ModifyChannel,
            23 => MessageType::TlConnectResult,
            24 => MessageType::ModifyChannelResponse,
            _ => return None,
        })
    }

    /// Shortest acceptable payload in bytes, the header included, of a message
    /// the host sends; `None` for messages only the guest sends.
    #[must_use]
    pub const fn min_len(self) -> Option<usize> {
        Some(match self {
            MessageType::Offer => OFFER_LEN,
            MessageType::Rescind | MessageType::GpadlTorndown => 12,
            MessageType::AllOffersDelivered | MessageType::UnloadResponse => 8,
            MessageType::OpenResult | MessageType::GpadlCreated => 20,
            MessageType::VersionResponse | MessageType::ModifyChannelResponse => 16,
            MessageType::TlConnectResult => 44,
            _ => return None,
        })
    }
}

/// The header of every channel message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct MessageHeader {
    /// A [`MessageType`] number.
    pub msgtype: U32,
    /// Zero.
    pub padding: U32,
}

impl MessageHeader {
    /// A header of the given type.
    #[must_use]
    pub const fn new(msgtype: MessageType) -> MessageHeader {
        MessageHeader {
            msgtype: U32::new(msgtype.raw()),
            padding: U32::new(0),
        }
    }
}

static_assertions::assert_eq_size!(MessageHeader, [u8; 8]);
