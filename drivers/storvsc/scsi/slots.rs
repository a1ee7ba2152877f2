// SPDX-License-Identifier: GPL-2.0

//! Commands that are with the device.

use super::{
    ffi,
    host::Address,
    mapping::Mapping,
    tags::{Answer, BadId, Word, MAX_SLOTS},
    unit::Unit,
};
use core::{
    cell::UnsafeCell,
    mem::{size_of, MaybeUninit},
    ptr, //
};
use kernel::{
    bindings, device,
    ffi::c_int,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Relaxed},
        rcu,
    },
    time::{delay::fsleep, Delta},
};

/// Most bytes of a slot. There is one for each command of each hardware queue: up to 10,240 for
/// each CPU.
const SLOT_BYTES: usize = 64;

/// How often to look whether commands are in flight, in milliseconds.
const LOOK_EVERY_MS: i64 = 100;

/// What a slot remembers of its command.
#[derive(Clone, Copy)]
pub(super) struct Data<D> {
    pub(super) cmd: *mut ffi::scsi_cmnd,
    /// As it was mapped; not looked up again, since error handling gives a command another scatter
    /// list for a while.
    pub(super) mapping: Mapping,
    /// What the driver wants to know of it when it comes back.
    pub(super) of_driver: D,
}

/// How a command ended.
pub(crate) struct End<'a> {
    /// The result as the midlayer wants it.
    pub(crate) result: c_int,
    /// Bytes that were not transferred.
    pub(crate) residual: u32,
    /// Sense data, if there is any.
    pub(crate) sense: &'a [u8],
    /// Its unit did something that it would not do with a unit attention to give.
    pub(crate) is_sign_of_life: bool,
}

/// One place for a command.
///
/// # Invariants
///
/// - `word` is a [`Word`]. While it is free, `data` belongs to who holds the tag of this slot, that
///   is the owner of the command; while it is in flight, it belongs to nobody, is initialised, and
///   describes a command that the midlayer waits for.
/// - Whoever turns the word from in flight to free becomes the owner of that command.
pub(super) struct CommandSlot<D> {
    word: Atomic<u64>,
    data: UnsafeCell<MaybeUninit<Data<D>>>,
}

impl<D: Copy> CommandSlot<D> {
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
    pub(super) unsafe fn publish(&self, word: Word, data: Data<D>) {
        // SAFETY: The word is free and the caller holds the tag, so `data` is the caller's.
        unsafe { self.data.get().cast::<Data<D>>().write(data) };
        // Release: who takes the command sees its data.
        //
        // INVARIANT: The data was just written, and the caller gives the command up.
        self.word.store(word.0, kernel::sync::atomic::Release);
    }

    /// Turns the word from `expected`, which is in flight, to free; returns what it is otherwise.
    /// On success the command is the caller's.
    ///
    /// The slot is free before the command has ended. So it takes a read-side section, which is to
    /// last until that: who has seen the slot free waits for it ([`Slots::wait_for_all`]).
    #[inline]
    fn take(&self, expected: Word, _completing: &rcu::Guard) -> Result<(), Word> {
        // Acquire: the data was written before the word.
        self.word
            .cmpxchg(expected.0, expected.free().0, Acquire)
            .map(|_| ())
            .map_err(Word)
    }
}

/// The commands of a host that are in flight. With each goes what the driver has to know of it when
/// it comes back.
pub(crate) struct Slots<D> {
    slots: KVVec<CommandSlot<D>>,
    /// Hardware queues.
    queues: u32,
    /// Slots of each hardware queue.
    depth: u32,
    dev: ARef<device::Device>,
}

// SAFETY: The pointers are to objects that are not bound to a thread.
unsafe impl<D: Send> Send for Slots<D> {}
// SAFETY: By the invariants of `CommandSlot` only one thread at a time accesses what is in the
// cells: the one that holds the tag, or the one whose exchange succeeded.
unsafe impl<D: Send> Sync for Slots<D> {}

impl<D: Copy> Slots<D> {
    /// Slots for `queues` hardware queues of `depth` commands, whose data is mapped for `dev`.
    pub(super) fn new(
        dev: &device::Device<device::Bound>,
        queues: u32,
        depth: u32,
    ) -> Result<Self> {
        // The midlayer has a request and a command for each of them, which are much larger.
        const { assert!(size_of::<CommandSlot<D>>() <= SLOT_BYTES) };

        let dev: &device::Device = dev;
        let count = queues.checked_mul(depth).ok_or(EOVERFLOW)?;
        if count >= MAX_SLOTS {
            return Err(EINVAL);
        }
        let mut slots = KVVec::with_capacity(usize::try_from(count)?, GFP_KERNEL)?;

        for _ in 0..count {
            // INVARIANT: The word is free.
            let slot = CommandSlot {
                word: Atomic::new(Word::UNUSED.0),
                data: UnsafeCell::new(MaybeUninit::uninit()),
            };

            slots.push(slot, GFP_KERNEL)?;
        }
        Ok(Self {
            slots,
            queues,
            depth,
            dev: dev.into(),
        })
    }

    /// Hardware queues, and commands of each.
    pub(super) fn shape(&self) -> (u32, u32) {
        (self.queues, self.depth)
    }

    /// Data is mapped for this device.
    pub(super) fn is_for(&self, dev: &device::Device) -> bool {
        ptr::eq(&*self.dev, dev)
    }

    /// The device that data is mapped for.
    #[inline]
    pub(super) fn raw_device(&self) -> *mut bindings::device {
        ptr::from_ref::<device::Device>(&self.dev).cast_mut().cast()
    }

    /// The slot of a tag, and its number.
    #[inline]
    pub(super) fn of_tag(&self, queue: u16, tag: u32) -> Option<(&CommandSlot<D>, u32)> {
        if tag >= self.depth {
            return None;
        }
        let number = u32::from(queue).checked_mul(self.depth)?.checked_add(tag)?;

        Some((self.slots.get(number as usize)?, number))
    }

    /// Takes the command that the device's answer `id` on `channel` is for. Any context but NMI;
    /// who has the result may not sleep.
    #[inline]
    pub(crate) fn take(&self, id: u64, channel: u16) -> Result<Completed<'_, D>, BadId> {
        let answer = Answer::parse(id, channel)?;
        let slot = self.slots.get(answer.slot as usize).ok_or(BadId::Unknown)?;

        self.take_from(slot, answer.expected)
            .map_err(|word| answer.refusal(word))
    }

    /// Takes the command out of `slot` if its word is `expected`; returns the word otherwise.
    #[inline]
    fn take_from<'a>(
        &'a self,
        slot: &'a CommandSlot<D>,
        expected: Word,
    ) -> Result<Completed<'a, D>, Word> {
        let completing = rcu::read_lock();

        // INVARIANT: `expected` is in flight, so on success the command becomes ours.
        slot.take(expected, &completing)?;
        // INVARIANT: By the invariants of `CommandSlot` the data is ours until the command has
        // ended, and describes it.
        Ok(Completed {
            slot,
            slots: self,
            _completing: completing,
        })
    }

    /// Takes every command in flight that is on a channel `which` names, and gives it to `end`. May
    /// take long; `end` may not sleep.
    pub(crate) fn take_all(
        &self,
        which: impl Fn(u16) -> bool,
        mut end: impl FnMut(Completed<'_, D>),
    ) {
        for slot in self.slots.iter() {
            let word = slot.word();

            if word.is_in_flight() && which(word.channel()) {
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

    /// Waits until no command is in flight, nor on its way back to the midlayer. May sleep, for as
    /// long as the device does not answer.
    pub(super) fn wait_for_all(&self) {
        while self.in_flight() != 0 {
            fsleep(Delta::from_millis(LOOK_EVERY_MS));
        }
        // A command is not in flight any more a little before its data is unmapped and the midlayer
        // has it back. Who has it meanwhile, a `Completed`, is in a read-side section.
        rcu::synchronize_rcu();
    }
}

/// A command that came back, or was taken back. Its owner ends it.
///
/// # Invariants
///
/// The data in `slot` describes a command that the midlayer waits for and that this object owns,
/// and a mapping that still exists. Nobody else accesses it before the command has ended.
#[must_use = "the midlayer waits for the command"]
pub(crate) struct Completed<'a, D> {
    slot: &'a CommandSlot<D>,
    slots: &'a Slots<D>,
    /// Held until it has ended.
    _completing: rcu::Guard,
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
    Unit(unsafe { ptr::NonNull::new_unchecked(ffi::hv_scsi_shim_unit_of(cmd)) })
}

impl<D: Copy> Completed<'_, D> {
    #[inline]
    fn data(&self) -> &Data<D> {
        // SAFETY: By the type invariant it is initialised, and nobody writes it while this object
        // exists.
        unsafe { (*self.slot.data.get()).assume_init_ref() }
    }

    /// What the driver gave with it.
    #[inline]
    pub(crate) fn of_driver(&self) -> D {
        self.data().of_driver
    }

    /// The logical unit that it is for.
    pub(crate) fn address(&self) -> Address {
        // SAFETY: By the type invariant the command is valid, and keeps its unit.
        unsafe { unit_of(self.data().cmd) }.address()
    }

    /// Ends it: its data is the midlayer's again. Any context but NMI.
    #[inline]
    pub(crate) fn finish(self, end: &End<'_>) {
        let data = self.data();
        let cmd = data.cmd;

        // SAFETY: By the type invariant it is still mapped, for the device of the slots.
        unsafe { data.mapping.unmap(self.slots.raw_device()) };
        if !end.sense.is_empty() {
            let len = u32::try_from(end.sense.len()).unwrap_or(0);

            // SAFETY: The command is valid and ours, so is its sense buffer; the function limits
            // the length to that of the buffer.
            unsafe { ffi::hv_scsi_shim_sense(cmd, end.sense.as_ptr(), len) };
        }
        // SAFETY: By the type invariant the midlayer waits for the command, and it is ended once,
        // since `self` is consumed. Its slot is not looked at any more.
        unsafe {
            ffi::hv_scsi_shim_done(cmd, end.result, end.residual, end.is_sign_of_life);
        };
    }
}
