// SPDX-License-Identifier: GPL-2.0

//! Transaction ids of requests that want a completion.
//!
//! The host repeats the id in the completion, so an id is checked like any
//! other host value. An id is a slot number and the slot's generation, which
//! makes repeated and stale completions visible even when the slot is in use
//! again.

use core::{fmt, marker::PhantomData, ops::DerefMut};

/// Ids from here on are reserved for drivers' own fixed ids
/// (`VMBUS_NO_RQSTOR`, `VMBUS_RQST_INIT` and so on); the table never hands
/// them out.
pub const RESERVED_IDS: u64 = u64::MAX - 15;

/// Most slots of a table.
pub const MAX_SLOTS: usize = 1 << 16;

const GENERATION_MASK: u32 = 0x7fff_ffff;

/// One place of a table.
#[derive(Debug)]
pub struct Slot<T> {
    generation: u32,
    /// Next free slot's number, while this one is free.
    next_free: Option<u32>,
    value: Option<T>,
}

impl<T> Slot<T> {
    /// A free slot.
    #[must_use]
    pub const fn new() -> Self {
        Slot {
            generation: 0,
            next_free: None,
            value: None,
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a transaction id was refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadId {
    /// Id 0: no request has it.
    Zero,
    /// One of the reserved ids.
    Reserved,
    /// No slot has this number.
    Unknown,
    /// The slot is free: never issued, or already completed.
    NotPending,
    /// The slot was reused since this id was issued.
    Stale,
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadId::Zero => "transaction id 0",
            BadId::Reserved => "reserved transaction id",
            BadId::Unknown => "unknown transaction id",
            BadId::NotPending => "transaction id is not pending",
            BadId::Stale => "stale transaction id",
        })
    }
}

/// A table of pending requests in storage of the caller: a vector, a boxed or
/// a borrowed slice.
#[derive(Debug)]
pub struct RequestTable<T, S: DerefMut<Target = [Slot<T>]>> {
    slots: S,
    first_free: Option<u32>,
    pending: usize,
    _value: PhantomData<T>,
}

impl<T, S: DerefMut<Target = [Slot<T>]>> RequestTable<T, S> {
    /// Makes an empty table of `slots.len()` places, of which at most
    /// [`MAX_SLOTS`] are used. Values left in `slots` are dropped.
    pub fn new(mut slots: S) -> Self {
        let mut next = None;
        for (number, slot) in slots.iter_mut().take(MAX_SLOTS).enumerate().rev() {
            slot.value = None;
            slot.next_free = next;
            next = u32::try_from(number).ok();
        }
        RequestTable {
            slots,
            first_free: next,
            pending: 0,
            _value: PhantomData,
        }
    }

    /// Number of requests under way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Number of places.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len().min(MAX_SLOTS)
    }

    /// Takes a place for `value` and returns its id: never 0, never reserved,
    /// and different from the last ids of the same place.
    ///
    /// # Errors
    ///
    /// Gives `value` back when the table is full.
    #[inline]
    pub fn alloc(&mut self, value: T) -> Result<u64, T> {
        let Some(number) = self.first_free else {
            return Err(value);
        };
        let slot = usize::try_from(number)
            .ok()
            .and_then(|index| self.slots.get_mut(index));
        let Some(slot) = slot else {
            return Err(value);
        };
        self.first_free = slot.next_free.take();
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        slot.value = Some(value);
        self.pending = self.pending.saturating_add(1);
        Ok(encode(number, slot.generation))
    }

    /// Checks an id and finds its place.
    #[inline]
    fn find(&self, id: u64) -> Result<(usize, u32), BadId> {
        let (number, generation) = decode(id)?;
        let index = usize::try_from(number).map_err(|_| BadId::Unknown)?;
        let slot = self
            .slots
            .get(index)
            .filter(|_| index < MAX_SLOTS)
            .ok_or(BadId::Unknown)?;
        if slot.value.is_none() {
            return Err(BadId::NotPending);
        }
        if slot.generation != generation {
            return Err(BadId::Stale);
        }
        Ok((index, number))
    }

    /// Ends the request with this id and returns its value.
    ///
    /// # Errors
    ///
    /// See [`BadId`]; the table is unchanged then.
    #[inline]
    pub fn complete(&mut self, id: u64) -> Result<T, BadId> {
        let (index, number) = self.find(id)?;
        let slot = self.slots.get_mut(index).ok_or(BadId::Unknown)?;
        let value = slot.value.take().ok_or(BadId::NotPending)?;
        slot.next_free = self.first_free;
        self.first_free = Some(number);
        self.pending = self.pending.saturating_sub(1);
        Ok(value)
    }

    /// Looks at a request without ending it.
    ///
    /// # Errors
    ///
    /// See [`BadId`].
    pub fn get(&self, id: u64) -> Result<&T, BadId> {
        let (index, _) = self.find(id)?;
        self.slots
            .get(index)
            .and_then(|slot| slot.value.as_ref())
            .ok_or(BadId::NotPending)
    }

    /// Looks at a request without ending it.
    ///
    /// # Errors
    ///
    /// See [`BadId`].
    pub fn get_mut(&mut self, id: u64) -> Result<&mut T, BadId> {
        let (index, _) = self.find(id)?;
        self.slots
            .get_mut(index)
            .and_then(|slot| slot.value.as_mut())
            .ok_or(BadId::NotPending)
    }

    /// Ends any one pending request, for tear-down; `None` when there is none.
    pub fn take_any(&mut self) -> Option<T> {
        let id = self
            .slots
            .iter()
            .take(MAX_SLOTS)
            .enumerate()
            .find(|(_, slot)| slot.value.is_some())
            .and_then(|(index, slot)| Some(encode(u32::try_from(index).ok()?, slot.generation)))?;
        self.complete(id).ok()
    }
}

/// Generation in bits 32 to 62, slot number + 1 below.
#[inline]
fn encode(number: u32, generation: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(number).wrapping_add(1)
}

#[inline]
fn decode(id: u64) -> Result<(u32, u32), BadId> {
    if id == 0 {
        return Err(BadId::Zero);
    }
    if id >= RESERVED_IDS {
        return Err(BadId::Reserved);
    }
    let generation = u32::try_from(id >> 32).map_err(|_| BadId::Unknown)?;
    let low = u32::try_from(id & 0xffff_ffff).map_err(|_| BadId::Unknown)?;
    let number = low.checked_sub(1).ok_or(BadId::Unknown)?;
    Ok((number, generation))
}
