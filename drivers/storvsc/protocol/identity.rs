// SPDX-License-Identifier: GPL-2.0

//! Who a logical unit is, by what it says of itself.
//!
//! An [`Interview`] asks with commands that a new unit answers without giving
//! its unit attention away, and last, of a disk, for its size. A unit that gives
//! its unit attention away then may be another one than the one that answered
//! before: it is asked anew. What is asked is decided here; sending is the
//! caller's.

use crate::{
    inbound::Status,
    luns::Verdict,
    outcome::{class, hint, says_busy, sense_code, sense_key, Class, Followup, AUTOSENSE_VALID},
    packet::{Cdb, MAX_CDB},
};

/// Most bytes of an answer that are looked at.
pub const ANSWER_BYTES: usize = 252;

/// Bytes of `INQUIRY` data that count.
const INQUIRY_BYTES: usize = 36;

/// Times that a question is asked again when the unit is busy or has something
/// else to say.
const TRIES: u32 = 10;

/// Times that an interview begins again, since the unit may have become another one.
const RESTARTS: u32 = 10;

/// A page of vital product data.
// No allocator here, and there are few at a time.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// What it says.
    Says {
        len: usize,
        bytes: [u8; ANSWER_BYTES],
    },
    /// The unit has no such page.
    Missing,
    /// The unit, or the host, refused it with errors that say nothing of whether it is there.
    Unreadable,
}

impl Page {
    /// It says something: a name, which no other unit has. Blanks are none.
    fn is_name(&self) -> bool {
        let Page::Says { len, bytes } = self else {
            return false;
        };
        let says = |body: &[u8]| body.iter().any(|byte| !matches!(byte, 0 | b' '));
        bytes.get(..*len).is_some_and(says)
    }

    fn is_unreadable(&self) -> bool {
        matches!(self, Page::Unreadable)
    }

    fn against(&self, new: &Self) -> Pair {
        match (self, new) {
            _ if self == new && self.is_name() => Pair::Same,
            _ if self == new => Pair::Nothing,
            (Page::Unreadable, _) if new.is_name() => Pair::Late,
            (_, Page::Unreadable) if self.is_name() => Pair::Lost,
            (Page::Unreadable, _) | (_, Page::Unreadable) => Pair::Nothing,
            _ => Pair::Other,
        }
    }
}

/// Blocks of a disk, and bytes of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Capacity {
    last_block: u64,
    block_bytes: u32,
}

/// What a unit says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    inquiry: [u8; INQUIRY_BYTES],
    serial: Page,
    designators: Page,
    capacity: Option<Capacity>,
}

/// What was found where a unit should be.
// No allocator here, and there is one at a time.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no unit at the address.
    Nothing,
    /// This one.
    Unit {
        /// Who it is.
        identity: Identity,
        /// It said that its size has changed.
        resized: bool,
    },
    /// It says that it is busy, and has to be asked later.
    Busy,
    /// It does not say: it answers with errors.
    Unknown,
    /// It does not answer.
    Mute,
}

/// What to ask next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Inquiry,
    Serial,
    Designators,
    Capacity10,
    Capacity16,
}

/// The questions to one unit.
#[derive(Clone, Debug)]
pub struct Interview {
    question: Option<Question>,
    tries: u32,
    restarts: u32,
    identity: Identity,
    end: End,
    resized: bool,
}

/// How an interview ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Nothing,
    Unit,
    Busy,
    Unknown,
    Mute,
}

impl Default for Interview {
    fn default() -> Self {
        Self::new()
    }
}

const SERIAL_PAGE: u8 = 0x80;
const DESIGNATORS_PAGE: u8 = 0x83;
const TYPE_DISK: u8 = 0x00;
const TYPE_ZONED: u8 = 0x14;

/// Sense key: what was asked does not exist.
const ILLEGAL_REQUEST: u8 = 5;
/// Sense key: there is no medium, or it is not there yet.
const NOT_READY: u8 = 2;

impl Question {
    /// The command block, and how many bytes of data it asks for.
    fn cdb(self) -> (Cdb, u8) {
        let mut bytes = [0; MAX_CDB];
        let bytes_asked = match self {
            Question::Inquiry => 36,
            Question::Serial | Question::Designators => 252,
            Question::Capacity10 => 8,
            Question::Capacity16 => 32,
        };
        let [op, flags, page, _, len, _, _, _, _, _, _, _, _, len16, ..] = &mut bytes;
        let cdb_len = match self {
            Question::Inquiry | Question::Serial | Question::Designators => {
                (*op, *len) = (0x12, bytes_asked);
                (*flags, *page) = match self {
                    Question::Serial => (1, SERIAL_PAGE),
                    Question::Designators => (1, DESIGNATORS_PAGE),
                    _ => (0, 0),
                };
                6
            }
            Question::Capacity10 => {
                *op = 0x25;
                10
            }
            Question::Capacity16 => {
                (*op, *flags, *len16) = (0x9e, 0x10, bytes_asked);
                16
            }
        };
        (Cdb::new(bytes, cdb_len), bytes_asked)
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// The body of a page, if it is the one with this code, as far as it goes.
fn body(data: &[u8], code: u8) -> Option<&[u8]> {
    let [_, page, high, low, body @ ..] = data else {
        return None;
    };
    let len = (usize::from(*high) << 8) | usize::from(*low);
    if *page != code {
        return None;
    }
    body.get(..len.min(body.len()))
}

/// A page with this code.
fn page(data: &[u8], code: u8) -> Page {
    let mut bytes = [0; ANSWER_BYTES];
    let Some(body) = body(data, code) else {
        return Page::Missing;
    };
    match bytes.get_mut(..body.len()) {
        Some(to) => to.copy_from_slice(body),
        None => return Page::Missing,
    }
    Page::Says {
        len: body.len(),
        bytes,
    }
}

impl Interview {
    /// Nothing was asked.
    #[must_use]
    pub const fn new() -> Self {
        Interview {
            question: Some(Question::Inquiry),
            tries: 0,
            restarts: 0,
            identity: Identity {
                inquiry: [0; INQUIRY_BYTES],
                serial: Page::Missing,
                designators: Page::Missing,
                capacity: None,
            },
            end: End::Unknown,
            resized: false,
        }
    }

    /// The command to send next, and how many bytes of data it gets; `None` at
    /// the end.
    #[must_use]
    pub fn next(&self) -> Option<(Cdb, u8)> {
        self.question.map(Question::cdb)
    }

    /// What was found; [`Found::Unknown`] before the end.
    #[must_use]
    pub fn found(self) -> Found {
        match self.end {
            End::Nothing => Found::Nothing,
            End::Busy => Found::Busy,
            End::Unknown => Found::Unknown,
            End::Mute => Found::Mute,
            End::Unit => Found::Unit {
                identity: self.identity,
                resized: self.resized,
            },
        }
    }

    /// Whether there is a unit, once that is known.
    #[must_use]
    pub fn is_present(&self) -> Option<bool> {
        match (self.question, self.end) {
            (Some(Question::Inquiry), _) => None,
            (Some(_), _) | (None, End::Unit) => Some(true),
            (None, _) => Some(false),
        }
    }

    fn is_disk(&self) -> bool {
        matches!(self.identity.inquiry.first(), Some(kind)
            if matches!(kind & 0x1f, TYPE_DISK | TYPE_ZONED))
    }

    fn finish(&mut self, end: End) {
        self.question = None;
        self.end = end;
    }

    /// Takes the answer to the last command: its status, and as much data as is
    /// there.
    pub fn on_answer(&mut self, status: &Status, data: &[u8]) {
        let Some(question) = self.question else {
            return;
        };
        if status.is_good() {
            self.tries = 0;
            return self.on_data(question, data);
        }
        let sense = if status.srb & AUTOSENSE_VALID != 0 {
            status.sense()
        } else {
            &[]
        };
        if sense_code(sense) == Some((0x2a, 0x09)) {
            self.resized = true;
        }
        let class = class(status.srb);
        match (class, sense_key(sense)) {
            (Class::NoUnit | Class::NoDevice, _) => self.finish(End::Nothing),
            // There is no such page, or no such command.
            (_, Some(ILLEGAL_REQUEST)) if question != Question::Inquiry => {
                self.on_data(question, &[]);
            }
            (_, Some(NOT_READY))
                if matches!(question, Question::Capacity10 | Question::Capacity16) =>
            {
                self.on_data(question, &[]);
            }
            _ if matches!(hint(sense), Some(Followup::Identify | Followup::Notice)) => {
                self.restart()
            }
            _ if says_busy(class, status.scsi) => self.try_again(End::Busy),
            _ if question != Question::Inquiry && self.tries >= TRIES => {
                self.tries = 0;
                self.on_unreadable(question);
            }
            _ => self.on_no_answer(),
        }
    }

    /// The unit may be another one than it was: what it has said does not count.
    fn restart(&mut self) {
        let restarts = self.restarts.saturating_add(1);
        *self = Self {
            restarts,
            ..Self::new()
        };
        if restarts > RESTARTS {
            self.finish(End::Unknown);
        }
    }

    /// The last command was not answered in all the time that there is: the unit
    /// is not asked again.
    pub fn on_silence(&mut self) {
        self.finish(End::Mute);
    }

    /// The last command was not answered, or not with what was asked.
    pub fn on_no_answer(&mut self) {
        self.try_again(End::Unknown);
    }

    fn try_again(&mut self, end: End) {
        self.tries = self.tries.saturating_add(1);
        if self.tries > TRIES {
            self.finish(end);
        }
    }

    /// Some hosts refuse a page with errors that say nothing, always; others have had a bad moment.
    fn on_unreadable(&mut self, question: Question) {
        self.on_data(question, &[]);
        match question {
            Question::Serial => self.identity.serial = Page::Unreadable,
            Question::Designators => self.identity.designators = Page::Unreadable,
            Question::Inquiry | Question::Capacity10 | Question::Capacity16 => {}
        }
    }

    fn on_data(&mut self, question: Question, data: &[u8]) {
        let next = match question {
            Question::Inquiry => {
                for (to, from) in self.identity.inquiry.iter_mut().zip(data) {
                    *to = *from;
                }
                // Peripheral qualifier: there is none now, or there can be none.
                match data.first() {
                    Some(first) if first >> 5 == 0 => Question::Serial,
                    _ => return self.finish(End::Nothing),
                }
            }
            Question::Serial => {
                self.identity.serial = page(data, SERIAL_PAGE);
                Question::Designators
            }
            Question::Designators => {
                self.identity.designators = page(data, DESIGNATORS_PAGE);
                if !self.is_disk() {
                    return self.finish(End::Unit);
                }
                Question::Capacity10
            }
            Question::Capacity10 => match u32_at(data, 0) {
                Some(u32::MAX) => Question::Capacity16,
                last => {
                    self.identity.capacity =
                        last.zip(u32_at(data, 4)).map(|(last, block)| Capacity {
                            last_block: last.into(),
                            block_bytes: block,
                        });
                    return self.finish(End::Unit);
                }
            },
            Question::Capacity16 => {
                self.identity.capacity = u32_at(data, 0)
                    .zip(u32_at(data, 4))
                    .zip(u32_at(data, 8))
                    .map(|((high, low), block)| Capacity {
                        last_block: (u64::from(high) << 32) | u64::from(low),
                        block_bytes: block,
                    });
                return self.finish(End::Unit);
            }
        };
        self.question = Some(next);
    }
}

impl Identity {
    /// Kind of device, vendor and product. Not the revision, which is that of
    /// the host, and can change when the guest goes to another one.
    fn model(&self) -> (Option<&u8>, Option<&[u8]>) {
        (self.inquiry.first(), self.inquiry.get(8..32))
    }

    /// It is the same unit, if its size may have changed.
    #[must_use]
    pub fn is_same_but_size(&self, new: &Self) -> bool {
        let named = matches!(
            self.names(new),
            Names::Same | Names::SameInPart | Names::None
        );
        named && self.model() == new.model()
    }

    /// Takes what the same unit says later: its size, and a name that could not be read before, if
    /// another one says that it is the same. A name that cannot be read now is kept.
    pub fn adopt(&mut self, new: &Self) {
        if matches!(self.names(new), Names::Same | Names::SameInPart) {
            for (old, new) in [
                (&mut self.serial, &new.serial),
                (&mut self.designators, &new.designators),
            ] {
                if old.is_unreadable() {
                    *old = *new;
                }
            }
        }
        self.capacity = new.capacity.or(self.capacity);
    }

    /// Takes what a new unit, which nobody uses yet, says when it is asked once more, unless it has
    /// become another one: returns false then. Names that were read are kept when they cannot be
    /// read now.
    pub fn learn(&mut self, new: &Self) -> bool {
        if self.model() != new.model() {
            return false;
        }
        match self.names(new) {
            Names::Same | Names::SameInPart => self.adopt(new),
            Names::Unknown => {}
            // It had none that could be read, so nobody else can have been meant.
            Names::Other if self.has_name() => return false,
            Names::Other | Names::None => {
                let capacity = new.capacity.or(self.capacity);
                *self = Self {
                    capacity,
                    ..new.clone()
                };
            }
        }
        true
    }

    fn has_name(&self) -> bool {
        self.serial.is_name() || self.designators.is_name()
    }

    /// A page could not be read: it is worth to ask once more.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.serial.is_unreadable() || self.designators.is_unreadable()
    }

    /// What its pages say of whether it is the unit `new`, which was asked later.
    fn names(&self, new: &Self) -> Names {
        let serial = self.serial.against(&new.serial);
        let designators = self.designators.against(&new.designators);
        let says = |what| serial == what || designators == what;

        if says(Pair::Other) {
            Names::Other
        } else if says(Pair::Same) {
            if self.is_incomplete() || new.is_incomplete() {
                Names::SameInPart
            } else {
                Names::Same
            }
        } else if says(Pair::Lost) {
            Names::Unknown
        } else if says(Pair::Late) {
            // Whoever that is: nobody has heard its name before.
            Names::Other
        } else {
            Names::None
        }
    }
}

/// What a page says, and the same page asked later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    /// The same name.
    Same,
    /// Not the same.
    Other,
    /// A name that cannot be read now.
    Lost,
    /// A name that could not be read before.
    Late,
    /// No name.
    Nothing,
}

/// What the pages of two units say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// A name that is the same, and no other one.
    Same,
    /// One that is the same, and a page that cannot be read now, or could not be.
    SameInPart,
    /// Neither has a name.
    None,
    /// One had a name that cannot be read now.
    Unknown,
    /// Names that are not the same.
    Other,
}

/// Compares what was found with who was there. `None` when it is not known.
///
/// A unit without a name, neither serial number nor designators, is told from
/// another one of its kind by its size, unless it says that its size changed.
#[must_use]
pub fn compare(old: &Identity, found: &Found) -> Option<Verdict> {
    let (new, resized) = match found {
        Found::Busy | Found::Unknown => return None,
        Found::Nothing => return Some(Verdict::Gone),
        Found::Mute => return Some(Verdict::Mute),
        Found::Unit { identity, resized } => (identity, *resized),
    };
    let same_size = match (old.capacity, new.capacity) {
        (Some(old), Some(new)) => old == new,
        _ => true,
    };
    // Of a disk that is starting it is not known yet.
    let size_is_lost = old.capacity.is_some() && new.capacity.is_none();
    let vouches = old.capacity.is_none() || old.capacity == new.capacity;
    let same = match (old.model() == new.model(), old.names(new)) {
        (false, _) | (_, Names::Other) => false,
        (_, Names::Unknown) => return None,
        (_, Names::Same) => true,
        (_, Names::SameInPart) if !vouches && !resized => return None,
        (_, Names::SameInPart) => true,
        (_, Names::None) if size_is_lost && !resized => return None,
        (_, Names::None) => same_size || resized,
    };
    Some(match (same, same_size) {
        (false, _) => Verdict::Gone,
        (true, true) => Verdict::Same,
        (true, false) => Verdict::Resized,
    })
}
