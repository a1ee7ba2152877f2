// SPDX-License-Identifier: GPL-2.0

//! Relids that are still to be handed back.
//!
//! The host offers nothing with a relid until RELID_RELEASED has told it that
//! the guest has forgotten the channel (`drivers/hv/channel_mgmt.c:
//! vmbus_release_relid`, which does not look whether it was posted). So a
//! relid stays here until that message is with the host.

use crate::{message::MAX_CHANNEL_RELIDS, Relid};

const WORDS: usize = MAX_CHANNEL_RELIDS as usize / 64;

/// A set of relids; there is room for all.
#[derive(Clone, Debug)]
pub struct Unreleased([u64; WORDS]);

impl Default for Unreleased {
    fn default() -> Self {
        Self::new()
    }
}

impl Unreleased {
    /// No relid.
    #[must_use]
    pub const fn new() -> Self {
        Unreleased([0; WORDS])
    }

    /// Adds a relid. One that no channel can have is ignored.
    pub fn add(&mut self, relid: Relid) {
        if let Some(word) = self.0.get_mut(relid.raw() as usize / 64) {
            *word |= 1 << (relid.raw() % 64);
        }
    }

    /// Takes the lowest relid out.
    pub fn take(&mut self) -> Option<Relid> {
        let mut first = 0u32;

        for word in &mut self.0 {
            if *word != 0 {
                let bit = word.trailing_zeros();

                *word &= word.wrapping_sub(1);
                return Some(Relid(first.wrapping_add(bit)));
            }
            first = first.wrapping_add(64);
        }
        None
    }

    /// Takes this relid out. Returns whether it was there.
    pub fn remove(&mut self, relid: Relid) -> bool {
        let Some(word) = self.0.get_mut(relid.raw() as usize / 64) else {
            return false;
        };
        let bit = 1 << (relid.raw() % 64);
        let there = *word & bit != 0;

        *word &= !bit;
        there
    }

    /// Forgets all of them: so has the host.
    pub fn clear(&mut self) {
        self.0 = [0; WORDS];
    }
}
