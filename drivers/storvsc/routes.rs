// SPDX-License-Identifier: GPL-2.0

//! Which hardware queue, and which CPU, sends on which channel.

use crate::{
    params::{cpus_present, node_of},
    shared::Shared,
};
use kernel::{
    cpu::{nr_cpu_ids, CpuId},
    prelude::*,
    sync::Arc,
};
use storvsc_protocol::route::{home, is_queue_of_one_cpu, Place};
use vmbus::{abstractions::NoIo, Sender};

/// One channel that commands can go out on.
pub(crate) struct Route {
    pub(crate) sender: Sender,
    /// Its number in the slots of commands.
    pub(crate) number: u16,
}

/// What the callbacks of the midlayer work with. Made anew when a channel comes or goes.
pub(crate) struct Routes {
    pub(crate) shared: Arc<Shared>,
    pub(crate) channels: KVec<Route>,
    /// Where they are, in the same order.
    pub(crate) places: KVec<Place>,
    /// For each hardware queue the index of its channel; [`BY_CPU`] if there are fewer queues than
    /// CPUs.
    homes: KVec<usize>,
    /// For each CPU the index of its channel.
    homes_of_cpus: KVec<usize>,
    /// Bytes of an outgoing ring that stay free as long as another channel can be used.
    pub(crate) keep_free: u32,
}

/// Not the index of a channel: whoever sends has to look which CPU it is on.
const BY_CPU: usize = usize::MAX;

impl Routes {
    /// The index of the channel of a hardware queue, or of none: [`Self::home_of_cpu`].
    #[inline]
    pub(crate) fn home(&self, queue: u16) -> usize {
        self.homes.get(usize::from(queue)).copied().unwrap_or(0)
    }

    /// The index of the channel of this CPU.
    pub(crate) fn home_of_cpu(&self) -> usize {
        let cpu = CpuId::current().as_u32() as usize;

        self.homes_of_cpus.get(cpu).copied().unwrap_or(0)
    }

    /// Tells the host about the commands that were sent on a channel, as far as it was not told.
    #[inline]
    pub(crate) fn ring(&self, index: usize) {
        if let Some(route) = self.channels.get(index) {
            route.sender.ring_doorbell();
        }
    }
}

/// Makes the routes for the channels of now. May sleep.
///
/// Commands whose doorbell was deferred on a channel are announced here: the queue that sent them
/// may have another channel from now on.
pub(crate) fn reroute(shared: &Arc<Shared>) -> Result {
    // The end of the device takes the lock, and it may be what memory is waited for.
    let _noio = NoIo::new();
    let channels = shared.channels.lock();
    let mut routes = Routes {
        shared: shared.clone(),
        channels: KVec::new(),
        places: KVec::new(),
        homes: KVec::new(),
        homes_of_cpus: KVec::new(),
        keep_free: match channels.count() {
            0 | 1 => 0,
            _ => shared.settings.low_water,
        },
    };
    let place = |cpu| Place {
        cpu,
        node: node_of(cpu),
    };

    for (number, channel) in channels.in_use()? {
        routes.channels.push(
            Route {
                sender: channel.sender(),
                number,
            },
            GFP_KERNEL,
        )?;
        routes
            .places
            .push(place(channel.target_cpu()), GFP_KERNEL)?;
    }
    for cpu in 0..nr_cpu_ids() {
        let index = home(&routes.places, cpu, node_of(cpu));

        routes.homes_of_cpus.push(index, GFP_KERNEL)?;
    }
    let queues = shared.settings.queues;

    for queue in 0..queues as usize {
        let index = match routes.homes_of_cpus.get(queue) {
            Some(index) if is_queue_of_one_cpu(queues, cpus_present()) => *index,
            _ => BY_CPU,
        };

        routes.homes.push(index, GFP_KERNEL)?;
    }
    if let Some(old) = shared.host.publish(Arc::new(routes, GFP_KERNEL)?)? {
        for index in 0..old.channels.len() {
            old.ring(index);
        }
    }
    Ok(())
}
