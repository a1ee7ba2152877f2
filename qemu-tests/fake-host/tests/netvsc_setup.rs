// SPDX-License-Identifier: GPL-2.0

//! The network: the initialisation, against hosts that do what it takes and hosts that do not.

use fake_host::netvsc::{initialize_done, query_done, set_done, utf16, words, Host};
use netvsc_protocol::{
    buffers::{send_layout, LayoutError, ReceiveClaim},
    exchange::{Exchange, Outcome},
    inbound::{sent_status, Answer},
    nvsp::{rndis_complete, Version},
    offload::Offloads,
    query::{self, Name},
    rndis::{self, AnswerError, Initialized, Kind},
    setup::{Action, Buffer, Config, Request, Setup, SetupError},
};
use zerocopy::IntoBytes as _;

const CONFIG: Config = Config {
    mtu: 1500,
    receive_bytes: 16 << 20,
    send_bytes: 1 << 20,
    coalesce: true,
    functions: true,
};

#[test]
fn an_honest_host() {
    let mut host = Host::default();
    let mut setup = Setup::new(CONFIG);
    assert_eq!(host.run(&mut setup), Action::Done);
    let agreed = setup.agreed();
    assert_eq!(agreed.version, Version::V6_1);
    assert_eq!(host.seen, [1, 125, 100, 101, 104]);
    assert_eq!(
        host.announced,
        [(Buffer::Receive, 16 << 20), (Buffer::Send, 1 << 20)]
    );
    assert_eq!(agreed.receive.count, 9709);
    assert_eq!(agreed.send.count, 170);
    assert_eq!(agreed.address, [0, 0x15, 0x5d, 1, 2, 3]);
    assert_eq!((agreed.mtu, agreed.max_mtu), (1500, 65_521));
    assert_eq!(agreed.name.unwrap().bytes(), b"Synthetic 1");
    assert!(agreed.connected);
    assert_eq!(agreed.speed, Some(10_000));
    assert_eq!(agreed.rss.unwrap().channels, 8);
    assert_eq!((agreed.rndis.max_packets, agreed.rndis.alignment), (8, 8));
    let offloads = agreed.offloads;
    assert!(offloads.ipv4.tcp && offloads.ipv4.udp && offloads.ipv4.segments);
    assert!(offloads.ipv6.tcp && offloads.ipv6.udp && offloads.ipv6.segments);
    assert_eq!(offloads.max_segmented, 0xf53c);
    assert!(offloads.coalesce);
    let [(oid, value)] = &host.set[..] else {
        panic!("{:?}", host.set);
    };
    assert_eq!((*oid, value.len()), (0xfc01_020c, 28));
    assert_eq!(value[..4], [0x80, 3, 28, 0]);
    assert_eq!(value[4..9], [1, 4, 4, 4, 4]);
    assert_eq!(value[11..13], [2, 2]);
    assert_eq!(value[22..24], [2, 2]);
}

/// The host divides the pages that it is given, which may have room for more than was asked for.
#[test]
fn buffers_of_any_size() {
    for receive_sections in (10..200).chain([9708, 9709]) {
        for section in [768, 1664, 1728] {
            let mut host = Host {
                sections: (section, 6144),
                ..Host::default()
            };
            let mut setup = Setup::new(Config {
                receive_bytes: receive_sections * section,
                send_bytes: receive_sections * 777,
                ..CONFIG
            });
            assert_eq!(
                host.run(&mut setup),
                Action::Done,
                "{receive_sections} * {section}"
            );
            assert!(setup.agreed().receive.count >= receive_sections);
            for (_, bytes) in host.announced {
                assert_eq!(bytes % 4096, 0);
            }
        }
    }
}

#[test]
fn every_version() {
    for (n, version) in Version::PROPOSED.into_iter().enumerate() {
        let mut host = Host {
            versions: vec![version.0],
            ..Host::default()
        };
        let mut setup = Setup::new(Config {
            mtu: 9000,
            receive_bytes: 64 << 20,
            ..CONFIG
        });
        host.objects.remove(&0x0001_0106);
        assert_eq!(host.run(&mut setup), Action::Done, "{version}");
        let agreed = setup.agreed();
        assert_eq!(agreed.version, version);
        assert_eq!(host.seen[..=n], vec![1; n + 1][..]);
        assert_eq!(host.seen.contains(&125), version >= Version::V2);
        let old = version == Version::V1;
        assert_eq!(agreed.mtu, if old { 1500 } else { 9000 });
        assert_eq!(agreed.max_mtu, if old { 1500 } else { 65_521 });
        let most = if version <= Version::V2 { 15 } else { 31 };
        assert_eq!(host.announced[0], (Buffer::Receive, most << 20));
        assert_eq!(agreed.rss.is_some(), version >= Version::V5);
        assert_eq!(agreed.speed.is_some(), version >= Version::V5);
        assert_eq!(agreed.offloads.coalesce, version == Version::V6_1);
        assert_eq!(agreed.offloads.ipv4.udp, version >= Version::V5);
        let value = &host.set[0].1;
        assert_eq!(value.len(), if version <= Version::V4 { 22 } else { 28 });
        assert_eq!(usize::from(value[2]), value.len());
    }
    let mut host = Host {
        versions: vec![0x7_0000],
        ..Host::default()
    };
    let mut setup = Setup::new(CONFIG);
    let stop = Action::Stop(SetupError::NoVersion);
    assert_eq!(host.run(&mut setup), stop);
    assert_eq!(host.seen, [1; 6]);
    // Whatever comes then changes nothing.
    setup.on_answer(Some(Answer::Init { status: 1 }));
    setup.on_response(&query_done(1, 0, &[]));
    assert_eq!(setup.action(), stop);
}

#[test]
fn a_silent_host() {
    for patience in 0..12 {
        let mut host = Host {
            patience,
            ..Host::default()
        };
        let mut setup = Setup::new(CONFIG);
        let end = host.run(&mut setup);
        if patience < 12 {
            assert_eq!(end, Action::Stop(SetupError::Timeout), "{patience}");
        }
    }
    let mut host = Host {
        patience: 12,
        ..Host::default()
    };
    assert_eq!(host.run(&mut Setup::new(CONFIG)), Action::Done);
}

#[test]
fn repeated_answers() {
    let mut host = Host {
        times: 3,
        ..Host::default()
    };
    assert_eq!(host.run(&mut Setup::new(CONFIG)), Action::Done);
}

#[test]
fn what_can_be_done_without() {
    for oid in [
        0x0001_0106,
        0x0002_0216,
        0xfc01_020d,
        0xfc01_020c,
        0x0001_0114,
        0x0001_0107,
        0x0001_0203,
    ] {
        let mut refused = Host::default();
        refused.objects.remove(&oid);
        let mut setup = Setup::new(CONFIG);
        assert_eq!(refused.run(&mut setup), Action::Done, "{oid:#x}");
        if oid == 0xfc01_020c || oid == 0xfc01_020d {
            let Offloads {
                ipv4,
                ipv6,
                max_segmented,
                coalesce,
            } = setup.agreed().offloads;
            assert_eq!((ipv4, ipv6, coalesce), Default::default());
            // 0 is without a limit to the stack, or nearly so
            assert_eq!(max_segmented, 65_536);
        }
        let mut empty = Host::default();
        empty.objects.insert(oid, (0, Vec::new()));
        assert_eq!(empty.run(&mut Setup::new(CONFIG)), Action::Done);
    }
    let mut host = Host::default();
    host.objects.remove(&0x0101_0101);
    let end = host.run(&mut Setup::new(CONFIG));
    assert!(matches!(
        end,
        Action::Stop(SetupError::Answer(
            Request::Query(0x0101_0101),
            AnswerError::Status(0xc001_0017)
        ))
    ));
    for address in [vec![1, 0, 0, 0, 0, 1], vec![0; 6], vec![2; 5], vec![]] {
        let mut host = Host::default();
        host.objects.insert(0x0101_0101, (0, address));
        let end = host.run(&mut Setup::new(CONFIG));
        assert_eq!(end, Action::Stop(SetupError::Address));
    }
}

#[test]
fn buffers_that_make_no_sense() {
    for (receive, send, bad) in [
        (67, 6144, Some(Buffer::Receive)),
        (68, 6144, None),
        (16 << 20, 6144, None),
        (1728, 67, Some(Buffer::Send)),
        (1728, 68, None),
        (1728, 1 << 20, None),
        (1728, (1 << 20) + 1, Some(Buffer::Send)),
        (1728, u32::MAX, Some(Buffer::Send)),
    ] {
        let mut host = Host {
            sections: (receive, send),
            ..Host::default()
        };
        match (host.run(&mut Setup::new(CONFIG)), bad) {
            (Action::Done, None) => {}
            (Action::Stop(SetupError::Layout(buffer, _)), Some(bad)) => {
                assert_eq!(buffer, bad);
            }
            other => panic!("{other:?}"),
        }
    }
    let claim = |status, parts, offset, section, count| {
        ReceiveClaim {
            status,
            parts,
            offset,
            section,
            count,
        }
        .check(10_000)
    };
    assert!(claim(1, 1, 0, 100, 100).is_ok());
    assert!(claim(1, 1, 0, 10_000, 1).is_ok());
    assert_eq!(claim(2, 1, 0, 100, 100), Err(LayoutError::Status(2)));
    for (parts, offset) in [(0, 0), (2, 0), (1, 1)] {
        assert_eq!(
            claim(1, parts, offset, 100, 100),
            Err(LayoutError::Parts { parts, offset })
        );
    }
    for (section, count) in [
        (100, 101),
        (100, 0),
        (1 << 31, 2),
        (1 << 16, 1 << 16),
        (10_001, 1),
    ] {
        assert!(claim(1, 1, 0, section, count).is_err());
    }
    assert_eq!(send_layout(6, 100, 1000), Err(LayoutError::Status(6)));
    assert!(send_layout(1, 0, 1000).is_err());
}

#[test]
fn answers_to_something_else() {
    let messages = [
        vec![0],
        words(&[2]),
        words(&[2, 0, 0]),
        words(&[102, 1]),
        words(&[102, 1, 1, 0, 1728]),
        words(&[105, 1]),
        words(&[133, 1]),
        words(&[108, 1]),
        words(&[134, 16, 40]),
        words(&[u32::MAX; 10]),
    ];
    for message in &messages {
        assert!(Answer::parse(message).is_err(), "{message:?}");
        let mut setup = Setup::new(CONFIG);
        setup.on_answer(Answer::parse(message).ok());
        assert_eq!(setup.action(), Action::Stop(SetupError::Unexpected));
    }
    // One without payload says that something is done, which nothing here is for.
    let mut setup = Setup::new(CONFIG);
    setup.on_answer(Answer::parse(&[]).ok());
    assert_eq!(setup.action(), Action::Stop(SetupError::Unexpected));
    // The right size, the wrong step.
    for message in [words(&[105, 1, 6144]), words(&[133, 1, 3])] {
        let mut setup = Setup::new(CONFIG);
        setup.on_answer(Answer::parse(&message).ok());
        assert_eq!(setup.action(), Action::Stop(SetupError::Unexpected));
    }
    assert_eq!(sent_status(&words(&[108, 2])), Ok(2));
    assert!(sent_status(&words(&[108])).is_err());
    assert!(sent_status(&words(&[107, 1])).is_err());
    assert_eq!(rndis_complete(true).as_bytes(), words(&[108, 1]));
    assert_eq!(rndis_complete(false).as_bytes(), words(&[108, 2]));
}

#[test]
fn answers_match_by_id_and_type() {
    let mut exchange = Exchange::new();
    assert_eq!(exchange.on_message(&set_done(0, 0)), Outcome::Ignored);
    let id = exchange.begin(Kind::QUERY);
    for wrong in [
        query_done(id + 1, 0, &[1]),
        query_done(id.wrapping_sub(1), 0, &[1]),
        set_done(id, 0),
        initialize_done(id, 0),
        words(&[4, 24, id, 0, 0, 16]),
        words(&[0x8000_0004, 12]),
        vec![],
        vec![0; 2000],
    ] {
        assert_eq!(exchange.on_message(&wrong), Outcome::Ignored);
        assert_eq!(exchange.answer(), None);
    }
    let right = query_done(id, 0, &[1, 2, 3]);
    assert_eq!(exchange.on_message(&right), Outcome::Answered);
    assert_eq!(
        exchange.on_message(&query_done(id, 0, &[9])),
        Outcome::Ignored
    );
    assert_eq!(exchange.answer(), Some(&right[..]));
    assert_eq!(
        rndis::queried(exchange.answer().unwrap()),
        Ok(&[1, 2, 3][..])
    );
    exchange.end();
    assert_eq!(exchange.answer(), None);
    assert_eq!(exchange.on_message(&right), Outcome::Ignored);
    assert_ne!(exchange.begin(Kind::QUERY), id);
    assert_eq!(exchange.ignored(), 11);
}

#[test]
fn short_answers_are_not_zeros() {
    let init = initialize_done(1, 0);
    assert!(Initialized::parse(&init).is_ok());
    for len in 0..44 {
        let mut cut = init[..len].to_vec();
        if len >= 8 {
            cut[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        }
        assert_eq!(Initialized::parse(&cut), Err(AnswerError::Malformed));
    }
    // Longer than what came.
    let mut long = init.clone();
    long[4] = 53;
    assert_eq!(Initialized::parse(&long), Err(AnswerError::Malformed));
    // A shift that no number survives, and no packets at all.
    let mut wild = init;
    wild[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    wild[32..36].copy_from_slice(&0u32.to_le_bytes());
    let parsed = Initialized::parse(&wild).unwrap();
    assert_eq!((parsed.max_packets, parsed.alignment), (1, 4096));

    assert_eq!(rndis::was_set(&set_done(1, 5)), Err(AnswerError::Status(5)));
    assert_eq!(
        rndis::was_set(&words(&[0x8000_0005, 12, 1])),
        Err(AnswerError::Malformed)
    );
    let queried = |len: u32, offset: u32| {
        let bytes = words(&[0x8000_0004, 28, 1, 0, len, offset, 0x55]);
        rndis::queried(&bytes).map(<[u8]>::to_vec)
    };
    assert_eq!(queried(4, 16), Ok(vec![0x55, 0, 0, 0]));
    assert_eq!(queried(0, 0), Ok(vec![]));
    for (len, offset) in [
        (4, 15),
        (5, 16),
        (4, 17),
        (4, u32::MAX),
        (u32::MAX, 16),
        (0, 21),
    ] {
        assert_eq!(
            queried(len, offset),
            Err(AnswerError::Malformed),
            "{len} {offset}"
        );
    }
}

#[test]
fn names() {
    let name = |text: &str| Name::parse(&utf16(text)).map(|n| n.bytes().to_vec());
    assert_eq!(name("Network Adapter"), None);
    assert_eq!(name(""), None);
    assert_eq!(name("\0x"), None);
    assert_eq!(name("a\0b"), Some(b"a".to_vec()));
    assert_eq!(
        name("Netz\u{e4}\u{20ac}\u{1f310}"),
        Some("Netz\u{e4}\u{20ac}\u{1f310}".into())
    );
    assert_eq!(name("a\nb\x1b[0m"), Some("a\u{fffd}b\u{fffd}[0m".into()));
    assert_eq!(name(&"x".repeat(400)).unwrap().len(), 255);
    let cut = name(&"\u{20ac}".repeat(400)).unwrap();
    assert_eq!(cut.len(), 255);
    assert!(String::from_utf8(cut).is_ok());
    let lone = Name::parse(&[0x41, 0, 0, 0xd8, 0x42, 0]).unwrap();
    assert_eq!(lone.bytes(), "A\u{fffd}B".as_bytes());
    // An odd byte at the end is no unit.
    assert_eq!(Name::parse(&[0x41, 0, 0x42]).unwrap().bytes(), b"A");
}

#[test]
fn the_address_is_set_by_name() {
    let mut buffer = [0xee; 1280];
    let len = query::set_address(&mut buffer, 9, [0, 0x15, 0x5d, 0xab, 0xcd, 0xef]).unwrap();
    let bytes = &buffer[..len];
    assert_eq!(
        bytes[..28],
        words(&[5, len as u32, 9, 0x0001_021b, 72, 20, 0])[..]
    );
    assert_eq!(bytes[28..48], words(&[20, 28, 2, 48, 24])[..]);
    let text = [utf16("NetworkAddress"), utf16("00155dabcdef")].concat();
    assert_eq!(bytes[48..], text[..]);
}
