// SPDX-License-Identifier: GPL-2.0

//! Scenarios with networks, on the patched QEMU.

pub(super) mod copybreak;
pub(super) mod faults;
pub(super) mod fragmented;
pub(super) mod link;
pub(super) mod migrate;
pub(super) mod mtu;
pub(super) mod ping;
pub(super) mod queues;
pub(super) mod reload;
pub(super) mod stack;
pub(super) mod tcp;
pub(super) mod timeout;
pub(super) mod two;
pub(super) mod unplug;
pub(super) mod versions;
pub(super) mod vlan;
pub(super) mod xdp;
