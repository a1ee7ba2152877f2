// SPDX-License-Identifier: GPL-2.0

//! Sub-channels as a driver sees them.
//!
//! What it gets is a token, [`SubChannel`]. It may open it at once, or, but on the C core, on work
//! of its own. A host that is slow with one device holds up the sub-channels of no other one.

use super::{
    open::{self, ChannelConfig, OpenChannel},
    receive::{Handler, Receiver, Signal},
    session::Session,
    Channel,
};
use kernel::{prelude::*, sync::Arc};

/// A sub-channel that was offered. It can be opened as long as the primary channel is open.
pub struct SubChannel {
    pub(super) channel: Arc<Channel>,
    /// The session of the primary channel in which it was announced.
    pub(super) primary: Arc<Session>,
}

impl SubChannel {
    /// Its number in messages; what [`SubChannels::rescinded`] names.
    pub fn relid(&self) -> u32 {
        self.channel.relid().raw()
    }

    /// Its index among the channels of the device; the primary channel has 0.
    pub fn index(&self) -> u16 {
        self.channel.offer.sub_channel_index
    }

    /// The CPU that the host interrupts for it.
    pub fn target_cpu(&self) -> u32 {
        self.channel.target_cpu()
    }

    /// Opens it. May sleep. Errors as for [`crate::Device::open`]; `ENODEV` also when the primary
    /// channel is closed; on the C core `ENODEV` or `EBUSY` after [`SubChannels::offered`].
    ///
    /// The driver drops the channel when it is rescinded. What is open when the primary channel is
    /// closed is closed with it.
    pub fn open<H: Handler>(
        &self,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<OpenChannel> {
        open::open(&self.channel, Some(&self.primary), handler, config)
    }

    /// As [`Self::open`], for a driver that takes its packets by itself.
    pub fn open_polled<S: Signal>(
        &self,
        signal: Arc<S>,
        config: &ChannelConfig<'_>,
    ) -> Result<(OpenChannel, Receiver)> {
        open::open_polled(&self.channel, Some(&self.primary), signal, config)
    }
}

/// What a driver does with the sub-channels of its device.
///
/// Process context, one call at a time, and none after the primary channel is closed.
pub trait SubChannels: Send + Sync + 'static {
    /// The host offers a sub-channel.
    fn offered(&self, channel: SubChannel);

    /// The host has taken the sub-channel `relid` back: drop it.
    fn rescinded(&self, relid: u32);
}
