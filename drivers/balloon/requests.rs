// SPDX-License-Identifier: GPL-2.0

//! What to do about a message of the host.

use crate::{hot_add, inflate, memory::BadRange, session::Shared};
use balloon_protocol::{
    hot_add::Answer,
    message::{Unballoon, UnballoonResponse},
    policy::{hot_add_result, Patience},
    range::{check_set, with_pages, RangeLimits, SetError, WireRange},
    session::{Action, Owed},
    Inbound, MessageError,
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
            shared.session.lock().on_bad_packet();
            return;
        }
        match Inbound::parse(packet.payload()) {
            Ok(message) => {
                let action = shared.session.lock().on_message(&message);
                self.act(sender, action);
            }
            Err(error) => {
                let owed = shared.session.lock().on_bad_message(&error);

                self.refuse(Refused::Message(error));
                match owed {
                    Some(Owed::Balloon) => inflate::request(&self.0, 0),
                    Some(Owed::Unballoon) => self.answer_unballoon(sender),
                    Some(Owed::HotAdd { later }) => self.answer_no_pages(sender, later),
                    None => {}
                }
            }
        }
    }

    fn on_broken(&self) {
        self.0.channel_lost();
    }

    fn on_rescind(&self) {
        // Whoever waits for an answer waits in vain, and long work is of no use any more.
        self.0.close();
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
            Action::AnswerEmptyBalloon => {
                counters.balloon_requests.fetch_add(1, Relaxed);
                inflate::request(&self.0, 0);
            }
            Action::Unballoon(request) => {
                counters.unballoon_requests.fetch_add(1, Relaxed);
                self.deflate(sender, &request);
            }
            Action::RefuseUnballoon { respond } => {
                counters.unballoon_requests.fetch_add(1, Relaxed);
                counters.refused.fetch_add(1, Relaxed);
                if respond {
                    self.answer_unballoon(sender);
                }
            }
            Action::HotAdd(request) => {
                counters.hot_add_requests.fetch_add(1, Relaxed);
                hot_add::request(&self.0, request);
            }
            Action::RefuseHotAdd { log } => {
                counters.hot_add_requests.fetch_add(1, Relaxed);
                self.decline_hot_add(sender, log);
            }
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
            Action::Wait => {
                counters.queued.fetch_add(1, Relaxed);
                ratelimited!(dev_warn!(
                    shared.dev,
                    "the host has not waited for an answer: its request is the next one\n"
                ));
            }
            Action::Ignore(reason) => {
                ratelimited!(dev_warn!(shared.dev, "message ignored: {:?}\n", reason));
            }
        }
    }

    /// Takes back what the host returns.
    ///
    /// All ranges of the message are checked before the first page is freed; one bad range, and the
    /// message has no effect. The last message of a request is answered even then: there is no way
    /// to say no, and a host that gets no answer waits for ever.
    fn deflate(&self, sender: &Sender, request: &Unballoon<'_>) {
        let shared = &*self.0;
        let result = check_set(request.ranges, &RangeLimits::default())
            .map_err(Refused::Set)
            .and_then(|_| {
                let mut balloon = shared.balloon.lock();
                let ranges = with_pages(request.ranges).map(|(_, range)| frames(range));
                let result = balloon.give_back(ranges);

                shared.counters.ballooned.store(balloon.frames(), Relaxed);
                result.map_err(Refused::Frames)
            });

        match result {
            Ok(pages) => {
                shared.counters.pages_returned.fetch_add(pages, Relaxed);
                dev_dbg!(shared.dev, "{} pages returned\n", pages);
            }
            Err(refused) => self.refuse(refused),
        }
        if !request.more_pages {
            self.answer_unballoon(sender);
        }
    }

    /// Says that a message was refused, and keeps why for the file in debugfs.
    fn refuse(&self, refused: Refused) {
        let shared = &*self.0;

        shared.counters.refused.fetch_add(1, Relaxed);
        ratelimited!(dev_warn!(shared.dev, "{}\n", Shown(&refused)));
        *shared.last_refused.lock() = Some(refused);
    }

    fn answer_unballoon(&self, sender: &Sender) {
        let message = UnballoonResponse::new(self.0.next_id());

        let _ = self.0.send(sender, message.as_bytes(), Patience::Answer);
    }

    /// Says that memory cannot be added, now or later. A host that was told so does not ask, unless
    /// the guest may hibernate, when it has to be told something else.
    fn decline_hot_add(&self, sender: &Sender, log: bool) {
        let shared = &*self.0;

        if log {
            dev_info!(shared.dev, "the host cannot add memory: it was told so\n");
        }
        self.answer_no_pages(sender, false);
    }

    /// Says that no page was added, and whether some may be later.
    fn answer_no_pages(&self, sender: &Sender, later: bool) {
        let answer = Answer {
            pages: 0,
            result: hot_add_result(0, later),
        };
        // An error means that nobody waits for it.
        let _ = hot_add::answer(&self.0, sender, answer);
    }
}

/// Why a message had no effect.
pub(crate) enum Refused {
    /// It makes no sense.
    Message(MessageError),
    /// What it returns makes no sense.
    Set(SetError),
    /// It returns what it does not have.
    Frames(BadRange),
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Message(error) => write!(f, "message refused: {}", error),
            Self::Set(error) => write!(f, "return of pages refused: {}", error),
            Self::Frames(BadRange::NotOurs { start, end }) => write!(
                f,
                "return of pages refused: frames {:#x} to {:#x} were not all given away",
                start, end
            ),
            Self::Frames(BadRange::Twice { start, end }) => write!(
                f,
                "return of pages refused: frames {:#x} to {:#x} are named twice",
                start, end
            ),
        }
    }
}

/// The frames of a range that [`check_set`] has seen.
fn frames(range: &WireRange) -> Range<u64> {
    let start = range.start();

    start..start.saturating_add(range.count().into())
}
