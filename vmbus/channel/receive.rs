// SPDX-License-Identifier: GPL-2.0

//! Receiving packets from the host.

use super::{Channel, ChannelConfig, Sender};
use crate::{abstractions::Shown, memory::RingMap};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use vmbus_ring::{Packet, Reader};

/// Packets that one run of the work takes before it lets others run.
const PACKETS_PER_RUN: usize = 256;
/// Packets that an interrupt takes; the work goes on from there.
const PACKETS_PER_INTERRUPT: usize = 64;

/// Where a channel's handler runs.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Context {
    /// On a work queue: the handler may sleep.
    Process = 0,
    /// In softirq context: lower latency, must not sleep.
    Softirq = 1,
    /// In the interrupt itself, and after many packets in softirq context: lowest latency, must be
    /// short. The handler must not sleep, and takes only locks that disable interrupts. With
    /// `CONFIG_PREEMPT_RT` such locks may not be taken in interrupts: then as `Softirq`.
    Interrupt = 2,
}

impl Context {
    /// What the kernel allows of it.
    pub(super) const fn possible(self) -> Self {
        match self {
            Self::Interrupt if cfg!(CONFIG_PREEMPT_RT) => Self::Softirq,
            other => other,
        }
    }
}

/// Whether the host interrupts while packets are being handled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Interrupts are masked until the ring is empty: for channels with many packets.
    Batched,
    /// Interrupts stay on: for channels with one message at a time.
    Direct,
}

/// What a driver does with the packets of a channel.
///
/// The functions of one channel never run at the same time, and never after the channel is closed.
pub trait Handler: Send + Sync + 'static {
    /// Takes one packet, a private copy that the host cannot change any more.
    fn on_packet(&self, sender: &Sender, packet: &Packet<'_>);

    /// Called after a run of packets, when the ring is empty for now.
    fn on_idle(&self, sender: &Sender) {
        let _ = sender;
    }

    /// The host corrupted the ring: nothing will be received or sent any more. The device stays
    /// until the host takes it back or it is unbound.
    fn on_broken(&self) {}

    /// The host took the channel back: nothing can be sent any more, nobody waits for the host any
    /// longer, and the host has let go of all memory. The driver is unbound afterwards, which may
    /// have to wait for a `probe` that still runs.
    ///
    /// Process context. May run at the same time as the other functions; must return soon, and may
    /// not close the channel.
    fn on_rescind(&self) {}

    /// The host interrupts another CPU for the channel from now on.
    ///
    /// Process context, with CPU hotplug held off or the CPU's own hotplug under way, so it may not
    /// wait for that. May not close the channel.
    fn on_moved(&self) {}
}

/// A handler, as far as the channel's fate goes.
pub(super) trait Observer: Send + Sync {
    /// [`Handler::on_rescind`].
    fn rescinded(&self);

    /// [`Handler::on_moved`].
    fn moved(&self);
}

impl<H: Handler> Observer for H {
    fn rescinded(&self) {
        self.on_rescind();
    }

    fn moved(&self) {
        self.on_moved();
    }
}

/// What a run of the work left.
pub(super) enum Drained {
    /// Nothing; an interrupt announces the next packet.
    Empty,
    /// More packets, for another run.
    More,
}

/// The receiving side of an open channel, whatever its handler is.
///
/// One call through this table for each run of packets; inside of it the handler is known.
pub(super) trait Drain: Send {
    /// Takes packets until the ring is empty, or `budget` packets.
    fn drain(&mut self, sender: &Sender, budget: usize) -> Drained;

    /// Whether there are packets, now.
    fn has_data(&self) -> bool;
}

pub(super) struct Receiver<H: Handler> {
    reader: Reader<RingMap>,
    buffer: KVec<u8>,
    mode: ReadMode,
    handler: Arc<H>,
}

impl<H: Handler> Receiver<H> {
    /// A receiver as `config` wants it.
    pub(super) fn new(
        reader: Reader<RingMap>,
        config: &ChannelConfig<'_>,
        handler: Arc<H>,
    ) -> Result<Self> {
        Ok(Self {
            reader,
            buffer: KVec::from_elem(0, config.max_packet, GFP_KERNEL)?,
            mode: config.mode,
            handler,
        })
    }

    /// Takes up to `budget` packets; what is left of the budget, or `None` when the ring is broken.
    fn take_packets(&mut self, sender: &Sender, mut budget: usize) -> Option<usize> {
        while budget > 0 {
            match self.reader.next(&mut self.buffer) {
                Ok(Some(packet)) => self.handler.on_packet(sender, &packet),
                Ok(None) => break,
                Err(error) => {
                    let channel = &sender.0;

                    channel.dropped.fetch_add(1u64, Relaxed);
                    crate::ratelimited!(pr_err!(
                        "{}: {}\n",
                        Shown(&channel.offer.instance),
                        Shown(&error)
                    ));
                    if error.is_fatal() {
                        channel.mark_dead();
                        self.handler.on_broken();
                        return None;
                    }
                }
            }
            budget -= 1;
        }
        Some(budget)
    }
}

impl<H: Handler> Drain for Receiver<H> {
    fn has_data(&self) -> bool {
        self.reader.has_data()
    }

    fn drain(&mut self, sender: &Sender, mut budget: usize) -> Drained {
        if self.reader.is_broken() {
            return Drained::Empty;
        }

        loop {
            if self.mode == ReadMode::Batched {
                self.reader.mask();
            }
            match self.take_packets(sender, budget) {
                Some(left) => budget = left,
                None => return Drained::Empty,
            }
            if self.reader.finish() {
                sender.0.signal_host();
            }
            if budget == 0 {
                return Drained::More;
            }
            self.handler.on_idle(sender);
            let more = match self.mode {
                ReadMode::Batched => self.reader.unmask_and_check(),
                ReadMode::Direct => self.reader.has_data(),
            };

            if !more {
                return Drained::Empty;
            }
        }
    }
}

/// Handles the events of a channel. Runs as its work item, so never twice at the same time.
pub(super) fn run(channel: Arc<Channel>) {
    // The receiver is taken out, not borrowed: a handler may sleep, and the lock may not be held
    // meanwhile. Closing the channel waits for this work to end before it looks for the receiver.
    let Some(mut receiver) = channel.rx.lock().take() else {
        return;
    };
    let sender = Sender(channel);
    let drained = receiver.drain(&sender, PACKETS_PER_RUN);
    let channel = sender.0;
    // An interrupt that came when the receiver was not there has left its packets to this work.
    let missed = {
        let mut rx = channel.rx.lock();
        let receiver = rx.insert(receiver);

        channel.context.load(Relaxed) == Context::Interrupt as u32 && receiver.has_data()
    };

    if missed || matches!(drained, Drained::More) {
        channel.schedule_again();
    }
}

/// Handles an event of a channel in its interrupt.
pub(super) fn run_in_interrupt(channel: Arc<Channel>) {
    let sender = Sender(channel);
    let drained = {
        let mut rx = sender.0.rx.lock();
        // It is not there while the channel is closed, or the work is at it.
        let Some(receiver) = &mut *rx else {
            return;
        };

        receiver.drain(&sender, PACKETS_PER_INTERRUPT)
    };

    if let Drained::More = drained {
        sender.0.schedule_again();
    }
}
