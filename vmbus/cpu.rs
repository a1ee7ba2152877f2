// SPDX-License-Identifier: GPL-2.0

//! What happens on each CPU: its SynIC is programmed when it comes online and taken out of service
//! when it goes, and its interrupts are spread to channels and to the reading of messages.

use crate::{
    abstractions::{CpuHotplugOps, CpuHotplugState},
    connection::{Connection, CONNECTION, CONNECT_CPU},
    hv::synic::{Synic, EVENT_WORDS},
};
use kernel::{cpu::CpuId, prelude::*, sync::Arc};
use vmbus_protocol::synic::iter_set;

/// SynIC state that follows CPU hotplug.
pub(crate) struct SynicHotplug;

static STATE: CpuHotplugState = CpuHotplugState::new();

impl CpuHotplugOps for SynicHotplug {
    const NAME: &'static CStr = c"hyperv/vmbus_rust:online";

    fn state() -> &'static CpuHotplugState {
        &STATE
    }

    fn startup(cpu: CpuId) -> Result {
        CONNECTION.get().ok_or(ENODEV)?.synic.enable(cpu)
    }

    fn teardown(cpu: CpuId) -> Result {
        if let Some(connection) = CONNECTION.get() {
            may_go_offline(&connection, cpu)?;
        }
        Synic::disable_this_cpu();
        Ok(())
    }
}

/// Whether `cpu` can do without the interrupts of the host.
///
/// The host cannot be told another CPU for messages, and hosts before protocol 5.3 do not say when
/// they have stopped to interrupt the old CPU of a channel, so a CPU in use stays.
fn may_go_offline(connection: &Connection, cpu: CpuId) -> Result {
    if !connection.is_connected() {
        return Ok(());
    }
    if cpu.as_u32() == CONNECT_CPU {
        pr_info!(
            "CPU {} receives the host's messages and stays online\n",
            CONNECT_CPU
        );
        return Err(EBUSY);
    }
    if connection.channels.uses_cpu(cpu.as_u32()) {
        pr_info!(
            "CPU {} receives a channel's interrupts and stays online\n",
            cpu.as_u32()
        );
        return Err(EBUSY);
    }
    Ok(())
}

/// The callback interrupt: runs on the CPU that the host chose, with interrupts off.
pub(crate) extern "C" fn interrupt() {
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
                    .with(relid, |channel| Arc::from(channel).on_event(connection));
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
