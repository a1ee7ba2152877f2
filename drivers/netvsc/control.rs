// SPDX-License-Identifier: GPL-2.0

//! Messages that have an answer: NVSP messages, and RNDIS requests. One at a time.
//!
//! Nobody waits longer than [`ANSWER_TIMEOUT_MS`] for each of two things: the answer, and the host's
//! being done with the request before.

use crate::{
    connection::Connection,
    net::{HostPage, Mode},
    rx::refuse,
};
use kernel::{
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{Arc, Mutex, SpinLockIrq},
};
use netvsc_protocol::{
    exchange::{Exchange, Outcome},
    gpa::Pieces,
    inbound::{sent_status, Answer},
    link::{Event, EventError},
    nvsp::{Channel, Message, Version, STATUS_SUCCESS},
    offload::Offloads,
    query::{self, Filter},
    rndis::{self, Kind, MAX_REQUEST},
    rss,
    rx::MAX_CONTROL,
    ANSWER_TIMEOUT_MS,
};
use vmbus::{abstractions::Completion, OutgoingPacket};
use vmbus_protocol::{
    packet::{PacketFlags, PacketType},
    requests::RESERVED_IDS,
};

/// Transaction ids of NVSP messages and of RNDIS requests; they take turns, so that a late answer is
/// not taken for that to another message.
const MESSAGE_IDS: core::ops::Range<u64> = RESERVED_IDS..RESERVED_IDS + 8;
const REQUEST_IDS: core::ops::Range<u64> = RESERVED_IDS + 8..RESERVED_IDS + 12;

fn next_id(last: u64, ids: core::ops::Range<u64>) -> u64 {
    match last.checked_add(1) {
        Some(id) if ids.contains(&id) => id,
        _ => ids.start,
    }
}

/// What is waited for.
struct Waiting {
    /// Id of the present message, and of the last one.
    message: Option<u64>,
    last_message: u64,
    answer: Option<Answer>,
    /// Id of the request that the host has not completed.
    request: Option<u64>,
    last_request: u64,
}

/// Memory of who sends.
struct Line {
    request: KBox<[u8; MAX_REQUEST]>,
    answer: KBox<[u8; MAX_CONTROL]>,
    page: HostPage,
}

/// Messages that have an answer.
#[pin_data]
pub(crate) struct Control {
    /// Held by who sends.
    #[pin]
    line: Mutex<Line>,
    #[pin]
    waiting: SpinLockIrq<Waiting>,
    #[pin]
    exchange: SpinLockIrq<Exchange>,
    /// An NVSP message was answered, a request answered, a request completed; or the device died.
    #[pin]
    message_done: Completion,
    #[pin]
    answered: Completion,
    #[pin]
    completed: Completion,
}

impl Control {
    /// Nothing was sent.
    pub(crate) fn new() -> Result<impl PinInit<Self, Error>> {
        let line = Line {
            request: KBox::new([0; MAX_REQUEST], GFP_KERNEL)?,
            answer: KBox::new([0; MAX_CONTROL], GFP_KERNEL)?,
            page: HostPage::new()?,
        };

        Ok(try_pin_init!(Self {
            line <- new_mutex!(line),
            waiting <- new_spinlock_irq!(Waiting {
                message: None,
                last_message: 0,
                answer: None,
                request: None,
                last_request: 0,
            }),
            exchange <- new_spinlock_irq!(Exchange::new()),
            message_done <- Completion::new(),
            answered <- Completion::new(),
            completed <- Completion::new(),
        }))
    }

    /// Wakes whoever waits. Any context but NMI.
    pub(crate) fn wake(&self) {
        self.message_done.complete();
        self.answered.complete();
        self.completed.complete();
    }

    /// The host has let go of all memory. May sleep.
    pub(crate) fn end(&self) {
        self.waiting.lock().request = None;
        self.line.lock().page.give_back();
    }

    /// Sends a message that has no answer. Any context but NMI.
    pub(crate) fn tell(&self, connection: &Connection, message: &Message) -> Result {
        connection.sender()?.send_inband(message.bytes(), 0)
    }

    /// Sends a message and waits for its answer; `None` for one that makes no sense. May sleep.
    pub(crate) fn ask(&self, connection: &Connection, message: &Message) -> Result<Option<Answer>> {
        let _line = self.line.lock();
        let id = {
            let mut waiting = self.waiting.lock();
            let id = next_id(waiting.last_message, MESSAGE_IDS);

            while self.message_done.try_wait() {}
            waiting.last_message = id;
            waiting.message = Some(id);
            waiting.answer = None;
            id
        };
        let sent = connection.sender().and_then(|sender| {
            sender.send(&OutgoingPacket::inband(
                PacketFlags::COMPLETION_REQUESTED,
                id,
                &[message.bytes()],
            ))
        });
        // Whoever gives up after this look wakes us.
        let done = sent.is_ok()
            && !connection.is_dead()
            && self.message_done.wait_timeout(ANSWER_TIMEOUT_MS);
        let mut waiting = self.waiting.lock();
        let unanswered = waiting.message.take().is_some();

        sent?;
        match (done, unanswered) {
            (_, false) => Ok(waiting.answer.take()),
            (false, _) if !connection.is_dead() => Err(ETIMEDOUT),
            _ => Err(ENODEV),
        }
    }

    /// Sends a request, and gives its answer to `then`. May sleep.
    pub(crate) fn request<R>(
        &self,
        connection: &Connection,
        kind: Kind,
        build: impl FnOnce(&mut [u8], u32) -> Option<usize>,
        then: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        let mut line = self.line.lock();
        let line = &mut *line;

        while self.answered.try_wait() {}
        let id = self.exchange.lock().begin(kind);
        let len = build(&mut line.request[..], id);
        let result = self.post(connection, line, len).and_then(|()| {
            if connection.is_dead() {
                return Err(ENODEV);
            }
            if !self.answered.wait_timeout(ANSWER_TIMEOUT_MS) {
                return Err(ETIMEDOUT);
            }
            let exchange = self.exchange.lock();
            let answer = exchange.answer().ok_or(ENODEV)?;
            let copy = line.answer.get_mut(..answer.len()).ok_or(EMSGSIZE)?;

            copy.copy_from_slice(answer);
            Ok(answer.len())
        });

        self.exchange.lock().end();
        Ok(then(line.answer.get(..result?).unwrap_or(&[])))
    }

    /// Puts a request of `len` bytes where the host reads it, and tells it so.
    fn post(&self, connection: &Connection, line: &mut Line, len: Option<usize>) -> Result {
        let message = len
            .and_then(|len| line.request.get(..len))
            .ok_or(EMSGSIZE)?;

        self.wait_for_page(connection, &line.page)?;
        let phys = line.page.fill(message)?;
        let mut pieces = Pieces::new();
        let bytes = u32::try_from(message.len())?;

        pieces.push(phys, bytes).map_err(|_| EMSGSIZE)?;
        let id = {
            let mut waiting = self.waiting.lock();
            let id = next_id(waiting.last_request, REQUEST_IDS);

            while self.completed.try_wait() {}
            waiting.last_request = id;
            waiting.request = Some(id);
            id
        };
        let carrier = Message::rndis(Channel::Control, None);
        let packet = OutgoingPacket {
            packet_type: PacketType::DATA_USING_GPA_DIRECT,
            flags: PacketFlags::COMPLETION_REQUESTED,
            transaction_id: id,
            header: &[pieces.header()],
            payload: &[carrier.bytes()],
        };

        line.page.lend();
        let sent = connection.sender().and_then(|sender| sender.send(&packet));

        if sent.is_err() {
            self.waiting.lock().request = None;
            line.page.give_back();
        }
        sent
    }

    /// Waits until the host is done with the request before, if there is one. Its page is free then.
    fn wait_for_page(&self, connection: &Connection, page: &HostPage) -> Result {
        if self.waiting.lock().request.is_some() {
            if connection.is_dead() || !self.completed.wait_timeout(ANSWER_TIMEOUT_MS) {
                return Err(EBUSY);
            }
            if self.waiting.lock().request.is_some() {
                return Err(ENODEV);
            }
        }
        page.give_back();
        Ok(())
    }

    /// Sets which frames the host delivers. May sleep.
    pub(crate) fn set_filter(&self, connection: &Connection, filter: Filter) -> Result {
        let done = self.request(
            connection,
            Kind::SET,
            |buffer, id| query::set_filter(buffer, id, filter),
            rndis::was_set,
        )?;

        done.map_err(|_| EIO)
    }

    /// As [`Self::set_filter`], as the interface is set up now.
    pub(crate) fn apply_mode(&self, connection: &Connection, mode: Mode) -> Result {
        self.set_filter(
            connection,
            Filter::new(mode.promiscuous, mode.multicast, true),
        )
    }

    /// Sets the interface's address. May sleep.
    pub(crate) fn set_address(&self, connection: &Connection, address: [u8; 6]) -> Result {
        let done = self.request(
            connection,
            Kind::SET,
            |buffer, id| query::set_address(buffer, id, address),
            rndis::was_set,
        )?;

        done.map_err(|_| EIO)
    }

    /// Sets which offloads are in use. May sleep.
    pub(crate) fn set_offloads(
        &self,
        connection: &Connection,
        version: Version,
        offloads: Offloads,
    ) -> Result {
        let done = self.request(
            connection,
            Kind::SET,
            |buffer, id| offloads.set(buffer, id, version),
            rndis::was_set,
        )?;

        done.map_err(|_| EIO)
    }

    /// Sets how the host spreads frames over channels, or that it does not. May sleep.
    pub(crate) fn set_rss(
        &self,
        connection: &Connection,
        table: &[u16],
        key: &[u8; rss::KEY_LEN],
        off: bool,
    ) -> Result {
        let done = self.request(
            connection,
            Kind::SET,
            |buffer, id| rss::set(buffer, id, table, key, off),
            rndis::was_set,
        )?;

        done.map_err(|_| EIO)
    }

    /// Ends RNDIS, and takes the buffers back. May sleep. An error changes nothing: the channel is
    /// closed next.
    pub(crate) fn halt(&self, connection: &Connection) {
        let halted = {
            let mut line = self.line.lock();
            let line = &mut *line;
            let len = rndis::halt(&mut line.request[..], 0);

            self.post(connection, line, len)
                .and_then(|()| self.wait_for_page(connection, &line.page))
        };

        if halted.is_ok() {
            let _ = self.tell(connection, &Message::revoke_receive_buffer());
            let _ = self.tell(connection, &Message::revoke_send_buffer());
        }
    }

    /// A message of ours was completed. Softirq context.
    #[cold]
    pub(crate) fn on_completion(&self, connection: &Connection, id: u64, payload: &[u8]) {
        let mut waiting = self.waiting.lock();

        if waiting.message == Some(id) {
            let answer = Answer::parse(payload);

            waiting.message = None;
            waiting.answer = answer.ok();
            self.message_done.complete();
            drop(waiting);
            if let Err(error) = answer {
                refuse(connection, &error);
            }
        } else if waiting.request == Some(id) {
            waiting.request = None;
            // Who holds the line finds the page free.
            self.completed.complete();
            drop(waiting);
            match sent_status(payload) {
                Ok(STATUS_SUCCESS) => {}
                Ok(status) => refuse(connection, &format_args!("request: status {status}")),
                Err(error) => refuse(connection, &error),
            }
        } else {
            drop(waiting);
            refuse(connection, &format_args!("completion of {id:#x}"));
        }
    }

    /// A control message came. Softirq context.
    #[cold]
    pub(crate) fn on_message(&self, connection: &Arc<Connection>, message: &[u8]) {
        match Event::parse(message) {
            None => {
                let outcome = self.exchange.lock().on_message(message);

                match outcome {
                    Outcome::Answered => self.answered.complete(),
                    Outcome::Ignored => {
                        refuse(connection, &"a control message that answers nothing")
                    }
                }
            }
            Some(Ok(event)) => connection.on_link_event(event),
            Some(Err(EventError::Malformed)) => refuse(connection, &"malformed indication"),
            // Of no interest here.
            Some(Err(EventError::Unknown(_))) => {}
        }
    }
}
