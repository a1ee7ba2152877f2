// SPDX-License-Identifier: GPL-2.0

//! How many commands, channels and bytes.

use crate::HV_PAGE_SIZE;
use vmbus_protocol::gpadl::ring_size;

/// Bytes that a command takes in the ring at most, as the C driver reckons: a
/// packet with 32 page numbers.
const COMMAND_BYTES: u32 = 360;

/// Most commands of a queue: the block layer allows no more (`BLK_MQ_MAX_DEPTH`),
/// and what is kept for each command would be kept for nothing.
pub const MAX_DEPTH: u32 = 10_240;

/// Smallest ring, in bytes of data.
pub const MIN_RING_BYTES: u32 = 8 * 1024;
/// Largest ring, in bytes of data.
pub const MAX_RING_BYTES: u32 = 16 * 1024 * 1024 - HV_PAGE_SIZE;

/// Bytes of data of a ring for which the module parameter says `bytes`: whole
/// pages. As for the C driver the control page is taken out of large rings and
/// added to small ones.
#[must_use]
pub fn ring_bytes(bytes: u32) -> u32 {
    let most = MAX_RING_BYTES.saturating_add(HV_PAGE_SIZE);
    let ring = ring_size(bytes.min(most), HV_PAGE_SIZE).unwrap_or(most);
    ring.saturating_sub(HV_PAGE_SIZE).max(MIN_RING_BYTES)
}

/// What the depth of the queues depends on.
#[derive(Clone, Copy, Debug)]
pub struct DepthInput {
    /// Bytes of data of the outgoing ring of each channel.
    pub ring_bytes: u32,
    /// CPUs that are online.
    pub cpus: u32,
    /// CPUs that share a channel; 0 counts as 1.
    pub cpus_per_channel: u32,
    /// Percent of a ring that should stay free; more than 99 counts as 99.
    pub low_water_percent: u32,
    /// The device can have sub-channels.
    pub sub_channels: bool,
}

/// Commands of one hardware queue that may be under way: 1 to [`MAX_DEPTH`].
#[must_use]
pub fn depth(input: &DepthInput) -> u32 {
    let per_channel = u64::from(input.ring_bytes / COMMAND_BYTES);
    let subs = if input.sub_channels {
        u64::from(input.cpus.saturating_sub(1))
            .checked_div(u64::from(input.cpus_per_channel.max(1)))
            .unwrap_or(0)
    } else {
        0
    };
    let percent = u64::from(100u32.saturating_sub(input.low_water_percent.min(99)));
    let depth = per_channel
        .saturating_mul(subs.saturating_add(1))
        .saturating_mul(percent)
        / 100;
    u32::try_from(depth.clamp(1, u64::from(MAX_DEPTH))).unwrap_or(MAX_DEPTH)
}

/// Bytes of a ring of `ring_bytes` that should stay free.
#[must_use]
pub fn low_water(ring_bytes: u32, percent: u32) -> u32 {
    u32::try_from(u64::from(ring_bytes).saturating_mul(u64::from(percent.min(99))) / 100)
        .unwrap_or(0)
}

/// Limits of one command's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Most bytes; a multiple of the page size, not 0.
    pub bytes: u32,
    /// Most entries of the scatter list: one more than pages, for a start
    /// that is not on a page boundary.
    pub segments: u16,
}

/// Most bytes of a transfer that make sense: 8 MiB.
const MAX_TRANSFER: u32 = 8 * 1024 * 1024;

/// Limits for what the host says and the ring holds. The host's number may be
/// anything; a single page is always possible.
#[must_use]
pub fn transfer(host_bytes: u32, ring_bytes: u32) -> TransferLimits {
    // A packet may take half of the ring; besides 8 bytes for each page it has
    // descriptor, heads, request and trailer.
    let ring_pages = (ring_bytes / 2).saturating_sub(104 + 8) / 8;
    let pages = (host_bytes.min(MAX_TRANSFER) / HV_PAGE_SIZE)
        .min(ring_pages)
        .max(1);
    TransferLimits {
        bytes: pages.saturating_mul(HV_PAGE_SIZE),
        segments: u16::try_from(pages.saturating_add(1)).unwrap_or(u16::MAX),
    }
}

/// Times that a bus reset is tried before the host is given up.
pub const RESET_TRIES: u32 = 3;

/// Milliseconds until it is tried whether a host answers again that was given
/// up, and was tried `tries` times: 5 s at first, then longer, up to 5 minutes.
#[must_use]
pub const fn revive_pause_ms(tries: u32) -> u32 {
    const FIRST: u32 = 5_000;
    const LONGEST: u32 = 300_000;
    let shift = if tries < 6 { tries } else { 6 };
    let pause = FIRST << shift;
    if pause < LONGEST {
        pause
    } else {
        LONGEST
    }
}

/// Sub-channels to ask for.
#[must_use]
pub fn sub_channels(cpus: u32, host_max: u16) -> u16 {
    u16::try_from(cpus.saturating_sub(1))
        .unwrap_or(u16::MAX)
        .min(host_max)
}

/// Hardware queues: one for each CPU, or as many as the module parameter says
/// if that is possible. The second part says that the parameter was not.
#[must_use]
pub fn hardware_queues(cpus: u32, parameter: u32) -> (u32, bool) {
    let cpus = cpus.clamp(1, 0xffff);
    match parameter {
        0 => (cpus, false),
        n if n <= cpus => (n, false),
        _ => (cpus, true),
    }
}

/// Heads, sectors and cylinders of a disk of `capacity` sectors. Nobody needs
/// them; they are made up like those of the C driver.
#[must_use]
pub fn geometry(capacity: u64) -> [i32; 3] {
    const HEADS: i32 = 255;
    const SECTORS: i32 = 63;
    let cylinders = capacity / 16_065;
    let covered = cylinders.saturating_add(1).saturating_mul(16_065);
    let cylinders = if covered < capacity {
        0xffff
    } else {
        i32::try_from(cylinders).unwrap_or(0xffff)
    };
    [HEADS, SECTORS, cylinders]
}
