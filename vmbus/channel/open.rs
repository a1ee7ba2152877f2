// SPDX-License-Identifier: GPL-2.0

//! How a driver opens a channel, and the handle of what it opened.

use super::{
    drain,
    gpadl::Lingering,
    receive::{CallbackContext, Handler, Receiver, Signal},
    session::Session,
    Channel, Sender,
};
use crate::bus::Device;
use kernel::{device::Bound, prelude::*, sync::Arc};

/// How a driver wants its channel.
pub struct ChannelConfig<'a> {
    /// Bytes of data in the outgoing ring; rounded up to whole pages.
    pub send_bytes: usize,
    /// Bytes of data in the incoming ring; rounded up to whole pages.
    pub recv_bytes: usize,
    /// Longest packet that the driver accepts, in bytes with its descriptor. Longer ones are
    /// skipped, counted and reported.
    pub max_packet: usize,
    /// Up to 120 bytes for the host's end of the channel.
    pub user_data: &'a [u8],
}

/// An open channel. Dropping closes it.
///
/// Dropping may sleep, and waits for the driver's functions that the channel calls to return: not
/// in one of them. What is still open when the driver has been unbound from the device is closed by
/// the core, so no code of the driver is called after that, whatever became of this handle.
pub struct OpenChannel(Arc<Session>);

impl Device<Bound> {
    /// Opens the primary channel of the device. May sleep.
    ///
    /// From before this returns the handler may be called. `EBUSY` when it is open already, or the
    /// host has neither answered a former attempt nor let go of the memory of it,
    /// `ENODEV` when it is rescinded, `EIO` when the host refuses, `ETIMEDOUT` when it does not
    /// answer, `EINVAL` for sizes or user data that make no sense.
    pub fn open<H: Handler>(
        &self,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<OpenChannel> {
        open(&self.bound_channel()?, None, handler, config)
    }

    /// Opens the primary channel of the device for a driver that takes its packets by itself.
    ///
    /// As [`Self::open`], with `signal` in place of the handler.
    pub fn open_polled<S: Signal>(
        &self,
        signal: Arc<S>,
        config: &ChannelConfig<'_>,
    ) -> Result<(OpenChannel, Receiver)> {
        open_polled(&self.bound_channel()?, None, signal, config)
    }
}

/// Opens a channel for a handler.
pub(super) fn open<H: Handler>(
    channel: &Arc<Channel>,
    primary: Option<&Arc<Session>>,
    handler: Arc<H>,
    config: &ChannelConfig<'_>,
) -> Result<OpenChannel> {
    let (open, ()) = Session::open(channel, primary, config, H::CONTEXT, |reader, sender| {
        Ok((drain::by_handler(reader, sender, config, handler)?, ()))
    })?;

    Ok(open)
}

/// Opens a channel for who polls it.
pub(super) fn open_polled<S: Signal>(
    channel: &Arc<Channel>,
    primary: Option<&Arc<Session>>,
    signal: Arc<S>,
    config: &ChannelConfig<'_>,
) -> Result<(OpenChannel, Receiver)> {
    Session::open(
        channel,
        primary,
        config,
        CallbackContext::Interrupt,
        |reader, sender| drain::by_polling(reader, sender, config, signal),
    )
}

impl OpenChannel {
    /// The handle of a session.
    pub(super) fn of(session: Arc<Session>) -> Self {
        Self(session)
    }

    /// The sending side.
    pub fn sender(&self) -> Sender {
        Sender(self.0.clone())
    }

    /// The CPU that the host interrupts for it.
    pub fn target_cpu(&self) -> u32 {
        self.0.channel.target_cpu()
    }

    /// Closes it, as dropping does; once.
    ///
    /// Returns what is left to the host if it does not confirm that it has let go of the channel's
    /// memory, and of all memory that packets on the channel named: until [`Lingering::is_over`]
    /// the host may still write there. May sleep, for a bounded time but on the C core, which waits
    /// for the host; allocates nothing.
    pub fn close(&self) -> Option<Lingering> {
        self.0.close()
    }

    /// Begins to close it: nothing of the driver is called any more, and the host is asked for the
    /// memory. Its answer is waited for by [`Self::close`]. May sleep.
    ///
    /// For a device with several channels, whose host may be silent: so all answers are waited for
    /// at the same time. Sub-channels first.
    pub fn begin_close(&self) {
        self.0.begin_close();
    }

    /// Opens the primary channel again that this was, which is closed. Errors as for
    /// [`Device::open`]; `ENODEV` also when the driver was unbound from the device.
    pub fn open_again<H: Handler>(
        &self,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<Self> {
        open(self.channel(), None, handler, config)
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.0
    }

    pub(super) fn channel(&self) -> &Arc<Channel> {
        &self.0.channel
    }
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        let _ = self.0.close();
    }
}
