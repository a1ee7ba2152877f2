// SPDX-License-Identifier: GPL-2.0

//! Hyper-V synthetic network (NetVSC): messages, initialisation, policy.
//!
//! Two protocols are stacked. NVSP ([`nvsp`]) agrees on a version and on two
//! buffers in guest memory, and carries everything else: RNDIS ([`rndis`]),
//! which configures the interface and frames its packets. The host puts what
//! it sends into sections of the receive buffer and names them in
//! transfer-page packets; the guest names sections of the send buffer, or its
//! own pages.
//!
//! This crate knows nothing of the kernel. It is compiled by Kbuild into the
//! network driver and by cargo for tests and fuzzing; it has no allocator and
//! no `unsafe`. The host's values are checked here, and only what a guest can
//! act on safely comes out. Shared memory is reached through [`rx::Memory`],
//! which copies: whatever was checked cannot change any more.
//!
//! Formats and behaviour are those of `drivers/net/hyperv`; where the
//! behaviour differs, the text says why.

#![no_std]
#![forbid(unsafe_code)]

pub mod buffers;
pub mod exchange;
pub mod frame;
pub mod gpa;
pub mod inbound;
pub mod link;
pub mod nvsp;
pub mod offload;
pub mod ppi;
pub mod query;
pub mod rndis;
pub mod rss;
pub mod rx;
pub mod sections;
pub mod setup;
pub mod silence;
pub mod terms;
pub mod transfer;
pub mod vf;

mod bytes;

/// How long the host may take to answer a request, in milliseconds. The C
/// driver waits for ever, and with it everybody who needs the RTNL lock.
pub const ANSWER_TIMEOUT_MS: u32 = 5_000;
