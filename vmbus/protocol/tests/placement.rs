// SPDX-License-Identifier: GPL-2.0

//! Placement of channels on CPUs.

use proptest::prelude::*;
use vmbus_protocol::placement::{choose, Cpu, Placed};

/// Offers of channels by the name of their device, on CPUs whose nodes are given; where they go.
fn place(nodes: &[i32], devices: &str) -> Vec<(char, u32)> {
    let mut placed: Vec<(char, u32)> = Vec::new();
    for device in devices.chars() {
        let cpu = |number: u32| Cpu {
            number,
            node: nodes[number as usize],
        };
        let mut cpus = (0u32..).zip(nodes).map(|(number, _)| cpu(number));
        let others = placed.iter().map(|&(owner, number)| Placed {
            at: cpu(number),
            same_device: owner == device,
        });
        let chosen = choose(&mut cpus, others).expect("a CPU");
        placed.push((device, chosen));
    }
    placed
}

fn cpus_of(placed: &[(char, u32)], device: char) -> Vec<u32> {
    let own = placed.iter().filter(|(owner, _)| *owner == device);
    own.map(|&(_, cpu)| cpu).collect()
}

#[test]
fn no_cpu_is_no_choice() {
    let cpu = Cpu { number: 0, node: 0 };
    let one = Placed {
        at: cpu,
        same_device: true,
    };
    assert_eq!(choose(&mut std::iter::empty(), std::iter::once(one)), None);
}

/// A controller, an IDE disk, another controller with its sub-channel, and then those of the first:
/// by the number of channels alone, the first of them would go to the CPU of its primary channel.
#[test]
fn a_device_with_a_channel_for_each_cpu_has_one_on_each() {
    let placed = place(&[0; 4], "missmmm");
    let mut main = cpus_of(&placed, 'm');
    main.sort_unstable();
    assert_eq!(main, [0, 1, 2, 3]);
}

#[test]
fn devices_spread() {
    assert_eq!(cpus_of(&place(&[0; 3], "abc"), 'c'), [2]);
}

#[test]
fn nodes_take_turns() {
    let nodes = [0, 0, 1, 1];
    assert_eq!(cpus_of(&place(&nodes, "aaaa"), 'a'), [0, 2, 1, 3]);
}

proptest! {
    /// Whatever came before, no CPU has two channels of a device as long as another has none.
    #[test]
    fn channels_of_a_device_are_even(
        nodes in prop::collection::vec(0i32..3, 1..9),
        devices in "[a-d]{0,30}",
    ) {
        let placed = place(&nodes, &devices);
        for device in 'a'..='d' {
            let own = cpus_of(&placed, device);
            let on = |cpu: usize| own.iter().filter(|&&other| other as usize == cpu).count();
            let counts: Vec<_> = (0..nodes.len()).map(on).collect();
            let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            prop_assert!(spread <= 1, "{device}: {counts:?}");
        }
    }
}
