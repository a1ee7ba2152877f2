// SPDX-License-Identifier: GPL-2.0

//! Messages the host delivers.

use super::{MessageType, USER_DEFINED_BYTES};
use crate::{guid::Guid, GpadlHandle, Relid};
use bitflags::bitflags;
use core::{
    fmt,
    mem::{offset_of, size_of},
};
use static_assertions::const_assert_eq;
use zerocopy::{
    little_endian::{U16, U32, U64},
    FromBytes, Immutable, KnownLayout, Unaligned,
};
use zerocopy_derive::{
    FromBytes as DeriveFromBytes, Immutable as DeriveImmutable, KnownLayout as DeriveKnownLayout,
    Unaligned as DeriveUnaligned,
};

bitflags! {
    /// Flags of an offer (`VMBUS_CHANNEL_*`). Unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OfferFlags: u16 {
        /// The device interface can be enumerated.
        const ENUMERATE_DEVICE_INTERFACE = 0x0001;
        /// The rings stay encrypted: offered by the paravisor (from 6.0).
        const CONFIDENTIAL_RING_BUFFER = 0x0002;
        /// Other shared memory stays encrypted too (from 6.0).
        const CONFIDENTIAL_EXTERNAL_MEMORY = 0x0004;
        /// A named pipe.
        const NAMED_PIPE_MODE = 0x0010;
        /// A loopback offer.
        const LOOPBACK_OFFER = 0x0100;
        /// Offered by the parent partition.
        const PARENT_OFFER = 0x0200;
        /// The host wants to be notified through the monitor page.
        const REQUEST_MONITORED_NOTIFICATION = 0x0400;
        /// A Hyper-V socket.
        const TLNPI_PROVIDER_OFFER = 0x2000;
        const _ = !0;
    }
}

/// Why a channel message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// There is not even a header.
    NoHeader {
        /// Bytes received.
        got: usize,
    },
    /// The host does not send messages with this number.
    Unknown {
        /// The number in the message.
        msgtype: u32,
    },
    /// The message ends before its type's fixed part does.
    TooShort {
        /// The number.
        msgtype: u32,
        /// Bytes received, the header included.
        got: usize,
        /// Bytes needed.
        want: usize,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::NoHeader { got } => {
                write!(f, "channel message of {got} bytes has no header")
            }
            MessageError::Unknown { msgtype } => {
                write!(f, "channel message of unknown type {msgtype}")
            }
            MessageError::TooShort { msgtype, got, want } => write!(
                f,
                "channel message of type {msgtype} too short: {got} bytes, want {want}"
            ),
        }
    }
}

#[derive(Clone, Copy, DeriveFromBytes, DeriveImmutable, DeriveKnownLayout, DeriveUnaligned)]
#[repr(C)]
struct WireOffer {
    header: [u8; 8],
    interface_type: Guid,
    interface_instance: Guid,
    reserved1: U64,
    reserved2: U64,
    flags: U16,
    mmio_megabytes: U16,
    user_defined: [u8; USER_DEFINED_BYTES],
    sub_channel_index: U16,
    reserved3: U16,
    relid: U32,
    monitor_id: u8,
    monitor_flags: u8,
    interrupt_flags: U16,
    connection_id: U32,
}

/// Bytes of an offer message, the header included.
pub const OFFER_LEN: usize = 196;

const_assert_eq!(size_of::<WireOffer>(), OFFER_LEN);
const_assert_eq!(offset_of!(WireOffer, flags), 56);
const_assert_eq!(offset_of!(WireOffer, user_defined), 60);
const_assert_eq!(offset_of!(WireOffer, sub_channel_index), 180);
const_assert_eq!(offset_of!(WireOffer, relid), 184);
const_assert_eq!(offset_of!(WireOffer, monitor_id), 188);
const_assert_eq!(offset_of!(WireOffer, interrupt_flags), 190);
const_assert_eq!(offset_of!(WireOffer, connection_id), 192);

/// OFFERCHANNEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Device class.
    pub class: Guid,
    /// Device instance.
    pub instance: Guid,
    /// What kind of channel it is.
    pub flags: OfferFlags,
    /// MMIO space the device wants, in MiB.
    pub mmio_megabytes: u16,
    /// Host data; of a pipe offer the first four bytes are the pipe mode.
    pub user_defined: [u8; USER_DEFINED_BYTES],
    /// 0 for a primary channel.
    pub sub_channel_index: u16,
    /// The channel's number in all other messages. Not yet checked.
    pub relid: Relid,
    /// Monitor id, if the host allocated one. Not yet checked: see
    /// [`crate::synic::MonitorBit::new`].
    pub monitor_id: Option<u8>,
    /// The channel has its own connection id for signals; without it the
    /// interrupt page's bit has to be set as well.
    pub dedicated_interrupt: bool,
    /// Connection id to signal the host on.
    pub connection_id: u32,
}

impl Offer {
    /// A sub-channel of a primary with the same class and instance.
    #[must_use]
    pub fn is_sub_channel(&self) -> bool {
        self.sub_channel_index != 0
    }

    /// A Hyper-V socket.
    #[must_use]
    pub fn is_hvsock(&self) -> bool {
        self.flags.contains(OfferFlags::TLNPI_PROVIDER_OFFER)
    }
}

impl From<&WireOffer> for Offer {
    fn from(wire: &WireOffer) -> Self {
        Offer {
            class: wire.interface_type,
            instance: wire.interface_instance,
            flags: OfferFlags::from_bits_retain(wire.flags.get()),
            mmio_megabytes: wire.mmio_megabytes.get(),
            user_defined: wire.user_defined,
            sub_channel_index: wire.sub_channel_index.get(),
            relid: Relid(wire.relid.get()),
            monitor_id: (wire.monitor_flags & 1 != 0).then_some(wire.monitor_id),
            dedicated_interrupt: wire.interrupt_flags.get() & 1 != 0,
            connection_id: wire.connection_id.get(),
        }
    }
}

/// OPENCHANNEL_RESULT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenResult {
    /// The channel.
    pub relid: Relid,
    /// From the request.
    pub open_id: u32,
    /// 0 for success, else a host status.
    pub status: u32,
}

/// GPADL_CREATED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpadlCreated {
    /// The channel.
    pub relid: Relid,
    /// The guest's handle.
    pub gpadl: GpadlHandle,
    /// 0 for success, else a host status.
    pub status: u32,
}

/// GPADL_TORNDOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpadlTorndown {
    /// The guest's handle.
    pub gpadl: GpadlHandle,
}

/// VERSION_RESPONSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionResponse {
    /// The proposed version is accepted.
    pub supported: bool,
    /// Host's connection state; 0 is success.
    pub connection_state: u8,
    /// From version 5.0: connection id for further messages.
    pub msg_conn_id: u32,
}

/// MODIFYCHANNEL_RESPONSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModifyChannelResponse {
    /// The channel.
    pub relid: Relid,
    /// 0 for success.
    pub status: u32,
}

/// TL_CONNECT_RESULT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlConnectResult {
    /// The guest's endpoint.
    pub guest_endpoint: Guid,
    /// The host's service.
    pub host_service: Guid,
    /// 0 for success, else a host status.
    pub status: u32,
}

/// A parsed channel message from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // No allocator to box the offer with.
pub enum Inbound {
    /// A new channel.
    Offer(Offer),
    /// A channel is taken back.
    Rescind {
        /// The channel.
        relid: Relid,
    },
    /// All boot-time offers were sent.
    AllOffersDelivered,
    /// Answer to an open.
    OpenResult(OpenResult),
    /// Answer to a GPADL.
    GpadlCreated(GpadlCreated),
    /// Answer to a GPADL teardown.
    GpadlTorndown(GpadlTorndown),
    /// Answer to a version proposal.
    VersionResponse(VersionResponse),
    /// Answer to UNLOAD.
    UnloadResponse,
    /// Answer to MODIFYCHANNEL.
    ModifyChannelResponse(ModifyChannelResponse),
    /// Answer to a socket's connect.
    TlConnectResult(TlConnectResult),
}

#[derive(DeriveFromBytes, DeriveImmutable, DeriveKnownLayout, DeriveUnaligned)]
#[repr(C)]
struct OneWord {
    header: [u8; 8],
    a: U32,
}

#[derive(DeriveFromBytes, DeriveImmutable, DeriveKnownLayout, DeriveUnaligned)]
#[repr(C)]
struct TwoWords {
    header: [u8; 8],
    a: U32,
    b: U32,
}

#[derive(DeriveFromBytes, DeriveImmutable, DeriveKnownLayout, DeriveUnaligned)]
#[repr(C)]
struct ThreeWords {
    header: [u8; 8],
    a: U32,
    b: U32,
    c: U32,
}

#[derive(DeriveFromBytes, DeriveImmutable, DeriveKnownLayout, DeriveUnaligned)]
#[repr(C)]
struct WireVersionResponse {
    header: [u8; 8],
    supported: u8,
    connection_state: u8,
    padding: U16,
    msg_conn_id: U32,
}

#[derive(DeriveFromBytes, DeriveImmutable, DeriveKnownLayout, DeriveUnaligned)]
#[repr(C)]
struct WireTlConnectResult {
    header: [u8; 8],
    guest_endpoint: Guid,
    host_service: Guid,
    status: U32,
}

const_assert_eq!(size_of::<OneWord>(), 12);
const_assert_eq!(size_of::<TwoWords>(), 16);
const_assert_eq!(size_of::<ThreeWords>(), 20);
const_assert_eq!(size_of::<WireVersionResponse>(), 16);
const_assert_eq!(size_of::<WireTlConnectResult>(), 44);

impl Inbound {
    /// Parses a message's payload. A message may be longer than its type
    /// needs: newer hosts append fields.
    ///
    /// # Errors
    ///
    /// [`MessageError`] tells the type and the lengths; the message has to be
    /// dropped and its slot freed.
    pub fn parse(payload: &[u8]) -> Result<Inbound, MessageError> {
        let Some(first) = payload.first_chunk::<4>() else {
            return Err(MessageError::NoHeader { got: payload.len() });
        };
        let raw = u32::from_le_bytes(*first);
        let kind = MessageType::from_raw(raw).ok_or(MessageError::Unknown { msgtype: raw })?;
        let want = kind
            .min_len()
            .ok_or(MessageError::Unknown { msgtype: raw })?;
        let short = MessageError::TooShort {
            msgtype: raw,
            got: payload.len(),
            want,
        };
        if payload.len() < want {
            return Err(short);
        }
        Self::decode(kind, payload).ok_or(short)
    }

    fn decode(kind: MessageType, payload: &[u8]) -> Option<Inbound> {
        Some(match kind {
            MessageType::Offer => Inbound::Offer(Offer::from(wire::<WireOffer>(payload)?)),
            MessageType::Rescind => Inbound::Rescind {
                relid: Relid(wire::<OneWord>(payload)?.a.get()),
            },
            MessageType::AllOffersDelivered => Inbound::AllOffersDelivered,
            MessageType::OpenResult => {
                let w = wire::<ThreeWords>(payload)?;
                Inbound::OpenResult(OpenResult {
                    relid: Relid(w.a.get()),
                    open_id: w.b.get(),
                    status: w.c.get(),
                })
            }
            MessageType::GpadlCreated => {
                let w = wire::<ThreeWords>(payload)?;
                Inbound::GpadlCreated(GpadlCreated {
                    relid: Relid(w.a.get()),
                    gpadl: GpadlHandle(w.b.get()),
                    status: w.c.get(),
                })
            }
            MessageType::GpadlTorndown => Inbound::GpadlTorndown(GpadlTorndown {
                gpadl: GpadlHandle(wire::<OneWord>(payload)?.a.get()),
            }),
            MessageType::VersionResponse => {
                let w = wire::<WireVersionResponse>(payload)?;
                Inbound::VersionResponse(VersionResponse {
                    supported: w.supported != 0,
                    connection_state: w.connection_state,
                    msg_conn_id: w.msg_conn_id.get(),
                })
            }
            MessageType::UnloadResponse => Inbound::UnloadResponse,
            MessageType::ModifyChannelResponse => {
                let w = wire::<TwoWords>(payload)?;
                Inbound::ModifyChannelResponse(ModifyChannelResponse {
                    relid: Relid(w.a.get()),
                    status: w.b.get(),
                })
            }
            MessageType::TlConnectResult => {
                let w = wire::<WireTlConnectResult>(payload)?;
                Inbound::TlConnectResult(TlConnectResult {
                    guest_endpoint: w.guest_endpoint,
                    host_service: w.host_service,
                    status: w.status.get(),
                })
            }
            _ => return None,
        })
    }
}

/// The fixed part of a message; bytes after it are ignored.
fn wire<T: FromBytes + KnownLayout + Immutable + Unaligned>(payload: &[u8]) -> Option<&T> {
    T::ref_from_prefix(payload).ok().map(|(value, _)| value)
}
