// SPDX-License-Identifier: GPL-2.0

//! The callback interrupt: it spreads the host's events to channels, and has messages read.

use crate::{
    connection::{Connection, CONNECTION},
    hv::{self, synic::EVENT_WORDS},
};
use kernel::cpu::CpuId;
use vmbus_protocol::{synic::iter_set, Relid};

/// The callback interrupt: runs on the CPU that the host chose, with interrupts off; with
/// PREEMPT_RT in a thread that stays on that CPU.
pub(crate) extern "C" fn on_callback() {
    hv::interrupt::allow_locks_in_interrupt();
    CONNECTION.with(|connection| {
        let connection: &Connection = &connection;
        let cpu = CpuId::current();

        for word in 0..connection.channels.event_words().min(EVENT_WORDS) {
            let events = connection.synic.take_events(cpu, word);

            for bit in iter_set(events) {
                let relid = (word as u32).wrapping_mul(64).wrapping_add(bit);

                // Flags of unknown relids, say of an earlier kernel, are cleared and forgotten.
                connection
                    .channels
                    .with(Relid(relid), |channel| channel.on_event(connection));
            }
        }
        if connection
            .synic
            .slot(cpu)
            .is_some_and(|slot| slot.is_occupied())
        {
            connection.schedule_messages(cpu);
        }
    });
}
