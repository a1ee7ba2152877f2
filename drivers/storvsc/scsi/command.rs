// SPDX-License-Identifier: GPL-2.0

//! Commands on their way to the host.

use super::{
    ffi::{self, View},
    slots::{unmap, Data, Slot, Slots},
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{bindings, ffi::c_int};
use storvsc_protocol::{
    outcome::{Outcome, Sent},
    packet::{Address, Cdb, Direction},
    pages::Pages,
    tags::FreeWord,
};

/// What `queuecommand` returns: proof that the command was dealt with.
#[must_use]
pub(crate) struct Verdict(pub(super) c_int);

/// Values of `enum dma_data_direction`.
const TO_DEVICE: u8 = bindings::dma_data_direction::DMA_TO_DEVICE.0 as u8;
const FROM_DEVICE: u8 = bindings::dma_data_direction::DMA_FROM_DEVICE.0 as u8;
const NO_DATA: u8 = bindings::dma_data_direction::DMA_NONE.0 as u8;

/// A command that the midlayer gave to the driver.
///
/// # Invariants
///
/// `cmd` is a valid command that this object owns, of the host and in the state that `view` shows.
#[must_use = "the midlayer waits for the command"]
pub(crate) struct Command<'a> {
    cmd: NonNull<ffi::scsi_cmnd>,
    view: &'a View,
}

/// Why a command was not mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// No resources now.
    Busy,
    /// It makes no sense.
    Invalid,
}

impl<'a> Command<'a> {
    /// Takes a command over from the midlayer.
    ///
    /// # Safety
    ///
    /// `cmd` is a command that is being queued, and `view` was made of it.
    #[inline]
    pub(super) unsafe fn new(cmd: NonNull<ffi::scsi_cmnd>, view: &'a View) -> Self {
        // INVARIANT: By the requirements of this function; `queuecommand` makes the driver the owner.
        Self { cmd, view }
    }

    /// The hardware queue that it came on.
    #[inline]
    pub(crate) fn queue(&self) -> u16 {
        self.view.queue
    }

    /// No other command follows for now.
    #[inline]
    pub(crate) fn is_last(&self) -> bool {
        self.view.last
    }

    /// Bytes of data.
    #[inline]
    pub(crate) fn data_len(&self) -> u32 {
        self.view.data_len
    }

    /// The device queues commands.
    #[inline]
    pub(crate) fn is_tagged(&self) -> bool {
        self.view.tagged
    }

    /// The logical unit.
    #[inline]
    pub(crate) fn address(&self) -> Address {
        Address {
            channel: self.view.channel,
            target: self.view.target,
            lun: self.view.lun,
        }
    }

    /// The command block.
    #[inline]
    pub(crate) fn cdb(&self) -> Cdb {
        // SAFETY: By the type invariant the command is valid and nobody writes it while we own it;
        // the shim makes sure that its block has as many bytes.
        Cdb::new(unsafe { *self.view.cdb }, self.view.cdb_len)
    }

    /// What its result depends on.
    #[inline]
    fn sent(&self) -> Sent {
        // SAFETY: As in `cdb`.
        let [opcode, flags, ..] = unsafe { *self.view.cdb };

        Sent {
            opcode,
            vpd: flags & 1 != 0,
            data_len: self.view.data_len,
        }
    }

    /// Which way the data goes; `None` for both ways, which does not exist here.
    #[inline]
    pub(crate) fn direction(&self) -> Option<Direction> {
        match self.view.direction {
            TO_DEVICE => Some(Direction::Write),
            FROM_DEVICE => Some(Direction::Read),
            NO_DATA => Some(Direction::None),
            _ => None,
        }
    }

    /// Gives it back to the midlayer, which tries again later.
    #[inline]
    pub(crate) fn busy(self) -> Verdict {
        Verdict(ffi::DEVICE_BUSY)
    }

    /// Ends it without having sent it.
    pub(crate) fn complete(self, outcome: &Outcome) -> Verdict {
        // SAFETY: By the type invariant the command is ours; it is consumed.
        unsafe {
            ffi::hv_storvsc_shim_done(self.cmd.as_ptr(), outcome.result(), outcome.residual);
        };
        Verdict(0)
    }

    /// Maps its data for the device, and gets hold of its slot. Any context but NMI.
    #[inline]
    pub(crate) fn map_dma(self, slots: &'a Slots) -> Result<Mapped<'a>, (Self, Refused)> {
        let view = self.view;
        let Some((slot, number)) = slots.of_tag(view.queue, view.tag) else {
            return Err((self, Refused::Invalid));
        };

        // Error handling may use a command again whose answer it did not wait for.
        let Some(word) = slot.word().as_free() else {
            return Err((self, Refused::Busy));
        };
        let mut sgl = view.sgl;
        let mut mapped = 0;

        if view.sg_count != 0 {
            if view.direction != TO_DEVICE && view.direction != FROM_DEVICE {
                return Err((self, Refused::Invalid));
            }
            if view.from_eh {
                // Its list is on the stack of the error handler, which may stop waiting.
                if view.sg_count != 1 {
                    return Err((self, Refused::Invalid));
                }
                // SAFETY: The slot is free and we hold its tag, so the copy is ours; the list has an
                // entry.
                unsafe { *slot.eh_sg() = *sgl };
                sgl = slot.eh_sg();
            }
            // SAFETY: The device is valid; the list has as many entries and stays until the command
            // has ended, by which time it is no longer mapped.
            mapped = unsafe {
                bindings::dma_map_sg_attrs(
                    slots.raw_device(),
                    sgl,
                    view.sg_count as c_int,
                    bindings::dma_data_direction(view.direction.into()),
                    0,
                )
            };
            if mapped == 0 {
                return Err((self, Refused::Busy));
            }
        } else if view.data_len != 0 {
            return Err((self, Refused::Invalid));
        }
        // INVARIANT: The slot is that of the command's tag and free; the list was just mapped, or
        // there is none.
        Ok(Mapped {
            command: self,
            sgl,
            mapped,
            slot,
            word,
            number,
            slots,
        })
    }
}

/// A command whose data the device can reach.
///
/// # Invariants
///
/// `slot` is that of the command's tag in `slots`, and free; `word` is what it holds. `sgl` is mapped for the device of
/// `slots` with the command's number of entries and direction, and has `mapped` mapped pieces, if the
/// command has data.
#[must_use = "the midlayer waits for the command"]
pub(crate) struct Mapped<'a> {
    command: Command<'a>,
    sgl: *mut bindings::scatterlist,
    mapped: u32,
    slot: &'a Slot,
    word: FreeWord,
    number: u32,
    slots: &'a Slots,
}

impl<'a> Mapped<'a> {
    /// Bytes of data.
    #[inline]
    pub(crate) fn data_len(&self) -> u32 {
        self.command.data_len()
    }

    /// Where the data starts in its first page, in bytes.
    #[inline]
    pub(crate) fn page_offset(&self) -> u32 {
        let first = self.pieces().next().map_or(0, |(address, _)| address);

        (first % u64::from(storvsc_protocol::HV_PAGE_SIZE)) as u32
    }

    /// The numbers of its pages.
    #[inline]
    pub(crate) fn pages(&self) -> Pages<Pieces<'_>> {
        Pages::new(self.pieces(), self.data_len())
    }

    #[inline]
    fn pieces(&self) -> Pieces<'_> {
        // INVARIANT: By the type invariant.
        Pieces {
            next: self.sgl,
            left: self.mapped,
            _command: PhantomData,
        }
    }

    /// The transaction id with which it goes out on `channel`.
    #[inline]
    pub(crate) fn transaction_id(&self, channel: u16) -> u64 {
        self.word.next(self.number, channel).1
    }

    /// Hands it over to the host: from now on an answer with its transaction id ends it.
    ///
    /// To be called when nothing can keep the packet from becoming visible any more.
    #[inline]
    pub(crate) fn publish(self, channel: u16) -> Verdict {
        let (word, _) = self.word.next(self.number, channel);
        let view = self.command.view;
        let data = Data {
            cmd: self.command.cmd.as_ptr(),
            sgl: self.sgl,
            sg_count: if self.mapped == 0 { 0 } else { view.sg_count },
            direction: view.direction.into(),
            sent: self.command.sent(),
        };

        // SAFETY: By the type invariants the command is ours, has this tag, and is what `data` says;
        // `self` is consumed.
        unsafe { self.slot.publish(word, data) };
        Verdict(0)
    }

    /// Takes the data back from the device.
    pub(crate) fn unmap(self) -> Command<'a> {
        let view = self.command.view;

        if self.mapped != 0 {
            // SAFETY: By the type invariant the list is mapped with these arguments.
            unsafe { unmap(self.slots, self.sgl, view.sg_count, view.direction.into()) };
        }
        self.command
    }
}

/// The mapped pieces of a command's data: bus address and length in bytes.
///
/// # Invariants
///
/// `next` is a mapped scatter list with at least `left` pieces, if that is not 0.
pub(crate) struct Pieces<'a> {
    next: *mut bindings::scatterlist,
    left: u32,
    _command: PhantomData<&'a View>,
}

impl Iterator for Pieces<'_> {
    type Item = (u64, u32);

    #[inline]
    fn next(&mut self) -> Option<(u64, u32)> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: By the type invariant there is an entry.
        let piece = unsafe { ((*self.next).dma_address, (*self.next).dma_length) };

        if self.left != 0 {
            // INVARIANT: There is another entry.
            //
            // SAFETY: `next` is a valid entry.
            self.next = unsafe { bindings::sg_next(self.next) };
        }
        Some(piece)
    }
}
