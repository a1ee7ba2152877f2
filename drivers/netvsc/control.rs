// SPDX-License-Identifier: GPL-2.0

//! Messages that have an answer: NVSP messages, and RNDIS requests. One at a time.
//!
//! Nobody waits longer than [`ANSWER_TIMEOUT_MS`] for each of two things: the answer, and the
//! host's being done with the request before. A host that takes longer is silent, until it answers,
//! if late: then only those wait whom nobody else waits for ([`Wait::Patient`]), and one of them
//! asks again and again.

use crate::{connection::Connection, net::HostPage, rx::refuse};
use kernel::{
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc, Mutex, SpinLockIrq,
    },
};
use netvsc_protocol::{
    exchange::{Exchange, Outcome},
    gpa::Pieces,
    inbound::{sent_status, Answer},
    link::{Event, EventError},
    nvsp::{Channel, Message, STATUS_SUCCESS},
    rndis::{self, Kind, MAX_REQUEST},
    rx::MAX_CONTROL,
    ANSWER_TIMEOUT_MS,
};
use vmbus::{abstractions::Completion, OutgoingPacket};
use vmbus_protocol::{
    packet::{PacketFlags, PacketType},
    requests::RESERVED_IDS,
};

/// Transaction ids of NVSP messages and of RNDIS requests; they take turns, so that a late answer
/// is not taken for that to another message.
const MESSAGE_IDS: core::ops::Range<u64> = RESERVED_IDS..RESERVED_IDS + 8;
const REQUEST_IDS: core::ops::Range<u64> = RESERVED_IDS + 8..RESERVED_IDS + 12;

fn next_id(last: u64, ids: core::ops::Range<u64>) -> u64 {
    match last.checked_add(1) {
        Some(id) if ids.contains(&id) => id,
        _ => ids.start,
    }
}

/// Who waits for a host that is known to be silent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not who holds what others need, as RTNL: the request fails at once.
    Brief,
    /// A work item.
    Patient,
}

/// Whether an error says that the host is silent, not what it thinks of a request.
pub(crate) fn is_silence(error: Error) -> bool {
    error == ETIMEDOUT || error == EBUSY || error == EAGAIN
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
    /// Held by who sends a message, which takes no memory; not for requests.
    #[pin]
    asking: Mutex<()>,
    #[pin]
    waiting: SpinLockIrq<Waiting>,
    #[pin]
    exchange: SpinLockIrq<Exchange>,
    /// A request was not answered in time, and none has been since.
    silent: Atomic<bool>,
    /// Nobody waits any longer for a host that is silent.
    hurried: Atomic<bool>,
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
            asking <- new_mutex!(()),
            waiting <- new_spinlock_irq!(Waiting {
                message: None,
                last_message: 0,
                answer: None,
                request: None,
                last_request: 0,
            }),
            exchange <- new_spinlock_irq!(Exchange::new()),
            silent: Atomic::new(false),
            hurried: Atomic::new(false),
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

    /// Wakes whoever waits; from now on nobody waits for a silent host. Any context but NMI.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Relaxed);
        self.wake();
    }

    /// Whether nobody is to wait for long, since the device goes.
    pub(crate) fn is_hurried(&self) -> bool {
        self.hurried.load(Relaxed)
    }

    /// Whether the host has not answered in time, and not since.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Relaxed)
    }

    /// The host has let go of all memory. May sleep.
    pub(crate) fn end(&self) {
        self.waiting.lock().request = None;
        self.line.lock().page.give_back();
    }

    /// Sends a message that has no answer. Any context but NMI.
    pub(crate) fn tell(&self, connection: &Connection, message: &Message) -> Result {
        connection.send(&OutgoingPacket::inband(
            PacketFlags::empty(),
            0,
            &[message.bytes()],
        ))
    }

    /// Sends a message and waits for its answer; `None` for one that makes no sense. May sleep.
    pub(crate) fn ask(&self, connection: &Connection, message: &Message) -> Result<Option<Answer>> {
        let _asking = self.asking.lock();

        self.ask_now(connection, message)
    }

    /// The same, for who holds `asking`.
    fn ask_now(&self, connection: &Connection, message: &Message) -> Result<Option<Answer>> {
        let id = {
            let mut waiting = self.waiting.lock();
            let id = next_id(waiting.last_message, MESSAGE_IDS);

            while self.message_done.try_wait() {}
            waiting.last_message = id;
            waiting.message = Some(id);
            waiting.answer = None;
            id
        };
        let sent = connection.send(&OutgoingPacket::inband(
            PacketFlags::COMPLETION_REQUESTED,
            id,
            &[message.bytes()],
        ));
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

    /// Sends a message that has no more of an answer than that it was done. May sleep, for one
    /// answer if [brief](Wait::Brief): `EBUSY` at once when another message is under way. `EPROTO`
    /// for an answer that says something.
    pub(crate) fn switch(&self, connection: &Connection, wait: Wait, message: &Message) -> Result {
        let _asking = match wait {
            Wait::Brief => self.asking.try_lock().ok_or(EBUSY)?,
            Wait::Patient => self.asking.lock(),
        };

        match self.ask_now(connection, message)? {
            Some(Answer::Done) => Ok(()),
            _ => Err(EPROTO),
        }
    }

    /// Sends a request, and gives its answer to `then`. May sleep. `ETIMEDOUT`, `EBUSY` or `EAGAIN`
    /// when the host is [silent](is_silence); then it is asked again for what is wanted of it until
    /// it answers.
    pub(crate) fn request<R>(
        &self,
        connection: &Connection,
        wait: Wait,
        kind: Kind,
        build: impl FnOnce(&mut [u8], u32) -> Option<usize>,
        then: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        self.may_wait(wait)?;
        let mut line = self.line.lock();
        let line = &mut *line;

        // Who had it has found out, maybe.
        self.may_wait(wait)?;
        let result = self
            .wait_for_page(connection, &line.page)
            .and_then(|()| {
                while self.answered.try_wait() {}
                let id = self.exchange.lock().begin(kind);
                let len = build(&mut line.request[..], id);

                self.post(connection, line, len)
                    .inspect_err(|_| self.exchange.lock().withdraw())
            })
            .and_then(|()| self.wait_for_answer(connection, &mut line.answer[..]));

        let newly_silent = {
            let mut exchange = self.exchange.lock();
            let answered = exchange.answer().is_some();

            exchange.end();
            // With the lock held: an answer that comes later finds it silent.
            !answered && result.is_err_and(is_silence) && !self.silent.xchg(true, Full)
        };

        if newly_silent {
            connection.on_silence();
        }
        Ok(then(line.answer.get(..result?).unwrap_or(&[])))
    }

    /// Whether somebody waits for the host.
    fn may_wait(&self, wait: Wait) -> Result {
        if self.is_silent() && (wait == Wait::Brief || self.hurried.load(Relaxed)) {
            return Err(ETIMEDOUT);
        }
        Ok(())
    }

    /// Waits for the answer to the present request. Returns its length.
    fn wait_for_answer(&self, connection: &Connection, to: &mut [u8]) -> Result<usize> {
        let in_time = !connection.is_dead() && self.answered.wait_timeout(ANSWER_TIMEOUT_MS);
        let exchange = self.exchange.lock();
        let Some(answer) = exchange.answer() else {
            // Or somebody wanted us to stop.
            let stopped = in_time || connection.is_dead();

            return Err(if stopped { ENODEV } else { ETIMEDOUT });
        };
        let to = to.get_mut(..answer.len()).ok_or(EMSGSIZE)?;

        to.copy_from_slice(answer);
        Ok(answer.len())
    }

    /// Puts a request of `len` bytes where the host reads it, which is free, and tells it so.
    fn post(&self, connection: &Connection, line: &mut Line, len: Option<usize>) -> Result {
        let message = len
            .and_then(|len| line.request.get(..len))
            .ok_or(EMSGSIZE)?;

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
        let sent = connection.send(&packet);

        if sent.is_err() {
            self.waiting.lock().request = None;
            line.page.give_back();
        }
        sent
    }

    /// Waits until the host is done with the request before, if there is one. Its page is free
    /// then.
    fn wait_for_page(&self, connection: &Connection, page: &HostPage) -> Result {
        if self.waiting.lock().request.is_some() {
            if connection.is_dead() {
                return Err(ENODEV);
            }
            if !self.completed.wait_timeout(ANSWER_TIMEOUT_MS) {
                return Err(EBUSY);
            }
            if self.waiting.lock().request.is_some() {
                return Err(ENODEV);
            }
        }
        page.give_back();
        Ok(())
    }

    /// Ends RNDIS, and takes the buffers back. May sleep. An error changes nothing: the channel is
    /// closed next.
    pub(crate) fn halt(&self, connection: &Connection) {
        let halted = {
            let mut line = self.line.lock();
            let line = &mut *line;
            let len = rndis::halt(&mut line.request[..], 0);

            self.wait_for_page(connection, &line.page)
                .and_then(|()| self.post(connection, line, len))
                .and_then(|()| self.wait_for_page(connection, &line.page))
        };

        if halted.is_ok() {
            let _ = self.tell(connection, &Message::revoke_receive_buffer());
            let _ = self.tell(connection, &Message::revoke_send_buffer());
        }
    }

    /// A message of ours was completed. Any context but NMI.
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
                let outcome = {
                    let mut exchange = self.exchange.lock();
                    let outcome = exchange.on_message(message);

                    // With the lock held: it is not left over for the next request.
                    if outcome == Outcome::Answered {
                        self.answered.complete();
                    }
                    outcome
                };

                if outcome == Outcome::Ignored {
                    return refuse(connection, &"a control message that answers nothing");
                }
                if self.silent.xchg(false, Full) {
                    connection.on_sound();
                }
            }
            Some(Ok(event)) => connection.on_link_event(event),
            Some(Err(EventError::Malformed)) => refuse(connection, &"malformed indication"),
            // Of no interest here.
            Some(Err(EventError::Unknown(_))) => {}
        }
    }
}
