// SPDX-License-Identifier: GPL-2.0

//! Sending packets to the host.

use super::session::Session;
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
use vmbus_ring::{GpaDirectPacket, OutgoingPacket, SendError, WaitState, Writer};
use zerocopy::little_endian::U64;

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
    pub fn push(&mut self, packet: &OutgoingPacket<'_>) -> Result<(), SendError> {
        self.packets.push(packet)
    }

    /// Adds a packet that names guest memory; `runs` are the numbers of its 4 KiB pages. After an
    /// error the batch is as before.
    // Always, as what it calls.
    #[inline(always)]
    pub fn push_pages<const N: usize>(
        &mut self,
        packet: &GpaDirectPacket<'_, N>,
        runs: impl Iterator<Item = Range<u64>>,
    ) -> Result<(), SendError> {
        self.packets.push_pages(packet, runs)
    }

    /// Adds an in-band packet of whole units of 8 bytes. After an error the batch is as before.
    // Always, as what it calls.
    #[inline(always)]
    pub fn push_units<const N: usize>(
        &mut self,
        flags: PacketFlags,
        transaction_id: u64,
        payload: &[U64; N],
    ) -> Result<(), SendError> {
        self.packets.push_units(flags, transaction_id, payload)
    }

    /// Adds the completion of a packet of the host, of whole units of 8 bytes. After an error the
    /// batch is as before.
    // Always, as what it calls.
    #[inline(always)]
    pub fn push_completion<const N: usize>(
        &mut self,
        transaction_id: u64,
        payload: &[U64; N],
    ) -> Result<(), SendError> {
        self.packets.push_completion(transaction_id, payload)
    }

    /// Makes the packets visible to the host, all at once. It is told by [`TxGuard::release`].
    #[inline]
    pub fn commit(self) {
        *self.signal |= self.packets.commit().signal;
    }
}

/// The outgoing ring of a channel, locked, with interrupts off but for PREEMPT_RT. Nothing is slow
/// here.
#[must_use = "the ring is locked"]
pub struct TxGuard<'a> {
    session: &'a Session,
    writer: SpinLockIrqGuard<'a, Option<Writer<RingMap>>>,
    /// The host has to be told about packets.
    signal: bool,
}

impl TxGuard<'_> {
    /// Starts to write packets; `ENODEV` when the channel is closed.
    #[inline]
    pub fn batch(&mut self) -> Result<Batch<'_>> {
        Ok(Batch {
            packets: (*self.writer).as_mut().ok_or(ENODEV)?.batch(),
            signal: &mut self.signal,
        })
    }

    /// Bytes that are free in the ring; a packet needs less than that. `ENODEV` when the channel is
    /// closed, `EIO` when the host corrupted the ring.
    #[inline(always)]
    pub fn bytes_free(&self) -> Result<u32> {
        let writer = (*self.writer).as_ref().ok_or(ENODEV)?;

        writer.bytes_free().map_err(|_| EIO)
    }

    /// Bytes of the ring.
    #[inline]
    pub fn capacity(&self) -> u32 {
        (*self.writer).as_ref().map_or(0, Writer::data_len)
    }

    /// Asks the host to signal as soon as more than `bytes` bytes are free, and returns whether
    /// they are already: then it does not. `ENODEV` when the channel is closed, `EMSGSIZE` when
    /// that much can never be free, `EIO` when the host corrupted the ring.
    ///
    /// The signal is an event like any other, [`crate::Signal::on_event`]; a [`crate::Handler`]
    /// does not hear of it. The request holds until a call finds that much free.
    pub fn wait_for(&self, bytes: u32) -> Result<bool> {
        let writer = (*self.writer).as_ref().ok_or(ENODEV)?;

        match writer.wait_for(bytes) {
            Ok(state) => Ok(state == WaitState::Ready),
            Err(SendError::TooLarge) => Err(EMSGSIZE),
            Err(_) => Err(EIO),
        }
    }

    /// Unlocks the ring and tells the host about the packets, now or later.
    #[inline(always)]
    pub fn release(self, doorbell: Doorbell) {
        let Self {
            session,
            writer,
            signal,
        } = self;
        let owed = &session.doorbell_owed;

        drop(writer);
        match (doorbell, signal) {
            // One doorbell is for all that was published before.
            (Doorbell::Ring, true) => {
                owed.store(false, Relaxed);
                session.channel.signal_host();
            }
            (Doorbell::Ring, false) => session.ring_owed_doorbell(),
            (Doorbell::Defer, true) => owed.store(true, Relaxed),
            (Doorbell::Defer, false) => {}
        }
    }

    /// Unlocks the ring after a packet was refused, and does what the reason demands.
    #[cold]
    pub fn refuse(self, error: SendError) -> Error {
        let session = self.session;
        let channel = &session.channel;
        let position = (*self.writer).as_ref().map_or(0, Writer::position);

        self.release(Doorbell::Ring);
        match error {
            SendError::Full { .. } => {
                channel.note_full(position);
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
                session.on_broken();
                EIO
            }
        }
    }
}

impl Session {
    /// Rings the doorbell if that was deferred. Any context but NMI.
    #[inline]
    fn ring_owed_doorbell(&self) {
        // Who deferred sees its own store; if somebody else has taken it, that one rings.
        if self.doorbell_owed.load(Relaxed) && self.doorbell_owed.xchg(false, Full) {
            self.channel.signal_host();
        }
    }
}

/// The sending side of a channel. Clones send on the same channel.
///
/// Outlives the channel: sending fails with `ENODEV` once it is closed or rescinded, also when it
/// was opened again.
#[derive(Clone)]
pub struct Sender(pub(super) Arc<Session>);

impl Sender {
    /// Sends one packet. Any context but NMI; the order of packets is that of the calls.
    ///
    /// - `ENODEV`: the channel is closed, rescinded or broken.
    /// - `EAGAIN`: the ring is full.
    /// - `EMSGSIZE`: the packet can never fit.
    /// - `EIO`: the host corrupted the ring; the channel is broken from now on.
    pub fn send(&self, packet: &OutgoingPacket<'_>) -> Result {
        let mut guard = self.lock()?;

        match (*guard.writer).as_mut().ok_or(ENODEV)?.send(packet) {
            Ok(sent) => {
                guard.signal = sent.signal;
                guard.release(Doorbell::Ring);
                Ok(())
            }
            Err(error) => Err(guard.refuse(error)),
        }
    }

    /// Locks the outgoing ring, to write packets and do something between that and their becoming
    /// visible to the host. Any context but NMI. `ENODEV` when the channel is rescinded or broken.
    #[inline]
    pub fn lock(&self) -> Result<TxGuard<'_>> {
        let session = &*self.0;

        if !session.is_alive() {
            return Err(ENODEV);
        }
        Ok(TxGuard {
            session,
            writer: session.writer.lock(),
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
        self.send(&OutgoingPacket::inband(
            PacketFlags::empty(),
            transaction_id,
            &[payload],
        ))
    }

    /// Whether the host has nothing more to read, or never will have. What it has not read when the
    /// channel is closed is lost.
    pub fn is_read(&self) -> bool {
        let Ok(guard) = self.lock() else {
            return true;
        };

        guard
            .bytes_free()
            .map_or(true, |free| free >= guard.capacity())
    }

    /// Whether packets can still be sent.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }
}
