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
    if let Some(own) = channels.iter().position(|place| place.cpu == cpu) {
        return own;
    }
    let near = || {
        channels
            .iter()
            .enumerate()
            .filter(|(_, place)| place.node == node)
    };
    let count = near().count();
    usize::try_from(cpu)
        .unwrap_or(0)
        .checked_rem(count)
        .and_then(|slot| near().nth(slot))
        .map_or(0, |(index, _)| index)
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
