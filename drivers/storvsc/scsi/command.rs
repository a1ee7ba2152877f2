// SPDX-License-Identifier: GPL-2.0

//! Commands on their way to the device.

use super::{
    ffi::{self, View, CDB_BYTES},
    host::Address,
    mapping::{MapError, Mapping, Pieces, FROM_DEVICE, NO_DATA, TO_DEVICE},
    slots::{CommandSlot, Data, Slots},
    tags::FreeWord,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{dma::DataDirection, ffi::c_int};

/// What `queuecommand` returns: proof that the command which it was called with, that with this
/// lifetime, was dealt with.
#[must_use]
pub(crate) struct QueueStatus<'a>(c_int, PhantomData<fn(&'a ()) -> &'a ()>);

impl QueueStatus<'_> {
    #[inline]
    const fn new(status: c_int) -> Self {
        Self(status, PhantomData)
    }

    /// As the midlayer wants it.
    #[inline]
    pub(super) fn into_raw(self) -> c_int {
        self.0
    }
}

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
/// `cmd` is a valid command that this object owns, in the state that `view` shows. `slots` are
/// those of its host.
#[must_use = "the midlayer waits for the command"]
pub(crate) struct Command<'a, D> {
    cmd: NonNull<ffi::scsi_cmnd>,
    view: &'a View,
    slots: &'a Slots<D>,
    /// No other lifetime will do: see [`QueueStatus`].
    _queued: PhantomData<fn(&'a ()) -> &'a ()>,
}

/// Ends a command that was not sent, with a result as the midlayer wants it. Returns what
/// `queuecommand` does then.
///
/// # Safety
///
/// `cmd` is a command that the caller owns, and does not own any more afterwards.
pub(super) unsafe fn end(cmd: NonNull<ffi::scsi_cmnd>, view: &View, result: c_int) -> c_int {
    // SAFETY: By the requirements of this function.
    unsafe { ffi::hv_scsi_shim_done(cmd.as_ptr(), result, view.data_len, false) };
    0
}

impl<'a, D: Copy> Command<'a, D> {
    /// Takes a command over from the midlayer.
    ///
    /// # Safety
    ///
    /// `cmd` is a command that is being queued, `view` was made of it, and `slots` are those of its
    /// host.
    #[inline]
    pub(super) unsafe fn new(
        cmd: NonNull<ffi::scsi_cmnd>,
        view: &'a View,
        slots: &'a Slots<D>,
    ) -> Self {
        // INVARIANT: By the requirements of this function; `queuecommand` makes the driver the
        // owner.
        Self {
            cmd,
            view,
            slots,
            _queued: PhantomData,
        }
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

    /// The command block, and how many of its bytes count.
    #[inline]
    pub(crate) fn cdb(&self) -> (&[u8; CDB_BYTES], u8) {
        // SAFETY: By the type invariant the command is valid and nobody writes it while we own it;
        // the shim makes sure that its block has as many bytes.
        (unsafe { &*self.view.cdb }, self.view.cdb_len)
    }

    /// It is one of those that a unit gets when it is removed, or the machine goes to sleep.
    pub(crate) fn is_for_shutdown(&self) -> bool {
        // SAFETY: By the type invariant the command is valid.
        unsafe { ffi::hv_scsi_shim_is_for_shutdown(self.cmd.as_ptr()) }
    }

    /// What its unit does.
    #[inline]
    pub(crate) fn activity(&self) -> Activity {
        let (mut pending, mut silent_ms) = (0, 0);

        // SAFETY: By the type invariant the command is valid; the rest points at our variables.
        unsafe {
            ffi::hv_scsi_shim_activity(self.cmd.as_ptr(), &mut pending, &mut silent_ms);
        };
        Activity { pending, silent_ms }
    }

    /// Which way the data goes.
    #[inline]
    pub(crate) fn direction(&self) -> DataDirection {
        match self.view.direction {
            TO_DEVICE => DataDirection::ToDevice,
            FROM_DEVICE => DataDirection::FromDevice,
            NO_DATA => DataDirection::None,
            _ => DataDirection::Bidirectional,
        }
    }

    /// Gives it back to the midlayer, which tries again later.
    #[inline]
    pub(crate) fn busy(self) -> QueueStatus<'a> {
        QueueStatus::new(ffi::DEVICE_BUSY)
    }

    /// Ends it without having sent it, with a result as the midlayer wants it.
    pub(crate) fn complete(self, result: c_int) -> QueueStatus<'a> {
        // SAFETY: By the type invariant the command is ours; it is consumed.
        QueueStatus::new(unsafe { end(self.cmd, self.view, result) })
    }

    /// Maps its data for the device, and gets hold of its slot. Any context but NMI.
    #[inline]
    pub(crate) fn map_dma(self) -> Result<Mapped<'a, D>, (Self, MapError)> {
        let view = self.view;
        let Some((slot, number)) = self.slots.of_tag(view.queue, view.tag) else {
            return Err((self, MapError::Invalid));
        };

        // Error handling may use a command again whose answer it did not wait for.
        let Some(word) = slot.word().as_free() else {
            return Err((self, MapError::Busy));
        };
        // SAFETY: The device is valid. By the type invariant the command is ours, and it is not
        // ended while it is mapped.
        let mapping = match unsafe { Mapping::new(self.slots.raw_device(), view) } {
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
        })
    }
}

/// A command whose data the device can reach.
///
/// # Invariants
///
/// `slot` is that of the command's tag, and free; `word` is what it holds. `mapping` is that of the
/// command's data, for the device of its host.
#[must_use = "the midlayer waits for the command"]
pub(crate) struct Mapped<'a, D> {
    command: Command<'a, D>,
    mapping: Mapping,
    slot: &'a CommandSlot<D>,
    word: FreeWord,
    number: u32,
}

impl<'a, D: Copy> Mapped<'a, D> {
    /// The command.
    #[inline]
    pub(crate) fn command(&self) -> &Command<'a, D> {
        &self.command
    }

    /// The pieces of its data: bus address and length in bytes.
    #[inline]
    pub(crate) fn pieces(&self) -> Pieces<'_> {
        self.mapping.pieces()
    }

    /// The transaction id with which it goes out on `channel`.
    #[inline]
    pub(crate) fn transaction_id(&self, channel: u16) -> u64 {
        self.word.next(self.number, channel).1
    }

    /// Hands it over to the device: from now on an answer with its transaction id ends it. Who gets
    /// that finds `of_driver` with it.
    ///
    /// To be called when nothing can keep the command from becoming visible any more.
    #[inline]
    pub(crate) fn publish(self, channel: u16, of_driver: D) -> QueueStatus<'a> {
        let (word, _) = self.word.next(self.number, channel);
        let data = Data {
            cmd: self.command.cmd.as_ptr(),
            mapping: self.mapping,
            of_driver,
        };

        // SAFETY: By the type invariants the command is ours, has this tag, and is what `data`
        // says; `self` is consumed.
        unsafe { self.slot.publish(word, data) };
        QueueStatus::new(0)
    }

    /// Takes the data back from the device.
    pub(crate) fn unmap(self) -> Command<'a, D> {
        // SAFETY: By the type invariant; `self` is consumed.
        unsafe { self.mapping.unmap(self.command.slots.raw_device()) };
        self.command
    }
}
