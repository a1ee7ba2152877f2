// SPDX-License-Identifier: GPL-2.0

//! SCSI hosts: what `rust/kernel` lacks of the SCSI midlayer. A driver implements [`Operations`],
//! and makes a [`Host`] for itself.
//!
//! Of VMBus it uses `RcuArc` and nothing else, which knows nothing of VMBus either. What is fixed
//! in the host template of `shim.c`, which all hosts share, are the wishes of this driver: the name
//! that users see (the C driver's), 2048 commands of a unit, pieces of data that only begin and end
//! a list within a page of 4 KiB, no WRITE SAME, and units whose list is asked for and whose VPD
//! pages are read whatever standard they claim. For another driver those would have to become
//! arguments.
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
//! Each state is a type that the next step consumes, and `queuecommand` returns a [`QueueStatus`],
//! which only those steps make: a command is handed back, ended or published, and exactly one of
//! them.
//!
//! A published command belongs to nobody: whoever takes it out of its slot owns it. There is one
//! slot for each tag of each hardware queue; taking is one compare-and-exchange, which needs the
//! transaction id with the generation of this use. So answers that are invented, repeated or late
//! find nothing, and so does one that is on its way when the command is taken for another reason.
//!
//!  * [`command`]: commands before they are published;
//!  * [`mapping`]: their data, as the device sees it;
//!  * [`slots`]: commands in flight, and their end; [`tags`]: their transaction ids;
//!  * [`host`]: the host's life, scanning, and its logical units; [`unit`]: those that are being
//!    set up;
//!  * [`ops`]: the callbacks of a driver.

mod command;
mod ffi;
mod host;
mod mapping;
mod ops;
mod slots;
// A pure crate compiles it, too.
#[allow(unreachable_pub)]
mod tags;
mod unit;

pub(crate) use self::{
    command::{Command, Mapped, QueueStatus},
    host::{Address, Host, Limits},
    mapping::MapError,
    ops::{Operations, TimeoutAction},
    slots::{Completed, End},
    unit::Unit,
};
