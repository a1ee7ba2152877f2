// SPDX-License-Identifier: GPL-2.0

//! SCSI hosts: what `rust/kernel` lacks of the SCSI midlayer. The only part of the driver with
//! `unsafe` code; it knows nothing of VMBus.
//!
//! # Who owns a command
//!
//! ```text
//!   queuecommand ── Command ── map_dma ── Mapped ── publish ──┐
//!                      │                                      ▼
//!                      ├── busy: back to the midlayer     a slot in flight
//!                      └── complete                           │
//!                                     Completed ◄── take ─────┘
//!                                         └── finish
//! ```
//!
//! Each state is a type that the next step consumes, and `queuecommand` returns a [`QueueStatus`], which
//! only those steps make: a command is handed back, ended or published, and exactly one of them.
//!
//! A published command belongs to nobody: whoever takes it out of its slot owns it. There is one
//! slot for each tag of each hardware queue; taking is one compare-and-exchange, which needs the
//! transaction id with the generation of this use. So answers that are invented, repeated or late
//! find nothing, and so does one that is on its way when the command is taken for another reason.
//!
//!  * [`command`]: commands before they are published;
//!  * [`mapping`]: their data, as the device sees it;
//!  * [`slots`]: commands in flight, and their end;
//!  * [`host`]: the host's life, scanning, and its logical units;
//!  * [`ops`]: the callbacks;
//!  * [`params`]: module parameters, and how many CPUs there are.

mod command;
mod ffi;
mod host;
mod mapping;
mod ops;
mod params;
mod slots;

pub(crate) use self::{
    command::{Command, Mapped, QueueStatus},
    host::{Host, Limits, Unit},
    mapping::MapError,
    ops::{Operations, TimeoutAction},
    params::{cpus_online, cpus_present, node_of, Parameters},
    slots::Slots,
};
