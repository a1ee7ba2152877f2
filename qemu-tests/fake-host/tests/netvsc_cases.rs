// SPDX-License-Identifier: GPL-2.0

//! The network: the initialisation against hosts that do what it takes, and
//! the known bug cases.

use fake_host::netvsc::{
    frame, initialize_done, query_done, record, set_done, transfer, utf16, words, Host, Shared,
};
use netvsc_protocol::{
    buffers::{send_layout, Layout, LayoutError, ReceiveClaim},
    exchange::{Exchange, Outcome},
    inbound::{sent_status, Answer, MessageError, Notice},
    link::{Event, EventError},
    nvsp::{rndis_complete, Version},
    ppi::{Fragment, RecordError, Tci},
    query::{self, Name},
    rndis::{self, AnswerError, Initialized, Kind},
    rss,
    rx::{control, parse, Assembler, Range, Received, RxError, MAX_CONTROL},
    setup::{Action, Buffer, Config, Request, Setup, SetupError},
    transfer::{Transfer, TransferError},
};

const CONFIG: Config = Config {
    mtu: 1500,
    receive_bytes: 16 << 20,
    send_bytes: 1 << 20,
    coalesce: true,
};

const LAYOUT: Layout = Layout {
    section: 1728,
    count: 100,
};
const BUFFER: u32 = 172_800;

fn all(len: usize) -> Range {
    Range {
        start: 0,
        len: len as u32,
    }
}

fn parse_all(bytes: &[u8]) -> Result<Received, RxError> {
    parse(&Shared::new(bytes), all(bytes.len()))
}

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
            assert_eq!(setup.agreed().offloads, Default::default());
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
        vec![],
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
    // The right size, the wrong step.
    for message in [words(&[105, 1, 6144]), words(&[133, 1, 3])] {
        let mut setup = Setup::new(CONFIG);
        setup.on_answer(Answer::parse(&message).ok());
        assert_eq!(setup.action(), Action::Stop(SetupError::Unexpected));
    }
    assert_eq!(sent_status(&words(&[108, 2])), Ok(2));
    assert!(sent_status(&words(&[108])).is_err());
    assert!(sent_status(&words(&[107, 1])).is_err());
    assert_eq!(rndis_complete(true)[..], words(&[108, 1])[..]);
    assert_eq!(rndis_complete(false)[..], words(&[108, 2])[..]);
}

#[test]
fn n01_ranges() {
    let carries = words(&[107, 0, u32::MAX, 0]);
    let ranges = |header: &[u8]| {
        Transfer::parse(LAYOUT, header, &carries).map(|t| t.ranges().collect::<Vec<_>>())
    };
    let one = |start, len| ranges(&transfer(0xcafe, 1, &[(start, len)])).unwrap()[0];
    assert_eq!(
        one(BUFFER - 2, 2),
        Some(Range {
            start: BUFFER - 2,
            len: 2
        })
    );
    for (start, len) in [
        (BUFFER - 1, 2),
        (0xffff_fff0, 0x20),
        (u32::MAX, u32::MAX),
        (0, 1729),
        (BUFFER + 1, 0),
    ] {
        assert_eq!(one(start, len), None, "{start:#x} {len:#x}");
    }
    for count in [2, 563, 0x1fff_ffff, u32::MAX] {
        assert!(matches!(
            ranges(&transfer(0xcafe, count, &[(0, 60)])),
            Err(TransferError::Header(_))
        ));
    }
    let many = vec![(0, 60); 563];
    assert!(ranges(&transfer(0xcafe, 563, &many)).is_err());
    assert_eq!(ranges(&transfer(0xcafe, 562, &many)).unwrap().len(), 562);
    assert_eq!(
        ranges(&transfer(0xcafe, 0, &[])).unwrap_err(),
        TransferError::Empty
    );
    assert_eq!(
        ranges(&transfer(0xcaff, 1, &[(0, 60)])).unwrap_err(),
        TransferError::Pageset(0xcaff)
    );
    assert!(ranges(&[0xfe, 0xca, 0, 0]).is_err());
    for payload in [&[][..], &words(&[106]), &words(&[108, 1])] {
        assert!(Transfer::parse(LAYOUT, &transfer(0xcafe, 1, &[(0, 60)]), payload).is_err());
    }
}

#[test]
fn n01_lengths() {
    let good = frame(&record(6, 0x50), &[7; 60]);
    let Ok(Received::Frame(found)) = parse_all(&good) else {
        panic!();
    };
    assert_eq!(found.data, Range { start: 60, len: 60 });
    assert_eq!(found.infos.vlan, Some(Tci(5)));
    // Ranges that end too soon.
    for len in 0..good.len() {
        let cut = parse(&Shared::new(&good), all(len));
        assert!(cut.is_err(), "{len}");
    }
    let with = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        parse_all(&bytes)
    };
    let len = good.len() as u32;
    for (at, values) in [
        // message length
        (4, vec![0, 43, 119, len + 1, u32::MAX]),
        // frame's start and length
        (
            8,
            vec![0, 35, len - 8, len - 7, 53, u32::MAX, u32::MAX - 59],
        ),
        (12, vec![0, 13, 61, len, u32::MAX, u32::MAX - 51]),
        // start and length of records
        (28, vec![0, 35, 98, 110, u32::MAX, u32::MAX - 15]),
        (32, vec![1, 11, 15, 17, 77, 300, u32::MAX]),
        // a record's size and the start of its value
        (44, vec![0, 11, 12, 15, 17, u32::MAX]),
        (52, vec![0, 11, 13, 16, 17, u32::MAX]),
    ] {
        for value in values {
            assert!(with(at, value).is_err(), "{at}: {value:#x}");
        }
    }
    // More than is looked at.
    assert!(matches!(
        parse_all(&frame(&record(6, 0).repeat(17), &[7; 60])),
        Err(RxError::Infos { .. })
    ));
    assert!(parse_all(&frame(&record(6, 0).repeat(16), &[7; 60])).is_ok());
    for short in 0..14 {
        assert!(matches!(
            parse_all(&frame(&[], &vec![7; short])),
            Err(RxError::Data { .. })
        ));
    }
    assert!(parse_all(&frame(&[], &[7; 14])).is_ok());
    // A reader that finds less than the range says.
    assert_eq!(
        parse(&Shared::new(&good[..40]), all(120)),
        Err(RxError::Range)
    );
    assert!(parse(&Shared::new(&good[..50]), all(120)).is_err());
}

#[test]
fn n01_records() {
    let bad = |infos: &[u8]| match parse_all(&frame(infos, &[7; 60])) {
        Err(RxError::Record(RecordError { at, .. })) => at,
        other => panic!("{other:?}"),
    };
    for size in [0, 1, 11, 33, u32::MAX] {
        assert_eq!(bad(&words(&[size, 0, 12, 1, 0, 0, 0, 0])), 0);
    }
    for trailing in 1..12 {
        let infos = [record(0, 8), vec![0; trailing]].concat();
        assert_eq!(bad(&infos), 16);
    }
    // Unknown records are passed over, also without a value.
    let infos = [
        words(&[12, 99, 12]),
        words(&[20, 3, 16, 0, 5]),
        record(8, 77),
    ]
    .concat();
    let Ok(Received::Frame(found)) = parse_all(&frame(&infos, &[7; 60])) else {
        panic!();
    };
    assert_eq!(found.infos.hash, Some(77));
    assert_eq!(bad(&words(&[12, 8, 12])), 0);
}

#[test]
fn n02_memory_that_changes() {
    let good = frame(&record(6, 0x50), &[7; 60]);
    // Each byte of the header and of the record becomes 0xff once it was read.
    for at in 0..60 {
        let memory = Shared::new(&good);
        memory.flip_after_read(at, 0xff);
        let got = parse(&memory, all(good.len()));
        assert_eq!(got, parse_all(&good), "{at}");
        let Ok(Received::Frame(found)) = got else {
            panic!();
        };
        assert_eq!(found.data, Range { start: 60, len: 60 });
    }
    // The type is read for two decisions; the second one stands by itself.
    let answer = set_done(1, 0);
    let memory = Shared::new(&answer);
    memory.flip_after_read(0, 1);
    assert_eq!(parse(&memory, all(16)), Ok(Received::Control));
    memory.flip_after_read(3, 0);
    let mut buffer = [0; MAX_CONTROL];
    let copy = control(&memory, all(16), &mut buffer).unwrap();
    let mut exchange = Exchange::new();
    assert_eq!(exchange.begin(Kind::SET), 1);
    assert_eq!(exchange.on_message(copy), Outcome::Ignored);
}

#[test]
fn n04_table() {
    let table: Vec<u32> = (100..116).collect();
    let expected = Notice::Table(table.clone().try_into().unwrap());
    let message = |count, offset, gap: usize| {
        [words(&[134, count, offset]), vec![0xee; gap], words(&table)].concat()
    };
    let right = message(16, 12, 0);
    for version in Version::PROPOSED {
        assert_eq!(Notice::parse(version, &right), Ok(expected));
    }
    // Where hosts up to 6 have it, whatever they say.
    for offset in [8, 12, 36, 40, u32::MAX] {
        let long = message(16, offset, 28);
        assert_eq!(Notice::parse(Version::V6, &long), Ok(expected));
        let newer = Notice::parse(Version::V6_1, &long);
        match offset {
            40 => assert_eq!(newer, Ok(expected)),
            u32::MAX => assert!(newer.is_err()),
            _ => assert_ne!(newer, Ok(expected)),
        }
    }
    for (count, offset) in [
        (15, 12),
        (17, 12),
        (0, 12),
        (u32::MAX, 12),
        (16, 13),
        (16, u32::MAX - 63),
        (16, u32::MAX),
    ] {
        assert_eq!(
            Notice::parse(Version::V6_1, &message(count, offset, 0)),
            Err(MessageError::Table { count, offset })
        );
    }
    for len in 0..right.len() {
        assert!(Notice::parse(Version::V6_1, &right[..len]).is_err());
    }
    // Whatever the host says, the channel is one of those that there are.
    for entry in [0, 1, 2, 3, 63, 64, 1 << 31, u32::MAX] {
        for channels in [1, 2, 3, 64] {
            assert!(rss::channel(entry, channels) < channels);
        }
        assert_eq!(rss::channel(entry, 0), 0);
    }
    for hash in [0, 15, 16, u32::MAX] {
        assert!(rss::slot(hash) < 16);
    }
}

#[test]
fn n05_all_channels_take_turns_until_the_host_says_something() {
    let used: Vec<u32> = (0..16)
        .map(|slot| rss::channel(rss::default_entry(slot), 3))
        .collect();
    assert_eq!(used, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn n06_indication_that_claims_to_be_short() {
    let speed = |len: u32, offset: u32, range: &[u8]| {
        let mut bytes = words(&[7, 20, 0x4001_0013, len, offset]);
        bytes.extend_from_slice(range);
        Event::parse(&bytes).unwrap()
    };
    // The message's length leaves the buffer out.
    let value = 100_000_000u32.to_le_bytes();
    assert_eq!(speed(4, 12, &value), Ok(Event::Speed(10_000)));
    for (len, offset) in [
        (5, 12),
        (4, 13),
        (4, 11),
        (4, u32::MAX),
        (u32::MAX, 12),
        (3, 12),
        (0, 12),
    ] {
        assert_eq!(speed(len, offset, &value), Err(EventError::Malformed));
    }
    let plain = |status| Event::parse(&words(&[7, 20, status, 0, 0])).unwrap();
    assert_eq!(plain(0x4001_000b), Ok(Event::Connected));
    assert_eq!(plain(0x4001_000c), Ok(Event::Disconnected));
    assert_eq!(plain(0x4001_0018), Ok(Event::Changed));
    assert_eq!(plain(0x4001_0006), Err(EventError::Unknown(0x4001_0006)));
    assert_eq!(
        Event::parse(&words(&[7, 12, 0x4001_000b])),
        Some(Err(EventError::Malformed))
    );
    assert_eq!(Event::parse(&set_done(1, 0)), None);
    assert_eq!(Event::parse(&words(&[7, 12])), None);
}

#[test]
fn n17_virtual_functions_are_noticed_and_not_used() {
    assert_eq!(
        Notice::parse(Version::V6_1, &words(&[128, 1, 9])),
        Ok(Notice::VirtualFunction {
            present: true,
            serial: 9
        })
    );
    assert!(Notice::parse(Version::V6_1, &words(&[128, 1])).is_err());
    // Bit 2 of the capabilities would ask for them.
    for version in Version::PROPOSED {
        let config = netvsc_protocol::nvsp::Message::ndis_config(version, 1514);
        assert_eq!(config.bytes()[12] & 4, 0);
    }
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
fn parts_of_packets() {
    let part = |first: bool, last: bool, len: usize| {
        let flags = 1 | (u32::from(first) << 1) | (u32::from(last) << 2);
        let bytes = frame(&record((1 << 31) | 1, 1 | (flags << 8)), &vec![7; len]);
        match parse_all(&bytes) {
            Ok(Received::Frame(found)) => found,
            other => panic!("{other:?}"),
        }
    };
    let whole = |len: usize| match parse_all(&frame(&[], &vec![7; len])) {
        Ok(Received::Frame(found)) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        part(true, false, 60).infos.fragment,
        Some(Fragment {
            first: true,
            last: false
        })
    );
    let mut storage = [Range::default(); 4];
    let mut assembler = Assembler::new(&mut storage[..]);
    let single = assembler.push(&whole(60)).unwrap().unwrap();
    assert_eq!((single.parts.len(), single.total), (1, 60));
    assert_eq!(assembler.push(&part(true, false, 60)), Ok(None));
    assert_eq!(assembler.push(&part(false, false, 1)), Ok(None));
    let three = assembler.push(&part(false, true, 10)).unwrap().unwrap();
    assert_eq!((three.parts.len(), three.total), (3, 71));
    // What does not go together.
    let bad = Err(RxError::Fragments);
    assert_eq!(assembler.push(&part(false, true, 10)), bad);
    assert_eq!(assembler.push(&part(true, false, 60)), Ok(None));
    assert_eq!(assembler.push(&part(true, true, 60)), bad);
    assert!(!assembler.restart());
    assert_eq!(assembler.push(&part(true, false, 60)), Ok(None));
    assert_eq!(assembler.push(&whole(60)), bad);
    // Too many.
    assert_eq!(assembler.push(&part(true, false, 60)), Ok(None));
    for _ in 0..3 {
        assert_eq!(assembler.push(&part(false, false, 60)), Ok(None));
    }
    assert_eq!(assembler.push(&part(false, true, 60)), bad);
    // Unfinished when the next transfer starts.
    assert_eq!(assembler.push(&part(true, false, 60)), Ok(None));
    assert!(assembler.restart());
    assert_eq!(assembler.push(&part(false, true, 60)), bad);
    // Too long.
    assert_eq!(assembler.push(&part(true, false, 40_000)), Ok(None));
    assert_eq!(assembler.push(&part(false, true, 40_000)), bad);
    // Whole in one part.
    assert!(assembler.push(&part(true, true, 60)).unwrap().is_some());
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
