// SPDX-License-Identifier: GPL-2.0

//! Virtual functions: which card is one, and by which path frames go.

use netvsc_protocol::{
    inbound::{Answer, Notice},
    nvsp::Version,
    vf::{claim, serial, Asked, Card, Claim, Failover, Path},
};
use proptest::prelude::*;

const OURS: [u8; 6] = [0x52, 0x54, 0, 0, 0x10, 2];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0x10, 3];

fn card(slot: Option<&[u8]>) -> Card<'_> {
    Card {
        slot,
        permanent: OURS,
        address: OURS,
    }
}

#[test]
fn slots_have_numbers_as_the_kernel_reads_them() {
    assert_eq!(serial(b"7"), Some(7));
    assert_eq!(serial(b"007\n"), Some(7));
    assert_eq!(serial(b"+7"), Some(7));
    assert_eq!(serial(b"4294967295"), Some(u32::MAX));
    for bad in [
        &b""[..],
        b"+",
        b"-1",
        b"7-1",
        b"0x7",
        b" 7",
        b"7\n\n",
        b"4294967296",
        b"99999999999999999999",
    ] {
        assert_eq!(serial(bad), None, "{bad:?}");
    }
}

#[test]
fn the_named_slot_and_the_address_make_a_card_ours() {
    assert_eq!(claim(OURS, Some(7), &card(Some(b"7"))), Some(Claim::Serial));
    // the address alone, before or without a word of the host
    assert_eq!(claim(OURS, None, &card(Some(b"7"))), Some(Claim::Address));
    assert_eq!(
        claim(OURS, Some(8), &card(Some(b"7"))),
        Some(Claim::Address)
    );
    // no slot, and a slot whose name is no number
    assert_eq!(claim(OURS, Some(7), &card(None)), None);
    assert_eq!(claim(OURS, Some(7), &card(Some(b"7-1"))), None);
}

#[test]
fn another_address_is_not_ours_whatever_the_slot() {
    let other = Card {
        permanent: OTHER,
        address: OTHER,
        ..card(Some(b"7"))
    };

    assert_eq!(claim(OURS, Some(7), &other), None);
    // not registered yet: it has no address of its own, or another one for now
    let early = Card {
        permanent: [0; 6],
        ..card(Some(b"7"))
    };
    assert_eq!(claim(OURS, Some(7), &early), Some(Claim::Address));
    let changed = Card {
        address: OTHER,
        ..card(Some(b"7"))
    };
    assert_eq!(claim(OURS, Some(7), &changed), Some(Claim::Serial));
}

#[test]
fn an_association_of_any_length() {
    let message = [128u32, 1, 7].map(u32::to_le_bytes).concat();

    for len in 0..message.len() {
        assert!(Notice::parse(Version::V6_1, &message[..len]).is_err());
    }
    let expected = Notice::VirtualFunction {
        present: true,
        serial: 7,
    };
    assert_eq!(Notice::parse(Version::V6_1, &message), Ok(expected));
    let longer = [&message[..], &[0xff; 200]].concat();
    assert_eq!(Notice::parse(Version::V6_1, &longer), Ok(expected));
}

#[test]
fn a_completion_without_payload_is_the_answer() {
    assert_eq!(Answer::parse(&[]), Ok(Answer::Done));
    // what C does not take for one either
    assert!(Answer::parse(&[129, 0, 0, 0]).is_err());
    assert!(Answer::parse(&[0]).is_err());
}

/// An adapter that is connected, with a card that is joined and can be used.
fn usable() -> Failover {
    let mut failover = Failover::new();

    failover.connected();
    failover.join();
    failover.set_usable(true);
    failover
}

#[test]
fn a_card_is_not_used_before_the_host_has_named_it() {
    let mut failover = usable();

    assert_eq!(failover.ask(), None);
    assert!(failover.associate(true, 7));
    let asked = failover.ask().expect("a question");
    assert_eq!(asked.path, Path::Function);
    // one at a time
    assert_eq!(failover.ask(), None);
    assert!(!failover.sends_by_card());
    failover.answered(asked, true);
    assert!(failover.sends_by_card());
    assert_eq!(failover.ask(), None);
    // said again: nothing happens
    assert!(!failover.associate(true, 7));
    assert_eq!(failover.ask(), None);
}

fn on_card() -> Failover {
    let mut failover = usable();

    failover.associate(true, 7);
    let asked = failover.ask().expect("a question");
    failover.answered(asked, true);
    failover
}

#[test]
fn whatever_ends_it_frames_go_by_the_adapter_at_once() {
    let ends: [fn(&mut Failover); 3] = [
        |f| f.set_usable(false),
        |f| f.leave(),
        |f| {
            f.associate(false, 7);
        },
    ];

    for end in ends {
        let mut failover = on_card();

        end(&mut failover);
        assert!(!failover.sends_by_card());
        let asked = failover.ask().expect("a question");
        assert_eq!(asked.path, Path::Synthetic);
        failover.answered(asked, true);
        assert_eq!(failover.confirmed(), Some(Path::Synthetic));
        assert_eq!(failover.ask(), None);
    }
}

#[test]
fn a_host_that_does_not_answer_is_asked_again_and_not_trusted() {
    let mut failover = usable();

    failover.associate(true, 7);
    let asked = failover.ask().expect("a question");
    failover.answered(asked, false);
    assert!(failover.is_unanswered());
    assert!(!failover.sends_by_card());
    // It may have switched: it is asked to switch back, too, though frames never went by the card.
    failover.set_usable(false);
    let asked = failover.ask().expect("a question");
    assert_eq!(asked.path, Path::Synthetic);
    failover.answered(asked, true);
    assert!(!failover.is_unanswered());
    assert_eq!(failover.ask(), None);
}

#[test]
fn an_answer_of_a_former_connection_says_nothing() {
    let mut failover = usable();

    failover.associate(true, 7);
    let asked = failover.ask().expect("a question");
    failover.disconnected();
    assert_eq!(failover.ask(), None);
    failover.connected();
    failover.answered(asked, true);
    assert!(!failover.sends_by_card());
    let asked = failover.ask().expect("a question");
    failover.answered(asked, true);
    assert!(failover.sends_by_card());
}

/// What may happen, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Associate(bool, u32),
    Join,
    Leave,
    Usable(bool),
    Connected,
    Disconnected,
    Ask,
    /// The host does what it was asked, and says so or not.
    Done(bool),
    /// It neither does it nor says anything.
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), 0u32..3).prop_map(|(present, serial)| Step::Associate(present, serial)),
        Just(Step::Join),
        Just(Step::Leave),
        any::<bool>().prop_map(Step::Usable),
        Just(Step::Connected),
        Just(Step::Disconnected),
        Just(Step::Ask),
        Just(Step::Ask),
        any::<bool>().prop_map(Step::Done),
        Just(Step::Lost),
    ]
}

/// An adapter, and a host as it is.
struct Model {
    failover: Failover,
    host: Option<Path>,
    asked: Option<(Asked, bool)>,
    named: bool,
    joined: bool,
    usable: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            failover: Failover::new(),
            host: None,
            asked: None,
            named: false,
            joined: false,
            usable: false,
        }
    }

    fn renew(&mut self, host: Option<Path>) {
        self.host = host;
        // the answer comes when there is another connection
        if let Some((_, of_now)) = &mut self.asked {
            *of_now = false;
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Associate(present, serial) => {
                self.failover.associate(present, serial);
                self.named = present;
            }
            Step::Join => {
                self.failover.join();
                (self.joined, self.usable) = (true, false);
            }
            Step::Leave => {
                self.failover.leave();
                (self.joined, self.usable) = (false, false);
            }
            Step::Usable(usable) => {
                self.failover.set_usable(usable);
                self.usable = usable && self.joined;
            }
            Step::Connected => {
                self.failover.connected();
                self.renew(Some(Path::Synthetic));
            }
            Step::Disconnected => {
                self.failover.disconnected();
                self.renew(None);
            }
            Step::Ask => {
                // One thread asks at a time, and waits.
                if self.asked.is_none() {
                    self.asked = self.failover.ask().map(|asked| (asked, true));
                }
            }
            Step::Done(said) => {
                if let Some((asked, of_now)) = self.asked.take() {
                    if of_now {
                        self.host = self.host.map(|_| asked.path);
                    }
                    self.failover.answered(asked, said);
                }
            }
            Step::Lost => {
                if let Some((asked, _)) = self.asked.take() {
                    self.failover.answered(asked, false);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn frames_go_by_a_card_only_when_all_agree(steps in prop::collection::vec(step(), 0..60)) {
        let mut model = Model::new();

        for step in steps {
            model.take(step);
            if model.failover.sends_by_card() {
                prop_assert!(model.named && model.joined && model.usable);
                prop_assert_eq!(model.host, Some(Path::Function));
            }
        }
        // A host that does what it is asked ends where it is wanted.
        model.take(Step::Lost);
        for _ in 0..3 {
            model.take(Step::Ask);
            model.take(Step::Done(true));
        }
        let failover = &model.failover;

        if let Some(host) = model.host {
            prop_assert_eq!(host, failover.wanted());
            prop_assert_eq!(failover.confirmed(), Some(host));
            prop_assert_eq!(failover.sends_by_card(), host == Path::Function);
        } else {
            prop_assert!(!failover.sends_by_card());
        }
    }

    #[test]
    fn names_of_slots_are_read_as_numbers(number: u32, name in prop::collection::vec(any::<u8>(), 0..12)) {
        prop_assert_eq!(serial(number.to_string().as_bytes()), Some(number));
        let text = core::str::from_utf8(&name).ok();
        let plain = text.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));

        if let Some(plain) = plain {
            prop_assert_eq!(serial(&name), plain.parse().ok());
        }
    }
}
