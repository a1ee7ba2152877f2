// SPDX-License-Identifier: GPL-2.0

//! Life of one channel, from offer to release.
//!
//! The machine only decides; posting messages, waiting and waking is the
//! caller's. Every method is one event, to be called under the channel's lock.

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Offered, not in use.
    Offered,
    /// OPENCHANNEL was or is about to be posted.
    Opening,
    /// In use.
    Open,
    /// Being closed.
    Closing,
    /// Was open, is not in use.
    Closed,
}

/// An event that does not fit the state; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeError {
    /// The host has taken the channel back.
    Rescinded,
    /// Not in this state.
    BadState {
        /// The state there is.
        state: State,
    },
    /// The device was already removed.
    Removed,
}

/// What a rescind demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RescindAction {
    /// The first rescind: complete every request that waits on this channel,
    /// then remove the device.
    Handle {
        /// The driver is using the channel, or is about to.
        in_use: bool,
    },
    /// A repeated one: do nothing.
    Ignore,
}

/// What a close demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseAction {
    /// Post CLOSECHANNEL, then tear the ring's GPADL down.
    Post,
    /// The channel was rescinded: post nothing, the host has closed it.
    Silent,
}

/// How an open ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The channel is open.
    Opened,
    /// The host refused.
    Failed {
        /// The host's status.
        status: u32,
    },
}

/// What has to happen before a CPU goes that the channel names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The host interrupts no CPU for it; its next open may name another one.
    Free,
    /// The host has to be asked for another CPU.
    Ask,
    /// It is being opened or closed: the host may interrupt the CPU, and
    /// cannot be asked now.
    Wait,
}

/// The state of one channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelLife {
    state: State,
    rescinded: bool,
    removed: bool,
    released: bool,
}

impl Default for ChannelLife {
    fn default() -> Self {
        Self::new()
    }
}

impl ChannelLife {
    /// A channel that was just offered.
    #[must_use]
    pub const fn new() -> Self {
        ChannelLife {
            state: State::Offered,
            rescinded: false,
            removed: false,
            released: false,
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The host has taken the channel back.
    #[must_use]
    pub const fn is_rescinded(&self) -> bool {
        self.rescinded
    }

    /// The relid was handed back; the channel must not be looked up any more.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        self.released
    }

    /// Data may be moved.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self.state, State::Open) && !self.rescinded
    }

    /// What has to happen before its CPU goes.
    #[must_use]
    pub const fn leave(&self) -> Leave {
        match self.state {
            _ if self.rescinded => Leave::Free,
            State::Offered | State::Closed => Leave::Free,
            State::Open => Leave::Ask,
            State::Opening | State::Closing => Leave::Wait,
        }
    }

    const fn bad_state(&self) -> LifeError {
        LifeError::BadState { state: self.state }
    }

    /// Starts an open; call after the reply waiter was registered and before
    /// posting.
    ///
    /// # Errors
    ///
    /// When the channel is in use, rescinded or removed.
    pub fn open_begin(&mut self) -> Result<(), LifeError> {
        if self.rescinded {
            return Err(LifeError::Rescinded);
        }
        if self.removed {
            return Err(LifeError::Removed);
        }
        match self.state {
            State::Offered | State::Closed => {
                self.state = State::Opening;
                Ok(())
            }
            _ => Err(self.bad_state()),
        }
    }

    /// The host's status of an open. After anything but a success the channel
    /// is being opened still, until whoever opened it has put everything away:
    /// [`Self::open_abort`]. A rescind wins over a success.
    ///
    /// # Errors
    ///
    /// When no open is under way (stale results) or the channel was rescinded
    /// meanwhile.
    pub fn open_end(&mut self, status: u32) -> Result<OpenOutcome, LifeError> {
        if self.state != State::Opening {
            return Err(self.bad_state());
        }
        if self.rescinded {
            return Err(LifeError::Rescinded);
        }
        if status == 0 {
            self.state = State::Open;
            Ok(OpenOutcome::Opened)
        } else {
            Ok(OpenOutcome::Failed { status })
        }
    }

    /// Ends an open that could not be posted, was refused, or was not answered.
    ///
    /// # Errors
    ///
    /// When no open is under way.
    pub fn open_abort(&mut self) -> Result<(), LifeError> {
        if self.state != State::Opening {
            return Err(self.bad_state());
        }
        self.state = State::Closed;
        Ok(())
    }

    /// Starts a close.
    ///
    /// # Errors
    ///
    /// When the channel is not open.
    pub fn close_begin(&mut self) -> Result<CloseAction, LifeError> {
        if self.state != State::Open {
            return Err(self.bad_state());
        }
        self.state = State::Closing;
        Ok(if self.rescinded {
            CloseAction::Silent
        } else {
            CloseAction::Post
        })
    }

    /// Ends a close.
    ///
    /// # Errors
    ///
    /// When no close is under way.
    pub fn close_end(&mut self) -> Result<(), LifeError> {
        if self.state != State::Closing {
            return Err(self.bad_state());
        }
        self.state = State::Closed;
        Ok(())
    }

    /// The host rescinds the channel.
    pub fn rescind(&mut self) -> RescindAction {
        if self.rescinded {
            return RescindAction::Ignore;
        }
        self.rescinded = true;
        RescindAction::Handle {
            in_use: matches!(self.state, State::Opening | State::Open | State::Closing),
        }
    }

    /// The device (or sub-channel) was removed: nobody will use it again.
    pub fn removed(&mut self) {
        self.removed = true;
    }

    /// True exactly once, when the channel is rescinded, removed and not in
    /// use: clear its table entry, post RELID_RELEASED and let go of it. Ask
    /// after every event.
    #[must_use = "the relid is handed back only this once"]
    pub fn take_release(&mut self) -> bool {
        let idle = matches!(self.state, State::Offered | State::Closed);
        let release = idle && self.rescinded && self.removed && !self.released;
        self.released |= release;
        release
    }
}
