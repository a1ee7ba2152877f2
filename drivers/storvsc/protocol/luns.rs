// SPDX-License-Identifier: GPL-2.0

//! What is known about a host's logical units, which commands may go to them,
//! and what is left to do about them in a context that may sleep.
//!
//! The host can put another disk where one was. It says so by notices, which
//! may be late or in any order, and the new disk says so itself: it answers its
//! first command with a unit attention and does not do it (SAM-5 5.14), unless
//! that is `INQUIRY`, `REPORT LUNS` or `REQUEST SENSE`. So from the first hint
//! on a unit is *suspect*: nothing goes there but these three, until its
//! [`crate::identity`] has been compared. If it is another disk, or none, the
//! unit is *gone*: commands end without being sent, until the midlayer has
//! forgotten it.
//!
//! A unit that does not answer for minutes is *mute*: it is gone, too, and
//! is not looked for until it answers at last ([`Luns::on_voice`]), since
//! whoever looks would wait for ever, and with him all who look for units. So
//! that it can answer, [`crate::own`] listens for each of them.
//!
//! For a bus reset all commands are held.
//!
//! Bounded, and nothing is allocated, since hints come in interrupts: a bit for
//! each address. Whoever owns a [`Luns`] locks it.

use crate::{inbound::Status, packet::Address};

const TARGETS: usize = 4;
const LUNS: usize = 256;
const CHANNELS: usize = 8;
/// Words of 64 bits with a bit for each address: see [`place`].
pub const WORDS: usize = CHANNELS * TARGETS * LUNS / 64;

/// A set of addresses: channels 0 to 7, targets 0 to 3, all logical units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set([u64; WORDS]);

/// The number of an address, which the sets are indexed with.
fn index(address: Address) -> Option<usize> {
    let (channel, target) = (usize::from(address.channel), usize::from(address.target));
    (channel < CHANNELS && target < TARGETS)
        .then(|| (channel * TARGETS + target) * LUNS + usize::from(address.lun))
}

/// Which of [`WORDS`] words an address has its bit in, and a word with that bit. `None` for an
/// address that no host has.
#[must_use]
pub fn place(address: Address) -> Option<(usize, u64)> {
    let index = index(address)?;
    Some((index / 64, 1 << (index % 64)))
}

/// The number of the address behind this one, or of the first one.
fn behind(unit: Option<Address>) -> Option<usize> {
    match unit {
        Some(unit) => index(unit)?.checked_add(1),
        None => Some(0),
    }
}

/// The address with this number.
fn address(index: usize) -> Address {
    let byte = |n: usize| u8::try_from(n & 0xff).unwrap_or(0);
    Address {
        channel: byte(index / (TARGETS * LUNS)),
        target: byte(index / LUNS % TARGETS),
        lun: byte(index % LUNS),
    }
}

impl Set {
    const EMPTY: Self = Set([0; WORDS]);

    fn word(&mut self, address: Address) -> Option<(&mut u64, u64)> {
        let (word, bit) = place(address)?;
        Some((self.0.get_mut(word)?, bit))
    }

    fn insert(&mut self, address: Address) {
        if let Some((word, bit)) = self.word(address) {
            *word |= bit;
        }
    }

    fn remove(&mut self, address: Address) {
        if let Some((word, bit)) = self.word(address) {
            *word &= !bit;
        }
    }

    fn contains(&self, address: Address) -> bool {
        place(address)
            .and_then(|(word, bit)| Some(self.0.get(word)? & bit != 0))
            .unwrap_or(false)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn insert_all(&mut self, other: &Set) {
        for (to, from) in self.0.iter_mut().zip(other.0) {
            *to |= from;
        }
    }

    fn first(&self) -> Option<Address> {
        self.first_from(0)
    }

    /// The first one that is not in `other`.
    fn first_without(&self, other: &Set) -> Option<Address> {
        let mut left = *self;
        for (word, other) in left.0.iter_mut().zip(other.0) {
            *word &= !other;
        }
        left.first()
    }

    /// The first one whose number is not less than `start`.
    fn first_from(&self, start: usize) -> Option<Address> {
        let mut mask = u64::MAX << (start % 64);
        let mut base = start / 64 * 64;
        for word in self.0.get(start / 64..)? {
            let word = word & core::mem::replace(&mut mask, u64::MAX);
            if word != 0 {
                let bit = usize::try_from(word.trailing_zeros()).ok()?;
                return Some(address(base.checked_add(bit)?));
            }
            base = base.checked_add(64)?;
        }
        None
    }
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is sent.
    Send,
    /// It waits until the unit's identity has been compared, or the bus reset is over.
    Hold,
    /// It ends: there is no such unit any more.
    Gone,
}

/// What to do next, except for comparing identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Have the midlayer forget a unit that is gone, and look what is there now.
    Remove(Address),
    /// Have the midlayer read a unit's properties again.
    Rescan(Address),
    /// Look at each logical unit of a target, whose list the host refused.
    LookAtAll {
        /// SCSI channel.
        channel: u8,
        /// SCSI target.
        target: u8,
    },
    /// Look for new units on the whole bus.
    ScanBus,
}

/// What became of a unit whose identity was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the same.
    Same,
    /// It is the same, and has another size.
    Resized,
    /// There is another one, or none.
    Gone,
    /// It does not answer.
    Mute,
}

/// What is known, and what is left to do.
#[derive(Clone, Debug)]
pub struct Luns {
    /// The midlayer has them, and they are not gone.
    known: Set,
    /// Nothing may be sent before their identity was compared.
    suspect: Set,
    /// Something was heard about them since the comparison began.
    again: Set,
    /// Suspects that have not said who they are since [`Luns::wait_for_suspects`].
    silent: Set,
    gone: Set,
    /// Of those that are gone: the host has commands of theirs, for which their removal would wait.
    put_off: Set,
    /// They do not answer, so the midlayer does not get to know that they are there.
    mute: Set,
    changed: Set,
    /// No command may be sent.
    held: bool,
    /// A bit for each target of each channel.
    unlisted: u32,
    scan: bool,
}

impl Default for Luns {
    fn default() -> Self {
        Self::new()
    }
}

const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const REPORT_LUNS: u8 = 0xa0;

impl Luns {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Luns {
            known: Set::EMPTY,
            suspect: Set::EMPTY,
            again: Set::EMPTY,
            silent: Set::EMPTY,
            gone: Set::EMPTY,
            put_off: Set::EMPTY,
            mute: Set::EMPTY,
            changed: Set::EMPTY,
            held: false,
            unlisted: 0,
            scan: false,
        }
    }

    /// The midlayer makes a new unit. What was at its address is forgotten.
    pub fn add(&mut self, unit: Address) {
        self.forget(unit);
        self.mute.remove(unit);
        self.known.insert(unit);
    }

    /// The midlayer has no unit there any more.
    pub fn forget(&mut self, unit: Address) {
        for set in [
            &mut self.known,
            &mut self.suspect,
            &mut self.again,
            &mut self.silent,
            &mut self.gone,
            &mut self.put_off,
            &mut self.changed,
        ] {
            set.remove(unit);
        }
    }

    /// The host said that the set of units has changed: any of them may be
    /// another one now.
    pub fn on_notice(&mut self) {
        self.suspect.insert_all(&self.known);
        self.again.insert_all(&self.known);
        self.scan = true;
    }

    /// A command found out that a unit may be another one, or gone.
    pub fn on_doubt(&mut self, unit: Address) {
        if self.known.contains(unit) {
            self.suspect.insert(unit);
            self.again.insert(unit);
        }
    }

    /// A command found out that a unit's properties have changed.
    pub fn on_change(&mut self, unit: Address) {
        if self.known.contains(unit) {
            self.changed.insert(unit);
        }
    }

    /// The host refused to list the units of a target.
    pub fn on_no_list(&mut self, unit: Address) {
        if let Some(bit) = index(unit).and_then(|index| u32::try_from(index / LUNS).ok()) {
            self.unlisted |= 1u32.checked_shl(bit).unwrap_or(0);
        }
    }

    /// Whether there are commands that may not be sent.
    #[must_use]
    pub fn is_obstructed(&self) -> bool {
        self.held || !self.suspect.is_empty() || !self.gone.is_empty() || !self.mute.is_empty()
    }

    /// Which units those are to: [`WORDS`] words, see [`place`].
    pub fn obstructed(&self) -> impl Iterator<Item = u64> + '_ {
        let all = if self.held { u64::MAX } else { 0 };
        self.suspect
            .0
            .iter()
            .zip(&self.gone.0)
            .zip(&self.mute.0)
            .map(move |((suspect, gone), mute)| all | suspect | gone | mute)
    }

    /// What becomes of a command that starts with `opcode`.
    #[must_use]
    pub fn admission(&self, unit: Address, opcode: u8) -> Admission {
        if self.gone.contains(unit) || self.mute.contains(unit) {
            return Admission::Gone;
        }
        match opcode {
            _ if self.held => Admission::Hold,
            REQUEST_SENSE | INQUIRY | REPORT_LUNS => Admission::Send,
            _ if self.suspect.contains(unit) => Admission::Hold,
            _ => Admission::Send,
        }
    }

    /// The midlayer has a unit there, as far as is known, or shall have none.
    #[must_use]
    pub fn is_known(&self, unit: Address) -> bool {
        self.known.contains(unit) || self.gone.contains(unit) || self.mute.contains(unit)
    }

    /// The unit does not answer.
    #[must_use]
    pub fn is_mute(&self, unit: Address) -> bool {
        self.mute.contains(unit)
    }

    /// A unit answered that may have been mute. If it was, it is looked for; others are not.
    pub fn on_voice(&mut self, unit: Address) {
        if self.mute.contains(unit) {
            self.mute.remove(unit);
            self.scan = true;
        }
    }

    /// A unit that is mute, the first one behind `after`.
    #[must_use]
    pub fn next_mute(&self, after: Option<Address>) -> Option<Address> {
        self.mute.first_from(behind(after)?)
    }

    /// No command may be sent from now on.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Commands may be sent again.
    pub fn release(&mut self) {
        self.held = false;
    }

    /// A unit whose identity has to be compared, the first one behind `after`.
    /// [`Self::settle`] follows, unless it does not say who it is.
    pub fn next_suspect(&mut self, after: Option<Address>) -> Option<Address> {
        let unit = self.suspect.first_from(behind(after)?)?;
        self.again.remove(unit);
        Some(unit)
    }

    /// There are suspects.
    #[must_use]
    pub fn has_suspects(&self) -> bool {
        !self.suspect.is_empty()
    }

    /// A unit's properties changed, and were not read again since.
    #[must_use]
    pub fn is_changed(&self, unit: Address) -> bool {
        self.changed.contains(unit)
    }

    /// A unit's properties are about to be read again.
    pub fn on_rescan(&mut self, unit: Address) {
        self.changed.remove(unit);
    }

    /// The identity of a suspect was compared. If something was heard about it
    /// meanwhile, it stays one.
    pub fn settle(&mut self, unit: Address, verdict: Verdict) {
        if verdict == Verdict::Mute {
            self.mute.insert(unit);
        }
        if matches!(verdict, Verdict::Gone | Verdict::Mute) {
            self.forget(unit);
            self.gone.insert(unit);
            return;
        }
        self.silent.remove(unit);
        if verdict == Verdict::Resized {
            self.changed.insert(unit);
        }
        if !self.again.contains(unit) {
            self.suspect.remove(unit);
        }
    }

    /// A suspect said that it is busy: it is there, and says later who it is.
    pub fn on_busy(&mut self, unit: Address) {
        self.silent.remove(unit);
    }

    /// From now on suspects have as long as the caller likes to say who they are.
    pub fn wait_for_suspects(&mut self) {
        self.silent = self.suspect;
    }

    /// A suspect that has not said who it is since [`Self::wait_for_suspects`], one at a time. It
    /// is gone.
    pub fn take_silent(&mut self) -> Option<Address> {
        let unit = self.silent.first()?;
        self.settle(unit, Verdict::Gone);
        Some(unit)
    }

    /// The host has commands of a unit that is gone. Who removes it waits for
    /// them, and with him all who look for units, so that is done later.
    pub fn put_off(&mut self, unit: Address) {
        if self.gone.contains(unit) {
            self.put_off.insert(unit);
        }
    }

    /// There are units whose removal was put off.
    #[must_use]
    pub fn have_put_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    /// It may be time to remove them.
    pub fn try_again(&mut self) {
        self.put_off = Set::EMPTY;
    }

    /// Takes what is to be done next. A removal is followed by [`Self::forget`]
    /// or [`Self::put_off`], a rescan by [`Self::on_rescan`]: until then it is
    /// what comes next.
    pub fn take(&mut self) -> Option<Task> {
        if let Some(unit) = self.gone.first_without(&self.put_off) {
            return Some(Task::Remove(unit));
        }
        if let Some(unit) = self.changed.first() {
            return Some(Task::Rescan(unit));
        }
        if core::mem::take(&mut self.scan) {
            return Some(Task::ScanBus);
        }
        if self.unlisted != 0 {
            let bit = self.unlisted.trailing_zeros();
            self.unlisted &= self.unlisted.wrapping_sub(1);
            let Address {
                channel, target, ..
            } = address(usize::try_from(bit).ok()?.checked_mul(LUNS)?);
            return Some(Task::LookAtAll { channel, target });
        }
        None
    }
}

/// Milliseconds without an answer after which a unit counts as silent.
const SILENT_MS: u32 = 8;

/// Milliseconds that a suspect has at least to say who it is.
pub const SUSPECT_MS: u32 = 30_000;

/// Whether the answer to a command that starts with `opcode` shows that its unit has no unit
/// attention left to give: it did something that a new one would refuse.
#[inline]
#[must_use]
pub fn is_sign_of_life(opcode: u8, status: &Status) -> bool {
    status.scsi == 0 && status.srb == 1 && !matches!(opcode, REQUEST_SENSE | INQUIRY | REPORT_LUNS)
}

/// Whether a command that changes the medium may go to a unit that has
/// `pending` commands, this one included, and last gave a sign of life `silent_ms` ago.
///
/// A new disk refuses one command only. So a unit that was silent gets one, and
/// further writes when that, or another command, has been done: what was
/// meant for an old disk does not follow the command that the new one refuses.
/// However long that takes: a command without an answer is error handling's.
#[must_use]
pub fn may_write(pending: u32, silent_ms: u32) -> bool {
    pending <= 1 || silent_ms <= SILENT_MS
}
