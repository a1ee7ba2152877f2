// SPDX-License-Identifier: GPL-2.0

//! Commands that are with the host.

use super::{ffi, host::Unit, mapping::Mapping};
use core::{cell::UnsafeCell, ptr};
use kernel::{
    bindings, device,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Relaxed},
        rcu,
    },
};
use storvsc_protocol::{
    outcome::{Outcome, Sent},
    packet::Address,
    tags::{Answer, Word, MAX_SLOTS},
};
use vmbus::protocol::requests::BadId;

/// What a slot remembers of its command.
#[derive(Clone, Copy)]
pub(super) struct Data {
    pub(super) cmd: *mut ffi::scsi_cmnd,
    /// As it was mapped; not looked up again, since error handling gives a command another scatter
    /// list for a while.
    pub(super) mapping: Mapping,
    pub(super) sent: Sent,
}

/// One place for a command.
///
/// # Invariants
///
/// - `word` is a [`Word`]. While it is free, `data` belongs to who holds the tag of this slot, that is
///   the owner of the command; while it is in flight, it belongs to nobody and describes a command
///   that the midlayer waits for.
/// - Whoever turns the word from in flight to free becomes the owner of that command.
pub(super) struct CommandSlot {
    word: Atomic<u64>,
    data: UnsafeCell<Data>,
}

impl CommandSlot {
    /// The present word. For the owner of the tag it does not change while it is free.
    #[inline]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Relaxed))
    }

    /// Hands the command over.
    ///
    /// # Safety
    ///
    /// The caller owns the command that has this slot's tag, `data` describes it, and `word` is
    /// the next one of the present word, which is free. The caller no longer owns it afterwards.
    #[inline]
    pub(super) unsafe fn publish(&self, word: Word, data: Data) {
        // SAFETY: The word is free and the caller holds the tag, so `data` is the caller's.
        unsafe { *self.data.get() = data };
        // Release: who takes the command sees its data.
        //
        // INVARIANT: The data was just written, and the caller gives the command up.
        self.word.store(word.0, kernel::sync::atomic::Release);
    }
}

/// The commands of a host that are in flight.
pub(crate) struct Slots {
    slots: KVVec<CommandSlot>,
    /// Slots of each hardware queue.
    depth: u32,
    dev: ARef<device::Device>,
}

// SAFETY: The pointers are to objects that are not bound to a thread.
unsafe impl Send for Slots {}
// SAFETY: By the invariants of `CommandSlot` only one thread at a time accesses what is in the cells: the
// one that holds the tag, or the one whose exchange succeeded.
unsafe impl Sync for Slots {}

impl Slots {
    /// Slots for `queues` hardware queues of `depth` commands, whose data is mapped for `dev`.
    pub(crate) fn new(dev: ARef<device::Device>, queues: u32, depth: u32) -> Result<Self> {
        let count = queues.checked_mul(depth).ok_or(EOVERFLOW)?;
        if count >= MAX_SLOTS {
            return Err(EINVAL);
        }
        let mut slots = KVVec::with_capacity(usize::try_from(count)?, GFP_KERNEL)?;

        for _ in 0..count {
            // INVARIANT: The word is free.
            let slot = CommandSlot {
                word: Atomic::new(Word::UNUSED.0),
                data: UnsafeCell::new(Data {
                    cmd: ptr::null_mut(),
                    mapping: Mapping::none(),
                    sent: Sent {
                        opcode: 0,
                        vpd: false,
                        data_len: 0,
                    },
                }),
            };

            slots.push(slot, GFP_KERNEL)?;
        }
        Ok(Self { slots, depth, dev })
    }

    /// The device that data is mapped for.
    #[inline]
    pub(super) fn raw_device(&self) -> *mut bindings::device {
        ptr::from_ref::<device::Device>(&self.dev).cast_mut().cast()
    }

    /// The slot of a tag, and its number.
    #[inline]
    pub(super) fn of_tag(&self, queue: u16, tag: u32) -> Option<(&CommandSlot, u32)> {
        if tag >= self.depth {
            return None;
        }
        let number = u32::from(queue).checked_mul(self.depth)?.checked_add(tag)?;

        Some((self.slots.get(number as usize)?, number))
    }

    /// Takes the command that the host's answer `id` on `channel` is for. Any context but NMI.
    #[inline]
    pub(crate) fn take(&self, id: u64, channel: u16) -> Result<Completed<'_>, BadId> {
        let answer = Answer::parse(id, channel)?;
        let slot = self.slots.get(answer.slot as usize).ok_or(BadId::Unknown)?;

        self.take_from(slot, answer.expected)
            .map_err(|word| answer.refusal(word))
    }

    /// Takes the command out of `slot` if its word is `expected`; returns the word otherwise.
    #[inline]
    fn take_from<'a>(
        &'a self,
        slot: &'a CommandSlot,
        expected: Word,
    ) -> Result<Completed<'a>, Word> {
        // Acquire: the data was written before the word.
        //
        // INVARIANT: `expected` is in flight, so on success the command becomes ours.
        slot.word
            .cmpxchg(expected.0, expected.free().0, Acquire)
            .map_err(Word)?;
        // INVARIANT: By the invariants of `CommandSlot` the data is ours until the command has ended, and
        // describes it.
        Ok(Completed { slot, slots: self })
    }

    /// Takes every command in flight that is on a channel `which` names, and gives it to `end`. May
    /// take long; `end` may not sleep.
    pub(crate) fn take_all(&self, which: impl Fn(u16) -> bool, mut end: impl FnMut(Completed<'_>)) {
        for slot in self.slots.iter() {
            let word = slot.word();

            if word.is_in_flight() && which(word.channel()) {
                // See `wait_for_completions`.
                let _completing = rcu::read_lock();

                if let Ok(command) = self.take_from(slot, word) {
                    end(command);
                }
            }
        }
    }

    /// The number of commands in flight. Slow.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.word().is_in_flight())
            .count()
    }

    /// Waits until every command that was taken out of its slot before has ended: a command is not in
    /// flight any more a little before its data is unmapped and the midlayer has it back. May sleep.
    pub(crate) fn wait_for_completions(&self) {
        // Commands are taken and ended in interrupts, in softirqs, or in `take_all`.
        rcu::synchronize_rcu();
    }
}

/// A command that came back, or was taken back. Its owner ends it.
///
/// # Invariants
///
/// The data in `slot` describes a command that the midlayer waits for and that this object owns, and
/// a mapping that still exists. Nobody else accesses it before the command has ended.
#[must_use = "the midlayer waits for the command"]
pub(crate) struct Completed<'a> {
    slot: &'a CommandSlot,
    slots: &'a Slots,
}

/// The unit of a command.
///
/// # Safety
///
/// The command is valid as long as the result is in use.
unsafe fn unit_of(cmd: *mut ffi::scsi_cmnd) -> Unit {
    // SAFETY: By the requirements of this function; a command always has a unit.
    //
    // INVARIANT: The unit lives as long as its command.
    Unit(unsafe { ptr::NonNull::new_unchecked(ffi::hv_storvsc_shim_unit_of(cmd)) })
}

impl Completed<'_> {
    #[inline]
    fn data(&self) -> &Data {
        // SAFETY: By the type invariant nobody writes it while this object exists.
        unsafe { &*self.slot.data.get() }
    }

    /// What its result depends on.
    #[inline]
    pub(crate) fn sent(&self) -> Sent {
        self.data().sent
    }

    /// The logical unit that it is for.
    pub(crate) fn address(&self) -> Address {
        // SAFETY: By the type invariant the command is valid, and keeps its unit.
        unsafe { unit_of(self.data().cmd) }.address()
    }

    /// Ends it: its data is the midlayer's again. `is_sign_of_life` if its unit gave one now. Any
    /// context but NMI.
    #[inline]
    pub(crate) fn finish(self, outcome: &Outcome, sense: &[u8], is_sign_of_life: bool) {
        let data = self.data();
        let cmd = data.cmd;

        // SAFETY: By the type invariant it is still mapped, for the device of the slots.
        unsafe { data.mapping.unmap(self.slots.raw_device()) };
        if outcome.sense {
            let len = u32::try_from(sense.len()).unwrap_or(0);

            // SAFETY: The command is valid and ours, so is its sense buffer; the function limits the
            // length to that of the buffer.
            unsafe { ffi::hv_storvsc_shim_sense(cmd, sense.as_ptr(), len) };
        }
        // SAFETY: By the type invariant the midlayer waits for the command, and it is ended once,
        // since `self` is consumed. Its slot is not looked at any more.
        unsafe {
            ffi::hv_storvsc_shim_done(cmd, outcome.result(), outcome.residual, is_sign_of_life);
        };
    }
}
