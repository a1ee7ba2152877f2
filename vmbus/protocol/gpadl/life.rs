// SPDX-License-Identifier: GPL-2.0

//! When memory that was described to the host may be freed.

/// What the host may still do to memory in a GPADL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpadlState {
    /// Nothing was posted yet.
    New,
    /// The header was posted; no answer yet.
    Creating,
    /// The host uses it.
    Live,
    /// Teardown was posted; no answer yet.
    TearingDown,
    /// The host has let go of it, or never took it.
    TornDown,
    /// The host may write to it for ever.
    Leaked,
}

/// What may be done with the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFate {
    /// It may be freed or used for something else.
    Free,
    /// The host may still write to it; wait.
    Keep,
    /// It can never be freed; count it.
    Leak,
}

/// An event that does not fit the state; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadGpadlEvent {
    /// The state there is.
    pub state: GpadlState,
}

/// Life of one GPADL and of its memory's encryption.
///
/// Memory is free only when the host has confirmed that it let go of it *and*
/// it is private again; every doubt ends in a leak.
#[derive(Clone, Copy, Debug)]
pub struct GpadlLife {
    state: GpadlState,
    decrypted: bool,
    encryption_lost: bool,
    /// The guest has given it up, and the host could be asked for it again.
    ask_again: bool,
}

impl Default for GpadlLife {
    fn default() -> Self {
        Self::new()
    }
}

impl GpadlLife {
    /// Private memory that was never described.
    #[must_use]
    pub const fn new() -> Self {
        GpadlLife {
            state: GpadlState::New,
            decrypted: false,
            encryption_lost: false,
            ask_again: false,
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> GpadlState {
        self.state
    }

    /// The memory is, or may be, readable for the host.
    #[must_use]
    pub const fn is_decrypted(&self) -> bool {
        self.decrypted
    }

    const fn bad(&self) -> BadGpadlEvent {
        BadGpadlEvent { state: self.state }
    }

    fn step(&mut self, from: GpadlState, to: GpadlState) -> Result<(), BadGpadlEvent> {
        if self.state != from {
            return Err(self.bad());
        }
        self.state = to;
        Ok(())
    }

    /// Call before the attempt to decrypt: a failed attempt leaves the memory
    /// in an unknown state.
    pub fn decrypting(&mut self) {
        self.decrypted = true;
    }

    /// The attempt to encrypt again succeeded or failed.
    pub fn encrypted(&mut self, success: bool) {
        if success {
            self.decrypted = false;
        } else {
            self.encryption_lost = true;
        }
    }

    /// Call before posting the header message.
    ///
    /// # Errors
    ///
    /// When it was posted before.
    pub fn posting(&mut self) -> Result<(), BadGpadlEvent> {
        self.step(GpadlState::New, GpadlState::Creating)
    }

    /// Posting failed. `header_posted` tells whether the header went out: then
    /// the host may know part of the memory.
    ///
    /// # Errors
    ///
    /// When nothing was being posted.
    pub fn post_failed(&mut self, header_posted: bool) -> Result<(), BadGpadlEvent> {
        let to = if header_posted {
            GpadlState::Leaked
        } else {
            GpadlState::TornDown
        };
        self.step(GpadlState::Creating, to)?;
        // It will not say that it has taken all of it.
        self.ask_again = header_posted;
        Ok(())
    }

    /// GPADL_CREATED arrived.
    ///
    /// # Errors
    ///
    /// When none was expected.
    pub fn created(&mut self, status: u32) -> Result<(), BadGpadlEvent> {
        let to = if status == 0 {
            GpadlState::Live
        } else {
            GpadlState::TornDown
        };
        self.step(GpadlState::Creating, to)
    }

    /// Call before posting GPADL_TEARDOWN.
    ///
    /// # Errors
    ///
    /// When the GPADL is not live.
    pub fn tearing_down(&mut self) -> Result<(), BadGpadlEvent> {
        self.step(GpadlState::Live, GpadlState::TearingDown)
    }

    /// GPADL_TORNDOWN arrived.
    ///
    /// # Errors
    ///
    /// When none was expected.
    pub fn torndown(&mut self) -> Result<(), BadGpadlEvent> {
        self.step(GpadlState::TearingDown, GpadlState::TornDown)
    }

    /// The host did not answer, or the teardown could not be posted.
    pub fn gave_up(&mut self) {
        if matches!(
            self.state,
            GpadlState::Creating | GpadlState::Live | GpadlState::TearingDown
        ) {
            self.state = GpadlState::Leaked;
        }
    }

    /// The channel was rescinded (or the host unloaded): the host revokes the
    /// channel's GPADLs before it says so and answers nothing more.
    pub fn revoked(&mut self) {
        if matches!(
            self.state,
            GpadlState::Creating | GpadlState::Live | GpadlState::TearingDown
        ) {
            self.state = GpadlState::TornDown;
        }
    }

    /// The host says late that it has let go: it tore the GPADL down after the
    /// guest had given up, rescinded the channel, or unloaded. Returns whether
    /// that ended a leak.
    pub fn let_go(&mut self) -> bool {
        let leaked = self.state == GpadlState::Leaked;
        if leaked || self.state == GpadlState::TearingDown {
            self.state = GpadlState::TornDown;
        }
        leaked
    }

    /// The host's status comes after the guest has given up, or while it does: then
    /// it is as good as one in time. Later a refusal ends the leak, and after a
    /// success the host can be asked to let go. Returns whether that ended a leak.
    pub fn created_late(&mut self, status: u32) -> bool {
        if self.created(status).is_ok() || self.state != GpadlState::Leaked {
            return false;
        }
        if status == 0 {
            self.ask_again = true;
            return false;
        }
        self.let_go()
    }

    /// The host is to be asked for the memory again: what kept it from letting
    /// go is over. Of memory that it was not asked for yet, once it was.
    pub fn ask_again(&mut self) {
        self.ask_again = matches!(
            self.state,
            GpadlState::Live | GpadlState::TearingDown | GpadlState::Leaked
        );
    }

    /// Whether GPADL_TEARDOWN is to be posted again.
    #[must_use]
    pub const fn wants_ask_again(&self) -> bool {
        let asked = matches!(self.state, GpadlState::TearingDown | GpadlState::Leaked);
        asked && self.ask_again
    }

    /// The same, true once.
    #[must_use = "the host is asked only this once"]
    pub fn take_ask_again(&mut self) -> bool {
        let again = self.wants_ask_again();
        self.ask_again &= !again;
        again
    }

    /// What may be done with the memory now.
    #[must_use]
    pub const fn memory(&self) -> MemoryFate {
        match self.state {
            GpadlState::Leaked => MemoryFate::Leak,
            _ if self.encryption_lost => MemoryFate::Leak,
            GpadlState::New | GpadlState::TornDown if self.decrypted => MemoryFate::Keep,
            GpadlState::New | GpadlState::TornDown => MemoryFate::Free,
            _ => MemoryFate::Keep,
        }
    }
}
