// SPDX-License-Identifier: GPL-2.0

//! Transaction ids of SCSI commands, and the state of the slot behind each.
//!
//! The block layer gives each command a tag, and each tag has a slot. A slot's
//! state is one 64-bit word that is changed by single atomic operations, which
//! belong to the caller; here is what the words mean. Two rules keep it sound:
//!
//! - only who holds the tag turns a free word into one in flight;
//! - the one whose exchange turns a word in flight into a free one owns the
//!   command, and with it the slot, until the tag is used again.
//!
//! So each command ends exactly once, whatever ids the host repeats, invents
//! or sends late. Each use of a slot has its own generation, which is part of
//! the id: an answer to an earlier use does not match.
//!
//! An id is never 0, and its highest bit is never set, so a driver may have ids of
//! its own there.
//!
//! This file knows nothing of the kernel: the driver's pure crate compiles it, too,
//! for tests and fuzzing.

use core::fmt;

/// Most slots of a host.
pub const MAX_SLOTS: u32 = 0x7fff_ffff;

/// Why a transaction id was refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadId {
    /// No command has it.
    Unknown,
    /// The slot is free: the id was never issued, or has already been answered.
    NotPending,
    /// The slot was used again since this id was issued, or the command is on another channel.
    Stale,
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadId::Unknown => "unknown transaction id",
            BadId::NotPending => "transaction id is not pending",
            BadId::Stale => "stale transaction id",
        })
    }
}

const GENERATION_MASK: u32 = 0x7fff_ffff;
const IN_FLIGHT: u64 = 1 << 63;

/// State of a slot: bit 63 in flight, bits 32 to 62 generation, bits 0 to 15
/// the channel that the command was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// A slot that was never used.
    pub const UNUSED: Self = Self(0);

    /// A command is with the host.
    #[inline]
    #[must_use]
    pub const fn is_in_flight(self) -> bool {
        self.0 & IN_FLIGHT != 0
    }

    /// The channel that the command was sent on.
    #[inline]
    #[must_use]
    pub const fn channel(self) -> u16 {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    #[inline]
    const fn generation(self) -> u64 {
        (self.0 >> 32) & GENERATION_MASK as u64
    }

    /// The slot can be used, if it can.
    #[inline]
    #[must_use]
    pub const fn as_free(self) -> Option<FreeWord> {
        if self.is_in_flight() {
            None
        } else {
            Some(FreeWord(self.generation()))
        }
    }

    /// The word after the command came back.
    #[inline]
    #[must_use]
    pub const fn free(self) -> Word {
        Word(self.0 & !IN_FLIGHT)
    }
}

/// The word of a slot that is not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeWord(u64);

impl FreeWord {
    /// The word and the transaction id for the next use of slot `slot`, whose
    /// number is less than [`MAX_SLOTS`], on channel `channel`.
    #[inline]
    #[must_use]
    pub const fn next(self, slot: u32, channel: u16) -> (Word, u64) {
        let generation = (self.0.wrapping_add(1) & GENERATION_MASK as u64) << 32;
        let word = Word(IN_FLIGHT | generation | channel as u64);
        (word, generation | (slot as u64).wrapping_add(1))
    }
}

/// What a transaction id of the host names: a slot, and the word that the slot
/// must have for the id to be an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Number of the slot, not checked against the number of slots.
    pub slot: u32,
    /// What the slot's word must be.
    pub expected: Word,
}

impl Answer {
    /// Takes an id apart that came on `channel`.
    ///
    /// # Errors
    ///
    /// [`BadId::Unknown`] for an id that no slot can have.
    #[inline]
    pub fn parse(id: u64, channel: u16) -> Result<Self, BadId> {
        if id & IN_FLIGHT != 0 {
            return Err(BadId::Unknown);
        }
        let low = u32::try_from(id & 0xffff_ffff).map_err(|_| BadId::Unknown)?;
        let slot = low.checked_sub(1).ok_or(BadId::Unknown)?;
        Ok(Answer {
            slot,
            expected: Word(IN_FLIGHT | (id & !0xffff_ffff) | u64::from(channel)),
        })
    }

    /// Why the id is refused when the slot's word is `word`.
    #[must_use]
    pub const fn refusal(self, word: Word) -> BadId {
        if word.is_in_flight() {
            BadId::Stale
        } else {
            BadId::NotPending
        }
    }
}
