// SPDX-License-Identifier: GPL-2.0

//! Logical units: which commands may go out, and what is done about them.

mod answers;

use answers::{good, status};
use proptest::prelude::*;
use storvsc_protocol::{
    inbound::Status,
    luns::{is_sign_of_life, may_write, place, Admission, Luns, Task, Verdict, WORDS},
    outcome::{outcome, Followup, Sent},
    packet::Address,
};

const WRITE: u8 = 0x2a;
const INQUIRY: u8 = 0x12;

fn unit(lun: u8) -> Address {
    Address {
        channel: 3,
        target: 1,
        lun,
    }
}

fn with_units(luns: &[u8]) -> Luns {
    let mut all = Luns::new();
    for lun in luns {
        all.add(unit(*lun));
    }
    all
}

#[test]
fn a_notice_stops_all_units_until_they_say_who_they_are() {
    let mut luns = with_units(&[0, 7, 255]);
    assert!(!luns.is_obstructed());
    luns.on_notice();
    assert!(luns.is_obstructed());
    for lun in [0, 7, 255] {
        assert_eq!(luns.admission(unit(lun), WRITE), Admission::Hold);
        assert_eq!(luns.admission(unit(lun), INQUIRY), Admission::Send);
    }
    // One that is being made.
    assert_eq!(luns.admission(unit(8), WRITE), Admission::Send);
    let mut last = None;
    let mut seen = Vec::new();
    while let Some(suspect) = luns.next_suspect(last) {
        seen.push(suspect.lun);
        luns.settle(suspect, Verdict::Same);
        last = Some(suspect);
    }
    assert_eq!(seen, [0, 7, 255]);
    assert!(!luns.is_obstructed());
    assert_eq!(luns.take(), Some(Task::ScanBus));
    assert_eq!(luns.take(), None);
}

#[test]
fn a_doubt_during_the_comparison_is_not_lost() {
    let mut luns = with_units(&[1]);
    luns.on_doubt(unit(1));
    assert_eq!(luns.next_suspect(None), Some(unit(1)));
    luns.on_doubt(unit(1));
    luns.settle(unit(1), Verdict::Same);
    assert_eq!(luns.admission(unit(1), WRITE), Admission::Hold);
    assert_eq!(luns.next_suspect(None), Some(unit(1)));
    luns.settle(unit(1), Verdict::Same);
    assert_eq!(luns.admission(unit(1), WRITE), Admission::Send);
    // About one that the midlayer does not have there is none.
    luns.on_doubt(unit(2));
    assert!(!luns.is_obstructed());
}

#[test]
fn one_that_is_gone_gets_nothing_until_it_is_forgotten() {
    let mut luns = with_units(&[1, 2]);
    luns.on_notice();
    luns.settle(unit(1), Verdict::Gone);
    luns.settle(unit(2), Verdict::Same);
    assert_eq!(luns.admission(unit(1), WRITE), Admission::Gone);
    assert_eq!(luns.admission(unit(1), INQUIRY), Admission::Gone);
    // Also when the host says more.
    luns.on_notice();
    assert_eq!(luns.admission(unit(1), WRITE), Admission::Gone);
    assert_eq!(luns.take(), Some(Task::Remove(unit(1))));
    assert_eq!(luns.take(), Some(Task::Remove(unit(1))));
    luns.forget(unit(1));
    assert_eq!(luns.admission(unit(1), INQUIRY), Admission::Send);
    assert_eq!(luns.take(), Some(Task::ScanBus));
    // The next one there is not that one.
    luns.add(unit(1));
    assert_eq!(luns.admission(unit(1), WRITE), Admission::Send);
}

/// Whether who sends finds something in the way of the unit, without a lock.
fn is_in_the_way(luns: &Luns, unit: Address) -> bool {
    let (word, bit) = place(unit).unwrap();
    luns.obstructed().nth(word).unwrap() & bit != 0
}

#[test]
fn what_is_in_the_way_of_one_unit_is_not_in_that_of_others() {
    let mut luns = with_units(&[0, 1, 2, 3]);
    assert_eq!(luns.obstructed().count(), WORDS);
    luns.on_doubt(unit(0));
    luns.on_doubt(unit(1));
    luns.settle(unit(1), Verdict::Gone);
    luns.on_doubt(unit(2));
    luns.settle(unit(2), Verdict::Mute);
    luns.forget(unit(2));
    assert!(luns.is_obstructed());
    for lun in 0..=255 {
        assert_eq!(is_in_the_way(&luns, unit(lun)), lun < 3);
        let is_sent = luns.admission(unit(lun), WRITE) == Admission::Send;
        assert_eq!(is_sent, lun >= 3);
    }
    luns.hold();
    assert!(is_in_the_way(&luns, unit(3)));
    luns.release();
    assert!(!is_in_the_way(&luns, unit(3)));
    assert_eq!(
        place(Address {
            target: 4,
            ..unit(0)
        }),
        None
    );
}

#[test]
fn one_that_is_gone_and_busy_keeps_nobody_waiting() {
    let mut luns = with_units(&[0, 1, 2]);
    luns.on_notice();
    luns.settle(unit(0), Verdict::Mute);
    luns.settle(unit(1), Verdict::Gone);
    luns.settle(unit(2), Verdict::Same);
    assert_eq!(luns.take(), Some(Task::Remove(unit(0))));
    luns.put_off(unit(0));
    assert_eq!(luns.take(), Some(Task::Remove(unit(1))));
    luns.forget(unit(1));
    assert_eq!(luns.take(), Some(Task::ScanBus));
    assert_eq!(luns.take(), None);
    assert!(luns.have_put_off());
    // Nothing goes there meanwhile, also when it answers.
    luns.on_voice(unit(0));
    assert_eq!(luns.admission(unit(0), INQUIRY), Admission::Gone);
    assert_eq!(luns.take(), Some(Task::ScanBus));
    luns.try_again();
    assert_eq!(luns.take(), Some(Task::Remove(unit(0))));
    luns.put_off(unit(0));
    luns.forget(unit(0));
    assert!(!luns.have_put_off());
    luns.put_off(unit(2));
    assert!(!luns.have_put_off());
}

#[test]
fn tasks_come_once_and_removals_first() {
    let mut luns = with_units(&[4, 5]);
    luns.on_no_list(unit(0));
    luns.on_no_list(unit(3));
    luns.on_change(unit(4));
    luns.on_change(unit(4));
    luns.on_doubt(unit(5));
    luns.settle(unit(5), Verdict::Gone);
    assert_eq!(luns.take(), Some(Task::Remove(unit(5))));
    luns.forget(unit(5));
    assert_eq!(luns.take(), Some(Task::Rescan(unit(4))));
    luns.on_rescan(unit(4));
    let look = Task::LookAtAll {
        channel: 3,
        target: 1,
    };
    assert_eq!(luns.take(), Some(look));
    assert_eq!(luns.take(), None);
}

proptest! {
    /// Nothing but what a new unit answers without giving its unit attention away goes to a suspect.
    #[test]
    fn addresses_are_told_apart(
        a in (0u8..8, 0u8..4, any::<u8>()),
        b in (0u8..8, 0u8..4, any::<u8>()),
        opcode in any::<u8>(),
    ) {
        let at = |(channel, target, lun)| Address { channel, target, lun };
        let mut luns = Luns::new();
        luns.add(at(a));
        luns.add(at(b));
        luns.on_doubt(at(a));
        prop_assert_eq!(luns.next_suspect(None), Some(at(a)));
        let harmless = matches!(opcode, 0x03 | 0x12 | 0xa0);
        let held = |admission| admission == Admission::Hold;
        prop_assert_eq!(held(luns.admission(at(a), opcode)), !harmless);
        prop_assert_eq!(held(luns.admission(at(b), opcode)), !harmless && a == b);
    }

    /// Whatever happens in whatever order: what is suspect is held until it was compared after the
    /// last doubt, and addresses that cannot be are never held.
    #[test]
    fn no_doubt_is_lost(events in prop::collection::vec((0u8..6, 0u8..4), 0..200)) {
        let mut luns = with_units(&[0, 1, 2, 3]);
        let mut doubted = [false; 4];
        let mut asked = [false; 4];
        let mut gone = [false; 4];
        for (event, lun) in events {
            let n = usize::from(lun);
            match event {
                0 => {
                    luns.on_doubt(unit(lun));
                    (doubted[n], asked[n]) = (true, false);
                }
                1 => {
                    luns.on_notice();
                    (doubted, asked) = ([true; 4], [false; 4]);
                }
                2 => {
                    let suspect = luns.next_suspect(None);
                    let first = (0..4).find(|n| doubted[*n] && !gone[*n]);
                    prop_assert_eq!(suspect.map(|unit| usize::from(unit.lun)), first);
                    if let Some(first) = first {
                        asked[first] = true;
                    }
                }
                3 | 4 if asked[n] && !gone[n] => {
                    let verdict = if event == 3 { Verdict::Same } else { Verdict::Resized };
                    luns.settle(unit(lun), verdict);
                    (doubted[n], asked[n]) = (false, false);
                }
                5 if asked[n] => {
                    luns.settle(unit(lun), Verdict::Gone);
                    (gone[n], asked[n]) = (true, false);
                }
                _ => {}
            }
            for n in 0..4u8 {
                let at = usize::from(n);
                let expected = match (gone[at], doubted[at]) {
                    (true, _) => Admission::Gone,
                    (false, true) => Admission::Hold,
                    (false, false) => Admission::Send,
                };
                prop_assert_eq!(luns.admission(unit(n), WRITE), expected);
            }
        }
    }
}

#[test]
fn one_write_at_a_time_to_a_silent_unit() {
    // Alone, or after the unit was heard of.
    assert!(may_write(1, u32::MAX));
    assert!(may_write(32, 0));
    assert!(may_write(32, 8));
    assert!(!may_write(2, 9));
    // However long it waits: the command before it may be the one that a new disk refuses.
    assert!(!may_write(2, u32::MAX));
}

#[test]
fn one_that_never_says_who_it_is_is_gone_in_the_end() {
    let mut luns = with_units(&[1, 2, 3]);
    luns.on_doubt(unit(1));
    luns.on_doubt(unit(2));
    luns.wait_for_suspects();
    // It says who it is, and there is another doubt.
    assert_eq!(luns.next_suspect(None), Some(unit(1)));
    luns.on_doubt(unit(1));
    luns.settle(unit(1), Verdict::Same);
    // This one has not had as long.
    luns.on_doubt(unit(3));
    assert_eq!(luns.take_silent(), Some(unit(2)));
    assert_eq!(luns.take_silent(), None);
    assert_eq!(luns.admission(unit(1), WRITE), Admission::Hold);
    assert_eq!(luns.admission(unit(2), WRITE), Admission::Gone);
    assert_eq!(luns.admission(unit(3), WRITE), Admission::Hold);
    luns.wait_for_suspects();
    // Another unit comes to its address.
    luns.add(unit(3));
    assert_eq!(luns.take_silent(), Some(unit(1)));
    assert_eq!(luns.take_silent(), None);
}

#[test]
fn what_a_new_disk_answers_at_once_is_no_sign_of_life() {
    let read = 0x28;
    assert!(is_sign_of_life(read, &good()));
    assert!(is_sign_of_life(WRITE, &good()));
    assert!(!is_sign_of_life(WRITE, &status(0x84, 2, 6, 0x29, 0)));
    assert!(!is_sign_of_life(WRITE, &status(0x04, 2, 0, 0, 0)));
    for opcode in [0x03, INQUIRY, 0xa0] {
        assert!(!is_sign_of_life(opcode, &good()));
    }
}

#[test]
fn a_busy_one_is_waited_for() {
    let mut luns = with_units(&[1, 2]);
    luns.on_notice();
    for _ in 0..100 {
        luns.wait_for_suspects();
        luns.on_busy(unit(1));
        assert_ne!(luns.take_silent(), Some(unit(1)));
    }
    assert_eq!(luns.admission(unit(1), 0x28), Admission::Hold);
}

#[test]
fn request_sense_takes_the_unit_attention_away() {
    let mut sent = Sent {
        opcode: 0x03,
        vpd: false,
        data_len: 18,
    };
    let followup = |sent: &Sent, status: &Status| outcome(sent, status).followup;
    assert_eq!(followup(&sent, &good()), Some(Followup::Identify));
    let failed = status(0x04, 2, 0, 0, 0);
    assert_eq!(followup(&sent, &failed), Some(Followup::Identify));
    sent.opcode = 0x28;
    assert_eq!(followup(&sent, &good()), None);
}

#[test]
fn a_bus_reset_holds_all_commands() {
    let mut luns = with_units(&[0]);
    luns.hold();
    assert!(luns.is_obstructed());
    for opcode in [WRITE, INQUIRY] {
        assert_eq!(luns.admission(unit(0), opcode), Admission::Hold);
        assert_eq!(luns.admission(unit(1), opcode), Admission::Hold);
    }
    luns.release();
    assert!(!luns.is_obstructed());
    assert_eq!(luns.admission(unit(0), WRITE), Admission::Send);
    // One that is gone does not wait for it.
    luns.settle(unit(0), Verdict::Gone);
    luns.hold();
    assert_eq!(luns.admission(unit(0), WRITE), Admission::Gone);
}

#[test]
fn a_mute_unit_is_not_looked_for_until_the_host_answers() {
    let mut luns = with_units(&[0, 1]);
    luns.on_notice();
    assert_eq!(luns.take(), Some(Task::ScanBus));
    luns.settle(unit(0), Verdict::Same);
    luns.next_suspect(None);
    luns.settle(unit(1), Verdict::Mute);
    assert_eq!(luns.take(), Some(Task::Remove(unit(1))));
    luns.forget(unit(1));
    assert!(luns.is_mute(unit(1)) && luns.is_known(unit(1)));
    assert_eq!(luns.admission(unit(1), INQUIRY), Admission::Gone);
    assert_eq!(luns.take(), None);
    // Nobody asks it who it is.
    luns.on_notice();
    assert_eq!(luns.next_suspect(Some(unit(0))), None);
    assert_eq!(luns.take(), Some(Task::ScanBus));
    luns.on_voice(unit(1));
    assert_eq!(luns.admission(unit(1), INQUIRY), Admission::Send);
    assert_eq!(luns.take(), Some(Task::ScanBus));
    luns.on_voice(unit(1));
    assert_eq!(luns.take(), None);
}

#[test]
fn of_two_mute_units_the_one_that_answers_is_looked_for() {
    let mut luns = with_units(&[0, 1, 2]);
    for lun in [0, 2] {
        luns.on_doubt(unit(lun));
        luns.settle(unit(lun), Verdict::Mute);
        luns.forget(unit(lun));
    }
    assert_eq!(luns.next_mute(None), Some(unit(0)));
    assert_eq!(luns.next_mute(Some(unit(0))), Some(unit(2)));
    assert_eq!(luns.next_mute(Some(unit(2))), None);
    // Neither what another unit says, nor what the host says, is about the two.
    luns.on_voice(unit(1));
    assert_eq!(luns.take(), None);
    luns.on_notice();
    luns.settle(unit(1), Verdict::Same);
    assert_eq!(luns.take(), Some(Task::ScanBus));
    luns.on_voice(unit(2));
    assert_eq!(luns.admission(unit(2), INQUIRY), Admission::Send);
    assert_eq!(luns.admission(unit(0), INQUIRY), Admission::Gone);
    assert_eq!(luns.take(), Some(Task::ScanBus));
    assert_eq!(luns.next_mute(None), Some(unit(0)));
}
