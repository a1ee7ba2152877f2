// SPDX-License-Identifier: GPL-2.0

//! The CPU that the host interrupts for a channel: its choice, and its change (MODIFYCHANNEL).

use super::{table::ChannelTable, Channel};
use crate::{
    connection::{Connection, CONNECT_CPU},
    hv,
};
use kernel::{
    cpu::CpuId,
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use vmbus_protocol::{
    channel::State,
    message::ModifyChannel,
    offers::Properties,
    pending::{Reply, ReplyKey},
};
use zerocopy::IntoBytes;

/// Chooses the CPU of a new channel: slow devices share the connect CPU, fast ones spread over the
/// CPUs that are online.
///
/// CPU hotplug is held off by the caller.
pub(super) fn choose(list: &[Arc<Channel>], properties: &Properties) -> u32 {
    if !properties.class.is_some_and(|class| class.perf_device) {
        return CONNECT_CPU;
    }
    hv::present_cpus()
        .filter(|&cpu| hv::cpu_online(cpu))
        .map(|cpu| cpu.as_u32())
        .min_by_key(|&cpu| ChannelTable::load_of(list, cpu))
        .unwrap_or(CONNECT_CPU)
}

/// Has the host interrupt `cpu` for an open channel from now on. May sleep.
///
/// CPU hotplug is held off by the caller. `EIO` when the protocol is older than 4.1, the channel is
/// not open, or the host refuses; `EINVAL` for a CPU that is not online. Before protocol 5.3 the
/// host does not say when it has changed over, and an interrupt may still come to the old CPU,
/// where it is handled as well.
pub(crate) fn retarget(connection: &Connection, channel: &Channel, cpu: CpuId) -> Result {
    let version = connection.version();

    if !version.has_modify_channel() || channel.life.lock().state() != State::Open {
        return Err(EIO);
    }
    if !hv::cpu_online(cpu) {
        return Err(EINVAL);
    }
    if channel.target_cpu() == cpu.as_u32() {
        return Ok(());
    }
    let relid = channel.relid();
    let message = ModifyChannel::new(relid, hv::vp_number(cpu));
    let post = || connection.post(message.as_bytes());

    if version.has_modify_channel_response() {
        let alive = || !channel.dead.load(Relaxed);
        let reply = connection.request(ReplyKey::Modify { relid }, alive, post)?;

        if reply != Reply::Status(0) {
            return Err(EIO);
        }
    } else {
        post()?;
    }
    channel.target_cpu.store(cpu.as_u32(), Relaxed);
    // Not under the lock: the driver takes locks of its own.
    let observer = channel.observer.lock().clone();

    if let Some(observer) = observer {
        observer.moved();
    }
    Ok(())
}

/// Moves all channels away from a CPU that is about to go offline. May sleep.
///
/// `EBUSY` when the host cannot be told, or does not say that it has changed over.
pub(crate) fn evacuate(connection: &Connection, cpu: CpuId) -> Result {
    while let Some(channel) = connection.channels.first_on(cpu.as_u32()) {
        if !connection.version().has_modify_channel_response() {
            return Err(EBUSY);
        }
        let other = hv::present_cpus()
            .find(|&other| other.as_u32() != cpu.as_u32() && hv::cpu_online(other))
            .ok_or(EBUSY)?;

        // A channel that is not open gets no interrupts; its next open names the new CPU.
        if channel.life.lock().state() == State::Open {
            retarget(connection, &channel, other).map_err(|_| EBUSY)?;
        } else {
            channel.target_cpu.store(other.as_u32(), Relaxed);
        }
    }
    Ok(())
}
