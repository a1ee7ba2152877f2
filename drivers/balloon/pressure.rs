// SPDX-License-Identifier: GPL-2.0

//! Reporting to the host how much memory the guest needs.

use crate::{
    memory::{self, withheld, MemInfo, ReportedStatus},
    session::{Shared, PRESSURE},
};
use balloon_protocol::{
    message::{Pressure, Status},
    policy::{
        floor_pages, pressure, units_per_page, MemoryCounts, ReportSchedule, REPORT_INTERVAL_MS,
    },
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{atomic::Relaxed, Arc},
    time::{Instant, Monotonic, Msecs},
    workqueue::WorkItem,
};
use vmbus::abstractions::workqueue;

/// When to report.
pub(crate) struct Schedule {
    start: Instant<Monotonic>,
    /// The module parameter that `reports` was made with.
    delay_secs: u32,
    reports: ReportSchedule,
}

impl Schedule {
    /// Starts with the delay of the module parameter.
    pub(crate) fn new() -> Self {
        let delay_secs = memory::report_delay_secs();

        Self {
            start: Instant::now(),
            delay_secs,
            reports: ReportSchedule::new(0, delay_secs),
        }
    }

    /// Returns whether a report is due, and in how many milliseconds to ask again.
    fn poll(&mut self) -> (bool, Msecs) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        let delay_secs = memory::report_delay_secs();

        if delay_secs != self.delay_secs {
            self.delay_secs = delay_secs;
            self.reports = ReportSchedule::new(0, delay_secs);
        }
        let due = self.reports.poll(now);

        // Not later than in a second, to see a change of the parameter.
        let next = self.reports.due_in(now).clamp(1, REPORT_INTERVAL_MS);
        (due, next as Msecs)
    }
}

/// Starts reporting.
pub(crate) fn start(shared: &Arc<Shared>) {
    *shared.schedule.lock() = Schedule::new();
    ask_again(shared.clone(), REPORT_INTERVAL_MS as Msecs);
}

fn ask_again(shared: Arc<Shared>, ms: Msecs) {
    // An error means that the device goes away.
    let _ = workqueue::enqueue_delayed::<_, PRESSURE>(workqueue::system_freezable(), shared, ms);
}

/// Returns what the host should know of the guest's memory, in units of 4 KiB.
pub(crate) fn now(shared: &Shared) -> Pressure {
    of(&counts(shared))
}

fn of(counts: &MemoryCounts) -> Pressure {
    pressure(counts, units_per_page(PAGE_SIZE as u32).unwrap_or(1))
}

fn counts(shared: &Shared) -> MemoryCounts {
    let memory = MemInfo::now();
    let added = shared.added.as_ref();
    let (added, onlined) = added.map_or((0, 0), |added| added.added_and_onlined());

    MemoryCounts {
        available: memory.available,
        committed: memory.committed,
        ballooned: shared.counters.ballooned.load(Relaxed),
        withheld: withheld::frames(),
        added,
        onlined,
        floor: floor_pages(memory.total, PAGE_SIZE as u32),
    }
}

/// What is to be reported now, which the trace event shows, too.
fn report(shared: &Shared) -> Pressure {
    let counts = counts(shared);
    let pressure = of(&counts);

    memory::trace_status(&ReportedStatus {
        available: pressure.available,
        committed: pressure.committed,
        vm_memory_committed: counts.committed,
        pages_ballooned: counts.ballooned,
        pages_added: counts.added,
        pages_onlined: counts.onlined,
    });
    pressure
}

impl WorkItem<PRESSURE> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        let (due, next) = this.schedule.lock().poll();

        if due {
            if let Some(sender) = this.sender() {
                let message = Status::new(this.next_id(), report(&this));

                // No waiting for room: the next report says more than this one.
                let counter = match sender.send_inband(message.as_bytes(), 0) {
                    Ok(()) => &this.counters.reports,
                    Err(_) => &this.counters.unsent,
                };
                counter.fetch_add(1, Relaxed);
            }
        }
        ask_again(this, next);
    }
}
