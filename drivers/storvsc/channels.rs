// SPDX-License-Identifier: GPL-2.0

//! The channels of a device: the primary one, and its sub-channels as they come and go.

use crate::{end::not_done, inbox::Inbox, routes::reroute, shared::Shared};
use kernel::{prelude::*, sync::Arc};
use storvsc_protocol::HostByte;
use vmbus::{ChannelConfig, OpenChannel, Sender, SubChannel, SubChannels};

/// Number of the primary channel in the slots of commands.
pub(crate) const PRIMARY: u16 = 0;

/// Longest packet, in bytes: descriptor and packet, and some more that is not looked at.
const MAX_PACKET: usize = 256;

/// How a channel of the device is opened.
pub(crate) fn config(shared: &Shared) -> ChannelConfig<'static> {
    let bytes = shared.settings.ring_bytes as usize;

    ChannelConfig {
        send_bytes: bytes,
        recv_bytes: bytes,
        max_packet: MAX_PACKET,
        user_data: &[0; 24],
    }
}

/// A sub-channel in use.
struct Sub {
    relid: u32,
    /// Its number in the slots of commands.
    number: u16,
    channel: OpenChannel,
}

/// The channels, open or closed. Dropping closes them, one after the other.
pub(crate) struct Channels {
    subs: KVec<Sub>,
    primary: Option<OpenChannel>,
    /// Number of the newest sub-channel. Not used again soon, since late answers name it.
    last_number: u16,
}

impl Channels {
    /// No channels.
    pub(crate) const fn new() -> Self {
        Self {
            subs: KVec::new(),
            primary: None,
            last_number: PRIMARY,
        }
    }

    /// Takes them all out.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    fn all(&self) -> impl Iterator<Item = (u16, &OpenChannel)> {
        let subs = self.subs.iter().map(|sub| (sub.number, &sub.channel));
        let primary = self.primary.iter().map(|channel| (PRIMARY, channel));

        Iterator::chain(subs, primary)
    }

    /// Closes them, sub-channels first, and waits for the host's answers all at the same time. May
    /// sleep; allocates nothing.
    pub(crate) fn close(&self) {
        for (_, channel) in self.all() {
            channel.begin_close();
        }
        for (_, channel) in self.all() {
            let _ = channel.close();
        }
    }

    /// Of closed channels: whether the host has not given back the memory of the one with this
    /// number. Until it has, it may write to the data of the commands on it.
    pub(crate) fn withholds(&self, number: u16) -> bool {
        self.all()
            .filter(|(other, _)| *other == number)
            .filter_map(|(_, channel)| channel.close())
            .any(|memory| !memory.is_over())
    }

    /// Of closed channels: whether the host has not given back all memory.
    pub(crate) fn withhold_any(&self) -> bool {
        self.all().any(|(number, _)| self.withholds(number))
    }

    /// Opens the primary channel again, which was closed. May sleep. `ENODEV` when there is none,
    /// or it is rescinded.
    pub(crate) fn open_again(&self, shared: &Arc<Shared>) -> Result<OpenChannel> {
        let inbox = Arc::new(Inbox::new(shared.clone(), PRIMARY), GFP_KERNEL)?;
        let closed = self.primary.as_ref().ok_or(ENODEV)?;

        closed.open_again(inbox, &config(shared))
    }

    /// Keeps the primary channel.
    pub(crate) fn set_primary(&mut self, channel: OpenChannel) {
        self.primary = Some(channel);
    }

    /// Takes sub-channels from now on. `ENODEV` when the device is gone.
    pub(crate) fn accept_sub_channels(&self, acceptor: Arc<dyn SubChannels>) -> Result {
        self.primary
            .as_ref()
            .ok_or(ENODEV)?
            .accept_sub_channels(acceptor)
    }

    /// Sends on the primary channel, if it is open.
    pub(crate) fn primary_sender(&self) -> Option<Sender> {
        self.primary.as_ref().map(OpenChannel::sender)
    }

    /// The channels that commands can go out on, the primary one first. `ENODEV` when it is closed.
    pub(crate) fn in_use(&self) -> Result<impl Iterator<Item = (u16, &OpenChannel)>> {
        let primary = self.primary.as_ref().ok_or(ENODEV)?;
        let subs = self.subs.iter().map(|sub| (sub.number, &sub.channel));

        Ok(Iterator::chain(core::iter::once((PRIMARY, primary)), subs))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.subs.len().saturating_add(self.primary.iter().count())
    }

    /// A number that no channel in use has.
    fn next_number(&mut self) -> u16 {
        loop {
            self.last_number = self.last_number.wrapping_add(1);
            let number = self.last_number;

            if number != PRIMARY && self.subs.iter().all(|sub| sub.number != number) {
                return number;
            }
        }
    }
}

/// Takes the sub-channels of the device.
struct Acceptor(Arc<Shared>);

/// Who takes the sub-channels of the device.
pub(crate) fn acceptor(shared: &Arc<Shared>) -> Result<Arc<dyn SubChannels>> {
    Ok(Arc::new(Acceptor(shared.clone()), GFP_KERNEL)?)
}

impl Acceptor {
    fn open(&self, channel: &SubChannel) -> Result {
        let shared = &self.0;

        // Each has rings, and a place in the routes; a host may offer thousands.
        if !shared.init.lock().wants_sub_channel(channel.index()) {
            return Err(EINVAL);
        }
        let number = shared.channels.lock().next_number();
        let inbox = Arc::new(Inbox::new(shared.clone(), number), GFP_KERNEL)?;
        let sub = Sub {
            relid: channel.relid(),
            number,
            channel: channel.open(inbox, &config(shared))?,
        };
        let mut channels = shared.channels.lock();

        if channels.primary.is_none() {
            // The device is being ended; the lock goes before the channel does.
            drop(channels);
            return Err(ENODEV);
        }
        // Nor is it closed with the lock held when there is no memory to keep it.
        if let Err(error) = channels.subs.reserve(1, GFP_KERNEL) {
            drop(channels);
            return Err(error.into());
        }
        let _ = channels.subs.push_within_capacity(sub);
        drop(channels);
        reroute(shared)
    }
}

impl SubChannels for Acceptor {
    fn offered(&self, channel: SubChannel) {
        if let Err(error) = self.open(&channel) {
            if self.0.packet_lines.allow(&self.0.dev) {
                dev_warn!(
                    self.0.dev,
                    "sub-channel {} not used: {:?}\n",
                    channel.index(),
                    error
                );
            }
        }
    }

    fn rescinded(&self, relid: u32) {
        let shared = &self.0;
        let sub = {
            let mut channels = shared.channels.lock();
            let at = channels.subs.iter().position(|sub| sub.relid == relid);

            at.and_then(|at| channels.subs.remove(at).ok())
        };
        let Some(sub) = sub else {
            return;
        };
        let number = sub.number;

        // First the channel is closed: it takes nothing any more, and what is to be sent there goes
        // elsewhere. Then what was sent ends: the midlayer sends it again on another channel. New
        // routes come last, for they need memory, which may be waiting for these commands.
        drop(sub);
        shared.host.slots().take_all(
            |on| on == number,
            |command| {
                not_done(command, HostByte::Requeue);
                shared.counters.requeued.count();
            },
        );
        if reroute(shared).is_err() {
            shared.give_up();
        }
    }
}
