// SPDX-License-Identifier: GPL-2.0

//! SynIC message slots, event flags and monitor bits (TLFS, "Inter-Partition
//! Communication"; `include/hyperv/hvgdk_mini.h`, `drivers/hv/hyperv_vmbus.h`).

use crate::message::MAX_MESSAGE;
use core::mem::size_of;
use static_assertions::const_assert_eq;
use zerocopy::little_endian::U32;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The SINT that carries VMBus messages and channel events.
pub const MESSAGE_SINT: u8 = 2;
/// Connection id of channel messages before version 5.0.
pub const MESSAGE_CONNECTION_ID: u32 = 1;
/// Connection id of INITIATE_CONTACT from version 5.0.
pub const MESSAGE_CONNECTION_ID_4: u32 = 4;
/// The same for a guest in VTL 2, tried first.
pub const MESSAGE_CONNECTION_ID_REDIRECT: u32 = 0x80_0074;

/// Bytes of one message slot.
pub const MESSAGE_SLOT_SIZE: usize = 256;
/// Offset of the message type (u32) in a slot.
pub const SLOT_TYPE_OFFSET: usize = 0;
/// Offset of the payload size (u8).
pub const SLOT_PAYLOAD_SIZE_OFFSET: usize = 4;
/// Offset of the message flags (u8).
pub const SLOT_FLAGS_OFFSET: usize = 5;
/// Offset of the origination id (u64).
pub const SLOT_ORIGINATION_OFFSET: usize = 8;
/// Offset of the payload.
pub const SLOT_PAYLOAD_OFFSET: usize = 16;
/// Message flag: another message waits for this slot to be freed.
pub const SLOT_FLAG_MESSAGE_PENDING: u8 = 1;

/// Message type of an empty slot (`HVMSG_NONE`).
pub const HVMSG_NONE: u32 = 0;
/// Message type of channel messages posted by the host.
pub const HVMSG_CHANNEL: u32 = 1;

/// Event flags per SINT, one per relid.
pub const EVENT_FLAGS_COUNT: u32 = 2048;
/// Bytes of the event flags of one SINT.
pub const EVENT_FLAGS_BYTES: usize = 256;

/// Hypercall code of HvCallPostMessage.
pub const HVCALL_POST_MESSAGE: u16 = 0x5c;
/// Hypercall code of HvCallSignalEvent.
pub const HVCALL_SIGNAL_EVENT: u16 = 0x5d;

/// Byte offset of a SINT's slot in the message page (SIMP).
#[must_use]
pub const fn message_slot_offset(sint: u8) -> usize {
    (sint as usize & 0xf).wrapping_mul(MESSAGE_SLOT_SIZE)
}

/// Byte offset of a SINT's flags in the event flags page (SIEFP).
#[must_use]
pub const fn event_flags_offset(sint: u8) -> usize {
    (sint as usize & 0xf).wrapping_mul(EVENT_FLAGS_BYTES)
}

/// A message slot in memory that the host may write at any time.
///
/// Every accessor is exactly one access of the shared memory.
pub trait MessageSlot {
    /// Loads the type with acquire ordering.
    fn message_type(&self) -> u32;
    /// Loads the payload size.
    fn payload_size(&self) -> u8;
    /// Loads the message flags.
    fn message_flags(&self) -> u8;
    /// Copies the first `dst.len()` (at most 240) payload bytes.
    fn copy_payload(&self, dst: &mut [u8]);
    /// Replaces the type by [`HVMSG_NONE`] if it still is `old`; with full
    /// barrier semantics on success. Tells whether it was replaced.
    fn clear_type(&self, old: u32) -> bool;
    /// A full memory barrier that also holds against other machines.
    fn full_barrier(&self);
}

/// A private copy of a message. Nothing the host does can change it.
#[derive(Clone, Copy)]
pub struct Message {
    message_type: u32,
    len: u8,
    payload: [u8; MAX_MESSAGE],
}

impl Message {
    /// The hypervisor's message type, [`HVMSG_CHANNEL`] for channel messages.
    /// Pass it to [`release_slot`].
    #[must_use]
    pub fn message_type(&self) -> u32 {
        self.message_type
    }

    /// The payload, at most 240 bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload
            .get(..usize::from(self.len))
            .unwrap_or_default()
    }
}

/// What a slot held.
#[allow(clippy::large_enum_variant)] // No allocator to box the message with.
pub enum SlotContent {
    /// No message.
    Empty,
    /// A message; release the slot after taking care of it.
    Message(Message),
    /// A message that claims more than 240 bytes: report it and release the
    /// slot.
    Oversized {
        /// The message type, for [`release_slot`].
        message_type: u32,
        /// The claimed payload size.
        payload_size: u8,
    },
}

/// Takes a snapshot of a slot: each field is read once, and the copied length
/// comes from that one read.
pub fn read_slot<S: MessageSlot>(slot: &S) -> SlotContent {
    let message_type = slot.message_type();
    if message_type == HVMSG_NONE {
        return SlotContent::Empty;
    }
    let payload_size = slot.payload_size();
    let mut message = Message {
        message_type,
        len: payload_size,
        payload: [0; MAX_MESSAGE],
    };
    match message.payload.get_mut(..usize::from(payload_size)) {
        Some(dst) => slot.copy_payload(dst),
        None => {
            return SlotContent::Oversized {
                message_type,
                payload_size,
            }
        }
    }
    SlotContent::Message(message)
}

/// What is left to do after a slot was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfMessage {
    /// Write the EOM register: a message waits for the slot.
    Write,
    /// Write no register: no message waits.
    NotNeeded,
    /// Someone else already released it, perhaps for a new message: leave it.
    Lost,
}

/// Frees a slot that held a message of type `old`. The pending flag is read
/// only after the type was cleared, or a message queued in between would wait
/// for ever (`drivers/hv/hyperv_vmbus.h:vmbus_signal_eom`).
#[must_use = "EndOfMessage::Write must be obeyed or no more messages arrive"]
pub fn release_slot<S: MessageSlot>(slot: &S, old: u32) -> EndOfMessage {
    if !slot.clear_type(old) {
        return EndOfMessage::Lost;
    }
    slot.full_barrier();
    if slot.message_flags() & SLOT_FLAG_MESSAGE_PENDING != 0 {
        EndOfMessage::Write
    } else {
        EndOfMessage::NotNeeded
    }
}

/// Iterates over the set bits of one 64-bit word of event flags, lowest first.
pub fn iter_set(word: u64) -> impl Iterator<Item = u32> {
    let mut rest = word;
    core::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let bit = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        Some(bit)
    })
}

/// Input of HvCallPostMessage: 256 bytes without padding.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PostMessageInput {
    /// Connection id, 24 bits.
    pub connection_id: U32,
    /// Zero.
    pub reserved: U32,
    /// [`HVMSG_CHANNEL`].
    pub message_type: U32,
    /// Bytes used of the payload.
    pub payload_size: U32,
    /// The message; the rest is zero.
    pub payload: [u8; MAX_MESSAGE],
}

const_assert_eq!(size_of::<PostMessageInput>(), MESSAGE_SLOT_SIZE);

impl PostMessageInput {
    /// Builds the input; `None` for more than 240 bytes.
    #[must_use]
    pub fn new(connection_id: u32, message: &[u8]) -> Option<Self> {
        let mut payload = [0; MAX_MESSAGE];
        payload.get_mut(..message.len())?.copy_from_slice(message);
        Some(PostMessageInput {
            connection_id: U32::new(connection_id),
            reserved: U32::new(0),
            message_type: U32::new(HVMSG_CHANNEL),
            payload_size: U32::new(u32::try_from(message.len()).ok()?),
            payload,
        })
    }
}

/// Byte offset of the trigger groups in a monitor page; each is 8 bytes and
/// its first word holds the pending bits.
pub const MONITOR_TRIGGER_GROUPS: u16 = 0x8;
/// Byte offset of the latencies (u16) in a monitor page.
pub const MONITOR_LATENCIES: u16 = 0x240;
/// Byte offset of the parameters (8 bytes: connection id, flag number).
pub const MONITOR_PARAMETERS: u16 = 0x440;

/// A checked monitor id: a bit of one of the four trigger groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorBit(u8);

impl MonitorBit {
    /// Checks a monitor id; `None` when it lies outside the page's four
    /// groups of 32 bits, and the monitor page must then not be used.
    #[must_use]
    pub const fn new(monitor_id: u8) -> Option<MonitorBit> {
        if monitor_id < 128 {
            Some(MonitorBit(monitor_id))
        } else {
            None
        }
    }

    /// The id.
    #[must_use]
    pub const fn id(self) -> u8 {
        self.0
    }

    /// The group, 0 to 3.
    #[must_use]
    pub const fn group(self) -> u8 {
        self.0 >> 5
    }

    /// The bit in the group, 0 to 31.
    #[must_use]
    pub const fn bit(self) -> u8 {
        self.0 & 31
    }

    /// The bit as a mask of the group's pending word.
    #[must_use]
    pub const fn mask(self) -> u32 {
        1u32.wrapping_shl(self.bit() as u32)
    }

    /// Byte offset of the group's pending word.
    #[must_use]
    pub const fn pending_offset(self) -> u16 {
        MONITOR_TRIGGER_GROUPS.wrapping_add((self.group() as u16).wrapping_mul(8))
    }

    /// Byte offset of the id's latency (u16, in 100 ns).
    #[must_use]
    pub const fn latency_offset(self) -> u16 {
        MONITOR_LATENCIES.wrapping_add((self.0 as u16).wrapping_mul(2))
    }

    /// Byte offset of the id's connection id (u32).
    #[must_use]
    pub const fn parameter_offset(self) -> u16 {
        MONITOR_PARAMETERS.wrapping_add((self.0 as u16).wrapping_mul(8))
    }
}
