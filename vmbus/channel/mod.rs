// SPDX-License-Identifier: GPL-2.0

//! Channels: what an offer becomes, how a driver opens it, and how packets move.
//!
//! * What there is: the channel itself ([`object`]), all of them ([`table`]), how they come and go
//!   with their devices ([`offer`], [`release`]) and below them ([`sub`]; [`sub_channel`] is what
//!   drivers see), memory for those to come ([`stock`]), which CPU has their interrupts
//!   ([`affinity`]).
//! * While one is open: what a driver has of it ([`open`]), the open itself ([`session`]), its end
//!   ([`close`]), memory that the host was told about ([`gpadl`], [`buffer`]), and what the host
//!   does when the guest has given up waiting ([`late`]).
//! * Packets: [`send`], [`receive`], and what happens when the host signals ([`drain`]).
//!
//! The form of the crate on the C core has some of these files, too (`vmbus/on_c/channel/mod.rs`).

mod affinity;
mod buffer;
mod close;
mod drain;
pub(crate) mod gpadl;
pub(crate) mod late;
mod object;
pub(crate) mod offer;
mod open;
mod receive;
pub(crate) mod release;
mod send;
mod session;
pub(crate) mod stock;
mod sub;
mod sub_channel;
pub(crate) mod table;

pub(crate) use affinity::{evacuate, retarget};
pub use buffer::HostBuffer;
pub(crate) use close::forbid_open;
pub use gpadl::Lingering;
pub(crate) use object::{Channel, ATTACH};
pub(crate) use offer::take_everything_down;
pub use open::{ChannelConfig, OpenChannel};
pub use receive::{CallbackContext, Handler, Line, Receiver, Signal};
pub use send::{Batch, Doorbell, Sender, TxGuard};
pub(crate) use session::allow_open;
pub use sub_channel::{SubChannel, SubChannels};

use object::{ADD, FORGET, LATE, REMOVE};
