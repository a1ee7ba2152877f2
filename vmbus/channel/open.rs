// SPDX-License-Identifier: GPL-2.0

//! Opening and closing a channel.

use super::{
    gpadl::Gpadl,
    offer,
    receive::{Context, Drain, Handler, Observer, ReadMode, Receiver},
    requests,
    send::Transmitter,
    sub, Channel, Sender, EVENT,
};
use crate::{
    abstractions::{workqueue, Shown},
    bus::Device,
    connection::{Connection, CONNECTION},
    hv,
    memory::RingPages,
};
use core::marker::PhantomData;
use kernel::{
    cpu::CpuId,
    device::Bound,
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use vmbus_protocol::{
    affinity::Affinity,
    channel::{CloseAction, LifeError, OpenOutcome},
    link::HostMemory,
    message::{CloseChannel, OpenChannel as OpenMessage, OpenParams},
    pending::{Reply, ReplyKey},
};
use vmbus_ring::{init_control, Reader, Writer};
use zerocopy::IntoBytes;

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
    /// Where the handler runs.
    pub context: Context,
    /// Whether the host interrupts while packets are being handled.
    pub mode: ReadMode,
    /// Requests with a completion that may be under way at the same time; see
    /// [`Sender::request`].
    pub max_requests: usize,
}

/// An open channel. Dropping closes it.
///
/// Dropping may sleep, and waits for the handler to return: not in the handler itself.
pub struct OpenChannel<'bound> {
    pub(super) channel: Arc<Channel>,
    ring: Arc<RingPages>,
    gpadl: Option<Gpadl>,
    _device: PhantomData<&'bound Device<Bound>>,
}

impl Device<Bound> {
    /// Opens the primary channel of the device. May sleep.
    ///
    /// From before this returns the handler may be called. `EBUSY` when it is open already,
    /// `ENODEV` when it is rescinded, `EIO` when the host refuses, `ETIMEDOUT` when it does not
    /// answer, `EINVAL` for sizes or user data that make no sense.
    pub fn open<'bound, H: Handler>(
        &'bound self,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<OpenChannel<'bound>> {
        OpenChannel::open(self.primary(), handler, config)
    }

    /// As [`Self::open`], for a channel that has to be closed from elsewhere when something goes
    /// wrong, say from a work item. The driver closes it before it is unbound all the same.
    pub fn open_detached<H: Handler>(
        &self,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<OpenChannel<'static>> {
        OpenChannel::open(self.primary(), handler, config)
    }
}

impl<'bound> OpenChannel<'bound> {
    /// The sending side.
    pub fn sender(&self) -> Sender {
        Sender(self.channel.clone())
    }

    /// The CPU that the host interrupts for it.
    pub fn target_cpu(&self) -> u32 {
        self.channel.target_cpu()
    }

    pub(super) fn open<H: Handler>(
        channel: &Arc<Channel>,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<Self> {
        let connection = CONNECTION.get().ok_or(ENODEV)?;

        channel.life.lock().open_begin().map_err(life_error)?;
        let result = Self::prepare(&connection, channel, handler, config).and_then(|this| {
            this.ask_host(&connection, config)?;
            Ok(this)
        });

        if result.is_err() {
            // Without effect when the host's answer has ended the attempt.
            let _ = channel.life.lock().open_abort();
        }
        result
    }

    /// Makes the rings, tells the host about them and gets ready for its events.
    fn prepare<H: Handler>(
        connection: &Connection,
        channel: &Arc<Channel>,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<Self> {
        let ring = Arc::new(
            RingPages::new(config.send_bytes, config.recv_bytes)?,
            GFP_KERNEL,
        )?;
        let (send, recv) = (RingPages::map_send(&ring)?, RingPages::map_recv(&ring)?);

        init_control(&send);
        init_control(&recv);
        let writer = Writer::new(send).map_err(|_| EINVAL)?;
        let reader = Reader::new(recv).map_err(|_| EINVAL)?;
        let observer: Arc<dyn Observer> = handler.clone();
        let receiver: KBox<dyn Drain> =
            KBox::new(Receiver::new(reader, config, handler)?, GFP_KERNEL)?;
        let transmitter = Transmitter {
            writer,
            requests: requests::new_table(config.max_requests)?,
        };
        let view = RingPages::map_recv(&ring)?;

        if channel.dead.load(Relaxed) {
            return Err(ENODEV);
        }
        // A channel can be dead for its rings' sake; only a rescind says something of the memory.
        let gpadl = Gpadl::create(connection, channel.relid(), ring.pages(), &|| {
            !channel.life.lock().is_rescinded()
        })?;

        channel
            .context
            .store(config.context.possible() as u32, Relaxed);
        *channel.tx.lock() = Some(transmitter);
        *channel.rx.lock() = Some(receiver);
        *channel.rx_view.lock() = Some(view);
        *channel.observer.lock() = Some(observer);
        Ok(Self {
            channel: channel.clone(),
            ring,
            gpadl: Some(gpadl),
            _device: PhantomData,
        })
    }

    fn ask_host(&self, connection: &Connection, config: &ChannelConfig<'_>) -> Result {
        let channel = &self.channel;
        let (relid, open_id) = (channel.relid(), connection.next_handle());
        let message = OpenMessage::new(&OpenParams {
            relid,
            open_id,
            ring_gpadl: self.gpadl.as_ref().ok_or(EINVAL)?.handle(),
            target_vp: CpuId::from_u32(channel.target_cpu()).map_or(0, hv::vp_number),
            downstream_page_offset: u32::try_from(self.ring.recv_offset())?,
            user_data: config.user_data,
        })
        .ok_or(EINVAL)?;
        let alive = || !channel.dead.load(Relaxed);
        let reply = connection.request(ReplyKey::Open { relid, open_id }, &alive, || {
            connection.post(message.as_bytes(), &alive)
        })?;
        let Reply::Status(status) = reply else {
            return Err(EPROTO);
        };

        match channel.life.lock().open_end(status).map_err(life_error)? {
            OpenOutcome::Opened => Ok(()),
            OpenOutcome::Failed { status } => {
                pr_err!(
                    "{}: the host refused to open the channel: status {:#x}\n",
                    Shown(&channel.offer.instance),
                    status
                );
                Err(EIO)
            }
        }
    }

    /// Ends what the host has of the channel.
    fn close_at_host(&mut self, connection: &Connection) {
        let channel = &self.channel;
        let action = {
            // Not while the host is asked for another CPU: it would not answer.
            let _modifying = channel.modifying.lock();

            channel.life.lock().close_begin()
        };
        let alive = || !channel.life.lock().is_rescinded();
        let memory = if alive() {
            connection.host_memory()
        } else {
            HostMemory::LetGo
        };

        if action == Ok(CloseAction::Post) && memory == HostMemory::Ask {
            let close = CloseChannel::new(channel.relid());

            if let Err(error) = connection.post(close.as_bytes(), &alive) {
                pr_err!(
                    "{}: not closed: {:?}\n",
                    Shown(&channel.offer.instance),
                    error
                );
            }
        }
        if let Some(gpadl) = self.gpadl.take() {
            gpadl.tear_down(connection, self.ring.pages(), memory, &alive);
        }
        let target = channel.target_cpu();

        *channel.affinity.lock() = Affinity::new(target);
        let _ = channel.life.lock().close_end();
    }
}

impl Drop for OpenChannel<'_> {
    fn drop(&mut self) {
        let channel = self.channel.clone();

        if let Some(connection) = CONNECTION.get() {
            // Sub-channels go first; the driver's acceptor owns them.
            sub::stop(&connection, &channel);
        }
        let observer = channel.observer.lock().take();

        drop(observer);
        // Whatever is taken out of a lock is dropped after the lock is released: unmapping sleeps.
        let transmitter = channel.tx.lock().take();

        drop(transmitter);
        workqueue::disable_sync::<Channel, EVENT>(&channel);
        let receiver = channel.rx.lock().take();

        drop(receiver);
        let view = channel.rx_view.lock().take();

        drop(view);
        match CONNECTION.get() {
            Some(connection) => {
                self.close_at_host(&connection);
                offer::release(&connection, &channel);
            }
            None => self.ring.pages().leak(),
        }
        workqueue::enable::<Channel, EVENT>(&channel);
    }
}

fn life_error(error: LifeError) -> Error {
    match error {
        LifeError::Rescinded | LifeError::Removed => ENODEV,
        LifeError::BadState { .. } => EBUSY,
    }
}
