// SPDX-License-Identifier: GPL-2.0

//! The CPU that the host interrupts for a channel: its choice, and its change (MODIFYCHANNEL).

use super::Channel;
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
    message::{ModifyChannel, Offer},
    offers::Properties,
    pending::{Reply, ReplyKey},
    placement::{self, Cpu, Placed},
};
use zerocopy::IntoBytes;

/// Chooses the CPU of a channel, but not `leaving`: slow devices share the connect CPU, fast ones
/// spread over the CPUs that take device interrupts. `list` are the channels that there are.
///
/// CPU hotplug is held off by the caller.
pub(super) fn choose(
    list: &[Arc<Channel>],
    offer: &Offer,
    properties: &Properties,
    leaving: Option<u32>,
) -> u32 {
    if !is_fast(properties) {
        return CONNECT_CPU;
    }
    let cpus = hv::present_cpus()
        .filter(|&cpu| Some(cpu.as_u32()) != leaving && hv::takes_device_interrupts(cpu))
        .map(|cpu| Cpu {
            number: cpu.as_u32(),
            node: hv::node_of(cpu),
        });
    let placed = list
        .iter()
        .filter(|other| is_fast(&other.properties))
        .map(|other| Placed {
            at: Cpu {
                number: other.target_cpu(),
                node: other.numa_node(),
            },
            same_device: other.offer.instance == offer.instance,
        });

    placement::choose(cpus, placed).unwrap_or(CONNECT_CPU)
}

fn is_fast(properties: &Properties) -> bool {
    properties.class.is_some_and(|class| class.perf_device)
}

/// Has the host interrupt `cpu` for an open channel from now on. May sleep.
///
/// CPU hotplug is held off by the caller. `EIO` when the protocol is older than 4.1, the channel is
/// not open, or the host refuses; `EINVAL` for a CPU that is not online, or that the administrator
/// isolated from device interrupts (`isolcpus=managed_irq`). Before protocol 5.3 the
/// host does not say when it has changed over, and an interrupt may still come to the old CPU,
/// where it is handled as well.
pub(crate) fn retarget(connection: &Connection, channel: &Channel, cpu: CpuId) -> Result {
    let version = connection.version();

    if !version.has_modify_channel() || channel.life.lock().state() != State::Open {
        return Err(EIO);
    }
    if !hv::takes_device_interrupts(cpu) {
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
        let leaving = Some(cpu.as_u32());
        let other = connection
            .channels
            .look(|list| choose(list, &channel.offer, &channel.properties, leaving));
        let other = CpuId::from_u32(other).ok_or(EBUSY)?;

        // A channel that is not open gets no interrupts; its next open names the new CPU.
        if channel.life.lock().state() == State::Open {
            retarget(connection, &channel, other).map_err(|_| EBUSY)?;
        } else {
            channel.target_cpu.store(other.as_u32(), Relaxed);
        }
    }
    Ok(())
}
