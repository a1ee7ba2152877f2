// SPDX-License-Identifier: GPL-2.0

//! Which channel a hardware queue sends on.

/// A channel, as far as the choice goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// CPU that the host interrupts for it.
    pub cpu: u32,
    /// NUMA node of that CPU.
    pub node: i32,
}

/// The channel for `cpu` in `node`, as an index into `channels`, whose first
/// entry is the primary channel.
///
/// In this order (`drivers/scsi/storvsc_drv.c:get_og_chn`): the one that
/// interrupts the CPU itself; one of the same node, spread by the CPU's
/// number; the primary one.
#[must_use]
pub fn home(channels: &[Place], cpu: u32, node: i32) -> usize {
    if let Some(own) = nth(channels, 0, |place| place.cpu == cpu) {
        return own;
    }
    let near = |place: &Place| place.node == node;
    let count = channels
        .iter()
        .filter(|place| near(place))
        .fold(0u32, |count, _| count.saturating_add(1));
    cpu.checked_rem(count)
        .and_then(|slot| nth(channels, slot, near))
        .unwrap_or(0)
}

/// Whether each of `queues` hardware queues is of one of `cpus` CPUs, whose
/// channel is then the queue's. Otherwise each command goes out on the channel
/// of the CPU that sends it (`storvsc_do_io`), so that few queues do not mean
/// few channels.
#[must_use]
pub const fn is_queue_of_one_cpu(queues: u32, cpus: u32) -> bool {
    queues >= cpus
}

/// The index of the channel that `wanted` accepts after it accepted `skip`.
fn nth(channels: &[Place], mut skip: u32, wanted: impl Fn(&Place) -> bool) -> Option<usize> {
    for (index, place) in (0usize..).zip(channels) {
        if wanted(place) {
            if skip == 0 {
                return Some(index);
            }
            skip = skip.saturating_sub(1);
        }
    }
    None
}

/// Where to try when channel `home` of `channels` is nearly full: the others
/// of its node first, then the rest, each round starting behind `home`.
pub fn alternatives(channels: &[Place], home: usize) -> impl Iterator<Item = usize> + '_ {
    let node = channels.get(home).map(|place| place.node);
    let round = move |near: bool| {
        let count = channels.len();
        (1..count)
            .filter_map(move |step| home.wrapping_add(step).checked_rem(count))
            .filter(move |index| (channels.get(*index).map(|place| place.node) == node) == near)
    };
    round(true).chain(round(false))
}
