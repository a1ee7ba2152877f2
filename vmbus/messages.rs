// SPDX-License-Identifier: GPL-2.0

//! Reception of channel messages: taken from a CPU's SynIC slot, parsed, and handed to offers,
//! rescinds or the requests that wait for replies.

use crate::{
    abstractions::{Reclaim, Shown},
    channel,
    connection::{busy_wait, Connection, CONNECTION},
    counters,
    hv::{self, synic::Synic},
};
use kernel::{
    cpu::CpuId,
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    time::Delta,
    workqueue::{Work, WorkItem},
};
use vmbus_protocol::{
    message::{Inbound, MessageType},
    synic::{read_slot, release_slot, EndOfMessage, Message, SlotContent, HVMSG_CHANNEL},
};

/// Messages that one run of the work takes; more of them wait for another run, so that a host that
/// floods the guest cannot occupy a worker for ever.
const MESSAGES_PER_RUN: usize = 64;

/// Reads the message slot of one CPU, on that CPU.
#[pin_data]
pub(crate) struct MessageWork {
    cpu: CpuId,
    #[pin]
    work: Work<MessageWork>,
}

impl_has_work! {
    impl HasWork<Self> for MessageWork { self.work }
}

impl MessageWork {
    /// The work for the slot of `cpu`.
    pub(crate) fn new(cpu: CpuId) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                cpu,
                work <- new_work!("vmbus_messages"),
            }),
            GFP_KERNEL,
        )
    }
}

impl WorkItem for MessageWork {
    type Pointer = Arc<MessageWork>;

    fn run(this: Arc<MessageWork>) {
        let Some(connection) = CONNECTION.get() else {
            return;
        };
        // Memory may be waiting for the end of a disk, and that for a message that is still to be
        // read here: nothing here waits for memory, see `channel::stock`.
        let _reclaim = Reclaim::new();

        for _ in 0..MESSAGES_PER_RUN {
            match take_message(&connection, this.cpu) {
                Taken::Nothing => return,
                Taken::Message(message) => dispatch(&connection, &message),
                Taken::Oversized(size) => {
                    counters::BAD_MESSAGES.count();
                    crate::ratelimited!(pr_warn!(
                        "message of {} bytes dropped, at most 240 are allowed\n",
                        size
                    ));
                }
            }
        }
        connection.schedule_messages(this.cpu);
    }
}

#[allow(clippy::large_enum_variant)]
enum Taken {
    Nothing,
    Message(Message),
    Oversized(u8),
}

/// Takes the message out of the slot of `cpu` and frees the slot for the next one.
fn take_message(connection: &Connection, cpu: CpuId) -> Taken {
    let Some(slot) = connection.synic.slot(cpu) else {
        return Taken::Nothing;
    };
    let (taken, kind) = match read_slot(&slot) {
        SlotContent::Empty => return Taken::Nothing,
        SlotContent::Message(message) => {
            let kind = message.message_type();

            // While it is still in the slot: whoever polls in a crash finds it here or there, even
            // if this CPU is stopped in between.
            if is_unload_response(&message) {
                connection.note_unload_response();
            }
            (Taken::Message(message), kind)
        }
        SlotContent::Oversized {
            message_type,
            payload_size,
        } => (Taken::Oversized(payload_size), message_type),
    };

    if release_slot(&slot, kind) == EndOfMessage::Write {
        Synic::end_of_message();
    }
    taken
}

/// Parses a message and hands it on. Never waits for the host.
fn dispatch(connection: &Arc<Connection>, message: &Message) {
    if message.message_type() != HVMSG_CHANNEL {
        counters::BAD_MESSAGES.count();
        crate::ratelimited!(pr_warn!(
            "message of hypervisor type {:#x} ignored\n",
            message.message_type()
        ));
        return;
    }
    let inbound = match Inbound::parse(message.payload()) {
        Ok(inbound) => inbound,
        Err(error) => {
            counters::BAD_MESSAGES.count();
            crate::ratelimited!(pr_warn!("{}\n", Shown(&error)));
            return;
        }
    };

    match inbound {
        Inbound::Offer(offer) => channel::offer::on_offer(connection, offer),
        Inbound::Rescind { relid } => channel::offer::on_rescind(connection, relid),
        Inbound::AllOffersDelivered => connection.offers_done.complete_all(),
        Inbound::TlConnectResult(_) => {}
        Inbound::UnloadResponse => connection.on_unload_response(),
        reply => connection.on_reply(&reply),
    }
}

fn is_unload_response(message: &Message) -> bool {
    let wanted = MessageType::UnloadResponse.raw().to_le_bytes();

    message.message_type() == HVMSG_CHANNEL && message.payload().first_chunk() == Some(&wanted)
}

/// Waits for the answer to UNLOAD in a crash. Polls the slots of all CPUs, because those that are
/// stopped do not read theirs any more; one that is not may take the answer before this does.
pub(crate) fn poll_for_unload(connection: &Connection, timeout_ms: u32, notice_ms: u32) {
    const STEP_MS: u32 = 10;
    let mut waited = 0;

    while waited < timeout_ms {
        for cpu in hv::present_cpus() {
            // Whatever it is, nobody acts on it any more.
            let _ = take_message(connection, cpu);
        }
        if connection.has_unload_response() {
            return;
        }
        busy_wait(Delta::from_millis(i64::from(STEP_MS)));
        waited += STEP_MS;
        if waited % notice_ms == 0 {
            pr_notice!("Waiting for VMBus UNLOAD to complete\n");
        }
    }
    pr_err!("Continuing even though VMBus UNLOAD did not complete\n");
}
