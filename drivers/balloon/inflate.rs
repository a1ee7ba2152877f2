// SPDX-License-Identifier: GPL-2.0

//! Giving memory to the host.

use crate::{
    memory::{self, MemInfo, Order},
    session::{Shared, INFLATE},
};
use balloon_protocol::{
    message::MAX_RANGES,
    policy::{balloon_target, floor_pages, Patience},
    range::PageRange,
    response::ResponseBuilder,
};
use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{atomic::Relaxed, Arc},
    time::{delay::fsleep, Delta},
    workqueue::WorkItem,
};
use vmbus::{abstractions::workqueue, ratelimited, Sender};

/// The most pages that are taken before the host hears of them: 256 MiB.
const MAX_MESSAGE_PAGES: u64 = 65_536;

/// How long the host waits for an answer without pages.
///
/// Nothing is gained by a quick one, and QEMU (up to 11.1 at least) cannot stand it: where the
/// request comes from its monitor, an answer that is there before it has finished sending makes it
/// abort.
const EMPTY_ANSWER_DELAY: Delta = Delta::from_millis(50);

/// Starts to serve a request for `pages` pages. With none, only the answer is given.
///
/// The session lets one request through at a time, and has the next one if the host does not wait
/// for answers, so there is none that this one could replace; only requests that are answered
/// without pages can follow each other faster, and may get one answer together.
pub(crate) fn request(shared: &Arc<Shared>, pages: u32) {
    *shared.request.lock() = Some(pages);

    // An error means that the work is about to run anyway, or that the device goes away.
    let _ = workqueue::system_dfl_long().enqueue::<_, INFLATE>(shared.clone());
}

impl WorkItem<INFLATE> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        let request = this.request.lock().take();

        if let (Some(pages), Some(sender)) = (request, this.sender()) {
            if let Some(next) = Inflation::new(&this, pages).run(&sender) {
                this.counters.balloon_requests.fetch_add(1, Relaxed);
                self::request(&this, next);
            }
        }
    }
}

/// A request of the host that is being served.
struct Inflation<'a> {
    shared: &'a Shared,
    /// What the guest keeps for itself. It would sink with the memory that is given away, so it is
    /// settled at the start.
    floor: u64,
    /// Pages still to be given.
    left: u64,
    /// Pages that the host has been told of.
    given: u64,
    /// The size to allocate next. Once there are no free pages of a size, larger ones are not
    /// tried again.
    order: Order,
}

/// How many of `wanted` pages to give.
///
/// At its floor, or where the administrator says so, the guest gives whole blocks only. The host
/// asks again and again there, and the rest of a block would gain it little but leave holes in the
/// guest's memory.
fn target(wanted: u64, memory: &MemInfo, floor: u64) -> u64 {
    let pages = balloon_target(wanted, memory.available, floor);
    let pages = memory::limits().give(pages, memory.total);

    if pages < wanted {
        pages & !(Order::BLOCK.pages() - 1)
    } else {
        pages
    }
}

impl<'a> Inflation<'a> {
    fn new(shared: &'a Shared, pages: u32) -> Self {
        let memory = MemInfo::now();
        let floor = floor_pages(memory.total, PAGE_SIZE as u32);
        let requested = u64::from(pages);
        let left = target(requested, &memory, floor);

        if left < requested {
            ratelimited!(dev_info!(
                shared.dev,
                "Balloon request will be partially fulfilled. {} ({} of {} pages)\n",
                if memory::limits().give(requested, memory.total) < requested {
                    "The limit never_below is reached."
                } else if memory.available < requested {
                    "Not enough memory."
                } else {
                    "Balloon floor reached."
                },
                left,
                requested
            ));
        }
        Self {
            shared,
            floor,
            left,
            given: 0,
            order: Order::BLOCK,
        }
    }

    /// Gives pages, in as many messages as it takes. The last message says that it is the last,
    /// whatever happened, also if it has no pages. Returns the request that came meanwhile.
    fn run(&mut self, sender: &Sender) -> Option<u32> {
        let shared = self.shared;
        let mut buffer = shared.response.lock();

        loop {
            let mut response = ResponseBuilder::new(&mut buffer);
            let more = self.fill(&mut response);

            let mut next = None;

            if !more {
                // Before the answer: the next request may be here before `send` returns.
                next = shared.session.lock().balloon_done();
                if self.given == 0 && response.pages() == 0 {
                    fsleep(EMPTY_ANSWER_DELAY);
                }
            }
            let id = shared.next_id();
            let result = shared.send(sender, response.finish(id, more), Patience::Answer);

            match result {
                Ok(()) => {
                    let pages = response.pages();
                    self.given = self.given.saturating_add(pages);
                    shared.counters.pages_given.fetch_add(pages, Relaxed);
                    if more {
                        continue;
                    }
                }
                Err(error) => {
                    self.give_up(&response, error);
                    if more {
                        shared.session.lock().balloon_done();
                    }
                    // There is no host that waits for it.
                    next = None;
                }
            }
            return next;
        }
    }

    /// Puts pages into a message. Returns whether there will be another one.
    fn fill(&mut self, response: &mut ResponseBuilder<'_>) -> bool {
        // Others may have taken memory since the last message.
        self.left = target(self.left, &MemInfo::now(), self.floor);

        while self.left > 0 && !self.shared.is_closing() {
            if response.range_count() >= MAX_RANGES || response.pages() >= MAX_MESSAGE_PAGES {
                return true;
            }
            let Some(range) = self.take() else {
                return false;
            };
            let pages = range.end.saturating_sub(range.start);
            let pushed = u32::try_from(pages)
                .ok()
                .and_then(|count| PageRange::new(range.start, count).ok())
                .is_some_and(|range| response.push(range).is_ok());

            if !pushed {
                // Frames that a message cannot name.
                self.put_back(core::iter::once(range));
                return false;
            }
            self.left = self.left.saturating_sub(pages);
        }
        false
    }

    /// Takes the largest piece of memory that there is, up to what is left to give.
    fn take(&mut self) -> Option<Range<u64>> {
        let mut order = self.order.min(Order::fitting(self.left)?);

        loop {
            let mut balloon = self.shared.balloon.lock();

            if let Some(range) = balloon.inflate(order) {
                let counters = &self.shared.counters;
                counters.ballooned.store(balloon.frames(), Relaxed);
                return Some(range);
            }
            drop(balloon);
            order = order.smaller()?;
            self.order = order;
        }
    }

    /// Deals with a message that did not get out: the host does not know of the pages, and they go
    /// back at once.
    fn give_up(&self, response: &ResponseBuilder<'_>, error: Error) {
        let shared = self.shared;

        self.put_back(response.ranges().iter().map(|range| {
            let start = range.start();
            start..start.saturating_add(range.count().into())
        }));
        if !shared.is_closing() {
            dev_err!(
                shared.dev,
                "Balloon response failed: {:?}, {} pages\n",
                error,
                response.pages()
            );
        }
    }

    fn put_back<I>(&self, ranges: I)
    where
        I: Iterator<Item = Range<u64>> + Clone,
    {
        let mut balloon = self.shared.balloon.lock();
        // Nobody but the host takes frames out, and it does not know these. If it guessed them it
        // has returned them, which is fine too.
        let _ = balloon.give_back(ranges);
        let counters = &self.shared.counters;

        counters.ballooned.store(balloon.frames(), Relaxed);
    }
}
