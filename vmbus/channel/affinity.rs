// SPDX-License-Identifier: GPL-2.0

//! The CPU that the host interrupts for a channel: its choice, and its change (MODIFYCHANNEL).

use super::Channel;
use crate::{
    abstractions::NoIo,
    connection::{Connection, CONNECT_CPU},
    hv,
};
use kernel::{cpu::CpuId, prelude::*, sync::Arc};
use vmbus_protocol::{
    affinity::{Affinity, ChangeEnd, NoChange},
    channel::{Leave, State},
    message::{ModifyChannel, Offer},
    offers::Properties,
    placement::{self, Cpu, Placed},
};
use zerocopy::IntoBytes;

/// Chooses the CPU of a channel, but not `leaving`: slow devices share the connect CPU, fast ones
/// spread over the CPUs that take device interrupts. `list` are the channels that there are.
///
/// A CPU that goes meanwhile may be chosen: see [`settle`].
pub(super) fn choose(
    list: &[Arc<Channel>],
    offer: &Offer,
    properties: Option<&Properties>,
    leaving: Option<u32>,
) -> u32 {
    if !is_fast(properties) {
        return CONNECT_CPU;
    }
    let mut cpus = hv::present_cpus()
        .filter(|&cpu| Some(cpu.as_u32()) != leaving && hv::takes_device_interrupts(cpu))
        .map(|cpu| Cpu {
            number: cpu.as_u32(),
            node: hv::node_of(cpu),
        });
    let placed = list
        .iter()
        .filter(|other| is_fast(other.properties.as_ref()))
        .map(|other| Placed {
            at: Cpu {
                number: other.target_cpu(),
                node: other.numa_node(),
            },
            same_device: other.offer.instance == offer.instance,
        });

    placement::choose(&mut cpus, placed).unwrap_or(CONNECT_CPU)
}

/// How often another CPU is chosen for a channel that is opened: CPUs go one after the other.
const CHOICES: usize = 8;

/// Chooses another CPU for a channel whose open has just begun, if its own is gone or about to go:
/// it is chosen when the channel is offered, and CPUs go without a word about channels that are not
/// in use.
///
/// Does not wait for CPU hotplug. A CPU that is about to go is marked before [`evacuate`] looks for
/// its channels, and the mark is looked at here after the channel has its CPU: one of the two sees
/// the other.
pub(super) fn settle(connection: &Connection, channel: &Channel) {
    for _ in 0..CHOICES {
        let cpu = channel.target_cpu();
        let online = CpuId::from_u32(cpu).is_some_and(hv::cpu_online);
        let leaving = connection.leaving_cpu();

        if online && leaving != Some(cpu) {
            return;
        }
        let other = connection
            .channels
            .look(|list| choose(list, &channel.offer, channel.properties.as_ref(), leaving));

        *channel.affinity.lock() = Affinity::new(other);
    }
}

fn is_fast(properties: Option<&Properties>) -> bool {
    let class = properties.and_then(|properties| properties.class);

    class.is_some_and(|class| class.perf_device)
}

/// Has the host interrupt `cpu` for an open channel from now on. May sleep.
///
/// CPU hotplug is held off by the caller. `EIO` when the protocol is older than 4.1, the channel is
/// not open, or the host refuses; `EBUSY` when the host has not said where it changed to before, or
/// owes too many answers; `EINVAL` for a CPU that is not online, or that the administrator isolated
/// from device interrupts (`isolcpus=managed_irq`). Before protocol 5.3 the host does not say when
/// it has changed over, and an interrupt may still come to the old CPU, where it is handled as
/// well.
pub(crate) fn retarget(connection: &Connection, channel: &Channel, cpu: CpuId) -> Result {
    if !hv::takes_device_interrupts(cpu) {
        return Err(EINVAL);
    }
    {
        // A close waits for this, and memory may be reclaimed by closing.
        let _noio = NoIo::new();
        // A close that came in between would leave the host without an answer.
        let _modifying = channel.modifying.lock();

        if channel.life.lock().state() != State::Open {
            return Err(EIO);
        }
        let change = match channel.affinity.lock().ask(cpu.as_u32()) {
            Ok(change) => change,
            Err(NoChange::Already) => return Ok(()),
            Err(NoChange::InDoubt) => return Err(EBUSY),
        };
        let result = ask_host(connection, channel, cpu);
        let end = match result {
            Ok(()) => ChangeEnd::Done,
            Err(error) if error == ETIMEDOUT => ChangeEnd::Unknown,
            Err(_) => ChangeEnd::Undone,
        };

        channel.affinity.lock().ended(change, end);
        result?;
    }
    let session = channel.session.lock().clone();

    if let Some(session) = session {
        session.on_moved(connection);
    }
    Ok(())
}

fn ask_host(connection: &Connection, channel: &Channel, cpu: CpuId) -> Result {
    let version = connection.version();
    let mut message = ModifyChannel::new(channel.relid(), hv::vp_index(cpu));
    let alive = || !channel.is_rescinded();
    let post = |message: &mut ModifyChannel| connection.post(message.as_bytes(), &alive);

    if !version.has_modify_channel() {
        return Err(EIO);
    }
    if !version.has_modify_channel_response() {
        return post(&mut message);
    }
    match connection.request(message, &alive, post)? {
        0 => Ok(()),
        _ => Err(EIO),
    }
}

/// Moves all channels away from a CPU that is about to go offline. May sleep.
///
/// `EBUSY` when the host cannot be told, or does not say that it has changed over.
pub(crate) fn evacuate(connection: &Connection, cpu: CpuId) -> Result {
    while let Some(channel) = connection.channels.first_on(cpu.as_u32()) {
        if !connection.version().has_modify_channel_response() {
            return Err(EBUSY);
        }
        let leaving = cpu.as_u32();
        let doubt = channel.affinity.lock().other_than(leaving);
        let other = doubt.unwrap_or_else(|| {
            connection.channels.look(|list| {
                choose(
                    list,
                    &channel.offer,
                    channel.properties.as_ref(),
                    Some(leaving),
                )
            })
        });
        let life = channel.life.lock();

        match life.leave() {
            // Under the lock, so that an open that begins names the new CPU.
            Leave::Free => *channel.affinity.lock() = Affinity::new(other),
            Leave::Wait => return Err(EBUSY),
            Leave::Ask => {
                drop(life);
                let other = CpuId::from_u32(other).ok_or(EBUSY)?;

                retarget(connection, &channel, other).map_err(|_| EBUSY)?;
            }
        }
    }
    Ok(())
}
