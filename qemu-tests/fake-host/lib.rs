// SPDX-License-Identifier: GPL-2.0

//! A VMBus host without a VM.
//!
//! Everything a host shares with its guest (message slots, ring memory,
//! channel messages, balloon messages) as plain data that a script can fill
//! with anything, and a small guest that drives the pure crates the way the
//! kernel code does. The host's side is written against the wire formats and
//! shares no code with the crates under test.

#![forbid(unsafe_code)]

pub mod balloon;
pub mod fuzz;
pub mod guest;
pub mod host;
pub mod memory;
pub mod messages;
pub mod netvsc;
pub mod ring;
pub mod rng;
pub mod slot;
