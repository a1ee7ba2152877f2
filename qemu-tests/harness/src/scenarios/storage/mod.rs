// SPDX-License-Identifier: GPL-2.0

//! Scenarios with disks, on the patched QEMU.

pub(super) mod broken_ring;
pub(super) mod busy;
pub(super) mod comes_back;
pub(super) mod cpus;
pub(super) mod crash;
pub(super) mod few_queues;
pub(super) mod filesystem;
pub(super) mod fragmented;
pub(super) mod hostile;
pub(super) mod hostile_bus;
pub(super) mod hotplug;
pub(super) mod idle;
pub(super) mod isolated;
pub(super) mod late_answers;
pub(super) mod log;
pub(super) mod migrate;
pub(super) mod plug_and_cpu;
pub(super) mod probe;
pub(super) mod reload;
pub(super) mod reset;
pub(super) mod root;
pub(super) mod silent_move;
pub(super) mod soak;
pub(super) mod swap;
pub(super) mod unlisted;
pub(super) mod unplug;
pub(super) mod verify;
pub(super) mod withheld;
