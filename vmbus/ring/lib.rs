// SPDX-License-Identifier: GPL-2.0

//! VMBus ring buffers: arithmetic, checks and signalling rules.
//!
//! A channel has two rings, one for each direction. Each is a control page and
//! a data area that both sides can write at any time; this crate reaches them
//! only through [`RingMemory`], whose accessors are single accesses or copies.
//! It keeps its own position private and checks every index and descriptor of
//! the host before use.
//!
//! Formats and rules are those of `include/linux/hyperv.h`
//! (`struct hv_ring_buffer`) and `drivers/hv/ring_buffer.c`.

#![no_std]
#![forbid(unsafe_code)]

mod memory;
mod pages;
mod reader;
mod signal;
mod units;
mod writer;

pub use memory::{init_control, stats, Copies, Field, RingMemory, RingSpan, RingStats, SizeError};
pub use pages::GpaDirectPacket;
pub use reader::{mask, Packet, ReadError, Reader};
pub use signal::{frees_enough, wants_signal};
pub use writer::{Batch, OutgoingPacket, Published, SendError, WaitState, Writer};

/// Bytes of the trailer behind each packet.
pub const TRAILER: u32 = 8;

/// Bit of [`Field::FeatureBits`]: this side sets and honours
/// [`Field::PendingSendSize`].
pub const FEATURE_PENDING_SEND_SIZE: u32 = 1;
