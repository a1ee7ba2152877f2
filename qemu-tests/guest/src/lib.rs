// SPDX-License-Identifier: GPL-2.0

//! What the virtual machines run, and how they talk to the test harness.
//!
//! - [`protocol`]: the messages, shared with the harness;
//! - [`init`]: process 1 of the guest under test;
//! - [`level1`]: process 1 of level 1, the machine between the host and the
//!   guest where the host's own KVM has no Hyper-V support;
//! - [`fragment`]: a program of that guest, which leaves no large blocks of memory;
//! - [`verify_load`]: a program of that guest, which compares what it reads with what it wrote;
//! - [`verify_stream`]: the same for a connection between two network adapters;
//! - [`agent`]: starts a QEMU and carries its console, control line and monitor
//!   to the harness, in level 1 or, without one, on the host.

pub mod agent;
pub mod fragment;
pub mod init;
mod io_load;
mod latency;
pub mod level1;
mod look;
mod net_load;
pub mod protocol;
mod queue_stats;
mod scripted;
pub mod system;
mod uevent;
pub mod verify_load;
pub mod verify_stream;
mod window;
