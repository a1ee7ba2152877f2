// SPDX-License-Identifier: GPL-2.0

//! VMBus wire formats and protocol state machines.
//!
//! This crate knows nothing of the kernel. It is compiled twice from the same
//! files: by Kbuild into the modules, and by cargo for tests and fuzzing. It
//! has no allocator, no `unsafe`, and no operation on a value of the host that
//! could panic.
//!
//! Formats and constants are those of `include/linux/hyperv.h`,
//! `include/hyperv/*.h` and the Hypervisor Top-Level Functional Specification
//! (TLFS); every item names its source.

#![no_std]
#![forbid(unsafe_code)]

pub mod affinity;
pub mod attach;
pub mod channel;
pub mod class;
pub mod gpadl;
pub mod guid;
pub mod ids;
pub mod lines;
pub mod link;
pub mod message;
pub mod offers;
pub mod packet;
pub mod pending;
pub mod placement;
pub mod post;
pub mod release;
pub mod reply;
pub mod requests;
pub mod session;
pub mod shared;
pub mod synic;
pub mod version;

pub use guid::Guid;
pub use ids::{GpadlHandle, Relid, VpIndex};
pub use version::Version;

/// Page size of the hypervisor's interface, whatever the guest's own is.
pub const HV_PAGE_SIZE: u32 = 4096;
