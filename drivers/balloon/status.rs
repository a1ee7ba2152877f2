// SPDX-License-Identifier: GPL-2.0

//! Counters, and the file that shows them: `hv-balloon-rust/status` in debugfs.
//!
//! Its lines are `name: value`. Those that the C driver has in its file have the same names here.

use crate::{pressure, session::Shared};
use balloon_protocol::{session::State, HV_PAGE_SIZE};
use kernel::{
    debugfs, fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// What happened since the device was bound.
pub(crate) struct Counters {
    /// Frames in the balloon now.
    pub(crate) ballooned: Atomic<u64>,
    /// Pages given to the host.
    pub(crate) pages_given: Atomic<u64>,
    /// Pages that the host returned.
    pub(crate) pages_returned: Atomic<u64>,
    /// Requests for pages.
    pub(crate) balloon_requests: Atomic<u64>,
    /// Messages that return pages.
    pub(crate) unballoon_requests: Atomic<u64>,
    /// Requests to add memory.
    pub(crate) hot_add_requests: Atomic<u64>,
    /// Pressure reports.
    pub(crate) reports: Atomic<u64>,
    /// Messages of the host that had no effect because of what is in them.
    pub(crate) refused: Atomic<u64>,
    /// Messages that could not be sent.
    pub(crate) unsent: Atomic<u64>,
    /// The limit of the guest's memory, if the host told one.
    pub(crate) max_page_count: Atomic<u64>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            ballooned: Atomic::new(0),
            pages_given: Atomic::new(0),
            pages_returned: Atomic::new(0),
            balloon_requests: Atomic::new(0),
            unballoon_requests: Atomic::new(0),
            hot_add_requests: Atomic::new(0),
            reports: Atomic::new(0),
            refused: Atomic::new(0),
            unsent: Atomic::new(0),
            max_page_count: Atomic::new(0),
        }
    }
}

/// Creates the file. It goes away when it is dropped.
pub(crate) fn file<'a>(
    directory: &'a debugfs::Dir,
    shared: Arc<Shared>,
) -> impl PinInit<debugfs::File<Arc<Shared>>> + 'a {
    directory.read_callback_file(c"status", shared, &show)
}

fn show(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let counters = &shared.counters;
    let (state, version, ballooning, ignored) = {
        let session = shared.session.lock();
        (
            session.state(),
            session.version(),
            session.is_ballooning(),
            session.ignored(),
        )
    };
    let state = match (state, ballooning) {
        (State::Ready, true) => "Balloon Up",
        (State::Ready, false) => "Initialized",
        (State::Failed(_), _) => "Error",
        _ => "Initializing",
    };
    let capabilities = match (shared.features.balloon, shared.features.hibernation) {
        (true, false) => "enabled",
        (true, true) => "disabled (hibernation is possible)",
        (false, _) => "disabled (page size)",
    };

    writeln!(f, "host_version: {}.{}", version >> 16, version & 0xffff)?;
    writeln!(f, "capabilities: {}", capabilities)?;
    writeln!(f, "state: {}", state)?;
    writeln!(f, "page_size: {}", HV_PAGE_SIZE)?;
    line(f, "pages_ballooned", &counters.ballooned)?;
    writeln!(
        f,
        "total_pages_committed: {}",
        pressure::now(shared).committed
    )?;
    line(f, "max_dynamic_page_count", &counters.max_page_count)?;
    line(f, "pages_given", &counters.pages_given)?;
    line(f, "pages_returned", &counters.pages_returned)?;
    line(f, "balloon_requests", &counters.balloon_requests)?;
    line(f, "unballoon_requests", &counters.unballoon_requests)?;
    line(f, "hot_add_requests", &counters.hot_add_requests)?;
    line(f, "status_reports", &counters.reports)?;
    line(f, "messages_refused", &counters.refused)?;
    writeln!(f, "messages_ignored: {}", ignored)?;
    line(f, "messages_unsent", &counters.unsent)
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &Atomic<u64>) -> fmt::Result {
    writeln!(f, "{}: {}", name, value.load(Relaxed))
}
