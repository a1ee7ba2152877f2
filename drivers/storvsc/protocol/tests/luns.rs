// SPDX-License-Identifier: GPL-2.0

//! Logical units: which commands may go out, who they are, and what is done about them.

use proptest::prelude::*;
use storvsc_protocol::{
    identity::{compare, Found, Identity, Interview},
    inbound::Status,
    luns::{is_sign_of_life, may_write, place, Admission, Luns, Task, Verdict, WORDS},
    outcome::{outcome, Followup, Sent},
    packet::{Address, Direction, Execute, Request},
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

/// What a disk is asked for, and what it answers.
#[derive(Clone)]
struct Disk {
    inquiry: Vec<u8>,
    serial: Option<&'static str>,
    name: Option<&'static str>,
    blocks: u64,
    /// Sense code that the first command which is no inquiry gets.
    attention: Option<(u8, u8)>,
}

impl Disk {
    fn new(serial: Option<&'static str>, blocks: u64) -> Self {
        let mut inquiry = vec![0; 36];
        inquiry[8..16].copy_from_slice(b"QEMU    ");
        inquiry[16..32].copy_from_slice(b"QEMU HARDDISK   ");
        inquiry[32..36].copy_from_slice(b"2.5+");
        Disk {
            inquiry,
            serial,
            name: None,
            blocks,
            attention: None,
        }
    }

    fn answer(&mut self, cdb: &[u8]) -> (Status, Vec<u8>) {
        let page = |code: u8, text: &str| {
            let len = u8::try_from(text.len()).unwrap();
            [&[0, code, 0, len], text.as_bytes()].concat()
        };
        let refused = || (status(0x84, 2, 5, 0x24, 0), Vec::new());
        match (cdb[0], cdb[1], cdb[2]) {
            (0x12, 0, 0) => (good(), self.inquiry.clone()),
            (0x12, 1, 0x80) => self
                .serial
                .map_or_else(refused, |s| (good(), page(0x80, s))),
            (0x12, 1, 0x83) => (good(), page(0x83, self.name.unwrap_or(""))),
            (0x25, ..) | (0x9e, 0x10, _) => {
                if let Some((asc, ascq)) = self.attention.take() {
                    return (status(0x84, 2, 6, asc, ascq), Vec::new());
                }
                let last = self.blocks - 1;
                let data = if cdb[0] == 0x25 {
                    let last = u32::try_from(last).unwrap_or(u32::MAX);
                    [last.to_be_bytes(), 512u32.to_be_bytes()].concat()
                } else {
                    [&last.to_be_bytes()[..], &512u32.to_be_bytes()].concat()
                };
                (good(), data)
            }
            other => panic!("command {other:x?}"),
        }
    }

    fn found(&mut self) -> Found {
        self.found_by(|disk, cdb, _| disk.answer(cdb))
    }

    /// What is found when `answer` answers, which gets the number of the question too.
    fn found_by(
        &mut self,
        mut answer: impl FnMut(&mut Self, &[u8], usize) -> (Status, Vec<u8>),
    ) -> Found {
        let mut interview = Interview::new();
        let mut asked = 0;
        while let Some((cdb, len)) = interview.next() {
            asked += 1;
            assert!(asked < 100, "too many questions");
            let request = Request {
                address: unit(0),
                port: 0,
                cdb,
                direction: Direction::Read,
                data_len: len.into(),
                tagged: false,
            };
            let bytes = Execute::new(&request).srb.cdb_or_sense;
            let (status, mut data) = answer(self, &bytes, asked - 1);
            data.truncate(len.into());
            interview.on_answer(&status, &data);
        }
        interview.found()
    }

    fn identity(&mut self) -> Identity {
        match self.found() {
            Found::Unit { identity, .. } => identity,
            other => panic!("{other:?}"),
        }
    }
}

fn good() -> Status {
    status(1, 0, 0, 0, 0)
}

fn status(srb: u8, scsi: u8, key: u8, asc: u8, ascq: u8) -> Status {
    let mut sense = [0; 20];
    (sense[0], sense[2], sense[7]) = (0x70, key, 10);
    (sense[12], sense[13]) = (asc, ascq);
    Status {
        scsi,
        srb,
        nt: 0,
        transferred: 0,
        sense_len: 20,
        sense,
    }
}

#[test]
fn disks_are_told_apart() {
    let old = Disk::new(Some("OLD"), 1000);
    let known = old.clone().identity();
    let verdict = |disk: &Disk| compare(&known, &disk.clone().found());
    assert_eq!(verdict(&old), Some(Verdict::Same));
    // What it was reset for does not matter.
    let mut reset = old.clone();
    reset.attention = Some((0x29, 0));
    assert_eq!(verdict(&reset), Some(Verdict::Same));
    // The host has another version.
    let mut newer = old.clone();
    newer.inquiry[32..36].copy_from_slice(b"2.6 ");
    assert_eq!(verdict(&newer), Some(Verdict::Same));
    let mut grown = old.clone();
    grown.blocks = 5 << 32;
    assert_eq!(verdict(&grown), Some(Verdict::Resized));
    for change in [
        |disk: &mut Disk| disk.serial = Some("NEW"),
        |disk: &mut Disk| disk.serial = None,
        |disk: &mut Disk| disk.name = Some("a name"),
        |disk: &mut Disk| disk.inquiry[0] = 5,
        |disk: &mut Disk| disk.inquiry[20] = b'X',
        // Qualifier: nothing is there.
        |disk: &mut Disk| disk.inquiry[0] = 0x7f,
        |disk: &mut Disk| disk.inquiry[0] = 0x20,
    ] {
        let mut other = old.clone();
        change(&mut other);
        assert_eq!(verdict(&other), Some(Verdict::Gone));
    }
}

#[test]
fn a_disk_without_a_name_is_known_by_its_size() {
    let old = Disk::new(None, 1000);
    let known = old.clone().identity();
    let mut other = old.clone();
    other.blocks = 2000;
    assert_eq!(compare(&known, &other.found()), Some(Verdict::Gone));
    // Unless it says that the size has changed.
    other.attention = Some((0x2a, 9));
    assert_eq!(compare(&known, &other.found()), Some(Verdict::Resized));
    assert_eq!(
        compare(&known, &Disk::new(None, 1000).found()),
        Some(Verdict::Same)
    );
}

#[test]
fn one_that_does_not_answer_is_neither_gone_nor_the_same() {
    let known = Disk::new(Some("OLD"), 1000).identity();
    for failure in [
        status(5, 8, 0, 0, 0),
        status(0x0e, 0, 0, 0, 0),
        status(0x84, 2, 6, 0x29, 0),
    ] {
        let mut interview = Interview::new();
        let mut asked = 0;
        while interview.next().is_some() {
            assert_eq!(interview.is_present(), None);
            interview.on_answer(&failure, &[]);
            asked += 1;
            assert!(asked < 100);
        }
        assert_eq!(compare(&known, &interview.found()), None);
    }
    // No unit is an answer.
    let mut interview = Interview::new();
    interview.on_answer(&status(0x20, 0, 0, 0, 0), &[]);
    assert_eq!(interview.is_present(), Some(false));
    assert_eq!(compare(&known, &interview.found()), Some(Verdict::Gone));
}

#[test]
fn a_page_that_cannot_be_read_is_not_another_disk() {
    let broken = |disk: &Disk, pages: &[u8]| {
        disk.clone().found_by(|disk, cdb, _| {
            if cdb[0] == 0x12 && cdb[1] == 1 && pages.contains(&cdb[2]) {
                return (status(0x04, 2, 0, 0, 0), Vec::new());
            }
            disk.answer(cdb)
        })
    };
    let identity = |found: Found| match found {
        Found::Unit { identity, .. } => identity,
        other => panic!("{other:?}"),
    };
    let mut disk = Disk::new(Some("OLD"), 1000);
    let mut other = Disk::new(Some("NEW"), 1000);
    let known = disk.identity();
    assert_eq!(compare(&known, &broken(&disk, &[0x80])), None);
    assert_eq!(compare(&known, &broken(&disk, &[0x80, 0x83])), None);
    // The other page knows, of a disk of the same size.
    disk.name = Some("a name");
    other.name = Some("a name");
    let known = disk.identity();
    assert_eq!(
        compare(&known, &broken(&disk, &[0x80])),
        Some(Verdict::Same)
    );
    let mut grown = disk.clone();
    grown.blocks = 2000;
    assert_eq!(compare(&known, &broken(&grown, &[0x80])), None);
    grown.attention = Some((0x2a, 9));
    assert_eq!(
        compare(&known, &broken(&grown, &[0x80])),
        Some(Verdict::Resized)
    );
    // One that could not be read when the disk came is learned if another one is the same.
    for page in [0x80, 0x83] {
        let mut known = identity(broken(&disk, &[page]));
        assert!(known.is_incomplete());
        assert_eq!(
            compare(&known, &broken(&disk, &[page])),
            Some(Verdict::Same)
        );
        assert_eq!(compare(&known, &disk.found()), Some(Verdict::Same));
        known.adopt(&disk.identity());
        assert!(!known.is_incomplete());
        assert_eq!(compare(&known, &other.found()), Some(Verdict::Gone));
    }
    // Who had no name that could be read may be anybody, once a name is heard.
    let known = identity(broken(&disk, &[0x80, 0x83]));
    for found in [disk.found(), other.found()] {
        assert_eq!(compare(&known, &found), Some(Verdict::Gone));
    }
    // A serial number of blanks is no name, so it vouches for nobody.
    let blank = Disk::new(Some("    "), 1000);
    let mut named = blank.clone();
    named.name = Some("a name");
    let known = identity(broken(&named, &[0x83]));
    assert_eq!(compare(&known, &named.found()), Some(Verdict::Gone));
    // Nor does a size that is not known while a disk starts.
    let starting = disk.clone().found_by(|disk, cdb, _| match cdb[0] {
        0x25 => (status(0x84, 2, 2, 4, 1), Vec::new()),
        0x12 if cdb[2] == 0x80 => (status(0x04, 2, 0, 0, 0), Vec::new()),
        _ => disk.answer(cdb),
    });
    assert_eq!(compare(&disk.identity(), &starting), None);
    // One that was seen first while it was starting is known by what it said.
    let mut known = identity(starting);
    assert_eq!(compare(&known, &disk.found()), Some(Verdict::Same));
    assert!(known.learn(&disk.identity()));
    assert!(!known.is_incomplete());
    assert_eq!(compare(&known, &disk.found()), Some(Verdict::Same));
    assert_eq!(compare(&known, &other.found()), Some(Verdict::Gone));
    // What it has said is kept in a worse moment, and is not mixed with what another one says.
    assert!(known.learn(&identity(broken(&disk, &[0x80, 0x83]))));
    assert_eq!(compare(&known, &disk.found()), Some(Verdict::Same));
    assert!(!known.learn(&other.identity()));
    let mut of_another_kind = disk.clone();
    of_another_kind.inquiry[0] = 5;
    assert!(!known.learn(&of_another_kind.identity()));
    assert_eq!(compare(&known, &disk.found()), Some(Verdict::Same));
    let mut known = identity(broken(&disk, &[0x80, 0x83]));
    assert!(known.learn(&other.identity()));
    assert_eq!(compare(&known, &other.found()), Some(Verdict::Same));
    // A page that said nothing is not missed.
    let mut nameless = Disk::new(None, 1000);
    let known = nameless.identity();
    for pages in [&[0x80][..], &[0x83], &[0x80, 0x83]] {
        assert_eq!(
            compare(&known, &broken(&nameless, pages)),
            Some(Verdict::Same)
        );
    }
    nameless.blocks = 2000;
    assert_eq!(
        compare(&known, &broken(&nameless, &[0x80])),
        Some(Verdict::Gone)
    );
    other.inquiry[20] = b'X';
    let known = disk.identity();
    assert_eq!(
        compare(&known, &broken(&other, &[0x80])),
        Some(Verdict::Gone)
    );
}

#[test]
fn a_host_that_always_refuses_a_page_with_another_error_has_the_same_disk() {
    let asked = |cdb: &[u8]| match cdb[0] {
        0x12 => (cdb[1] != 0).then(|| cdb[2]),
        opcode => Some(opcode),
    };
    for refused in [0x80, 0x83, 0x25] {
        for failure in [
            status(0x04, 2, 0, 0, 0),
            status(0x12, 0, 0, 0, 0),
            status(0x84, 2, 4, 0x44, 0),
            status(0x04, 0x18, 0, 0, 0),
        ] {
            let disk = Disk::new(Some("OLD"), 1000);
            let found = || {
                disk.clone().found_by(|disk, cdb, _| {
                    if asked(cdb) == Some(refused) {
                        return (failure, Vec::new());
                    }
                    disk.answer(cdb)
                })
            };
            let Found::Unit { identity, .. } = found() else {
                panic!("{refused:#x}: {:?}", found());
            };
            assert_eq!(compare(&identity, &found()), Some(Verdict::Same));
        }
        // One that is busy will say it later.
        let busy = Disk::new(Some("OLD"), 1000).found_by(|disk, cdb, _| {
            if asked(cdb) == Some(refused) {
                return (status(0x05, 8, 0, 0, 0), Vec::new());
            }
            disk.answer(cdb)
        });
        assert_eq!(busy, Found::Busy);
    }
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

proptest! {
    /// Whenever a disk is swapped before the last answer, what is found is one disk, the new one.
    #[test]
    fn no_mixture_of_two_disks_is_found(
        swap in 0usize..5,
        (asc, ascq) in prop::sample::select(vec![(0x29u8, 0u8), (0x29, 1), (0x3f, 3), (0x3f, 0x0e)]),
        large in any::<bool>(),
    ) {
        let blocks = if large { 5 << 32 } else { 1000 };
        let swap = if large { swap } else { swap.min(3) };
        let old = Disk::new(Some("OLD"), blocks);
        let new = Disk::new(Some("NEW"), 2 * blocks);
        let found = old.clone().found_by(|disk, cdb, asked| {
            if asked == swap {
                *disk = new.clone();
                disk.attention = Some((asc, ascq));
            }
            disk.answer(cdb)
        });
        prop_assert_eq!(&found, &new.clone().found());
        prop_assert_eq!(compare(&old.clone().identity(), &found), Some(Verdict::Gone));
    }

    /// Whatever a host answers, the questions end.
    #[test]
    fn questions_end(
        answers in prop::collection::vec(
            (any::<[u8; 2]>(), any::<[u8; 3]>(), prop::collection::vec(any::<u8>(), 0..252)),
            1..100,
        ),
    ) {
        let mut interview = Interview::new();
        let mut answers = answers.iter().cycle();
        for _ in 0..700 {
            if interview.next().is_none() {
                break;
            }
            let ([srb, scsi], [key, asc, ascq], data) = answers.next().unwrap();
            interview.on_answer(&status(*srb, *scsi, *key, *asc, *ascq), data);
        }
        prop_assert!(interview.next().is_none());
    }
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

#[test]
fn one_that_says_nothing_is_mute() {
    let known = Disk::new(Some("OLD"), 1000).identity();
    let mut interview = Interview::new();
    interview.on_silence();
    assert_eq!(interview.next(), None);
    assert_eq!(interview.is_present(), Some(false));
    assert_eq!(compare(&known, &interview.found()), Some(Verdict::Mute));
}
