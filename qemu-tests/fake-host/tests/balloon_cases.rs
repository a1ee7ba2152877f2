// SPDX-License-Identifier: GPL-2.0

//! One test for each known bug of the balloon, with its right outcome.

use balloon_protocol::{
    message::{Info, MessageError, Status, VERSION_0_3, VERSION_1_0, VERSION_2_0},
    policy::{capabilities, floor_pages, pressure, units_per_page, MemoryCounts},
    range::{check_returned, check_set, RangeLimits, SetError},
    session::{Action, Features, IgnoreReason, Owed, Session, SessionError, State},
    Inbound, PageRange,
};
use fake_host::balloon as wire;
use std::collections::BTreeSet;

const FEATURES: Features = Features {
    hibernation: false,
    balloon: true,
    hot_add: true,
};

fn ready(features: Features) -> Session<'static> {
    let mut session = Session::new(features);
    assert!(matches!(session.start(), Action::SendVersion { .. }));
    let accepted = |kind: usize| Inbound::parse(&ACCEPTED[kind]).unwrap();
    assert_eq!(session.on_message(&accepted(0)), Action::SendCapabilities);
    assert_eq!(session.on_message(&accepted(1)), Action::Start);
    session
}

static ACCEPTED: [[u8; 16]; 2] = [
    [2, 0, 16, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    [4, 0, 16, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
];

#[test]
fn range_count_beyond_the_message() {
    let ranges: Vec<u64> = (0..520).map(|i| wire::range(i * 2, 1)).collect();
    for k in [1usize, 2, 16, 510] {
        for more in [false, true] {
            for (count, fits) in [
                (k as u32 - 1, true),
                (k as u32, true),
                (k as u32 + 1, false),
                (511, false),
                (512, false),
                (0xffff, false),
                (0x8000_0000, false),
                (u32::MAX, false),
            ] {
                let body = wire::unballoon_body(more, count, &ranges[..k]);
                let bytes = wire::honest(8, &body);
                match Inbound::parse(&bytes) {
                    Ok(Inbound::UnballoonRequest(request)) => {
                        assert!(fits, "{count} of {k}");
                        assert_eq!(request.ranges.len() as u32, count);
                        assert_eq!(request.more_pages, more);
                    }
                    Err(MessageError::RangeCount {
                        count: c,
                        limit,
                        more_pages,
                    }) => {
                        assert!(!fits, "{count} of {k}");
                        assert_eq!((c, limit), (count, k as u32));
                        assert_eq!(more_pages, more);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn more_ranges_than_any_message_holds() {
    let ranges: Vec<u64> = (0..520).map(|i| wire::range(i * 2, 1)).collect();
    let count = |count| {
        Inbound::parse(&wire::honest(
            8,
            &wire::unballoon_body(false, count, &ranges),
        ))
        .map(drop)
    };
    assert_eq!(count(510), Ok(()));
    assert_eq!(
        count(511),
        Err(MessageError::RangeCount {
            count: 511,
            limit: 510,
            more_pages: false
        })
    );
}

#[test]
fn both_lengths_have_to_cover_the_ranges() {
    let body = wire::unballoon_body(
        false,
        3,
        &[wire::range(1, 1), wire::range(3, 1), wire::range(5, 1)],
    );
    let full = wire::honest(8, &body);
    assert!(Inbound::parse(&full).is_ok());
    // The head claims more than was received.
    let limit = |bytes: &[u8]| match Inbound::parse(bytes) {
        Err(MessageError::RangeCount { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(limit(&full[..full.len() - 1]), 2);
    assert_eq!(limit(&full[..24]), 1);
    // More was received than the head claims.
    assert_eq!(limit(&wire::message(8, 24, &body)), 1);
    assert_eq!(limit(&wire::message(8, 16, &body)), 0);
    assert!(matches!(
        Inbound::parse(&wire::message(8, 15, &body)),
        Err(MessageError::TooShort { want: 16, .. })
    ));
}

#[test]
fn frames_never_given_are_refused_as_a_whole() {
    let given: BTreeSet<u64> = (100..200).collect();
    let owned = |range: PageRange| (range.start()..range.end()).all(|pfn| given.contains(&pfn));
    let check = |ranges: &[u64]| {
        let bytes = wire::unballoon(false, ranges);
        match Inbound::parse(&bytes).unwrap() {
            Inbound::UnballoonRequest(request) => {
                check_returned(request.ranges, &RangeLimits::default(), owned)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        check(&[wire::range(100, 50), wire::range(150, 50)]),
        Ok(100)
    );
    assert_eq!(
        check(&[wire::range(100, 50), wire::range(150, 51)]),
        Err(SetError::NotGiven {
            index: 1,
            start: 150
        })
    );
    assert_eq!(
        check(&[wire::range(99, 1)]),
        Err(SetError::NotGiven {
            index: 0,
            start: 99
        })
    );
    // A duplicate would free twice.
    assert_eq!(
        check(&[wire::range(100, 10), wire::range(109, 1)]),
        Err(SetError::Overlap {
            first: 0,
            second: 1
        })
    );
    // A range without pages names none, wherever it is.
    for at in [0, 100, 120, 500] {
        assert_eq!(check(&[wire::range(100, 50), wire::range(at, 0)]), Ok(50));
        assert_eq!(check(&[wire::range(at, 0)]), Ok(0));
    }
}

#[test]
fn nonsense_ranges() {
    let top = (1u64 << 40) - 1;
    let check = |ranges: &[u64], limits: &RangeLimits| {
        let bytes = wire::unballoon(false, ranges);
        match Inbound::parse(&bytes).unwrap() {
            Inbound::UnballoonRequest(request) => check_set(request.ranges, limits),
            other => panic!("{other:?}"),
        }
    };
    let any = RangeLimits::default();
    assert_eq!(check(&[wire::range(top, 1)], &any), Ok(1));
    assert!(matches!(
        check(&[wire::range(top, 2)], &any),
        Err(SetError::Range { .. })
    ));
    let limits = RangeLimits {
        end_frame: 1000,
        guest_page_units: 1,
    };
    assert_eq!(check(&[wire::range(999, 1)], &limits), Ok(1));
    assert_eq!(
        check(&[wire::range(0, 1), wire::range(999, 2)], &limits),
        Err(SetError::BeyondEnd {
            index: 1,
            end: 1001
        })
    );
    assert_eq!(check(&[], &limits), Ok(0));
}

#[test]
fn guest_messages_echoed_back() {
    let mut session = ready(FEATURES);
    for kind in [0u16, 1, 3, 5, 7, 9, 11, 13, 0xffff] {
        let bytes = wire::honest(kind, &[0; 40]);
        assert_eq!(
            Inbound::parse(&bytes),
            Err(MessageError::Unexpected { kind })
        );
        assert_eq!(
            session.on_bad_message(&MessageError::Unexpected { kind }),
            None
        );
    }
    assert_eq!(session.ignored(), 9);
    assert_eq!(session.state(), State::Ready);
}

#[test]
fn every_length_of_every_type() {
    for kind in 0..=13u16 {
        for len in 0..64usize {
            let mut bytes = wire::honest(kind, &[0; 64]);
            bytes.truncate(len);
            // Parsing ends in something; nothing beyond `len` is looked at.
            let _ = Inbound::parse(&bytes);
        }
    }
    assert_eq!(
        Inbound::parse(&[0; 7]),
        Err(MessageError::NoHeader { got: 7 })
    );
    assert!(Inbound::parse(&wire::info(0, &4096u64.to_le_bytes())).is_ok());
    let mut short = wire::info(0, &4096u64.to_le_bytes());
    short.truncate(28);
    assert!(Inbound::parse(&short).is_err());
}

#[test]
fn larger_guest_pages() {
    let counts = MemoryCounts {
        available: 10,
        committed: 20,
        ballooned: 3,
        withheld: 2,
        added: 7,
        onlined: 5,
        floor: 1,
    };
    for (page_size, units) in [(4096u32, 1u64), (16384, 4), (65536, 16)] {
        assert_eq!(units_per_page(page_size), Some(units as u32));
        let report = pressure(&counts, units as u32);
        assert_eq!(report.available, 10 * units);
        assert_eq!(report.committed, 28 * units);
        let status = Status::new(1, report);
        assert_eq!(status.available.get(), 10 * units);
        let bits = capabilities(page_size, true, 128 << 20);
        assert_eq!(bits.balloon, page_size == 4096);
        assert_eq!(bits.hot_add_alignment, 7);
        // The floor is the same amount of memory, whatever the page size.
        let total = (4u64 << 30) / u64::from(page_size);
        let floor = floor_pages(total, page_size) * u64::from(page_size);
        assert_eq!(floor, (232 << 20) + (4u64 << 30) / 16);
    }
    assert_eq!(units_per_page(0), None);
    assert_eq!(units_per_page(2048), None);
    assert_eq!(units_per_page(4097), None);
    // No node id on arm64: hot add is off.
    assert!(!capabilities(65536, false, 512 << 20).hot_add);

    // A range that is not made of whole guest pages is refused.
    let bytes = wire::unballoon(false, &[wire::range(16, 16), wire::range(40, 8)]);
    let Inbound::UnballoonRequest(request) = Inbound::parse(&bytes).unwrap() else {
        panic!("not an unballoon request");
    };
    let limits = RangeLimits {
        guest_page_units: 16,
        ..RangeLimits::default()
    };
    assert_eq!(
        check_set(request.ranges, &limits),
        Err(SetError::Unaligned { index: 1 })
    );
}

#[test]
fn host_refuses_every_version() {
    let versions = [VERSION_2_0, VERSION_1_0, VERSION_0_3];
    let mut session = Session::with_versions(FEATURES, &versions);
    let refused = wire::accepted(2, false);
    let refused = Inbound::parse(&refused).unwrap();
    let mut action = session.start();
    for (i, version) in versions.into_iter().enumerate() {
        assert_eq!(
            action,
            Action::SendVersion {
                version,
                is_last_attempt: i == 2
            }
        );
        action = session.on_message(&refused);
    }
    assert_eq!(action, Action::Fail(SessionError::VersionRefused));
    // Nothing revives a failed session.
    let late = wire::accepted(2, true);
    assert_eq!(
        session.on_message(&Inbound::parse(&late).unwrap()),
        Action::Ignore(IgnoreReason::UnexpectedResponse)
    );
    assert_eq!(session.state(), State::Failed(SessionError::VersionRefused));

    // The default proposes 2.0 alone, as its last attempt.
    let mut session = Session::new(FEATURES);
    assert_eq!(
        session.start(),
        Action::SendVersion {
            version: VERSION_2_0,
            is_last_attempt: true
        }
    );
    assert_eq!(
        session.on_message(&refused),
        Action::Fail(SessionError::VersionRefused)
    );
}

#[test]
fn host_never_answers_or_refuses_capabilities() {
    let mut session = Session::new(FEATURES);
    let _ = session.start();
    assert_eq!(
        session.on_timeout(),
        Action::Fail(SessionError::VersionTimeout)
    );

    let mut session = Session::new(FEATURES);
    let _ = session.start();
    let _ = session.on_message(&Inbound::parse(&ACCEPTED[0]).unwrap());
    assert_eq!(
        session.on_timeout(),
        Action::Fail(SessionError::CapabilitiesTimeout)
    );

    let mut session = Session::new(FEATURES);
    let _ = session.start();
    let _ = session.on_message(&Inbound::parse(&ACCEPTED[0]).unwrap());
    let refused = wire::accepted(4, false);
    assert_eq!(
        session.on_message(&Inbound::parse(&refused).unwrap()),
        Action::Fail(SessionError::CapabilitiesRefused)
    );

    let mut session = Session::new(FEATURES);
    let _ = session.start();
    assert_eq!(
        session.on_send_failed(),
        Action::Fail(SessionError::SendFailed)
    );
}

#[test]
fn a_limit_that_is_told_again_is_logged_once() {
    let mut session = ready(FEATURES);
    for (pages, log) in [(1u64, true), (1, false), (1, false), (2, true), (2, false)] {
        let bytes = wire::info(0, &pages.to_le_bytes());
        let action = session.on_message(&Inbound::parse(&bytes).unwrap());
        assert_eq!(action, Action::MaxPageCount { pages, log });
    }
}

#[test]
fn hibernation_gives_and_adds_nothing() {
    // Hosts insist on capabilities that are not used then.
    for bits in 0..8 {
        let features = Features {
            hibernation: bits & 1 != 0,
            balloon: bits & 2 != 0,
            hot_add: bits & 4 != 0,
        };
        assert_eq!(features.gives(), bits == 2 || bits == 6, "{features:?}");
        assert_eq!(features.adds(), bits == 4 || bits == 6, "{features:?}");
        assert_eq!(features.states_hot_add(), bits & 5 != 0, "{features:?}");
    }
}

#[test]
fn hibernation_answers_at_once() {
    let mut session = ready(Features {
        hibernation: true,
        ..FEATURES
    });
    let balloon = wire::balloon(1000);
    let balloon = Inbound::parse(&balloon).unwrap();
    for _ in 0..3 {
        assert_eq!(session.on_message(&balloon), Action::AnswerEmptyBalloon);
    }
    for (more, respond) in [(true, false), (false, true)] {
        let bytes = wire::unballoon(more, &[wire::range(1, 1)]);
        assert_eq!(
            session.on_message(&Inbound::parse(&bytes).unwrap()),
            Action::RefuseUnballoon { respond }
        );
    }
    let hot_add = wire::hot_add(wire::range(0x100000, 0x8000));
    let hot_add = Inbound::parse(&hot_add).unwrap();
    for _ in 0..2 {
        // It is said at the start, once.
        assert_eq!(
            session.on_message(&hot_add),
            Action::RefuseHotAdd { log: false }
        );
    }
}

#[test]
fn hot_add_that_was_not_stated_is_declined_and_logged_once() {
    let mut session = ready(Features {
        hot_add: false,
        ..FEATURES
    });
    let hot_add = wire::hot_add(wire::range(0x100000, 0x8000));
    let hot_add = Inbound::parse(&hot_add).unwrap();
    for log in [true, false, false] {
        assert_eq!(session.on_message(&hot_add), Action::RefuseHotAdd { log });
    }
}

#[test]
fn requests_out_of_turn() {
    // Before the negotiation is over.
    let mut session = Session::new(FEATURES);
    let _ = session.start();
    let request = wire::balloon(10);
    let request = Inbound::parse(&request).unwrap();
    assert_eq!(
        session.on_message(&request),
        Action::Ignore(IgnoreReason::NotReady)
    );
}

#[test]
fn a_balloon_request_during_another_is_next() {
    let mut session = ready(FEATURES);
    let take = |session: &mut Session<'static>, pages| {
        let bytes = wire::balloon(pages);
        match session.on_message(&Inbound::parse(&bytes).unwrap()) {
            Action::Balloon { page_count } => Some(page_count),
            Action::Wait => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(take(&mut session, 10), Some(10));
    // The one that is being served stays as it is; of those that come meanwhile the last one counts.
    for pages in [0, 20, u32::MAX, 30] {
        assert_eq!(take(&mut session, pages), None);
    }
    assert_eq!(session.balloon_done(), Some(30));
    assert!(session.is_ballooning());
    assert_eq!(take(&mut session, 40), None);
    assert_eq!(session.balloon_done(), Some(40));
    assert_eq!(session.balloon_done(), None);
    assert!(!session.is_ballooning());
    assert_eq!(take(&mut session, 50), Some(50));
    assert_eq!(session.ignored(), 0);
}

#[test]
fn hot_add_regions() {
    let parse = |bytes: &[u8]| match Inbound::parse(bytes) {
        Ok(Inbound::HotAddRequest(request)) => Ok(request),
        Err(error) => Err(error),
        other => panic!("{other:?}"),
    };
    let plain = parse(&wire::hot_add(wire::range(0x100000, 0x8000))).unwrap();
    assert!(!plain.host_regions && plain.region.is_none());
    let region = parse(&wire::hot_add_region(
        wire::range(0x100000, 0x100),
        wire::range(0x100000, 0x8000),
    ))
    .unwrap();
    assert_eq!(region.region.unwrap().count(), 0x8000);
    let none = parse(&wire::hot_add_region(wire::range(0x100000, 0x100), 0)).unwrap();
    assert!(none.host_regions && none.region.is_none());
    // Without pages, wherever it begins, as C takes it.
    let none = parse(&wire::hot_add_region(
        wire::range(0x100000, 0x100),
        wire::range(0x100000, 0),
    ))
    .unwrap();
    assert!(none.host_regions && none.region.is_none());
    assert!(parse(&wire::hot_add(wire::range(0x100000, 0))).is_err());
    assert!(parse(&wire::hot_add(u64::MAX)).is_err());
}

#[test]
fn a_request_that_makes_no_sense_is_answered() {
    let refused = |bytes: &[u8]| match Inbound::parse(bytes) {
        Err(error) => error,
        other => panic!("{other:?}"),
    };
    let mut session = ready(FEATURES);
    let hot_adds = [
        wire::hot_add(wire::range(0x100000, 0)),
        wire::hot_add(u64::MAX),
        wire::hot_add_region(wire::range(0x100000, 8), u64::MAX),
    ];
    for bytes in &hot_adds {
        let owed = session.on_bad_message(&refused(bytes));
        assert_eq!(owed, Some(Owed::HotAdd { later: true }));
    }
    // Of several messages the last one is answered.
    let unballoon = |more| {
        refused(&wire::honest(
            8,
            &wire::unballoon_body(more, 2, &[wire::range(1, 1)]),
        ))
    };
    assert_eq!(session.on_bad_message(&unballoon(true)), None);
    assert_eq!(
        session.on_bad_message(&unballoon(false)),
        Some(Owed::Unballoon)
    );
    assert_eq!(session.ignored(), 5);

    // Whatever is cut off.
    for (kind, owed) in [
        (6, Owed::Balloon),
        (8, Owed::Unballoon),
        (10, Owed::HotAdd { later: true }),
    ] {
        let cut = refused(&wire::honest(kind, &[0; 4]));
        assert_eq!(session.on_bad_message(&cut), Some(owed));
    }
    assert!(session.is_ballooning());
    let cut = refused(&wire::honest(6, &[0; 4]));
    assert_eq!(session.on_bad_message(&cut), None);
    assert_eq!(session.balloon_done(), None);

    // While one is served, its answer is the answer to both.
    let good = wire::hot_add(wire::range(0x100000, 8));
    let action = session.on_message(&Inbound::parse(&good).unwrap());
    assert!(matches!(action, Action::HotAdd(_)));
    assert_eq!(session.on_bad_message(&refused(&hot_adds[0])), None);
    session.hot_add_done();

    // Where no memory is added it never will be; before the two have agreed nothing is waited for.
    let mut never = ready(Features {
        hot_add: false,
        ..FEATURES
    });
    assert_eq!(
        never.on_bad_message(&refused(&hot_adds[0])),
        Some(Owed::HotAdd { later: false })
    );
    let mut early = Session::new(FEATURES);
    assert_eq!(early.on_bad_message(&refused(&hot_adds[0])), None);
}

#[test]
fn a_figure_is_taken_before_the_two_have_agreed() {
    let mut session = Session::new(FEATURES);
    let _ = session.start();
    let _ = session.on_message(&Inbound::VersionResponse { accepted: true });
    assert_eq!(
        session.on_message(&Inbound::Info(Info::MaxPageCount(7))),
        Action::MaxPageCount {
            pages: 7,
            log: true
        }
    );
}
