// SPDX-License-Identifier: GPL-2.0

//! Commands on their way to the host.

use super::{
    ffi::{self, View},
    mapping::{MapError, Mapping, Pieces, FROM_DEVICE, NO_DATA, TO_DEVICE},
    slots::{CommandSlot, Data, Slots},
};
use core::ptr::NonNull;
use kernel::ffi::c_int;
use storvsc_protocol::{
    outcome::{Outcome, Sent},
    packet::{Address, Cdb, Direction},
    pages::Pages,
    tags::FreeWord,
};

/// What `queuecommand` returns: proof that the command was dealt with.
#[must_use]
pub(crate) struct QueueStatus(pub(super) c_int);

/// What a command finds at its logical unit.
pub(crate) struct Activity {
    /// Commands that the unit has, or is about to get: this one included.
    pub(crate) pending: u32,
    /// Since the unit last gave a sign of life, in milliseconds.
    pub(crate) silent_ms: u32,
}

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

    /// It is one of those that a unit gets when it is removed, or the machine goes to sleep.
    pub(crate) fn is_for_shutdown(&self) -> bool {
        // SAFETY: By the type invariant the command is valid.
        unsafe { ffi::hv_storvsc_shim_is_for_shutdown(self.cmd.as_ptr()) }
    }

    /// What its unit does.
    #[inline]
    pub(crate) fn activity(&self) -> Activity {
        let (mut pending, mut silent_ms) = (0, 0);

        // SAFETY: By the type invariant the command is valid; the rest points at our variables.
        unsafe {
            ffi::hv_storvsc_shim_activity(self.cmd.as_ptr(), &mut pending, &mut silent_ms);
        };
        Activity { pending, silent_ms }
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
    pub(crate) fn busy(self) -> QueueStatus {
        QueueStatus(ffi::DEVICE_BUSY)
    }

    /// Ends it without having sent it.
    pub(crate) fn complete(self, outcome: &Outcome) -> QueueStatus {
        // SAFETY: By the type invariant the command is ours; it is consumed.
        unsafe {
            ffi::hv_storvsc_shim_done(
                self.cmd.as_ptr(),
                outcome.result(),
                outcome.residual,
                // It was not sent.
                false,
            );
        };
        QueueStatus(0)
    }

    /// Maps its data for the device, and gets hold of its slot. Any context but NMI.
    #[inline]
    pub(crate) fn map_dma(self, slots: &'a Slots) -> Result<Mapped<'a>, (Self, MapError)> {
        let view = self.view;
        let Some((slot, number)) = slots.of_tag(view.queue, view.tag) else {
            return Err((self, MapError::Invalid));
        };

        // Error handling may use a command again whose answer it did not wait for.
        let Some(word) = slot.word().as_free() else {
            return Err((self, MapError::Busy));
        };
        // SAFETY: The device is valid. By the type invariant the command is ours, and it is not ended
        // while it is mapped.
        let mapping = match unsafe { Mapping::new(slots.raw_device(), view) } {
            Ok(mapping) => mapping,
            Err(why) => return Err((self, why)),
        };

        // INVARIANT: The slot is that of the command's tag and free; the data was just mapped.
        Ok(Mapped {
            command: self,
            mapping,
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
/// `slot` is that of the command's tag in `slots`, and free; `word` is what it holds. `mapping` is
/// that of the command's data, for the device of `slots`.
#[must_use = "the midlayer waits for the command"]
pub(crate) struct Mapped<'a> {
    command: Command<'a>,
    mapping: Mapping,
    slot: &'a CommandSlot,
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

    /// The logical unit.
    pub(crate) fn address(&self) -> Address {
        self.command.address()
    }

    /// The first byte of the command block.
    pub(crate) fn opcode(&self) -> u8 {
        self.command.sent().opcode
    }

    /// Where the data starts in its first page, in bytes.
    #[inline]
    pub(crate) fn page_offset(&self) -> u32 {
        let first = self
            .mapping
            .pieces()
            .next()
            .map_or(0, |(address, _)| address);

        (first % u64::from(storvsc_protocol::HV_PAGE_SIZE)) as u32
    }

    /// The numbers of its pages.
    #[inline]
    pub(crate) fn pages(&self) -> Pages<Pieces<'_>> {
        Pages::new(self.mapping.pieces(), self.data_len())
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
    pub(crate) fn publish(self, channel: u16) -> QueueStatus {
        let (word, _) = self.word.next(self.number, channel);
        let data = Data {
            cmd: self.command.cmd.as_ptr(),
            mapping: self.mapping,
            sent: self.command.sent(),
        };

        // SAFETY: By the type invariants the command is ours, has this tag, and is what `data` says;
        // `self` is consumed.
        unsafe { self.slot.publish(word, data) };
        QueueStatus(0)
    }

    /// Takes the data back from the device.
    pub(crate) fn unmap(self) -> Command<'a> {
        // SAFETY: By the type invariant; `self` is consumed.
        unsafe { self.mapping.unmap(self.slots.raw_device()) };
        self.command
    }
}
