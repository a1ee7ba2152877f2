// SPDX-License-Identifier: GPL-2.0

//! Whose commands may not be sent, for those who send: without a lock.

use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};
use storvsc_protocol::{
    luns::{place, Luns, WORDS},
    packet::Address,
};

/// What is in the way of commands.
pub(crate) struct Obstacles {
    /// Something is.
    any: Atomic<bool>,
    /// A bit for each address; says nothing when there is nothing in the way.
    units: [Atomic<u64>; WORDS],
}

impl Obstacles {
    /// Nothing is.
    pub(crate) const fn new() -> Self {
        Self {
            any: Atomic::new(false),
            units: [const { Atomic::new(0) }; WORDS],
        }
    }

    /// Whether something is. Any context.
    #[inline]
    pub(crate) fn exist(&self) -> bool {
        self.any.load(Acquire)
    }

    /// Whether something may be in the way of commands to this unit, if something is at all. Any
    /// context.
    #[cold]
    pub(crate) fn concern(&self, unit: Address) -> bool {
        let Some((word, bit)) = place(unit) else {
            return true;
        };

        self.units
            .get(word)
            .is_none_or(|units| units.load(Relaxed) & bit != 0)
    }

    /// Takes over what `luns` knows, which the caller has locked; a dead device is in everybody's
    /// way.
    pub(crate) fn set(&self, luns: &Luns, is_dead: bool) {
        let any = is_dead || luns.is_obstructed();

        if any {
            for (units, now) in self.units.iter().zip(luns.obstructed()) {
                units.store(if is_dead { u64::MAX } else { now }, Relaxed);
            }
        }
        // Release: who sees it sees the bits.
        self.any.store(any, Release);
    }
}
