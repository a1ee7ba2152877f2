// SPDX-License-Identifier: GPL-2.0

//! Sending packets to the host.

use super::{requests::Requests, Channel};
use crate::{abstractions::Shown, memory::RingMap};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Full, Relaxed},
        Arc,
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
pub struct Batch<'a>(vmbus_ring::Batch<'a, RingMap>);

impl Batch<'_> {
    /// Leaves `bytes` bytes of the ring free from now on; see [`vmbus_ring::Batch::keep_free`].
    #[inline]
    pub fn keep_free(&mut self, bytes: u32) {
        self.0.keep_free(bytes);
    }

    /// Adds a packet. After an error the batch is as before.
    #[inline]
    pub fn push(&mut self, packet: &Outgoing<'_>) -> Result<(), SendError> {
        self.0.push(packet)
    }

    /// Adds a packet that names guest memory; `pages` are the numbers of its 4 KiB pages. After an
    /// error the batch is as before.
    #[inline]
    pub fn push_pages(
        &mut self,
        packet: &PagePacket<'_>,
        pages: impl Iterator<Item = u64>,
    ) -> Result<(), SendError> {
        self.0.push_pages(packet, pages)
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
    #[inline]
    pub fn send(&self, packet: &Outgoing<'_>) -> Result {
        self.send_with(|tx| Ok(tx.writer.send(packet)))
    }

    /// Runs `write` with the ring locked and does what its outcome demands.
    #[inline]
    pub(super) fn send_with(
        &self,
        write: impl FnOnce(&mut Transmitter) -> Result<Result<Sent, SendError>>,
    ) -> Result {
        if self.publish(write)? {
            self.0.signal_host();
        }
        Ok(())
    }

    /// Sends the packets that `write` adds, all of them or none, with at most one doorbell.
    ///
    /// When `write` returns `Ok` the packets become visible to the host: that can no longer fail.
    /// So what the host may do from then on is prepared at the end of `write`, and is not when
    /// something went wrong before. `write` runs with the ring locked and interrupts off, and is
    /// not called at all when the channel is out of use.
    ///
    /// Any context but NMI. Errors as for [`Self::send`]; `EINVAL` for page numbers that do not
    /// match their range.
    #[inline]
    pub fn batch(
        &self,
        doorbell: Doorbell,
        write: impl FnOnce(&mut Batch<'_>) -> Result<(), SendError>,
    ) -> Result {
        let signal = self.publish(|tx| {
            let mut batch = Batch(tx.writer.batch());

            Ok(write(&mut batch).map(|()| batch.0.commit()))
        })?;
        let owed = &self.0.doorbell_owed;

        match doorbell {
            Doorbell::Defer if signal => owed.store(true, Relaxed),
            Doorbell::Defer => {}
            // One doorbell is for all that was published before.
            Doorbell::Ring if signal => {
                owed.store(false, Relaxed);
                self.0.signal_host();
            }
            Doorbell::Ring => self.ring_doorbell(),
        }
        Ok(())
    }

    /// Tells the host about packets for which that was deferred. Any context but NMI.
    #[inline]
    pub fn ring_doorbell(&self) {
        let channel = &self.0;

        // Who deferred sees its own store; if somebody else has taken it, that one rings.
        if channel.doorbell_owed.load(Relaxed) && channel.doorbell_owed.xchg(false, Full) {
            channel.signal_host();
        }
    }

    /// Publishes what `write` writes; returns whether the host has to be signalled.
    #[inline]
    fn publish(
        &self,
        write: impl FnOnce(&mut Transmitter) -> Result<Result<Sent, SendError>>,
    ) -> Result<bool> {
        let channel = &self.0;

        if channel.dead.load(Relaxed) {
            return Err(ENODEV);
        }
        let result = {
            let mut tx = channel.tx.lock();

            write((*tx).as_mut().ok_or(ENODEV)?)?
        };

        match result {
            Ok(sent) => Ok(sent.signal),
            Err(SendError::Full { .. }) => {
                channel.ring_full.fetch_add(1u64, Relaxed);
                Err(EAGAIN)
            }
            Err(SendError::TooLarge) => Err(EMSGSIZE),
            Err(SendError::PageCount { .. }) => Err(EINVAL),
            Err(error @ SendError::Corrupt { .. }) => {
                pr_err!(
                    "{}: {}; channel given up\n",
                    Shown(&channel.offer.instance),
                    Shown(&error)
                );
                channel.mark_dead();
                Err(EIO)
            }
        }
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
