// SPDX-License-Identifier: GPL-2.0

//! What the stack and `ethtool -S` show of the counters, under the names that the C driver has for
//! them.

use crate::{
    adapter::Adapter,
    net::Stats,
    status::{Counters, QueueCounters, Tally},
};
use kernel::{fmt, prelude::*};
use vmbus::abstractions::Counter;

/// A counter of the interface, and of a queue.
type OfInterface = fn(&Counters) -> &Counter;
type OfQueue = fn(&QueueCounters) -> &Tally;

/// The numbers of `ethtool -S`: first those of the interface, by name, then those of each queue.
const GLOBAL: [(&str, OfInterface); 11] = [
    ("tx_scattered", |c| &c.tx_scattered),
    ("tx_no_memory", |c| &c.tx_no_memory),
    ("tx_no_space", |c| &c.tx_no_space),
    ("tx_too_big", |c| &c.tx_too_big),
    ("tx_busy", |c| &c.tx_busy),
    ("tx_send_full", |c| &c.tx_send_full),
    ("rx_comp_busy", |c| &c.rx_comp_busy),
    ("rx_no_memory", |c| &c.rx_no_memory),
    ("stop_queue", |c| &c.stop_queue),
    ("wake_queue", |c| &c.wake_queue),
    ("vlan_error", |c| &c.vlan_error),
];

const QUEUE: [(&str, &str, OfQueue); 8] = [
    ("tx", "packets", |c| &c.tx_packets),
    ("tx", "bytes", |c| &c.tx_bytes),
    ("tx", "xdp_xmit", |c| &c.xdp_xmit),
    ("rx", "packets", |c| &c.rx_packets),
    ("rx", "bytes", |c| &c.rx_bytes),
    ("rx", "xdp_drop", |c| &c.xdp_drop),
    ("rx", "xdp_redirect", |c| &c.xdp_redirect),
    ("rx", "xdp_tx", |c| &c.xdp_tx),
];

/// How many numbers there are.
pub(crate) fn number_count(adapter: &Adapter) -> u32 {
    let count = adapter.tallies.len().saturating_mul(QUEUE.len());

    u32::try_from(count.saturating_add(GLOBAL.len())).unwrap_or(0)
}

/// Queue and place in its list of a number that is not one of the interface.
fn of_queue(index: usize) -> Option<(usize, usize)> {
    let index = index.checked_sub(GLOBAL.len())?;

    Some((
        index.checked_div(QUEUE.len())?,
        index.checked_rem(QUEUE.len())?,
    ))
}

/// Text that is cut off where there is no room for it.
struct Cut<'a>(&'a mut [u8]);

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let len = text.len().min(self.0.len());
        let (to, rest) = core::mem::take(&mut self.0).split_at_mut(len);

        to.copy_from_slice(text.as_bytes().get(..len).unwrap_or(&[]));
        self.0 = rest;
        Ok(())
    }
}

/// Writes the name of a number.
pub(crate) fn number_name(index: u32, to: &mut [u8]) {
    let index = index as usize;
    let mut to = Cut(to);
    let written = match (GLOBAL.get(index), of_queue(index)) {
        (Some((name, _)), _) => fmt::Write::write_str(&mut to, name),
        (None, Some((queue, place))) => match QUEUE.get(place) {
            Some((way, what, _)) => {
                fmt::Write::write_fmt(&mut to, fmt!("{}_queue_{}_{}", *way, queue, *what))
            }
            None => Ok(()),
        },
        (None, None) => Ok(()),
    };

    // Writing never fails.
    let _ = written;
}

/// A number.
pub(crate) fn number(adapter: &Adapter, index: u32) -> u64 {
    let index = index as usize;

    if let Some((_, counter)) = GLOBAL.get(index) {
        return counter(&adapter.counters).get();
    }
    of_queue(index)
        .and_then(|(queue, place)| {
            let counters = adapter.tallies.get(queue)?;
            let (_, _, tally) = QUEUE.get(place)?;

            Some(tally(counters).get())
        })
        .unwrap_or(0)
}

/// Sums of all queues.
pub(crate) fn stats(adapter: &Adapter) -> Stats {
    let counters = &adapter.counters;
    let mut sum = Stats {
        rx_dropped: counters.rx_no_memory.get(),
        rx_errors: counters.rx_refused.get(),
        tx_dropped: counters.tx_dropped(),
        ..Stats::default()
    };

    for queue in adapter.tallies.iter() {
        add(&mut sum, queue);
    }
    sum
}

/// Those of a queue.
pub(crate) fn queue_stats(adapter: &Adapter, queue: u32) -> Stats {
    let mut sum = Stats::default();

    if let Some(queue) = adapter.tallies.get(queue as usize) {
        add(&mut sum, queue);
    }
    sum
}

fn add(sum: &mut Stats, queue: &QueueCounters) {
    sum.rx_packets = sum.rx_packets.wrapping_add(queue.rx_packets.get());
    sum.rx_bytes = sum.rx_bytes.wrapping_add(queue.rx_bytes.get());
    sum.multicast = sum.multicast.wrapping_add(queue.multicast.get());
    sum.tx_packets = sum.tx_packets.wrapping_add(queue.tx_packets.get());
    sum.tx_bytes = sum.tx_bytes.wrapping_add(queue.tx_bytes.get());
}

/// Sums of the queues whose channel interrupts a CPU. May sleep.
pub(crate) fn cpu_stats(adapter: &Adapter, cpu: u32) -> Stats {
    let mut sum = Stats::default();
    let Some(connection) = adapter.connection.get() else {
        return sum;
    };

    connection.channels.lock().of_cpu(cpu, |queue| {
        if let Some(queue) = adapter.tallies.get(queue as usize) {
            add(&mut sum, queue);
        }
    });
    sum
}
