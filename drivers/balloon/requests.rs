// SPDX-License-Identifier: GPL-2.0

//! What to do about a message of the host.

use crate::{inflate, memory::BadRange, session::Shared};
use balloon_protocol::{
    message::{HotAddResponse, Unballoon, UnballoonResponse},
    policy::{hot_add_result, Patience},
    range::{check_set, RangeLimits, SetError, WireRange},
    session::Action,
    Inbound,
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use vmbus::{abstractions::Shown, ratelimited, Handler, Packet, Sender};
use vmbus_protocol::packet::PacketType;

/// Takes the packets of the channel.
pub(crate) struct Requests(pub(crate) Arc<Shared>);

impl Handler for Requests {
    fn on_packet(&self, sender: &Sender, packet: &Packet<'_>) {
        let shared = &*self.0;

        if packet.packet_type() != PacketType::DATA_INBAND {
            shared.session.lock().on_bad_message();
            return;
        }
        match Inbound::parse(packet.payload()) {
            Ok(message) => {
                let action = shared.session.lock().on_message(&message);
                self.act(sender, action);
            }
            Err(error) => {
                shared.session.lock().on_bad_message();
                shared.counters.refused.fetch_add(1, Relaxed);
                ratelimited!(dev_warn!(
                    shared.dev,
                    "message refused: {}\n",
                    Shown(&error)
                ));
            }
        }
    }

    fn on_broken(&self) {
        self.0.channel_lost();
    }
}

impl Requests {
    fn act(&self, sender: &Sender, action: Action<'_>) {
        let shared = &*self.0;
        let counters = &shared.counters;

        match action {
            Action::SendVersion { .. }
            | Action::SendCapabilities
            | Action::Start
            | Action::Fail(_) => shared.negotiation_step(sender, action),
            Action::Balloon { page_count } => {
                counters.balloon_requests.fetch_add(1, Relaxed);
                inflate::request(&self.0, page_count);
            }
            Action::AnswerEmptyBalloon { log } => {
                counters.balloon_requests.fetch_add(1, Relaxed);
                self.say_why_not(log);
                inflate::request(&self.0, 0);
            }
            Action::Unballoon(request) => {
                counters.unballoon_requests.fetch_add(1, Relaxed);
                self.deflate(sender, &request);
            }
            Action::RefuseUnballoon { respond, log } => {
                counters.unballoon_requests.fetch_add(1, Relaxed);
                counters.refused.fetch_add(1, Relaxed);
                self.say_why_not(log);
                if respond {
                    self.answer_unballoon(sender);
                }
            }
            // Not stated in `Features`, so the session never asks for it.
            Action::HotAdd(_) => self.decline_hot_add(sender, false),
            Action::RefuseHotAdd { log } => self.decline_hot_add(sender, log),
            Action::MaxPageCount { pages, log } => {
                if log {
                    ratelimited!(dev_info!(
                        shared.dev,
                        "Max. dynamic memory size: {} MB\n",
                        pages >> (20 - 12)
                    ));
                }
                counters.max_page_count.store(pages, Relaxed);
            }
            Action::Ignore(reason) => {
                ratelimited!(dev_warn!(shared.dev, "message ignored: {:?}\n", reason));
            }
        }
    }

    /// Says once why the host gets no memory.
    fn say_why_not(&self, log: bool) {
        if !log {
            return;
        }
        dev_info!(
            self.0.dev,
            "the host gets no memory: {}\n",
            if self.0.features.hibernation {
                "the guest may hibernate (ACPI S4), and the host would forget the balloon"
            } else {
                "the pages of this kernel are larger than 4 KiB"
            }
        );
    }

    /// Takes back what the host returns.
    ///
    /// All ranges of the message are checked before the first page is freed; one bad range, and the
    /// message has no effect. The last message of a request is answered even then: there is no way
    /// to say no, and a host that gets no answer waits for ever.
    fn deflate(&self, sender: &Sender, request: &Unballoon<'_>) {
        let shared = &*self.0;
        let result = check_set(request.ranges, &RangeLimits::default())
            .map_err(Bad::Set)
            .and_then(|_| {
                let mut balloon = shared.balloon.lock();
                let result = balloon.give_back(request.ranges.iter().map(frames));

                shared.counters.ballooned.store(balloon.frames(), Relaxed);
                result.map_err(Bad::Frames)
            });

        match result {
            Ok(pages) => {
                shared.counters.pages_returned.fetch_add(pages, Relaxed);
                dev_dbg!(shared.dev, "{} pages returned\n", pages);
            }
            Err(bad) => {
                shared.counters.refused.fetch_add(1, Relaxed);
                ratelimited!(self.report(&bad));
            }
        }
        if !request.more_pages {
            self.answer_unballoon(sender);
        }
    }

    fn report(&self, bad: &Bad) {
        let dev = &self.0.dev;

        match bad {
            Bad::Set(error) => dev_warn!(dev, "return of pages refused: {}\n", Shown(error)),
            Bad::Frames(BadRange::NotOurs { start, end }) => dev_warn!(
                dev,
                "return of pages refused: frames {:#x} to {:#x} were not all given away\n",
                start,
                end
            ),
            Bad::Frames(BadRange::Twice { start, end }) => dev_warn!(
                dev,
                "return of pages refused: frames {:#x} to {:#x} are named twice\n",
                start,
                end
            ),
        }
    }

    fn answer_unballoon(&self, sender: &Sender) {
        let message = UnballoonResponse::new(self.0.next_id());

        let _ = self.0.send(sender, message.as_bytes(), Patience::Answer);
    }

    /// Says that memory cannot be added, now or later.
    fn decline_hot_add(&self, sender: &Sender, log: bool) {
        let shared = &*self.0;

        shared.counters.hot_add_requests.fetch_add(1, Relaxed);
        if log {
            dev_info!(shared.dev, "adding memory is not supported; declined\n");
        }
        let message = HotAddResponse::new(shared.next_id(), 0, hot_add_result(0, false));
        let _ = shared.send(sender, message.as_bytes(), Patience::Answer);
    }
}

/// Why nothing of a message is taken back.
enum Bad {
    Set(SetError),
    Frames(BadRange),
}

/// The frames of a range that [`check_set`] has seen.
fn frames(range: &WireRange) -> Range<u64> {
    let start = range.start();

    start..start.saturating_add(range.count().into())
}
