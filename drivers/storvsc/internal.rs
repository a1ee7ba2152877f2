// SPDX-License-Identifier: GPL-2.0

//! SCSI commands of the driver itself, which the midlayer knows nothing of.
//!
//! They find out who a logical unit is while the midlayer's commands to it wait, so they must not
//! wait for a tag, nor for a queue. One at a time, with memory of their own.

use crate::{reset, shared::Shared};
use core::iter;
use kernel::{
    device::{Bound, Device},
    dma::Coherent,
    io::Io,
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{Arc, Mutex, SpinLockIrq},
    time::{delay::fsleep, Delta},
};
use storvsc_protocol::{
    identity::ANSWER_BYTES,
    inbound::{internal_id, Status},
    packet::{Address, Cdb, Direction, Execute, Request},
    pages::Pages,
    HV_PAGE_SIZE,
};
use vmbus::{abstractions::Completion, Doorbell, GpaDirectPacket};
use vmbus_protocol::packet::{GpaRange, PacketFlags};

/// How long to wait until there may be room in the ring.
const FULL_MS: i64 = 10;

/// Data of an answer.
pub(crate) type Data = [u8; ANSWER_BYTES];

/// What the command under way waits for.
enum Answer {
    None,
    Awaited(u64),
    Came(Status),
}

/// The memory of the command under way.
struct Memory {
    data: Option<Coherent<Data>>,
    /// Commands so far.
    count: u64,
}

/// The driver's own commands.
#[pin_data(PinnedDrop)]
pub(crate) struct Internal {
    /// Held while a command is under way.
    #[pin]
    memory: Mutex<Memory>,
    #[pin]
    answer: SpinLockIrq<Answer>,
    /// The answer came, or the device died.
    #[pin]
    done: Completion,
}

impl Internal {
    /// Without memory.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            memory <- new_mutex!(Memory { data: None, count: 0 }),
            answer <- new_spinlock_irq!(Answer::None),
            done <- Completion::new(),
        })
    }

    /// Gets the memory. May sleep.
    pub(crate) fn prepare(&self, dev: &Device<Bound>) -> Result {
        self.memory.lock().data = Some(Coherent::zeroed(dev, GFP_KERNEL)?);
        Ok(())
    }

    /// The host ended a command. Returns whether it was one that is under way. Any context but NMI.
    pub(crate) fn on_answer(&self, id: u64, status: Status) -> bool {
        let mut answer = self.answer.lock();

        if !matches!(*answer, Answer::Awaited(awaited) if awaited == id) {
            return false;
        }
        *answer = Answer::Came(status);
        drop(answer);
        self.done.complete();
        true
    }

    /// Nothing can be expected of the host any more. Any context but NMI.
    pub(crate) fn give_up(&self) {
        self.done.complete();
    }

    /// The host has given back all memory: a command that it did not answer is over.
    pub(crate) fn forget(&self) {
        *self.answer.lock() = Answer::None;
    }

    /// The host has a command.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(*self.answer.lock(), Answer::Awaited(_))
    }

    /// Has the unit do a command that asks for `len` bytes. Returns how it ended, and the data. May
    /// sleep, until the host answers, is reset, or is given up.
    ///
    /// - `ENODEV`, `EIO`: nothing can be sent on the primary channel, or the device is dead.
    pub(crate) fn execute(
        &self,
        shared: &Arc<Shared>,
        address: Address,
        (cdb, len): (Cdb, u8),
    ) -> Result<(Status, Data)> {
        let mut memory = self.memory.lock();

        if self.is_pending() {
            // The host may still write there.
            return Err(ENODEV);
        }
        memory.count = memory.count.wrapping_add(1);
        let id = internal_id(memory.count);
        let data = memory.data.as_ref().ok_or(ENODEV)?;

        // What was there before is not part of the answer.
        data.copy_write([0; ANSWER_BYTES]);
        while self.done.try_wait() {}
        *self.answer.lock() = Answer::Awaited(id);
        let request = Request {
            address,
            port: shared.settings.port,
            cdb,
            direction: Direction::Read,
            data_len: len.into(),
            tagged: false,
        };

        if let Err(error) = send(shared, id, &request, data.dma_address()) {
            *self.answer.lock() = Answer::None;
            return Err(error);
        }
        self.wait(shared)?;
        match core::mem::replace(&mut *self.answer.lock(), Answer::None) {
            Answer::Came(status) => Ok((status, data.copy_read())),
            Answer::None | Answer::Awaited(_) => Err(ENODEV),
        }
    }

    /// Waits for the answer. A host that does not give it is reset, and then ends the command, or is
    /// given up.
    fn wait(&self, shared: &Arc<Shared>) -> Result {
        loop {
            let is_signalled = self.done.wait_timeout(reset::patience_ms());

            if !self.is_pending() {
                return Ok(());
            }
            if shared.is_dead() {
                return Err(ENODEV);
            }
            if !is_signalled {
                let sender = shared.channels.lock().primary_sender().ok_or(ENODEV)?;

                reset::run(shared, &sender);
            }
        }
    }
}

/// Sends a command, when there is room.
fn send(shared: &Shared, id: u64, request: &Request, dma: u64) -> Result {
    let packet = Execute::new(request).units();
    let len = request.data_len;
    let packet = GpaDirectPacket {
        flags: PacketFlags::COMPLETION_REQUESTED,
        transaction_id: id,
        range: GpaRange::new(len, (dma % u64::from(HV_PAGE_SIZE)) as u32),
        payload: &packet,
    };

    loop {
        if shared.is_dead() {
            return Err(ENODEV);
        }
        let sender = shared.channels.lock().primary_sender().ok_or(ENODEV)?;
        let mut outbox = sender.lock()?;
        let mut batch = outbox.batch()?;

        match batch.push_pages(&packet, Pages::new(iter::once((dma, len)), len)) {
            Ok(()) => {
                batch.commit();
                outbox.release(Doorbell::Ring);
                return Ok(());
            }
            Err(error) => match outbox.refuse(error) {
                EAGAIN => fsleep(Delta::from_millis(FULL_MS)),
                error => return Err(error),
            },
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Internal {
    fn drop(self: Pin<&mut Self>) {
        if self.is_pending() {
            // The host may still write there.
            core::mem::forget(self.memory.lock().data.take());
        }
    }
}
