// SPDX-License-Identifier: GPL-2.0

//! Who a logical unit is, by what it says of itself.

mod answers;

use answers::{good, status};
use proptest::prelude::*;
use storvsc_protocol::{
    identity::{compare, Found, Identity, Interview},
    inbound::Status,
    luns::Verdict,
    packet::{Address, Direction, Execute, Request},
};

fn unit(lun: u8) -> Address {
    Address {
        channel: 3,
        target: 1,
        lun,
    }
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
fn one_that_says_nothing_is_mute() {
    let known = Disk::new(Some("OLD"), 1000).identity();
    let mut interview = Interview::new();
    interview.on_silence();
    assert_eq!(interview.next(), None);
    assert_eq!(interview.is_present(), Some(false));
    assert_eq!(compare(&known, &interview.found()), Some(Verdict::Mute));
}
