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
//!  * [`frames`]: the set of frames in one block;
//!  * [`info`]: how much memory the guest has.
//!
//! Memory hot-add and page reporting will be neighbours of `balloon` here.

mod balloon;
mod ffi;
mod frames;
mod info;
mod pages;

pub(crate) use self::{
    balloon::{BadRange, Balloon},
    info::{hibernation_possible, memory_block_bytes, report_delay_secs, MemInfo, HOST_PAGES_FIT},
    pages::Order,
};
