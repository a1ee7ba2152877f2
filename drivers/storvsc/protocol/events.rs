// SPDX-License-Identifier: GPL-2.0

//! Work on logical units that waits for a context that may sleep.
//!
//! Bounded, and nothing is allocated: what does not fit becomes a look at the
//! whole bus, which finds out by itself what was removed or changed.

use crate::{outcome::Followup, packet::Address};

/// Most units that wait.
pub const CAPACITY: usize = 32;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Look whether all known units are still there, then look for new ones.
    ScanBus,
    /// Something about one unit.
    Unit(Address, Followup),
}

/// The events that wait.
#[derive(Clone, Debug)]
pub struct Events {
    scan: bool,
    units: [Option<(Address, Followup)>; CAPACITY],
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Events {
            scan: false,
            units: [None; CAPACITY],
        }
    }

    /// Asks for a look at the whole bus. A burst becomes one.
    pub fn scan_bus(&mut self) {
        self.scan = true;
    }

    /// Asks for something about one unit, once.
    pub fn unit(&mut self, address: Address, followup: Followup) {
        let new = Some((address, followup));
        if self.units.contains(&new) {
            return;
        }
        match self.units.iter_mut().find(|unit| unit.is_none()) {
            Some(free) => *free = new,
            None => self.scan = true,
        }
    }

    /// Takes the next event: units before the bus.
    pub fn take(&mut self) -> Option<Event> {
        if let Some((address, followup)) = self.units.iter_mut().find_map(Option::take) {
            return Some(Event::Unit(address, followup));
        }
        core::mem::take(&mut self.scan).then_some(Event::ScanBus)
    }
}
