// SPDX-License-Identifier: GPL-2.0

//! Sending packets to the host.

use super::{requests::Requests, Channel};
use crate::{abstractions::Shown, memory::RingMap};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Full, Relaxed},
        Arc, SpinLockIrqGuard,
    },
};
use vmbus_protocol::packet::PacketFlags;
use vmbus_ring::{Outgoing, PagePacket, SendError, Sent, Writer};

/// What sending needs while a channel is open.
pub(super) struct Transmitter {
    pub(super) writer: Writer<RingMap>,
    pub(super) requests: Requests,
}

/// When the host is told about packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doorbell {
    /// At once, if it has to be told.
    Ring,
    /// By a later [`Sender::ring_doorbell`], or a later packet that rings. The host may find the
    /// packets by itself before.
    Defer,
}

/// Packets that are written into the ring and not yet visible to the host.
///
/// Dropping it without [`Self::commit`] leaves no trace of them.
pub struct Batch<'a> {
    packets: vmbus_ring::Batch<'a, RingMap>,
    signal: &'a mut bool,
}

impl Batch<'_> {
    /// Leaves `bytes` bytes of the ring free from now on; see [`vmbus_ring::Batch::keep_free`].
    #[inline]
    pub fn keep_free(&mut self, bytes: u32) {
        self.packets.keep_free(bytes);
    }

    /// Adds a packet. After an error the batch is as before.
    #[inline]
    pub fn push(&mut self, packet: &Outgoing<'_>) -> Result<(), SendError> {
        self.packets.push(packet)
    }

    /// Adds a packet that names guest memory; `runs` are the numbers of its 4 KiB pages. After an
    /// error the batch is as before.
    // Always, as what it calls.
    #[inline(always)]
    pub fn push_pages<const N: usize>(
        &mut self,
        packet: &PagePacket<'_, N>,
        runs: impl Iterator<Item = Range<u64>>,
    ) -> Result<(), SendError> {
        self.packets.push_pages(packet, runs)
    }

    /// Makes the packets visible to the host, all at once. It is told by [`Outbox::release`].
    #[inline]
    pub fn commit(self) {
        *self.signal |= self.packets.commit().signal;
    }
}

/// The outgoing ring of a channel, locked, with interrupts off. Nothing is slow here.
#[must_use = "the ring is locked"]
pub struct Outbox<'a> {
    channel: &'a Channel,
    tx: SpinLockIrqGuard<'a, Option<Transmitter>>,
    /// The host has to be told about packets.
    signal: bool,
}

impl Outbox<'_> {
    /// Starts to write packets; `ENODEV` when the channel is closed.
    #[inline]
    pub fn batch(&mut self) -> Result<Batch<'_>> {
        Ok(Batch {
            packets: (*self.tx).as_mut().ok_or(ENODEV)?.writer.batch(),
            signal: &mut self.signal,
        })
    }

    /// Unlocks the ring and tells the host about the packets, now or later.
    #[inline]
    pub fn release(self, doorbell: Doorbell) {
        let Self {
            channel,
            tx,
            signal,
        } = self;
        let owed = &channel.doorbell_owed;

        drop(tx);
        match (doorbell, signal) {
            // One doorbell is for all that was published before.
            (Doorbell::Ring, true) => {
                owed.store(false, Relaxed);
                channel.signal_host();
            }
            (Doorbell::Ring, false) => channel.ring_owed_doorbell(),
            (Doorbell::Defer, true) => owed.store(true, Relaxed),
            (Doorbell::Defer, false) => {}
        }
    }

    /// Unlocks the ring after a packet was refused, and does what the reason demands.
    #[cold]
    pub fn refuse(self, error: SendError) -> Error {
        let channel = self.channel;

        self.release(Doorbell::Ring);
        match error {
            SendError::Full { .. } => {
                channel.ring_full.fetch_add(1u64, Relaxed);
                EAGAIN
            }
            SendError::TooLarge => EMSGSIZE,
            SendError::PageCount { .. } => EINVAL,
            SendError::Corrupt { .. } => {
                pr_err!(
                    "{}: {}; channel given up\n",
                    Shown(&channel.offer.instance),
                    Shown(&error)
                );
                channel.mark_dead();
                EIO
            }
        }
    }
}

impl Channel {
    /// Rings the doorbell if that was deferred. Any context but NMI.
    #[inline]
    fn ring_owed_doorbell(&self) {
        // Who deferred sees its own store; if somebody else has taken it, that one rings.
        if self.doorbell_owed.load(Relaxed) && self.doorbell_owed.xchg(false, Full) {
            self.signal_host();
        }
    }
}

/// The sending side of a channel. Clones send on the same channel.
///
/// Outlives the channel: sending fails with `ENODEV` once it is closed or rescinded.
#[derive(Clone)]
pub struct Sender(pub(super) Arc<Channel>);

impl Sender {
    /// Sends one packet. Any context but NMI; the order of packets is that of the calls.
    ///
    /// - `ENODEV`: the channel is closed, rescinded or broken.
    /// - `EAGAIN`: the ring is full.
    /// - `EMSGSIZE`: the packet can never fit.
    /// - `EIO`: the host corrupted the ring; the channel is broken from now on.
    pub fn send(&self, packet: &Outgoing<'_>) -> Result {
        self.send_with(|tx| Ok(tx.writer.send(packet)))
    }

    /// Runs `write` with the ring locked and does what its outcome demands.
    pub(super) fn send_with(
        &self,
        write: impl FnOnce(&mut Transmitter) -> Result<Result<Sent, SendError>>,
    ) -> Result {
        let mut outbox = self.lock()?;

        match write((*outbox.tx).as_mut().ok_or(ENODEV)?)? {
            Ok(sent) => {
                outbox.signal = sent.signal;
                outbox.release(Doorbell::Ring);
                Ok(())
            }
            Err(error) => Err(outbox.refuse(error)),
        }
    }

    /// Locks the outgoing ring, to write packets and do something between that and their becoming
    /// visible to the host. Any context but NMI. `ENODEV` when the channel is rescinded or broken.
    #[inline]
    pub fn lock(&self) -> Result<Outbox<'_>> {
        let channel = &*self.0;

        if channel.dead.load(Relaxed) {
            return Err(ENODEV);
        }
        Ok(Outbox {
            channel,
            tx: channel.tx.lock(),
            signal: false,
        })
    }

    /// Tells the host about packets for which that was deferred. Any context but NMI.
    #[inline]
    pub fn ring_doorbell(&self) {
        self.0.ring_owed_doorbell();
    }

    /// Sends `payload` in band, without asking for a completion.
    ///
    /// `transaction_id` is for the host's log only. Errors as for [`Self::send`].
    pub fn send_inband(&self, payload: &[u8], transaction_id: u64) -> Result {
        self.send(&Outgoing::inband(
            PacketFlags::empty(),
            transaction_id,
            &[payload],
        ))
    }

    /// Whether packets can still be sent.
    pub fn is_alive(&self) -> bool {
        !self.0.dead.load(Relaxed)
    }
}
