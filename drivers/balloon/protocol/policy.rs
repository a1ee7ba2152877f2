// SPDX-License-Identifier: GPL-2.0

//! How much to give, what to report and when.

use crate::{
    message::{CapabilityBits, Pressure},
    session::STEP_TIMEOUT_MS,
    HV_PAGE_SIZE,
};

/// Seconds without pressure reports after the start.
pub const REPORT_DELAY_SECONDS: u32 = 45;

/// Least time between two pressure reports, in milliseconds.
pub const REPORT_INTERVAL_MS: u64 = 1000;

/// Longest pause between two looks at a full ring, in milliseconds.
const MAX_PAUSE_MS: u64 = 20;

/// How long it is worth waiting for room in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A step of the negotiation, which the host gives as much time to.
    Step,
    /// An answer: the host waits for it, for ever if need be, and lets no other
    /// request through meanwhile.
    Answer,
}

/// Milliseconds until the ring is looked at again, which was found full `tries`
/// times in `elapsed_ms`; `None` to give the message up.
#[must_use]
pub const fn pause_ms(patience: Patience, tries: u32, elapsed_ms: u64) -> Option<u64> {
    match patience {
        Patience::Step if elapsed_ms >= STEP_TIMEOUT_MS as u64 => None,
        _ if tries >= 5 => Some(MAX_PAUSE_MS),
        _ => Some(1 << tries),
    }
}

const MIB: u64 = 1 << 20;

/// 4 KiB units in a guest page; `None` unless the page size is a power of two
/// from 4 KiB on.
#[must_use]
pub const fn units_per_page(page_size: u32) -> Option<u32> {
    if page_size.is_power_of_two() && page_size >= HV_PAGE_SIZE {
        Some(page_size / HV_PAGE_SIZE)
    } else {
        None
    }
}

/// Pages the guest keeps for itself, of `total_pages`; both in pages of
/// `page_size` bytes. A continuous, piecewise linear function
/// (`drivers/hv/hv_balloon.c:compute_balloon_floor`):
///
/// | up to      | floor             |
/// |------------|-------------------|
/// | 128 MiB    | 8 MiB + 1/2       |
/// | 512 MiB    | 40 MiB + 1/4      |
/// | 2048 MiB   | 104 MiB + 1/8     |
/// | 8192 MiB   | 232 MiB + 1/16    |
/// | more       | 488 MiB + 1/32    |
#[must_use]
pub const fn floor_pages(total_pages: u64, page_size: u32) -> u64 {
    let page_size = page_size as u64;
    if page_size == 0 || page_size > MIB {
        return total_pages;
    }
    let per_mib = MIB / page_size;
    let (base_mib, shift) = if total_pages < per_mib.wrapping_mul(128) {
        (8, 1)
    } else if total_pages < per_mib.wrapping_mul(512) {
        (40, 2)
    } else if total_pages < per_mib.wrapping_mul(2048) {
        (104, 3)
    } else if total_pages < per_mib.wrapping_mul(8192) {
        (232, 4)
    } else {
        (488, 5)
    };
    per_mib
        .wrapping_mul(base_mib)
        .saturating_add(total_pages >> shift)
}

/// Pages to give when the host asks for `requested`: what is `available`
/// above the floor, at most. All in guest pages.
#[must_use]
pub const fn balloon_target(requested: u64, available: u64, floor: u64) -> u64 {
    let spare = available.saturating_sub(floor);
    if requested < spare {
        requested
    } else {
        spare
    }
}

/// What an administrator allows, in pages of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// So much of the guest's memory stays with it.
    pub never_below: u64,
    /// No memory is added beyond this, if there is a limit.
    pub never_above: Option<u64>,
}

impl Limits {
    /// From module parameters in MiB, where 0 is no limit.
    #[must_use]
    pub const fn from_mib(never_below: u32, never_above: u32) -> Self {
        let never_above = if never_above == 0 {
            None
        } else {
            Some((never_above as u64).wrapping_mul(256))
        };
        Limits {
            never_below: (never_below as u64).wrapping_mul(256),
            never_above,
        }
    }

    /// How many of `pages` a guest of `total` pages may give.
    #[must_use]
    pub const fn give(&self, pages: u64, total: u64) -> u64 {
        let spare = total.saturating_sub(self.never_below);
        if pages < spare {
            pages
        } else {
            spare
        }
    }

    /// Whether a guest that has `total` pages, those in the balloon and those that are not in use
    /// included, may get `pages` more.
    #[must_use]
    pub const fn may_add(&self, pages: u64, total: u64) -> bool {
        match self.never_above {
            Some(limit) => total.saturating_add(pages) <= limit,
            None => true,
        }
    }
}

/// The guest's memory counters, in guest pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryCounts {
    /// `si_mem_available()`.
    pub available: u64,
    /// `vm_memory_committed()`.
    pub committed: u64,
    /// Pages in the balloon.
    pub ballooned: u64,
    /// Pages of earlier balloons that their host has not let go of.
    pub withheld: u64,
    /// Pages hot-added.
    pub added: u64,
    /// Of those, pages brought online.
    pub onlined: u64,
    /// See [`floor_pages`].
    pub floor: u64,
}

/// The pressure report. Hosts divide committed by assigned memory, so what the
/// guest cannot use counts as committed: the balloon, hot-added memory that is
/// not online, the floor (`drivers/hv/hv_balloon.c:get_pages_committed`); here
/// what is withheld, too, which does not exist there.
/// Saturates instead of wrapping.
#[must_use]
pub const fn pressure(counts: &MemoryCounts, units_per_page: u32) -> Pressure {
    let units = units_per_page as u64;
    let committed = counts
        .committed
        .saturating_add(counts.ballooned)
        .saturating_add(counts.withheld)
        .saturating_add(counts.added.saturating_sub(counts.onlined))
        .saturating_add(counts.floor);
    Pressure {
        available: counts.available.saturating_mul(units),
        committed: committed.saturating_mul(units),
    }
}

/// Capabilities to state. Ballooning is off when a guest page is larger than
/// the protocol's: the host could return parts of one. They are stated even
/// when hibernation keeps the guest from using them, since hosts insist.
///
/// `block_bytes` is the size of a memory block; a size that is not a power of
/// two of at least 1 MiB rounds up to one.
#[must_use]
pub const fn capabilities(
    page_size: u32,
    hot_add_possible: bool,
    block_bytes: u64,
) -> CapabilityBits {
    let mib = block_bytes.div_ceil(MIB);
    let mut exponent = 0u8;
    while exponent < 15 && 1u64.wrapping_shl(exponent as u32) < mib {
        exponent = exponent.wrapping_add(1);
    }
    CapabilityBits {
        balloon: page_size == HV_PAGE_SIZE,
        hot_add: hot_add_possible,
        hot_add_alignment: exponent,
    }
}

/// Result code of a hot-add response: 1 for success and, without pages, for
/// "never again"; 0 for "try again later"
/// (`drivers/hv/hv_balloon.c:hot_add_req`).
#[must_use]
pub const fn hot_add_result(pages_added: u32, possible_later: bool) -> u32 {
    if pages_added > 0 || !possible_later {
        1
    } else {
        0
    }
}

/// Schedule of the pressure reports: none during the first seconds, then one
/// a second. Times are milliseconds of a clock that does not go back.
#[derive(Clone, Copy, Debug)]
pub struct ReportSchedule {
    not_before: u64,
}

impl ReportSchedule {
    /// Starts at `now`, with a delay in seconds
    /// ([`REPORT_DELAY_SECONDS`] by default).
    #[must_use]
    pub const fn new(now: u64, delay_seconds: u32) -> Self {
        let delay = (delay_seconds as u64).wrapping_mul(1000);
        ReportSchedule {
            not_before: now.saturating_add(delay),
        }
    }

    /// True when a report is due; the next one is due a second later.
    pub fn poll(&mut self, now: u64) -> bool {
        if now < self.not_before {
            return false;
        }
        self.not_before = now.saturating_add(REPORT_INTERVAL_MS);
        true
    }

    /// Milliseconds until the next report is due.
    #[must_use]
    pub const fn due_in(&self, now: u64) -> u64 {
        self.not_before.saturating_sub(now)
    }
}
