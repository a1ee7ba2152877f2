// SPDX-License-Identifier: GPL-2.0

//! A host that does not answer: what it is to be asked again, and when.
//!
//! A real host may be held up for tens of seconds, and goes on as if nothing had been. So nothing
//! that it was asked is given up: it is asked again, after pauses that grow, by somebody whom
//! nobody waits for.

/// The first pause, in milliseconds; each is twice the one before.
pub const FIRST_PAUSE_MS: u32 = 1_000;
/// The longest one before a host is asked again.
pub const LONGEST_PAUSE_MS: u32 = 32_000;
/// The longest one before an adapter is connected anew that was so before to no avail.
pub const LONGEST_REST_MS: u32 = 512_000;
/// How long a host that was left alone, and goes on with some frames, has for those of the other
/// queues, in milliseconds: twice as long as it may do nothing with a queue.
pub const GOING_ON_MS: u32 = 10_000;

/// What a host is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// To deliver the frames that are wanted. It does no harm to ask that at any time.
    Mode,
    /// To spread frames over the channels that there are.
    Spread,
    /// By which path frames are to go. It does no harm to ask that at any time.
    Path,
    /// Whether it is there, before the adapter is connected anew.
    Recovery,
}

/// Pauses that grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses(u32);

impl Pauses {
    /// From the first one.
    #[must_use]
    pub const fn new() -> Self {
        Pauses(0)
    }

    /// How long to wait now, in milliseconds; no longer than `longest`.
    #[must_use]
    pub fn now(&self, longest: u32) -> u32 {
        2u32.saturating_pow(self.0)
            .saturating_mul(FIRST_PAUSE_MS)
            .min(longest)
    }

    /// It was of no use: the next one is longer.
    pub fn grow(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// It was of use: the next one is short again.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

/// What a host has not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    mode: bool,
    spread: bool,
    path: bool,
    recovery: bool,
    pauses: Pauses,
    silences: u32,
}

impl Unanswered {
    /// The host has answered all that it was asked.
    #[must_use]
    pub const fn new() -> Self {
        Unanswered {
            mode: false,
            spread: false,
            path: false,
            recovery: false,
            pauses: Pauses::new(),
            silences: 0,
        }
    }

    fn flag(&mut self, question: Question) -> &mut bool {
        match question {
            Question::Mode => &mut self.mode,
            Question::Spread => &mut self.spread,
            Question::Path => &mut self.path,
            Question::Recovery => &mut self.recovery,
        }
    }

    /// The host was asked and has not answered. Returns after how many milliseconds to ask it
    /// again, what [`Self::take`] says then.
    pub fn add(&mut self, question: Question) -> u32 {
        *self.flag(question) = true;
        self.pauses.now(LONGEST_PAUSE_MS)
    }

    /// Takes out one thing that the host is to be asked now, until there is none.
    pub fn take(&mut self) -> Option<Question> {
        [
            Question::Mode,
            Question::Spread,
            Question::Path,
            Question::Recovery,
        ]
        .into_iter()
        .find(|question| core::mem::take(self.flag(*question)))
    }

    /// As [`Self::take`], without what the host is better left alone with when it has just come
    /// back to life: it may be about to do what is missing.
    pub fn take_harmless(&mut self) -> Option<Question> {
        [Question::Mode, Question::Spread, Question::Path]
            .into_iter()
            .find(|question| core::mem::take(self.flag(*question)))
    }

    /// Pauses are short again.
    pub fn reset(&mut self) {
        self.pauses.reset();
    }

    /// The host is asked again: if that is of no use, the next pause is longer.
    pub fn ask_again(&mut self) {
        self.pauses.grow();
    }

    /// The host answers again. Returns whether that is worth a line in the log.
    pub fn answered(&mut self) -> bool {
        self.reset();
        self.silences.is_power_of_two()
    }

    /// The host has fallen silent. Returns how often it has done so, if that is worth a line in the
    /// log: one that does so again and again does not fill it.
    pub fn silent(&mut self) -> Option<u32> {
        self.silences = self.silences.saturating_add(1);
        Some(self.silences).filter(|silences| silences.is_power_of_two())
    }
}

/// New connections of an adapter whose host does nothing with frames, and whether they were of any
/// use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recoveries {
    /// Frames that the host had sent when the adapter was connected anew last.
    before: Option<u64>,
    rests: Pauses,
    /// Until when the host is left alone, in milliseconds of the caller's clock.
    until: Option<u64>,
    /// Until when it has time after it went on.
    goes_on_until: Option<u64>,
}

impl Recoveries {
    /// The adapter was not connected anew yet.
    #[must_use]
    pub const fn new() -> Self {
        Recoveries {
            before: None,
            rests: Pauses::new(),
            until: None,
            goes_on_until: None,
        }
    }

    /// The host does nothing with frames of some queue, and has sent so many since the device was
    /// bound. Returns how many milliseconds from `now`, by the caller's clock, to leave it alone
    /// before the adapter is connected anew; none if that is due. Whoever asks in between hears
    /// what is left.
    ///
    /// A host that was left alone and has sent something meanwhile goes on: it has
    /// [`GOING_ON_MS`] from then on.
    pub fn rest(&mut self, sent: u64, now: u64) -> Option<u32> {
        let until = if self.before == Some(sent) {
            let rest = u64::from(self.rests.now(LONGEST_REST_MS));

            *self.until.get_or_insert(now.saturating_add(rest))
        } else {
            self.rests.reset();
            self.until?;
            let end = now.saturating_add(u64::from(GOING_ON_MS));

            *self.goes_on_until.get_or_insert(end)
        };

        u32::try_from(until.saturating_sub(now))
            .ok()
            .filter(|left| *left != 0)
    }

    /// The host does not answer: what it has time for begins when it does.
    pub fn silent(&mut self) {
        self.goes_on_until = None;
    }

    /// The host does something with the frames of each queue.
    pub fn useful(&mut self) {
        self.until = None;
        self.goes_on_until = None;
    }

    /// The adapter is connected anew now.
    pub fn begin(&mut self, sent: u64) {
        if self.before == Some(sent) {
            self.rests.grow();
        }
        self.before = Some(sent);
        self.until = None;
        self.goes_on_until = None;
    }
}
