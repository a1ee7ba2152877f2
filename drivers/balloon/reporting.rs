// SPDX-License-Identifier: GPL-2.0

//! Telling the host which memory is free.

use crate::{
    memory::{hint, report_large_only, FreeMemory, Listener, Listening},
    session::{Shared, REPORTING},
};
use balloon_protocol::{
    hint::{Hint, Verdict, MAX_REFUSALS},
    PageRange,
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc, ArcBorrow},
    workqueue::WorkItem,
};
use vmbus::abstractions::workqueue;

/// Begins to tell the host, if it wants to know. May sleep.
pub(crate) fn start(shared: &Arc<Shared>) {
    // Held until it is there: a host may refuse before that, and then it has to be found.
    let mut place = shared.listening.lock();

    match Listening::start(shared.clone()) {
        Ok(listening) => {
            dev_info!(
                shared.dev,
                "the host is told of free memory in blocks of {} pages and more\n",
                1u64.checked_shl(listening.order()).unwrap_or(0)
            );
            *place = Some(listening);
        }
        Err(error) if error == EOPNOTSUPP => (),
        Err(error) => {
            let taken = error == EBUSY;

            dev_warn!(
                shared.dev,
                "the host is not told of free memory: {}\n",
                if taken {
                    "another driver tells its host"
                } else {
                    "the kernel refuses"
                }
            );
        }
    }
}

/// For the file in debugfs.
pub(crate) fn state(shared: &Shared) -> &'static str {
    if shared.listening.lock().is_some() {
        "on"
    } else {
        "off"
    }
}

/// Ends it, when dropped.
pub(crate) struct StopReporting(pub(crate) Arc<Shared>);

impl Drop for StopReporting {
    fn drop(&mut self) {
        stop(&self.0);
    }
}

fn stop(shared: &Shared) {
    // Dropped without the lock: that waits for who hears.
    let listening = shared.listening.lock().take();

    drop(listening);
}

impl WorkItem<REPORTING> for Shared {
    type Pointer = Arc<Shared>;

    /// The host has refused once too often. Whoever hears of free memory cannot end that itself.
    fn run(this: Arc<Shared>) {
        stop(&this);
    }
}

impl Listener for Shared {
    fn on_free(this: ArcBorrow<'_, Self>, memory: &FreeMemory<'_>) -> Result {
        if this.is_closing() {
            return Err(ENODEV);
        }
        let mut message = Hint::new();

        for (frame, count) in memory.ranges() {
            u32::try_from(count)
                .ok()
                .and_then(|count| PageRange::new(frame, count).ok())
                .and_then(|range| message.push(range).ok())
                .ok_or(EINVAL)?;
        }
        let status = hint(memory, message.words());

        on_answer(this, status, &message)
    }
}

/// The host has answered a hint.
fn on_answer(this: ArcBorrow<'_, Shared>, status: u16, message: &Hint) -> Result {
    let counters = &this.counters;
    let verdict = this.health.lock().on_status(status, message.has_small());

    match verdict {
        Verdict::Taken => {
            counters.hints.fetch_add(1, Relaxed);
            counters.pages_reported.fetch_add(message.pages(), Relaxed);
            return Ok(());
        }
        Verdict::Refused => (),
        Verdict::LargeOnly => {
            report_large_only();
            dev_info!(
                this.dev,
                "the host takes no blocks of free memory below 2 MiB: they are not reported any more\n"
            );
        }
        Verdict::SwitchOff => {
            dev_warn!(
                this.dev,
                "the host is not told of free memory any more: it has refused {} hints in a row, the last one with status {:#x}\n",
                MAX_REFUSALS,
                status
            );
            // An error means that the device goes away.
            let _ = workqueue::system_dfl_long().enqueue::<_, REPORTING>(Arc::from(this));
        }
    }
    counters.hints_refused.fetch_add(1, Relaxed);
    Err(EIO)
}
