// SPDX-License-Identifier: GPL-2.0

//! Which CPU the host is to interrupt for a channel.

/// A CPU that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Linux's number of the CPU.
    pub number: u32,
    /// NUMA node of the CPU; -1 where there are none.
    pub node: i32,
}

/// A channel that has its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where it is.
    pub at: Cpu,
    /// It is of the same device as the one that is to be placed.
    pub same_device: bool,
}

/// The CPU for a channel that shares the machine with the channels `placed`; `None` if there is no
/// CPU at all.
///
/// In this order: a CPU with the fewest channels of the same device, since two of them on one CPU
/// leave another CPU without any; with the fewest channels; of the node with the fewest channels;
/// the first. `drivers/hv/channel_mgmt.c:init_vp_index` has the same aims.
#[must_use]
pub fn choose(
    cpus: &mut dyn Iterator<Item = Cpu>,
    placed: impl Iterator<Item = Placed> + Clone,
) -> Option<u32> {
    cpus.min_by_key(|cpu| {
        let (mut of_device, mut on_cpu, mut on_node) = (0u32, 0u32, 0u32);

        for other in placed.clone().filter(|other| other.at.node == cpu.node) {
            let here = other.at.number == cpu.number;

            on_node = on_node.saturating_add(1);
            on_cpu = on_cpu.saturating_add(here.into());
            of_device = of_device.saturating_add((here && other.same_device).into());
        }
        (of_device, on_cpu, on_node)
    })
    .map(|cpu| cpu.number)
}
