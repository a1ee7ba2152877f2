// SPDX-License-Identifier: GPL-2.0

//! The network: the known bug cases of what a host sends once it is connected.

use fake_host::netvsc::{frame, record, set_done, transfer, words, Shared};
use netvsc_protocol::{
    buffers::Layout,
    exchange::{Exchange, Outcome},
    inbound::{MessageError, Notice},
    link::{Event, EventError},
    nvsp::Version,
    ppi::{Fragment, RecordError, Tci},
    rndis::Kind,
    rss,
    rx::{control, parse, Assembler, Range, Received, RxError, Scratch, MAX_CONTROL},
    transfer::{Transfer, TransferError},
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
    parse(
        &Shared::new(bytes),
        all(bytes.len()),
        &mut Scratch::default(),
    )
}

#[test]
fn ranges_outside_of_the_buffer() {
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
fn lengths_that_contradict_the_message() {
    let good = frame(&record(6, 0x50), &[7; 60]);
    let Ok(Received::Frame(found)) = parse_all(&good) else {
        panic!();
    };
    assert_eq!(found.data, Range { start: 60, len: 60 });
    assert_eq!(found.infos.vlan, Some(Tci(5)));
    // Ranges that end too soon.
    for len in 0..good.len() {
        let cut = parse(&Shared::new(&good), all(len), &mut Scratch::default());
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
        parse(&Shared::new(&good[..40]), all(120), &mut Scratch::default()),
        Err(RxError::Range)
    );
    assert!(parse(&Shared::new(&good[..50]), all(120), &mut Scratch::default()).is_err());
}

#[test]
fn records_of_wrong_sizes() {
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

/// A frame whose records are behind its bytes, or further away.
fn records_behind(infos: &[u8], data: &[u8], gap: usize) -> Vec<u8> {
    let (i, d) = (infos.len() as u32, data.len() as u32);
    let at = 36 + d + gap as u32;
    let mut bytes = words(&[1, 8 + at + i, 36, d, 0, 0, 0, at, i, 0, 0]);
    bytes.extend_from_slice(data);
    bytes.extend(vec![0; gap]);
    bytes.extend_from_slice(infos);
    bytes
}

#[test]
fn records_are_found_wherever_they_are() {
    let infos = [record(0, 8), record(6, 0x50), record(8, 77)].concat();
    for len in (14..300).chain([1514]) {
        for gap in [0, 1, 5] {
            let bytes = records_behind(&infos, &vec![7; len], gap);
            let Ok(Received::Frame(found)) = parse_all(&bytes) else {
                panic!("{len} bytes and {gap}");
            };
            assert_eq!(
                (found.infos.hash, found.infos.vlan),
                (Some(77), Some(Tci(5)))
            );
            assert_eq!(found.data.len as usize, len);
            // Each byte of them changes once it was read: there is one look. Where they lie across the
            // end of what is copied first, those that are there are not looked at, and copied again.
            let memory = Shared::new(&bytes);
            let start = bytes.len() - infos.len();
            for at in start..bytes.len() {
                memory.flip_after_read(at, 0xff);
            }
            match parse(&memory, all(bytes.len()), &mut Scratch::default()) {
                Err(RxError::Record(_)) if start < 128 && bytes.len() > 128 => {}
                got => assert_eq!(got, Ok(Received::Frame(found))),
            }
        }
    }
    // Not all of them are in the message.
    let bytes = records_behind(&infos, &[7; 200], 0);
    assert_eq!(
        parse(
            &Shared::new(&bytes),
            all(bytes.len() - 1),
            &mut Scratch::default()
        ),
        Err(RxError::Length {
            message: 292,
            range: 291
        })
    );
}

#[test]
fn memory_that_changes() {
    let good = frame(&record(6, 0x50), &[7; 60]);
    // Each byte of the header and of the record becomes 0xff once it was read.
    for at in 0..60 {
        let memory = Shared::new(&good);
        memory.flip_after_read(at, 0xff);
        let got = parse(&memory, all(good.len()), &mut Scratch::default());
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
    assert_eq!(
        parse(&memory, all(16), &mut Scratch::default()),
        Ok(Received::Control)
    );
    memory.flip_after_read(3, 0);
    let mut buffer = [0; MAX_CONTROL];
    let copy = control(&memory, all(16), &mut buffer).unwrap();
    let mut exchange = Exchange::new();
    assert_eq!(exchange.begin(Kind::SET), 1);
    assert_eq!(exchange.on_message(copy), Outcome::Ignored);
}

#[test]
fn the_table_stands_where_it_can() {
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
fn all_channels_take_turns_until_the_host_says_something() {
    let used: Vec<u32> = (0..16)
        .map(|slot| rss::channel(rss::default_entry(slot), 3))
        .collect();
    assert_eq!(used, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn indication_that_claims_to_be_short() {
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
fn virtual_functions_are_asked_for_by_who_uses_them() {
    assert_eq!(
        Notice::parse(Version::V6_1, &words(&[128, 1, 9])),
        Ok(Notice::VirtualFunction {
            present: true,
            serial: 9
        })
    );
    assert!(Notice::parse(Version::V6_1, &words(&[128, 1])).is_err());
    // Bit 2 of the capabilities asks for them.
    for version in Version::PROPOSED {
        let asks = |functions| {
            let config = netvsc_protocol::nvsp::Message::ndis_config(version, 1514, functions);

            config.bytes()[12] & 4 != 0
        };

        assert!(!asks(false));
        assert_eq!(asks(true), version >= Version::V5);
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
    // One of them could not be read.
    assert_eq!(assembler.push(&part(true, false, 60)), Ok(None));
    assembler.lost();
    assert_eq!(assembler.push(&part(false, true, 60)), bad);
    // Too long.
    assert_eq!(assembler.push(&part(true, false, 40_000)), Ok(None));
    assert_eq!(assembler.push(&part(false, true, 40_000)), bad);
    // Whole in one part.
    assert!(assembler.push(&part(true, true, 60)).unwrap().is_some());
}

/// A receive buffer with a packet in so many parts, in sections from the last to the first, and the
/// packet that names them.
fn coalesced(count: usize, len: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let section = LAYOUT.section as usize;
    let mut buffer = vec![0; section * count];
    let mut ranges = Vec::new();
    let mut all = Vec::new();
    for n in 0..count {
        let flags = 1 | (u32::from(n == 0) << 1) | (u32::from(n + 1 == count) << 2);
        let place = record((1 << 31) | 1, 1 | (flags << 8));
        // What counts is what comes beside the first part.
        let tag = record(6, ((n as u32) + 1) << 4);
        let data: Vec<u8> = (0..len).map(|at| (n * 31 + at) as u8).collect();
        let message = frame(&[tag, place].concat(), &data);
        let start = section * (count - 1 - n);
        buffer[start..start + message.len()].copy_from_slice(&message);
        ranges.push((start as u32, message.len() as u32));
        all.extend(data);
    }
    (buffer, transfer(0xcafe, count as u32, &ranges), all)
}

/// What comes of it: the bytes, and the VLAN tag; or why it was dropped.
fn assembled(buffer: &[u8], header: &[u8], most: usize) -> Result<(Vec<u8>, Option<Tci>), RxError> {
    let layout = Layout {
        section: LAYOUT.section,
        count: (buffer.len() / LAYOUT.section as usize) as u32,
    };
    let memory = Shared::new(buffer);
    let mut assembler = Assembler::new(vec![Range::default(); most]);
    let mut scratch = Scratch::default();
    let carries = words(&[107, 0, u32::MAX, 0]);
    let transfer = Transfer::parse(layout, header, &carries).expect("a packet that can be taken");
    let mut found = Err(RxError::Fragments);
    for range in transfer.ranges() {
        let Received::Frame(frame) = parse(&memory, range.ok_or(RxError::Range)?, &mut scratch)?
        else {
            panic!("not a frame");
        };
        if let Some(whole) = assembler.push(&frame)? {
            let mut bytes = Vec::new();
            for part in whole.parts {
                bytes.extend(&buffer[part.start as usize..][..part.len as usize]);
            }
            assert_eq!(bytes.len(), whole.total as usize);
            found = Ok((bytes, whole.infos.vlan));
        }
    }
    if assembler.restart() {
        return Err(RxError::Fragments);
    }
    found
}

#[test]
fn coalesced_packets_arrive_whole() {
    for (count, len) in [(1, 60), (2, 1448), (45, 1448), (562, 100), (562, 116)] {
        let (buffer, header, sent) = coalesced(count, len);
        let found = assembled(&buffer, &header, 562);
        assert_eq!(
            found,
            Ok((sent, Some(Tci(1)))),
            "{count} parts of {len} bytes"
        );
    }
    // Longer than any IP packet.
    let (buffer, header, _) = coalesced(562, 117);
    assert_eq!(assembled(&buffer, &header, 562), Err(RxError::Fragments));
    // In more parts than there is room for.
    let (buffer, header, _) = coalesced(45, 1448);
    assert_eq!(assembled(&buffer, &header, 44), Err(RxError::Fragments));
    // The last part is missing: one range less in the header's list.
    let (buffer, header, _) = coalesced(45, 1448);
    let less = transfer(
        0xcafe,
        44,
        &(0..44)
            .map(|n| {
                let at = 8 + n * 8;
                let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
                (word(at + 4), word(at))
            })
            .collect::<Vec<_>>(),
    );
    assert_eq!(assembled(&buffer, &less, 562), Err(RxError::Fragments));
}

#[test]
fn a_part_that_is_not_one_ends_its_packet() {
    let section = LAYOUT.section as usize;
    for bad in [0usize, 7, 19] {
        let (mut buffer, header, _) = coalesced(20, 1000);
        // The record's size: it would go on beyond the end.
        let at = section * (20 - 1 - bad) + 44;
        buffer[at..at + 4].copy_from_slice(&[0xff; 4]);
        assert!(assembled(&buffer, &header, 562).is_err(), "part {bad}");
    }
}
