// SPDX-License-Identifier: GPL-2.0

//! Counters, and the files that show them: `hv-balloon-rust/status` in debugfs, and `hv-balloon`
//! for those who know the one of the C driver, with its lines and nothing else.
//!
//! The lines of the former are `name: value`. Those that the C driver has in its file have the same
//! names here.

use crate::{memory::withheld, pressure, reporting, session::Shared};
use balloon_protocol::{hot_add::Span, session::State, HV_PAGE_SIZE};
use kernel::{
    debugfs, fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// Most ranges of added memory that are shown.
const MAX_SPANS: usize = 16;

/// What happened since the device was bound.
pub(crate) struct Counters {
    /// Frames in the balloon now.
    pub(crate) ballooned: Atomic<u64>,
    /// Pages given to the host.
    pub(crate) pages_given: Atomic<u64>,
    /// Pages that the host returned.
    pub(crate) pages_returned: Atomic<u64>,
    /// Requests for pages that were served, or are.
    pub(crate) balloon_requests: Atomic<u64>,
    /// Messages that return pages.
    pub(crate) unballoon_requests: Atomic<u64>,
    /// Requests to add memory that were served, or are.
    pub(crate) hot_add_requests: Atomic<u64>,
    /// Requests that came while one of their kind was served.
    pub(crate) queued: Atomic<u64>,
    /// Pressure reports.
    pub(crate) reports: Atomic<u64>,
    /// Messages of the host that had no effect because of what is in them.
    pub(crate) refused: Atomic<u64>,
    /// Messages that could not be sent.
    pub(crate) unsent: Atomic<u64>,
    /// Hints about free memory that the host has taken.
    pub(crate) hints: Atomic<u64>,
    /// Pages in them.
    pub(crate) pages_reported: Atomic<u64>,
    /// Hints that the host has refused.
    pub(crate) hints_refused: Atomic<u64>,
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
            queued: Atomic::new(0),
            reports: Atomic::new(0),
            refused: Atomic::new(0),
            unsent: Atomic::new(0),
            hints: Atomic::new(0),
            pages_reported: Atomic::new(0),
            hints_refused: Atomic::new(0),
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

/// Creates the file that looks like the C driver's.
pub(crate) fn file_as_c<'a>(
    directory: &'a debugfs::Dir,
    shared: Arc<Shared>,
) -> impl PinInit<debugfs::File<Arc<Shared>>> + 'a {
    directory.read_callback_file(c"hv-balloon", shared, &show_as_c)
}

/// What both files have.
struct Common {
    version: u32,
    /// The C driver's number for the state, and its name.
    state: (u32, &'static str),
    added: u64,
    onlined: u64,
    committed: u64,
}

impl Common {
    fn of(shared: &Shared) -> Self {
        let (state, version, ballooning, hot_adding) = {
            let session = shared.session.lock();
            (
                session.state(),
                session.version(),
                session.is_ballooning(),
                session.is_hot_adding(),
            )
        };
        let state = match state {
            State::Ready if ballooning => (2, "Balloon Up"),
            State::Ready if hot_adding => (4, "Hot Add"),
            State::Ready => (1, "Initialized"),
            State::Failed(_) => (5, "Error"),
            _ => (0, "Initializing"),
        };
        let added = shared.added.as_ref();
        let (added, onlined) = added.map_or((0, 0), |added| added.added_and_onlined());

        Self {
            version,
            state,
            added,
            onlined,
            committed: pressure::now(shared).committed,
        }
    }
}

fn show_as_c(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let common = Common::of(shared);
    let counters = &shared.counters;
    let features = &shared.features;
    let (major, minor) = (common.version >> 16, common.version & 0xffff);
    let (number, name) = common.state;
    let balloon = if features.balloon { " enabled" } else { "" };
    // What is stated, as there.
    let hot_add = if features.states_hot_add() {
        " hot_add"
    } else {
        ""
    };

    writeln!(f, "host_version          : {}.{}", major, minor)?;
    writeln!(f, "capabilities          :{}{}", balloon, hot_add)?;
    writeln!(f, "state                 : {} ({})", number, name)?;
    writeln!(f, "page_size             : {}", HV_PAGE_SIZE)?;
    writeln!(f, "pages_added           : {}", common.added)?;
    writeln!(f, "pages_onlined         : {}", common.onlined)?;
    line(f, "pages_ballooned       ", &counters.ballooned)?;
    writeln!(f, "total_pages_committed : {}", common.committed)?;
    line(f, "max_dynamic_page_count", &counters.max_page_count)
}

fn show(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let counters = &shared.counters;
    let common = Common::of(shared);
    let ignored = shared.session.lock().ignored();
    let features = &shared.features;
    let capabilities = match (features.balloon, features.hibernation) {
        (true, false) if features.hot_add => "enabled hot_add",
        (true, false) => "enabled",
        (true, true) => "disabled (hibernation is possible)",
        (false, _) => "disabled (page size)",
    };
    let (major, minor) = (common.version >> 16, common.version & 0xffff);

    writeln!(f, "host_version: {}.{}", major, minor)?;
    writeln!(f, "capabilities: {}", capabilities)?;
    writeln!(f, "state: {}", common.state.1)?;
    writeln!(f, "page_size: {}", HV_PAGE_SIZE)?;
    writeln!(f, "pages_added: {}", common.added)?;
    writeln!(f, "pages_onlined: {}", common.onlined)?;
    line(f, "pages_ballooned", &counters.ballooned)?;
    writeln!(f, "total_pages_committed: {}", common.committed)?;
    line(f, "max_dynamic_page_count", &counters.max_page_count)?;
    line(f, "pages_given", &counters.pages_given)?;
    line(f, "pages_returned", &counters.pages_returned)?;
    writeln!(f, "pages_withheld: {}", withheld::frames())?;
    line(f, "balloon_requests", &counters.balloon_requests)?;
    line(f, "unballoon_requests", &counters.unballoon_requests)?;
    line(f, "hot_add_requests", &counters.hot_add_requests)?;
    line(f, "requests_queued", &counters.queued)?;
    line(f, "status_reports", &counters.reports)?;
    writeln!(f, "free_page_reporting: {}", reporting::state(shared))?;
    line(f, "hints", &counters.hints)?;
    line(f, "pages_reported", &counters.pages_reported)?;
    line(f, "hints_refused", &counters.hints_refused)?;
    line(f, "messages_refused", &counters.refused)?;
    writeln!(f, "messages_ignored: {}", ignored)?;
    line(f, "messages_unsent", &counters.unsent)?;
    if let Some(refused) = &*shared.last_refused.lock() {
        writeln!(f, "last_refused: {}", refused)?;
    }
    show_ranges(shared, f)
}

/// A line for each range of added memory.
fn show_ranges(shared: &Shared, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut spans: [Span; MAX_SPANS] = Default::default();
    let Some(added) = &shared.added else {
        return Ok(());
    };
    let (count, is_more) = added.spans(&mut spans);

    for span in spans.iter().take(count) {
        writeln!(
            f,
            "added: {:#x}-{:#x} {}",
            span.frames.start,
            span.frames.end,
            if span.is_online { "online" } else { "offline" }
        )?;
    }
    if is_more {
        writeln!(f, "added: more")?;
    }
    Ok(())
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &Atomic<u64>) -> fmt::Result {
    writeln!(f, "{}: {}", name, value.load(Relaxed))
}
