// SPDX-License-Identifier: GPL-2.0

//! CPUs that come online and go: the SynIC of each is programmed and taken out of service, and the
//! host is asked to interrupt others before one goes.

use crate::{
    abstractions::{CpuHotplugOps, CpuHotplugState},
    channel,
    connection::{Connection, CONNECTION, CONNECT_CPU},
    hv::synic::{Synic, EVENT_WORDS},
};
use kernel::{
    cpu::CpuId,
    prelude::*,
    time::{delay, Delta},
};

/// SynIC state that follows CPU hotplug.
pub(crate) struct SynicHotplug;

static STATE: CpuHotplugState = CpuHotplugState::new();

impl CpuHotplugOps for SynicHotplug {
    const NAME: &'static CStr = c"hyperv/vmbus_rust:online";

    fn state() -> &'static CpuHotplugState {
        &STATE
    }

    fn startup(cpu: CpuId) -> Result {
        let connection = CONNECTION.get().ok_or(ENODEV)?;

        connection.synic.enable(cpu)?;
        connection.set_leaving_cpu(None);
        Ok(())
    }

    fn teardown(cpu: CpuId) -> Result {
        if let Some(connection) = CONNECTION.get() {
            connection.set_leaving_cpu(Some(cpu));
            if let Err(error) = leave(&connection, cpu) {
                connection.set_leaving_cpu(None);
                return Err(error);
            }
        }
        Synic::disable_this_cpu();
        Ok(())
    }
}

/// How often, and in what pauses, the events of a CPU are looked at before it goes offline.
const EVENT_TRIES: usize = 3;
const EVENT_PAUSE_MS: i64 = 10;

/// Has the host interrupt other CPUs instead of `cpu`, or says why that CPU has to stay.
///
/// The host cannot be told another CPU for messages, and hosts before protocol 5.3 do not say when
/// they have stopped to interrupt the old CPU of a channel.
fn leave(connection: &Connection, cpu: CpuId) -> Result {
    if !connection.needs_cpus() {
        return Ok(());
    }
    // While the connection ends, the host answers nothing else.
    if !connection.is_up() {
        return Err(EBUSY);
    }
    if cpu.as_u32() == CONNECT_CPU {
        pr_info!(
            "CPU {} receives the host's messages and stays online\n",
            CONNECT_CPU
        );
        return Err(EBUSY);
    }
    if channel::evacuate(connection, cpu).is_err() {
        pr_info!(
            "CPU {} receives a channel's interrupts and stays online\n",
            cpu.as_u32()
        );
        return Err(EBUSY);
    }
    // Events that were signalled before the host changed over are on their way.
    for _ in 0..EVENT_TRIES {
        if !(0..EVENT_WORDS).any(|word| connection.synic.has_events(cpu, word)) {
            return Ok(());
        }
        delay::fsleep(Delta::from_millis(EVENT_PAUSE_MS));
    }
    pr_info!(
        "CPU {} has unhandled events and stays online\n",
        cpu.as_u32()
    );
    Err(EBUSY)
}
