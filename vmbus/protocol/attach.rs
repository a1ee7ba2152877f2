// SPDX-License-Identifier: GPL-2.0

//! When a device is offered to the drivers, if not at once: in its turn, where
//! devices are probed in order, and again after the host was late.
//!
//! Whoever adds the device, registers a driver, gives turns or waits for the
//! host changes it at the same time: see [`crate::shared`].

use crate::shared::SharedState;

/// How long until the second `probe`, and how long at most until another one,
/// in milliseconds. Each takes its own time.
pub const FIRST_PAUSE_MS: u32 = 10_000;
/// See [`FIRST_PAUSE_MS`].
pub const MOST_PAUSE_MS: u32 = 160_000;

/// How often a device is probed again although memory of it is left to the
/// host, which gets some more each time.
pub const MOST_WITH_MEMORY: u32 = 3;

/// What happens to a device without a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachEvent {
    /// It is being added: others would wait for a `probe` that ran here.
    Add,
    /// It has been added.
    Added,
    /// A `probe` is due of a driver whose devices are probed in order, and which
    /// (or another one like it) is being registered or not. Fits unless it may
    /// run at once.
    Due {
        /// Not all of the devices that come before this one are known.
        registering: bool,
    },
    /// Its turn has come. Fits if it waits for it.
    Turn,
    /// A `probe` begins.
    Begin {
        /// Of a driver whose devices are probed in order.
        in_order: bool,
    },
    /// It has a driver.
    Bound,
    /// The host was late, and it is to be probed again.
    Late {
        /// By a driver whose devices are probed in order.
        in_order: bool,
    },
    /// The time for that has come. Fits if it is still to be probed again.
    Again {
        /// Memory of it is left to the host.
        memory: bool,
    },
}

/// What becomes of a device when the time for another `probe` has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has found a driver meanwhile.
    Nothing,
    /// Not until the host lets go of its memory.
    Wait {
        /// That has not been said yet.
        says: bool,
    },
    /// It is probed in its turn.
    InTurn,
    /// It is probed now.
    Now,
}

/// It is being added.
const ADDING: u32 = 1;
/// A `probe` was due meanwhile.
const POSTPONED: u32 = 1 << 1;
/// It waits for its turn.
const QUEUED: u32 = 1 << 2;
/// Whoever registers the driver waits for that turn.
const AWAITED: u32 = 1 << 3;
/// It is to be probed again.
const WANTED: u32 = 1 << 4;
/// And that is done in its turn.
const IN_ORDER: u32 = 1 << 5;
/// How often the host was late.
const LATE: Count = Count { shift: 8, most: 15 };
/// How often it was time for another `probe` while memory was left to the host.
const MEMORY: Count = Count {
    shift: 12,
    most: MOST_WITH_MEMORY + 1,
};

/// A number in four of the bits.
struct Count {
    shift: u32,
    most: u32,
}

impl Count {
    const fn of(&self, raw: u32) -> u32 {
        raw.wrapping_shr(self.shift) & 15
    }

    /// One more, up to the most.
    const fn one_more(&self, raw: u32) -> u32 {
        if self.of(raw) < self.most {
            raw.wrapping_add(1_u32.wrapping_shl(self.shift))
        } else {
            raw
        }
    }
}

/// Whether and when a device is offered to the drivers again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachLife(u32);

impl AttachLife {
    /// It was not offered yet.
    #[must_use]
    pub const fn new() -> Self {
        AttachLife(0)
    }

    const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// A `probe` was due while it is being added: its turn is to be asked for
    /// when it has been.
    #[must_use]
    pub const fn is_postponed(self) -> bool {
        self.has(POSTPONED)
    }

    /// It waits for its turn.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        self.has(QUEUED)
    }

    /// It waits for its turn, and whoever registers a driver waits until it has
    /// had it. These turns come before others.
    #[must_use]
    pub const fn is_awaited(self) -> bool {
        self.is_queued() && self.has(AWAITED)
    }

    /// How many milliseconds after [`AttachEvent::Late`], or an
    /// [`AttachEvent::Again`] that came to nothing, it is time (again): asked
    /// of the state before.
    #[must_use]
    pub const fn pause_ms(self) -> u32 {
        let late = LATE.of(self.0);
        // 10 s doubled four times is the most
        if late < 4 {
            FIRST_PAUSE_MS.wrapping_shl(late)
        } else {
            MOST_PAUSE_MS
        }
    }

    /// What [`AttachEvent::Again`] comes to, asked of the state before.
    #[must_use]
    pub const fn next(self, memory: bool) -> Next {
        let times = MEMORY.of(self.0);
        if !self.has(WANTED) {
            Next::Nothing
        } else if memory && times >= MOST_WITH_MEMORY {
            Next::Wait {
                says: times == MOST_WITH_MEMORY,
            }
        } else if self.has(IN_ORDER) {
            Next::InTurn
        } else {
            Next::Now
        }
    }

    /// It does not wait for its turn any more. What is due while it is being added
    /// is so all the same afterwards.
    const fn without_turn(self) -> u32 {
        if self.is_postponed() {
            self.0 & !QUEUED
        } else {
            self.0 & !(QUEUED | AWAITED)
        }
    }

    /// After the time for another `probe` has come.
    const fn again(self, memory: bool) -> u32 {
        let counted = if memory {
            MEMORY.one_more(self.0)
        } else {
            self.0
        };
        match self.next(memory) {
            Next::Nothing => self.0,
            // after the longest of pauses: the host was late four times at least
            Next::Wait { .. } => counted,
            Next::InTurn => (counted & !WANTED) | QUEUED,
            Next::Now => counted & !WANTED,
        }
    }
}

impl SharedState for AttachLife {
    type Event = AttachEvent;

    fn after(self, event: AttachEvent) -> Option<Self> {
        let old = self.0;
        let new = match event {
            AttachEvent::Add => (old | ADDING) & !POSTPONED,
            AttachEvent::Added if self.has(POSTPONED) => (old & !(ADDING | POSTPONED)) | QUEUED,
            AttachEvent::Added => old & !ADDING,
            AttachEvent::Due { registering } => {
                let awaited = if registering { AWAITED } else { 0 };
                // It may be the second driver that comes for it: that changes nothing, and is to
                // wait, too.
                if self.has(ADDING) {
                    return Some(AttachLife(old | POSTPONED | awaited));
                }
                if registering {
                    return Some(AttachLife(old | QUEUED | awaited));
                }
                old
            }
            AttachEvent::Turn if !self.is_queued() => old,
            AttachEvent::Turn | AttachEvent::Begin { in_order: true } => self.without_turn(),
            AttachEvent::Begin { in_order: false } => old,
            AttachEvent::Bound => self.without_turn() & (ADDING | POSTPONED | AWAITED),
            AttachEvent::Late { in_order } => {
                let kind = if in_order { IN_ORDER } else { 0 };
                LATE.one_more((old & !IN_ORDER) | WANTED | kind)
            }
            AttachEvent::Again { memory } => self.again(memory),
        };
        // What says the same again has happened all the same.
        let counts = matches!(event, AttachEvent::Late { .. })
            || matches!(event, AttachEvent::Again { .. } if self.has(WANTED));
        (new != old || counts).then_some(AttachLife(new))
    }

    #[inline]
    fn raw(self) -> u32 {
        self.0
    }

    #[inline]
    fn from_raw(raw: u32) -> Self {
        AttachLife(raw)
    }
}
