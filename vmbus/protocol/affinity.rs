// SPDX-License-Identifier: GPL-2.0

//! The CPU that the host interrupts for a channel, while it is being changed.
//!
//! A host that was asked to change it (MODIFYCHANNEL) and does not answer in
//! time may have done it or not. Then two CPUs may be interrupted, and neither
//! may go before an answer to another request says which one it is.

/// The CPUs that the host may interrupt for one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    target: u32,
    /// Asked for, and not answered.
    doubt: Option<u32>,
}

/// A change that the host is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "its outcome has to be told"]
pub struct Change {
    to: u32,
    /// Nothing was in doubt before.
    first: bool,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeEnd {
    /// The host has changed over.
    Done,
    /// The host refused, or was not even asked.
    Undone,
    /// No answer.
    Unknown,
}

/// Why a change is not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChange {
    /// That is the CPU.
    Already,
    /// It is one of two CPUs, and this one is neither of them.
    InDoubt,
}

impl Affinity {
    /// The host interrupts this CPU, or will when the channel is opened.
    #[must_use]
    pub const fn new(cpu: u32) -> Self {
        Affinity {
            target: cpu,
            doubt: None,
        }
    }

    /// The CPU that the host said last that it interrupts.
    #[must_use]
    pub const fn target(&self) -> u32 {
        self.target
    }

    /// The host may interrupt this CPU.
    #[must_use]
    pub fn may_be(&self, cpu: u32) -> bool {
        self.target == cpu || self.doubt == Some(cpu)
    }

    /// Where the channel can be asked to go from `cpu`, when that is not free
    /// to choose.
    #[must_use]
    pub fn other_than(&self, cpu: u32) -> Option<u32> {
        let doubt = self.doubt?;
        Some(if doubt == cpu { self.target } else { doubt })
    }

    /// Call before the host is asked for `cpu`; from here on it may interrupt
    /// both.
    ///
    /// # Errors
    ///
    /// When the host need not, or must not be asked.
    pub fn ask(&mut self, cpu: u32) -> Result<Change, NoChange> {
        let first = self.doubt.is_none();
        if first && self.target == cpu {
            return Err(NoChange::Already);
        }
        if !first && !self.may_be(cpu) {
            return Err(NoChange::InDoubt);
        }
        if first {
            self.doubt = Some(cpu);
        }
        Ok(Change { to: cpu, first })
    }

    /// The change has ended.
    pub fn ended(&mut self, change: Change, end: ChangeEnd) {
        match end {
            ChangeEnd::Done => *self = Affinity::new(change.to),
            ChangeEnd::Undone if change.first => self.doubt = None,
            ChangeEnd::Undone | ChangeEnd::Unknown => {}
        }
    }
}
