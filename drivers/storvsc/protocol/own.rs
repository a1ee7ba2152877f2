// SPDX-License-Identifier: GPL-2.0

//! The driver's own commands: which of them the host has, and in which buffers
//! it may write.
//!
//! One is waited for at a time. A unit may never answer; then its command is
//! *left* to the host, with its buffer and its id, and the next one gets others.
//! A late answer gives both back, and says that this unit answers again, unless
//! it is a reset that ended the command. So that there is a command whose answer
//! says so, a unit gets one that nobody waits for: it is *listened* for.
//! Whoever owns an [`OwnCommands`] locks it.

use crate::{
    inbound::{internal_id, Status, INTERNAL_IDS},
    outcome::{class, Class},
    packet::Address,
};

/// Buffers for data. All but one may be with a host that does not answer.
pub const BUFFERS: usize = 4;

/// The one that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    None,
    /// With this id.
    Awaited(u64),
    Came(Status),
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The one that is waited for.
    Expected,
    /// That to a command which was left to the host: its unit, this one, answers again.
    Late(Address),
    /// A reset ended one that was left to the host, which says nothing of its unit.
    Flushed,
    /// The host, not the unit, ended one that was left to it.
    Failed,
    /// To no command.
    Unknown,
}

/// A command that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its transaction id.
    pub id: u64,
    /// The number of its buffer, less than [`BUFFERS`].
    pub buffer: usize,
}

/// A command that the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    id: u64,
    unit: Address,
    /// A reset was asked for since, or was not over yet.
    is_flushed: bool,
}

/// `SAM_STAT_TASK_ABORTED`: somebody ended the command, and its unit did not do anything.
const TASK_ABORTED: u8 = 0x40;

/// Whether the answer shows that its unit answers, or that there is none.
fn is_of_unit(status: &Status) -> bool {
    match status.scsi {
        0 => status.is_good() || matches!(class(status.srb), Class::NoUnit | Class::NoDevice),
        scsi => scsi != TASK_ABORTED,
    }
}

/// The driver's own commands.
#[derive(Clone, Debug)]
pub struct OwnCommands {
    now: Now,
    /// For each buffer the command that the host has it for.
    with_host: [Option<Given>; BUFFERS],
    /// Commands so far.
    count: u64,
    /// The host may not have reset the bus yet.
    is_resetting: bool,
}

impl Default for OwnCommands {
    fn default() -> Self {
        Self::new()
    }
}

impl OwnCommands {
    /// The host has none.
    #[must_use]
    pub const fn new() -> Self {
        OwnCommands {
            now: Now::None,
            with_host: [None; BUFFERS],
            count: 0,
            is_resetting: false,
        }
    }

    /// Begins a command for a unit, which is waited for from now on. `None` when
    /// another one is, or the host has all buffers.
    pub fn begin(&mut self, unit: Address) -> Option<Ticket> {
        if self.is_awaited() {
            return None;
        }
        let ticket = self.give(unit)?;
        self.now = Now::Awaited(ticket.id);
        Some(ticket)
    }

    /// Begins a command for a unit that is left to the host from the start.
    /// `None` when the unit has one already, or only one buffer is left, which
    /// is for commands that are waited for.
    pub fn listen(&mut self, unit: Address) -> Option<Ticket> {
        let free = self.with_host.iter().filter(|given| given.is_none());
        if free.count() < 2 || self.is_listened_for(unit) {
            return None;
        }
        self.give(unit)
    }

    /// The host has a command for the unit.
    fn is_listened_for(&self, unit: Address) -> bool {
        self.with_host
            .iter()
            .flatten()
            .any(|given| given.unit == unit)
    }

    fn give(&mut self, unit: Address) -> Option<Ticket> {
        let buffer = self.with_host.iter().position(Option::is_none)?;
        // There are more ids than buffers.
        let id = (0..INTERNAL_IDS).find_map(|_| {
            self.count = self.count.wrapping_add(1);
            let id = internal_id(self.count);
            let is_free = |given: &Given| given.id != id;
            self.with_host.iter().flatten().all(is_free).then_some(id)
        })?;
        *self.with_host.get_mut(buffer)? = Some(Given {
            id,
            unit,
            is_flushed: self.is_resetting,
        });
        Some(Ticket { id, buffer })
    }

    /// The command was not taken from its owner: it may be sent.
    #[must_use]
    pub fn has(&self, ticket: Ticket) -> bool {
        let given = self.with_host.get(ticket.buffer).copied().flatten();
        given.is_some_and(|given| given.id == ticket.id)
    }

    /// The command could not be sent.
    pub fn withdraw(&mut self, ticket: Ticket) {
        self.give_back(ticket.id);
        if self.now == Now::Awaited(ticket.id) {
            self.now = Now::None;
        }
    }

    /// The bus is about to be reset, which may end all commands, and until
    /// [`Self::on_reset_over`] those that begin.
    pub fn on_reset(&mut self) {
        self.is_resetting = true;
        for given in self.with_host.iter_mut().flatten() {
            given.is_flushed = true;
        }
    }

    /// The host has reset the bus, or is not waited for any more.
    pub fn on_reset_over(&mut self) {
        self.is_resetting = false;
    }

    /// The host answered.
    pub fn on_answer(&mut self, id: u64, status: Status) -> Answer {
        let Some(given) = self.give_back(id) else {
            return Answer::Unknown;
        };
        if self.now == Now::Awaited(id) {
            self.now = Now::Came(status);
            return Answer::Expected;
        }
        if given.is_flushed && !status.is_good() {
            return Answer::Flushed;
        }
        if is_of_unit(&status) {
            Answer::Late(given.unit)
        } else {
            Answer::Failed
        }
    }

    /// The command is with the host, and waited for.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        matches!(self.now, Now::Awaited(_))
    }

    /// How the command ended, if it did.
    pub fn take(&mut self) -> Option<Status> {
        let Now::Came(status) = self.now else {
            return None;
        };
        self.now = Now::None;
        Some(status)
    }

    /// The command is waited for no longer, and stays with the host. Returns
    /// whether there is a buffer for another one.
    pub fn leave(&mut self) -> bool {
        self.now = Now::None;
        self.with_host.iter().any(Option::is_none)
    }

    /// The host has given back all memory: it has none of them.
    pub fn forget(&mut self) {
        self.now = Now::None;
        self.with_host = [None; BUFFERS];
    }

    /// The host may write in the buffer with this number.
    #[must_use]
    pub fn is_with_host(&self, buffer: usize) -> bool {
        matches!(self.with_host.get(buffer), Some(Some(_)))
    }

    fn give_back(&mut self, id: u64) -> Option<Given> {
        let is_it = |given: &&mut Option<Given>| given.is_some_and(|given| given.id == id);
        self.with_host.iter_mut().find(is_it)?.take()
    }
}
