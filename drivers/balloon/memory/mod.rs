// SPDX-License-Identifier: GPL-2.0

//! The only part of the driver that touches page frames.
//!
//! The balloon gives page frames to the host and takes them back. A frame that is given away must
//! not be used by anybody, and only a frame that was given away may be freed: whatever the host
//! names is looked up in [`Balloon`], which knows each frame that it holds and can free nothing
//! else. This is what makes the interface of this module safe, so everything that could break it
//! is in here.
//!
//!  * [`balloon`]: which frames are given away, and the way in and out;
//!  * [`pages`]: allocating, hiding from the kernel, accounting and freeing them;
//!  * [`withheld`]: balloons whose host has not let go of their channel;
//!  * [`phase`]: statics that are there once the module has begun;
//!  * [`frames`]: the set of frames in one block;
//!  * [`hot_add`]: blocks of memory that the host adds, and which pages of them come into use;
//!  * [`reporting`]: memory that is free, and the host's hearing of it;
//!  * [`tools`]: what tools know from the C driver; no frames, but C, too;
//!  * [`info`]: how much memory the guest has.

mod balloon;
mod ffi;
mod frames;
mod hot_add;
mod info;
mod pages;
mod phase;
mod reporting;
mod tools;
pub(crate) mod withheld;

pub(crate) use self::{
    balloon::{BadRange, Balloon},
    hot_add::{onlines_itself, watch, Claim, Memory, Stop, WatchUntilDrop, WhyNot},
    info::{
        hibernation_possible, limits, memory_block_bytes, report_delay_secs, MemInfo,
        HOST_PAGES_FIT,
    },
    pages::Order,
    reporting::{hint, report_large_only, FreeMemory, Listener, Listening},
    tools::{trace_status, Link, ReportedStatus},
    withheld::WithheldUntilDrop,
};
