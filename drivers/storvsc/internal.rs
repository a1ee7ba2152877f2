// SPDX-License-Identifier: GPL-2.0

//! SCSI commands of the driver itself, which the midlayer knows nothing of.
//!
//! They find out who a logical unit is while the midlayer's commands to it wait, so they must not
//! wait for a tag, nor for a queue. One at a time, with memory of their own.

use crate::{reset, shared::Shared};
use core::iter;
use kernel::{
    device::{Bound, Device},
    io::Io,
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{Arc, Mutex, SpinLockIrq},
    time::{delay::fsleep, Delta, Instant, Monotonic},
};
use storvsc_protocol::{
    identity::{Interview, ANSWER_BYTES},
    inbound::Status,
    own::{Answer, OwnCommands, Ticket, BUFFERS},
    packet::{Address, Cdb, Direction, Execute, Request},
    pages::Pages,
    HV_PAGE_SIZE,
};
use vmbus::{
    abstractions::{Completion, DmaBuffer},
    Doorbell, GpaDirectPacket,
};
use vmbus_protocol::packet::{GpaRange, PacketFlags};

/// How long to wait until there may be room in the ring.
const FULL_MS: i64 = 10;

/// Data of an answer.
pub(crate) type Data = [u8; ANSWER_BYTES];

/// The driver's own commands.
#[pin_data(PinnedDrop)]
pub(crate) struct Internal {
    /// The buffers. Held while a command is waited for.
    #[pin]
    memory: Mutex<KVec<DmaBuffer<Data>>>,
    #[pin]
    commands: SpinLockIrq<OwnCommands>,
    /// The answer came, or the device died.
    #[pin]
    done: Completion,
}

impl Internal {
    /// Without memory.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            memory <- new_mutex!(KVec::new()),
            commands <- new_spinlock_irq!(OwnCommands::new()),
            done <- Completion::new(),
        })
    }

    /// Gets the memory. May sleep.
    pub(crate) fn prepare(&self, dev: &Device<Bound>) -> Result {
        let mut memory = self.memory.lock();

        while memory.len() < BUFFERS {
            memory.push(DmaBuffer::zeroed(dev)?, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The host ended a command. Returns which. Any context but NMI.
    pub(crate) fn on_answer(&self, id: u64, status: Status) -> Answer {
        let answer = self.commands.lock().on_answer(id, status);

        if answer == Answer::Expected {
            self.done.complete();
        }
        answer
    }

    /// Nothing can be expected of the host any more. Any context but NMI.
    pub(crate) fn give_up(&self) {
        self.done.complete();
    }

    /// The host has given back all memory: commands that it did not answer are over. Any context
    /// but NMI.
    pub(crate) fn forget(&self) {
        self.commands.lock().forget();
    }

    /// The bus is about to be reset. Any context but NMI.
    pub(crate) fn on_reset(&self) {
        self.commands.lock().on_reset();
    }

    /// It has been, or the host is not waited for any more. Any context but NMI.
    pub(crate) fn on_reset_over(&self) {
        self.commands.lock().on_reset_over();
    }

    /// A command is with the host, and waited for.
    pub(crate) fn is_awaited(&self) -> bool {
        self.commands.lock().is_awaited()
    }

    /// Has the unit do a command that asks for `len` bytes. Returns how it ended, and the data. May
    /// sleep, until the host answers, or is given up, or for three times [`reset::patience_ms`] and
    /// as long as the reset takes between them ([`reset::flush`]).
    ///
    /// - `ENODEV`, `EIO`: nothing can be sent on the primary channel, or the device is dead;
    /// - `ETIMEDOUT`: the host answers, but the unit does not.
    pub(crate) fn execute(
        &self,
        shared: &Arc<Shared>,
        address: Address,
        (cdb, len): (Cdb, u8),
    ) -> Result<(Status, Data)> {
        let memory = self.memory.lock();
        // Or else the host, which was given up, may still write everywhere.
        let ticket = self.commands.lock().begin(address).ok_or(ENODEV)?;

        while self.done.try_wait() {}
        let sent = self.send(
            shared,
            &memory,
            ticket,
            address,
            (cdb, len),
            reset::patience_ms(),
        );

        // It could not be told of a reset, either.
        if sent.as_ref().err() == Some(&EAGAIN) {
            dev_err!(
                shared.dev,
                "the host takes nothing, the device is given up\n"
            );
            shared.give_up();
            return Err(ENODEV);
        }
        let data = sent?;
        let was_flushed = self.wait(shared)?;
        let status = self.commands.lock().take().ok_or(ENODEV)?;

        // What a reset ends says nothing of the unit, and it would not answer the next time either.
        if was_flushed && !status.is_good() {
            return Err(ETIMEDOUT);
        }
        Ok((status, data.copy_read()))
    }

    /// Has a unit that does not answer do an INQUIRY, which nobody waits for, unless it has one.
    /// What it answers at last is [`Answer::Late`]. May sleep, as long as another command is waited
    /// for.
    ///
    /// - `ENODEV`, `EIO`: nothing can be sent on the primary channel, or the device is dead;
    /// - `EAGAIN`: there is no room in its ring now.
    pub(crate) fn listen(&self, shared: &Arc<Shared>, address: Address) -> Result {
        let memory = self.memory.lock();
        let ticket = self.commands.lock().listen(address);

        if let (Some(ticket), Some(question)) = (ticket, Interview::new().next()) {
            self.send(shared, &memory, ticket, address, question, 0)?;
        }
        Ok(())
    }

    /// Sends a command, or takes it back. Returns its buffer. For `patience` see [`Self::push`].
    fn send<'a>(
        &self,
        shared: &Shared,
        memory: &'a [DmaBuffer<Data>],
        ticket: Ticket,
        address: Address,
        (cdb, len): (Cdb, u8),
        patience: u32,
    ) -> Result<&'a DmaBuffer<Data>> {
        let request = Request {
            address,
            port: shared.settings.port,
            cdb,
            direction: Direction::Read,
            data_len: len.into(),
            tagged: false,
        };
        let sent = memory.get(ticket.buffer).ok_or(ENODEV).and_then(|data| {
            // What was there before is not part of the answer.
            data.copy_write([0; ANSWER_BYTES]);
            self.push(shared, ticket, &request, data.dma_address(), patience)?;
            Ok(data)
        });

        if sent.is_err() {
            self.commands.lock().withdraw(ticket);
        }
        sent
    }

    /// Puts a command into the ring, when there is room. `EAGAIN` when there is none for `patience`
    /// milliseconds, `ENODEV` also when the device was given up since the command began.
    fn push(
        &self,
        shared: &Shared,
        ticket: Ticket,
        request: &Request,
        dma: u64,
        patience: u32,
    ) -> Result {
        let start = Instant::<Monotonic>::now();
        let packet = Execute::new(request).units();
        let len = request.data_len;
        let packet = GpaDirectPacket {
            flags: PacketFlags::COMPLETION_REQUESTED,
            transaction_id: ticket.id,
            range: GpaRange::new(len, (dma % u64::from(HV_PAGE_SIZE)) as u32),
            payload: &packet,
        };

        loop {
            if shared.is_dead() {
                return Err(ENODEV);
            }
            let sender = shared.channels.lock().primary_sender().ok_or(ENODEV)?;
            let mut outbox = sender.lock()?;

            // With the ring locked: where it is closed after this, the host gives the buffer back
            // after that.
            if !self.commands.lock().has(ticket) {
                return Err(ENODEV);
            }
            let mut batch = outbox.batch()?;

            match batch.push_pages(&packet, Pages::new(iter::once((dma, len)), len)) {
                Ok(()) => {
                    batch.commit();
                    outbox.release(Doorbell::Ring);
                    return Ok(());
                }
                Err(error) => match outbox.refuse(error) {
                    EAGAIN if start.elapsed().as_millis() < patience.into() => {
                        fsleep(Delta::from_millis(FULL_MS));
                    }
                    error => return Err(error),
                },
            }
        }
    }

    /// Waits for the answer, and returns whether it took a reset. A host that does not answer is
    /// reset, which ends all commands. What is still not answered then is left to it.
    fn wait(&self, shared: &Arc<Shared>) -> Result<bool> {
        if self.is_over_in(shared, reset::patience_ms())? {
            return Ok(false);
        }
        let sender = shared.channels.lock().primary_sender().ok_or(ENODEV)?;

        reset::flush(shared, &sender, || !self.is_awaited());
        if self.is_over_in(shared, reset::flush_ms())? {
            return Ok(true);
        }
        let mut commands = self.commands.lock();

        if !commands.is_awaited() {
            return Ok(true);
        }
        let has_room = commands.leave();

        drop(commands);
        shared.counters.left.count();
        if !has_room {
            dev_err!(shared.dev, "too many commands without an answer\n");
            shared.give_up();
        }
        Err(ETIMEDOUT)
    }

    /// Whether the command is answered within that time. `ENODEV` when the device is dead.
    fn is_over_in(&self, shared: &Shared, ms: u32) -> Result<bool> {
        self.done.wait_timeout(ms);
        match (self.is_awaited(), shared.is_dead()) {
            (false, _) => Ok(true),
            (true, true) => Err(ENODEV),
            (true, false) => Ok(false),
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Internal {
    fn drop(self: Pin<&mut Self>) {
        let memory = core::mem::take(&mut *self.memory.lock());

        for (number, buffer) in memory.into_iter().enumerate() {
            // The host may still write there.
            if self.commands.lock().is_with_host(number) {
                buffer.leave();
            }
        }
    }
}
