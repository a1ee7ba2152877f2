// SPDX-License-Identifier: GPL-2.0

//! Life of one channel, from offer to release.
//!
//! The machine only decides; posting messages, waiting and waking is the
//! caller's. Every method is one event, to be called under the channel's lock.

use crate::GpadlHandle;

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
    /// The host has not answered a former OPENCHANNEL, nor let go of its ring:
    /// it may open the channel with that one at any time.
    Unanswered,
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
    /// Post no CLOSECHANNEL: the channel was rescinded, or never opened.
    Silent,
}

/// What the host has of a channel, as far as the guest knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtHost {
    /// It is closed, or the guest's CLOSECHANNEL for it was posted last.
    Closed,
    /// This OPENCHANNEL was posted with the ring in this GPADL, and not answered.
    Asked {
        ring: GpadlHandle,
        open_id: u32,
        /// The CLOSECHANNEL that belongs behind it could not be posted.
        close_owed: bool,
    },
    /// It is open.
    Open,
    /// It was opened late, and is to be closed.
    MustClose,
}

/// For what a CLOSECHANNEL is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// A channel that is open.
    Open,
    /// An open that is not answered.
    Unanswered,
}

/// What the late result of an open demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateOpen {
    /// Nothing: it was refused, or the close is still to come.
    Nothing,
    /// The host has opened a channel that the guest closed meanwhile: see
    /// [`ChannelLife::must_close`], and ask for the ring again.
    Close {
        /// The handle of its GPADL.
        ring: GpadlHandle,
    },
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
    at_host: AtHost,
    /// A CLOSECHANNEL that is owed is being posted, and may go out at any time; what was owed when
    /// that began.
    closing_late: Option<Owed>,
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
            at_host: AtHost::Closed,
            closing_late: None,
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

    /// Starts an open.
    ///
    /// # Errors
    ///
    /// When the channel is in use, rescinded or removed, or the host may still
    /// open it because of a former request.
    pub fn open_begin(&mut self) -> Result<(), LifeError> {
        if self.rescinded {
            return Err(LifeError::Rescinded);
        }
        if self.removed {
            return Err(LifeError::Removed);
        }
        match self.state {
            State::Offered | State::Closed => {
                if self.at_host != AtHost::Closed || self.closing_late.is_some() {
                    return Err(LifeError::Unanswered);
                }
                self.state = State::Opening;
                Ok(())
            }
            _ => Err(self.bad_state()),
        }
    }

    /// Call before OPENCHANNEL is posted, with the handle of the ring's GPADL and the
    /// number of the open.
    ///
    /// # Errors
    ///
    /// When no open is under way, or it was posted before.
    pub fn open_posting(&mut self, ring: GpadlHandle, open_id: u32) -> Result<(), LifeError> {
        if self.state != State::Opening || self.at_host != AtHost::Closed {
            return Err(self.bad_state());
        }
        self.at_host = AtHost::Asked {
            ring,
            open_id,
            close_owed: false,
        };
        Ok(())
    }

    /// OPENCHANNEL could not be posted: no answer will come.
    pub fn open_not_posted(&mut self) {
        if matches!(self.at_host, AtHost::Asked { .. }) {
            self.at_host = AtHost::Closed;
        }
    }

    /// The host's status of an open. After anything but a success the channel
    /// is being opened still, until whoever opened it has put everything away:
    /// [`Self::close_begin`]. A rescind wins over a success.
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
        if !matches!(self.at_host, AtHost::Asked { .. }) {
            return Err(self.bad_state());
        }
        if status == 0 {
            self.at_host = AtHost::Open;
            self.state = State::Open;
            Ok(OpenOutcome::Opened)
        } else {
            self.at_host = AtHost::Closed;
            Ok(OpenOutcome::Failed { status })
        }
    }

    /// The host's status of an open for which nobody waits any more. Means nothing when
    /// that was not the last one: the channel was opened again because the host had
    /// let go of its ring.
    pub fn open_late(&mut self, open_id: u32, status: u32) -> LateOpen {
        let ring = match self.at_host {
            AtHost::Asked {
                ring, open_id: id, ..
            } if id == open_id => ring,
            _ => return LateOpen::Nothing,
        };
        match self.state {
            // Its close is about to begin, and has to close it at the host.
            State::Opening if status == 0 => {
                self.at_host = AtHost::Open;
                LateOpen::Nothing
            }
            State::Closing | State::Closed if status == 0 => {
                self.at_host = AtHost::MustClose;
                LateOpen::Close { ring }
            }
            _ => {
                self.at_host = AtHost::Closed;
                LateOpen::Nothing
            }
        }
    }

    /// CLOSECHANNEL is to be posted because the host opened the channel late, or has not been told.
    /// Until it is, the host is not asked for memory of the channel.
    #[must_use]
    pub const fn must_close(&self) -> bool {
        self.owed().is_some()
    }

    /// For what it is owed; of a rescinded channel the host has let go.
    const fn owed(&self) -> Option<Owed> {
        match self.at_host {
            _ if self.rescinded => None,
            AtHost::MustClose => Some(Owed::Open),
            AtHost::Asked {
                close_owed: true, ..
            } => Some(Owed::Unanswered),
            AtHost::Asked { .. } | AtHost::Open | AtHost::Closed => None,
        }
    }

    /// Begins to post that CLOSECHANNEL, if it is owed: until [`Self::close_late_end`] the channel
    /// is not opened again, whatever the host says meanwhile, for it would be closed.
    #[must_use = "only then is it to be posted"]
    pub fn close_late_begin(&mut self) -> bool {
        self.closing_late = self.owed();
        self.closing_late.is_some()
    }

    /// It was posted, or was not. Then the channel may be opened again, unless an open is not
    /// answered still.
    pub fn close_late_end(&mut self, posted: bool) {
        let Some(owed) = self.closing_late.take().filter(|_| posted) else {
            return;
        };
        match (owed, &mut self.at_host) {
            (Owed::Open, AtHost::MustClose) => self.at_host = AtHost::Closed,
            (_, AtHost::Asked { close_owed, .. }) => *close_owed = false,
            // It was opened meanwhile, maybe after it was to be closed: it is to be once more.
            (Owed::Unanswered, AtHost::MustClose) => {}
            (_, AtHost::Closed | AtHost::Open) => {}
        }
    }

    /// The host has let go of the memory of this GPADL. If that was the ring of
    /// an open that it did not answer, it is not going to.
    pub fn let_go(&mut self, gpadl: GpadlHandle) {
        if matches!(self.at_host, AtHost::Asked { ring, .. } if ring == gpadl) {
            self.at_host = AtHost::Closed;
        }
    }

    /// Ends an open of which the host was told nothing.
    ///
    /// # Errors
    ///
    /// When no open is under way, or the host was told.
    pub fn open_abort(&mut self) -> Result<(), LifeError> {
        if self.state != State::Opening || self.at_host != AtHost::Closed {
            return Err(self.bad_state());
        }
        self.state = State::Closed;
        Ok(())
    }

    /// Starts a close, or puts away what an open left that failed: that may be
    /// open at the host, too, if it was not answered.
    ///
    /// # Errors
    ///
    /// When the channel is neither open nor being opened.
    pub fn close_begin(&mut self) -> Result<CloseAction, LifeError> {
        if !matches!(self.state, State::Open | State::Opening) {
            return Err(self.bad_state());
        }
        self.state = State::Closing;
        let closed = self.at_host == AtHost::Closed;
        if self.at_host == AtHost::Open {
            self.at_host = AtHost::Closed;
        }
        Ok(if self.rescinded || closed {
            CloseAction::Silent
        } else {
            CloseAction::Post
        })
    }

    /// CLOSECHANNEL could not be posted: the channel is, or may be, open at the host still, and has
    /// to be closed there before it is opened again.
    pub fn close_not_posted(&mut self) {
        if self.state != State::Closing || self.rescinded {
            return;
        }
        match &mut self.at_host {
            AtHost::Closed => self.at_host = AtHost::MustClose,
            AtHost::Asked { close_owed, .. } => *close_owed = true,
            AtHost::Open | AtHost::MustClose => {}
        }
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
        self.at_host = AtHost::Closed;
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
