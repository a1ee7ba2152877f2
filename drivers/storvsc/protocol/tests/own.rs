// SPDX-License-Identifier: GPL-2.0

//! The driver's own commands, as the host answers them or does not.

use proptest::prelude::*;
use std::collections::BTreeMap;
use storvsc_protocol::{
    inbound::{internal_id, Inbound, Status},
    own::{Answer, OwnCommands, Ticket, BUFFERS},
    packet::{Address, Operation, Packet},
};

fn unit(lun: u8) -> Address {
    Address {
        channel: 0,
        target: 0,
        lun,
    }
}

fn status(scsi: u8) -> Status {
    srb_status(1, scsi)
}

fn srb_status(srb: u8, scsi: u8) -> Status {
    let mut packet = Packet::new(Operation::COMPLETE_IO);
    packet.body[2] = srb;
    packet.body[3] = scsi;
    match Inbound::parse(internal_id(0), packet.bytes()) {
        Ok(Inbound::Internal(_, status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_command_at_a_time_and_its_answer_counts_once() {
    let mut commands = OwnCommands::new();
    let first = commands.begin(unit(0)).unwrap();
    assert_eq!(commands.begin(unit(0)), None);
    assert_eq!(commands.take(), None);
    assert_eq!(commands.on_answer(first.id, status(2)), Answer::Expected);
    assert_eq!(commands.on_answer(first.id, status(0)), Answer::Unknown);
    assert_eq!(commands.take(), Some(status(2)));
    assert_eq!(commands.take(), None);
    assert!(!commands.is_with_host(first.buffer));
    let second = commands.begin(unit(0)).unwrap();
    assert_ne!(second.id, first.id);
    commands.withdraw(second);
    assert!((0..=BUFFERS).all(|buffer| !commands.is_with_host(buffer)));
}

#[test]
fn what_is_left_to_the_host_keeps_its_buffer_until_it_answers() {
    let mut commands = OwnCommands::new();
    let left = commands.begin(unit(0)).unwrap();
    assert!(commands.leave());
    for _ in 0..20 {
        let next = commands.begin(unit(0)).unwrap();
        assert_ne!(next.id, left.id);
        assert_ne!(next.buffer, left.buffer);
        assert_eq!(commands.on_answer(next.id, status(0)), Answer::Expected);
        assert!(commands.take().is_some());
    }
    assert_eq!(
        commands.on_answer(left.id, status(0)),
        Answer::Late(unit(0))
    );
    assert_eq!(commands.take(), None);
    assert_eq!(commands.on_answer(left.id, status(0)), Answer::Unknown);
}

#[test]
fn a_host_that_answers_nothing_gets_no_more_than_the_buffers() {
    let mut commands = OwnCommands::new();
    for left in 1..=BUFFERS {
        assert!(commands.begin(unit(0)).is_some());
        assert_eq!(commands.leave(), left < BUFFERS);
    }
    assert_eq!(commands.begin(unit(0)), None);
    commands.forget();
    let ticket = commands.begin(unit(0)).unwrap();
    assert!(commands.has(ticket));
    // It waits to be sent, while the device is given up and begins anew: not any more.
    commands.forget();
    assert!(!commands.has(ticket));
    let next = commands.begin(unit(1)).unwrap();
    assert_eq!(next.buffer, ticket.buffer);
    assert!(commands.has(next) && !commands.has(ticket));
    // Nor does it take the next one along.
    commands.withdraw(ticket);
    assert!(commands.has(next) && commands.is_awaited());
}

#[test]
fn who_answers_is_known_and_what_a_reset_ends_is_no_answer() {
    let mut commands = OwnCommands::new();
    let [a, b, c] = [1, 2, 3].map(|lun| {
        let ticket = commands.begin(unit(lun)).unwrap();
        assert!(commands.leave());
        ticket
    });
    commands.on_reset();
    commands.on_reset_over();
    // One that was on its way when the reset came.
    assert_eq!(commands.on_answer(c.id, status(0)), Answer::Late(unit(3)));
    assert_eq!(
        commands.on_answer(a.id, srb_status(0x0e, 0)),
        Answer::Flushed
    );
    // Listened for again, as only one buffer may not be used.
    let a = commands.listen(unit(1)).unwrap();
    assert_eq!(commands.listen(unit(1)), None);
    assert_eq!(commands.listen(unit(2)), None);
    // Not by that reset.
    assert_eq!(commands.on_answer(a.id, status(2)), Answer::Late(unit(1)));
    // There is none any more.
    let a = commands.listen(unit(1)).unwrap();
    assert_eq!(
        commands.on_answer(a.id, srb_status(0x20, 0)),
        Answer::Late(unit(1))
    );
    // Aborted, by the host or by somebody else.
    for (srb, scsi) in [(0x02, 0), (0x0e, 0), (0x04, 0x40)] {
        let a = commands.listen(unit(1)).unwrap();
        assert_eq!(
            commands.on_answer(a.id, srb_status(srb, scsi)),
            Answer::Failed
        );
    }
    assert_eq!(commands.on_answer(b.id, status(2)), Answer::Flushed);
}

/// The host may get it before the reset.
#[test]
fn what_begins_before_a_reset_is_over_may_be_ended_by_it() {
    let mut commands = OwnCommands::new();
    commands.on_reset();
    let ended = commands.listen(unit(1)).unwrap();
    assert_eq!(
        commands.on_answer(ended.id, srb_status(0x0e, 0)),
        Answer::Flushed
    );
    let good = commands.listen(unit(1)).unwrap();
    commands.on_reset_over();
    assert_eq!(
        commands.on_answer(good.id, status(0)),
        Answer::Late(unit(1))
    );
    let after = commands.listen(unit(1)).unwrap();
    assert_eq!(
        commands.on_answer(after.id, srb_status(0x0e, 0)),
        Answer::Failed
    );
}

#[test]
fn who_listens_leaves_a_buffer_for_who_waits() {
    let mut commands = OwnCommands::new();
    for lun in 1..4 {
        assert!(commands.listen(unit(lun)).is_some());
        assert_eq!(commands.listen(unit(lun)), None);
    }
    assert_eq!(commands.listen(unit(4)), None);
    let awaited = commands.begin(unit(4)).unwrap();
    assert!(commands.is_awaited());
    assert_eq!(commands.on_answer(awaited.id, status(0)), Answer::Expected);
}

proptest! {
    #[test]
    fn no_buffer_has_two_commands(events in prop::collection::vec((0u8..5, 0u64..8), 0..200)) {
        let mut commands = OwnCommands::new();
        // Buffers and units by id, as the host has them.
        let mut with_host = BTreeMap::new();
        let mut awaited: Option<Ticket> = None;
        for (event, number) in events {
            let lun = u8::try_from(number).unwrap();
            match event {
                0 | 1 => {
                    let free = BUFFERS - with_host.len();
                    let ticket = if event == 0 {
                        let ticket = commands.begin(unit(lun));
                        prop_assert_eq!(ticket.is_some(), awaited.is_none() && free > 0);
                        awaited = awaited.or(ticket);
                        ticket
                    } else {
                        let ticket = commands.listen(unit(lun));
                        let is_heard = with_host.values().any(|(_, other)| *other == lun);
                        prop_assert_eq!(ticket.is_some(), free > 1 && !is_heard);
                        ticket
                    };
                    if let Some(ticket) = ticket {
                        prop_assert!(with_host.values().all(|(used, _)| *used != ticket.buffer));
                        prop_assert!(with_host.insert(ticket.id, (ticket.buffer, lun)).is_none());
                    }
                }
                2 => {
                    let id = internal_id(number);
                    let expected = match with_host.remove(&id) {
                        None => Answer::Unknown,
                        Some(_) if awaited.is_some_and(|ticket| ticket.id == id) => Answer::Expected,
                        Some((_, lun)) => Answer::Late(unit(lun)),
                    };
                    prop_assert_eq!(commands.on_answer(id, status(0)), expected);
                    if expected == Answer::Expected {
                        awaited = None;
                        prop_assert!(commands.take().is_some());
                    }
                }
                3 if awaited.take().is_some() => {
                    prop_assert_eq!(commands.leave(), with_host.len() < BUFFERS);
                }
                4 => {
                    if let Some(ticket) = awaited.take() {
                        commands.withdraw(ticket);
                        with_host.remove(&ticket.id);
                    }
                }
                _ => {}
            }
            prop_assert_eq!(commands.is_awaited(), awaited.is_some());
            for buffer in 0..=BUFFERS {
                prop_assert_eq!(
                    commands.is_with_host(buffer),
                    with_host.values().any(|(used, _)| *used == buffer)
                );
            }
        }
    }
}
