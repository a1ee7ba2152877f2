// SPDX-License-Identifier: GPL-2.0

//! Receiving packets from the host, in two parts: what runs when the host signals, and who takes
//! the packets.
//!
//! A driver that polls ([`Signal`]) is told in the interrupt and takes packets with its
//! [`Receiver`] when and where it likes. A [`Handler`] is called by the core for each packet: an
//! adapter, in which the core owns the receiver.

use super::{ChannelConfig, Sender};
use crate::{abstractions::Shown, memory::RingMap};
use kernel::{prelude::*, sync::atomic::Relaxed};
use vmbus_protocol::packet::PacketDescriptor;
use vmbus_ring::{Packet, ReadError, Reader};

/// Where a channel's handler runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CallbackContext {
    /// On a work queue: the handler may sleep.
    Process,
    /// In the interrupt itself, and after many packets in softirq context: lowest latency, must be
    /// short. The handler must not sleep, and takes only locks that disable interrupts. With
    /// `CONFIG_PREEMPT_RT` a thread for each CPU takes the interrupt's place; bottom halves are off
    /// in that of the Rust core, and on in that of the C core.
    Interrupt,
}

/// What a driver does with the packets of a channel.
///
/// [`Self::on_packet`] and [`Self::on_broken`] never run at the same time for one channel, and the
/// host does not interrupt while there are packets. None of the functions is called after the
/// channel is closed.
pub trait Handler: Send + Sync + 'static {
    /// Where it runs.
    const CONTEXT: CallbackContext = CallbackContext::Process;

    /// Takes one packet, a private copy that the host cannot change any more.
    fn on_packet(&self, sender: &Sender, packet: &Packet<'_>);

    /// The host corrupted the ring: nothing will be received or sent any more until the channel is
    /// closed and opened again.
    fn on_broken(&self) {}

    /// The host took the channel back: nothing can be sent any more, nobody waits for the host any
    /// longer, and the host has let go of all memory. The driver is unbound afterwards, which may
    /// have to wait for a `probe` that still runs.
    ///
    /// Process context. May run at the same time as the other functions; must return soon, and may
    /// not close the channel. Not called when the channel is closed before.
    fn on_rescind(&self) {}

    /// The host interrupts another CPU for the channel since a short while.
    ///
    /// As [`Self::on_rescind`].
    fn on_moved(&self) {}
}

/// What a driver that polls a channel does when the host signals.
///
/// None of the functions is called after the channel is closed.
pub trait Signal: Send + Sync + 'static {
    /// The host signalled: there are packets, or room in the outgoing ring.
    ///
    /// In the interrupt, as for [`CallbackContext::Interrupt`].
    /// The usual thing is to [mask](Line::mask) and to schedule who polls.
    fn on_event(&self, line: &Line<'_>);

    /// [`Handler::on_rescind`].
    fn on_rescind(&self) {}

    /// [`Handler::on_moved`].
    fn on_moved(&self) {}
}

/// The host's way to interrupt for a channel.
pub struct Line<'a>(pub(super) &'a RingMap);

impl Line<'_> {
    /// Asks the host not to signal until [`Receiver::unmask_and_check`].
    #[inline]
    pub fn mask(&self) {
        vmbus_ring::mask(self.0);
    }
}

/// The receiving side of a channel, for who takes the packets by itself.
///
/// It may outlive the channel: then there are no packets.
pub struct Receiver {
    pub(super) reader: Reader<RingMap>,
    pub(super) buffer: KVec<u8>,
    pub(super) sender: Sender,
}

impl Receiver {
    pub(super) fn new(
        reader: Reader<RingMap>,
        sender: Sender,
        config: &ChannelConfig<'_>,
    ) -> Result<Self> {
        Ok(Self {
            reader,
            buffer: KVec::from_elem(0, config.max_packet, GFP_KERNEL)?,
            sender,
        })
    }

    /// Takes the next packet, a private copy that the host cannot change any more; `None` when
    /// there is none.
    ///
    /// What is wrong with a packet is counted and reported here. After a
    /// [fatal](ReadError::is_fatal) error the ring is broken: nothing is received or sent any more.
    /// Any other skips the packet; it counts like one, or a host that sends nothing else keeps its
    /// guest busy for ever.
    // An iterator cannot lend what it yields.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, ReadError> {
        self.next_if(|_| true)
    }

    /// As [`Self::next`], if `wanted` says so of the packet's descriptor; otherwise the packet
    /// stays for another call, and there is none now.
    #[inline]
    pub fn next_if(
        &mut self,
        wanted: impl FnOnce(&PacketDescriptor) -> bool,
    ) -> Result<Option<Packet<'_>>, ReadError> {
        if self.sender.0.is_closing() {
            return Ok(None);
        }
        match self.reader.next_if(&mut self.buffer, wanted) {
            Err(error) => {
                report(&self.sender, &error);
                Err(error)
            }
            taken => taken,
        }
    }

    /// Gives the room of all packets taken so far back to the host, and signals a host that waits
    /// for it.
    #[inline]
    pub fn finish(&mut self) {
        if !self.sender.0.is_closing() {
            self.give_room();
        }
    }

    #[inline]
    pub(super) fn give_room(&mut self) {
        if self.reader.finish() {
            self.sender.0.channel.signal_room();
        }
    }

    /// Asks the host not to signal until [`Self::unmask_and_check`].
    #[inline]
    pub fn mask(&self) {
        self.reader.mask();
    }

    /// Asks for signals again and looks whether something came in since: then no signal announces
    /// it, so mask and take packets.
    #[inline]
    #[must_use = "true means that no signal will announce what is there"]
    pub fn unmask_and_check(&self) -> bool {
        !self.sender.0.is_closing() && self.reader.unmask_and_check()
    }

    /// Whether the host broke the ring.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.reader.is_broken()
    }
}

#[cold]
pub(super) fn report(sender: &Sender, error: &ReadError) {
    let channel = &sender.0.channel;

    channel.dropped.fetch_add(1u64, Relaxed);
    if channel.lines.allow_about(&channel.offer.instance) {
        pr_err!("{}: {}\n", Shown(&channel.offer.instance), Shown(error));
    }
    if error.is_fatal() {
        sender.0.on_broken();
    }
}
