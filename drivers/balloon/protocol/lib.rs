// SPDX-License-Identifier: GPL-2.0

//! Hyper-V Dynamic Memory: messages, ranges, policy and negotiation.
//!
//! This crate knows nothing of the kernel. It is compiled by Kbuild into the
//! balloon driver and by cargo for tests and fuzzing; it has no allocator and
//! no `unsafe`. The host's values are checked here, and only what a guest can
//! act on safely comes out.
//!
//! Formats are those of `drivers/hv/hv_balloon.c`; all page counts of the
//! protocol are in units of 4 KiB.

#![no_std]
#![forbid(unsafe_code)]

pub mod hint;
pub mod hot_add;
pub mod message;
pub mod policy;
pub mod range;
pub mod response;
pub mod session;

pub use message::{Inbound, MessageError};
pub use range::{PageRange, RangeError};

/// Bytes of a page in the protocol, whatever the guest's page size is.
pub const HV_PAGE_SIZE: u32 = 4096;

/// Longest message either side sends, in bytes.
pub const MAX_MESSAGE: usize = 4096;
