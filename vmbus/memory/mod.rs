// SPDX-License-Identifier: GPL-2.0

//! Memory that the host can see.
//!
//! Nothing here hands out a reference to such memory: the host may write it at any time, so it
//! is reached through single volatile accesses and copies only. This folder is one of the rooms
//! where `unsafe` lives.

mod barrier;
mod buffer;
mod flags;
mod mapping;
mod monitor;
mod pages;
mod ring;

pub(crate) use barrier::full as full_barrier;
pub(crate) use buffer::BufferMap;
pub(crate) use flags::FlagPage;
pub(crate) use monitor::MonitorPage;
pub(crate) use pages::{leaked_pages, PageList, SharedPage, PAGE_BYTES};
pub(crate) use ring::{RingMap, RingPages};
