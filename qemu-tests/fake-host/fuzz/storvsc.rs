// SPDX-License-Identifier: GPL-2.0

//! A host of storage: the answers to an initialisation, to commands and to the questions about a unit.

use storvsc_protocol::{
    identity::Interview,
    inbound::{Inbound, Status},
    init::{Init, State},
    limits,
    luns::{Admission, Luns, Task, Verdict},
    outcome::{outcome, Followup, Sent},
    own::{self, OwnCommands, Ticket, BUFFERS},
    packet::{Address, Operation, BODY_LEN},
    tags::{Answer, FreeWord, MAX_SLOTS},
    HV_PAGE_SIZE,
};

/// More than the tasks that there can be: a unit can be gone and changed, and each target be looked at.
const TASKS: usize = 2 * 8 * 2 * 256 + 64;
/// More than the questions of an interview, with all tries and restarts.
const QUESTIONS: usize = 1_000;

/// Packets, each with a 16-bit length, its transaction id and the opcode of the command in question before
/// it.
pub fn storvsc(data: &[u8]) {
    let mut driver = Driver::new();
    let mut rest = data;
    while let Some((head, tail)) = rest.split_first_chunk::<11>() {
        let len = usize::from(u16::from_le_bytes([head[0], head[1]])).min(tail.len());
        let id = head[2..10].try_into().map(u64::from_le_bytes).unwrap();
        let (payload, tail) = tail.split_at(len);
        rest = tail;
        driver.packet(id, head[10], payload);
    }
    driver.end();
}

/// The slot that an id names, if a driver can have so many, as it is when it is free again.
fn slot(id: u64) -> Option<(Answer, FreeWord)> {
    let answer = Answer::parse(id, 1)
        .ok()
        .filter(|answer| answer.slot < MAX_SLOTS)?;
    Some((answer, answer.expected.free().as_free()?))
}

struct Driver {
    init: Init,
    luns: Luns,
    interview: Interview,
    own: OwnCommands,
    /// What the host has of them.
    given: Vec<Ticket>,
}

impl Driver {
    fn new() -> Self {
        let mut init = Init::new();
        let _ = init.start();
        Self {
            init,
            luns: Luns::new(),
            interview: Interview::new(),
            own: OwnCommands::new(),
            given: Vec::new(),
        }
    }

    fn packet(&mut self, id: u64, opcode: u8, payload: &[u8]) {
        match Inbound::parse(id, payload) {
            Ok(Inbound::Rescan) => self.luns.on_notice(),
            Ok(Inbound::Init {
                id,
                operation,
                status,
                body,
            }) => self.init(id, operation, status, &body),
            Ok(Inbound::Command(id, status)) => self.command(id, opcode, &status),
            Ok(Inbound::Internal(_, status)) => {
                let data = payload.get(12..).unwrap_or_default();
                self.interview.on_answer(&status, data);
                self.own(id, opcode, status);
            }
            Ok(Inbound::Reset(_)) => {}
            Err(error) => {
                let _ = error.to_string();
            }
        }
    }

    fn init(&mut self, id: u64, operation: Operation, status: u32, body: &[u8; BODY_LEN]) {
        let _ = self.init.on_answer(id, operation, status, body);
        if self.init.state() != State::Ready {
            return;
        }
        let host = self.init.host();
        let limits = limits::transfer(host.max_transfer_bytes, 0x20000);
        assert!(limits.bytes > 0 && limits.bytes % HV_PAGE_SIZE == 0);
        assert_eq!(u32::from(limits.segments), limits.bytes / HV_PAGE_SIZE + 1);
        assert!(limits::sub_channels(8, host.max_sub_channels) <= 7);
        let _ = self.init.ask_sub_channels(3);
        assert!(self.init.granted() <= 3 && !self.init.wants_sub_channel(4));
    }

    /// Another command of the driver, by the opcode's lowest bits waited for, listened for, or reset; and an
    /// answer.
    fn own(&mut self, id: u64, opcode: u8, status: Status) {
        let unit = Address {
            channel: 0,
            target: 0,
            lun: opcode >> 2,
        };
        let ticket = match opcode & 3 {
            0 => self.own.begin(unit),
            1 => self.own.listen(unit),
            2 => {
                if opcode & 4 == 0 {
                    self.own.on_reset();
                } else {
                    self.own.on_reset_over();
                }
                None
            }
            _ => {
                let _ = self.own.leave();
                None
            }
        };
        self.given.extend(ticket);
        let answer = self.own.on_answer(id, status);
        assert_eq!(
            answer == own::Answer::Unknown,
            self.given.iter().all(|t| t.id != id)
        );
        self.given.retain(|ticket| ticket.id != id);
        if answer == own::Answer::Expected {
            assert!(self.own.take().is_some());
        }
        // the host may write where it was not done with a command, and nowhere else
        for buffer in 0..BUFFERS {
            let is_given = self.given.iter().any(|ticket| ticket.buffer == buffer);
            assert_eq!(self.own.is_with_host(buffer), is_given);
        }
    }

    fn command(&mut self, id: u64, opcode: u8, status: &Status) {
        assert!(status.sense().len() <= 20);
        let unit = Address {
            channel: (id >> 8) as u8 & 7,
            target: (id >> 16) as u8 & 1,
            lun: id as u8,
        };
        if let Some((answer, free)) = slot(id) {
            // the next use of this slot has an id that leads to it, and this one does not any more
            let (word, next) = free.next(answer.slot, 1);
            let expected = Answer {
                expected: word,
                ..answer
            };
            assert_eq!(Answer::parse(next, 1), Ok(expected));
            assert_ne!(answer.expected, word);
        }
        let sent = Sent {
            opcode,
            vpd: false,
            data_len: 4096,
        };
        let outcome = outcome(&sent, status);
        assert!(outcome.residual <= sent.data_len);
        match outcome.followup {
            None => self.luns.add(unit),
            Some(Followup::Rescan) => self.luns.on_change(unit),
            Some(Followup::Identify) => self.luns.on_doubt(unit),
            Some(Followup::Notice) => self.luns.on_notice(),
            Some(Followup::LookAtAll) => self.luns.on_no_list(unit),
        }
        // what was heard about a unit that is known makes its commands wait
        if matches!(outcome.followup, Some(Followup::Identify)) && self.luns.is_known(unit) {
            assert_ne!(self.luns.admission(unit, 0x2a), Admission::Send);
        }
    }

    /// Whatever came, all that is left to do comes to an end.
    fn end(&mut self) {
        self.init.on_timeout();
        assert!(!matches!(self.init.state(), State::Waiting(_)));
        let mut asked = 0;
        while self.interview.next().is_some() {
            self.interview.on_no_answer();
            asked += 1;
            assert!(asked < QUESTIONS);
        }
        let mut last = None;
        let mut done = 0;
        while let Some(unit) = self.luns.next_suspect(last) {
            self.luns.settle(unit, Verdict::Same);
            last = Some(unit);
            done += 1;
            assert!(done < TASKS);
        }
        while let Some(task) = self.luns.take() {
            match task {
                Task::Remove(unit) => self.luns.forget(unit),
                Task::Rescan(unit) => self.luns.on_rescan(unit),
                Task::LookAtAll { .. } | Task::ScanBus => {}
            }
            done += 1;
            assert!(done < TASKS);
        }
    }
}
