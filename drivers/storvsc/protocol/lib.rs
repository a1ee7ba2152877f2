// SPDX-License-Identifier: GPL-2.0

//! Hyper-V synthetic SCSI (StorVSC): packets, initialisation, results, policy.
//!
//! This crate knows nothing of the kernel. It is compiled by Kbuild into the
//! SCSI driver and by cargo for tests and fuzzing; it has no allocator and no
//! `unsafe`. The host's values are checked here, and only what a guest can act
//! on safely comes out.
//!
//! Formats and behaviour are those of `drivers/scsi/storvsc_drv.c`; where the
//! behaviour differs, the text says why.

#![no_std]
#![forbid(unsafe_code)]

pub mod identity;
pub mod inbound;
pub mod init;
pub mod limits;
pub mod luns;
pub mod outcome;
pub mod own;
pub mod packet;
pub mod pages;
pub mod route;
/// For tests and fuzzing: the driver compiles it with its SCSI hosts.
#[path = "../scsi/tags.rs"]
pub mod tags;

pub use inbound::{Inbound, PacketError};
pub use outcome::{HostByte, Outcome};

/// Bytes of a page in the protocol, whatever the guest's page size is.
pub const HV_PAGE_SIZE: u32 = 4096;

/// How long the host may take to answer a request of the driver itself, in
/// milliseconds (`storvsc_timeout`).
pub const ANSWER_TIMEOUT_MS: u32 = 180_000;
