// SPDX-License-Identifier: GPL-2.0

//! What the guest sends, and what holds for any input.

#![allow(clippy::cast_possible_truncation)] // numbers of tests are small

use netvsc_protocol::{
    frame::{self, ALIGN, MAX_LEN},
    gpa::{Pieces, MAX_PAGES},
    inbound::{sent_status, Answer, Notice},
    link::Event,
    nvsp::{Channel, Message, Version},
    offload::{Family, Offloads},
    ppi::{Incoming, Outgoing, Task, Tci},
    query::{self, Filter},
    rndis::{self, Initialized},
    rss,
    rx::{parse, Memory, Range, Received, Scratch},
    sections::{share, Sections},
    transfer::Transfer,
    vf::Path,
};
use proptest::prelude::*;

struct Bytes<'a>(&'a [u8]);

impl Memory for Bytes<'_> {
    fn read(&self, at: u32, into: &mut [u8]) -> bool {
        let at = at as usize;
        match self.0.get(at..at + into.len()) {
            Some(from) => {
                into.copy_from_slice(from);
                true
            }
            None => false,
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn messages() {
    let hex = |message: Message| -> Vec<u32> {
        assert_eq!(message.bytes().len(), 40);
        assert!(message.bytes()[20..].iter().all(|byte| *byte == 0));
        (0..5).map(|n| word(message.bytes(), n * 4)).collect()
    };
    assert_eq!(hex(Message::init(Version::V5)), [1, 0x50000, 0x50000, 0, 0]);
    assert_eq!(
        hex(Message::ndis_config(Version::V2, 1514, true)),
        [125, 1514, 0, 8, 0]
    );
    assert_eq!(
        hex(Message::ndis_config(Version::V5, 1514, false)),
        [125, 1514, 0, 0x28, 0]
    );
    assert_eq!(
        hex(Message::ndis_config(Version::V6_1, 9014, true)),
        [125, 9014, 0, 0xac, 0]
    );
    assert_eq!(
        hex(Message::switch_data_path(Path::Synthetic)),
        [129, 0, 0, 0, 0]
    );
    assert_eq!(
        hex(Message::switch_data_path(Path::Function)),
        [129, 1, 0, 0, 0]
    );
    assert_eq!(hex(Message::ndis_version(Version::V4)), [100, 6, 1, 0, 0]);
    assert_eq!(hex(Message::ndis_version(Version::V5)), [100, 6, 30, 0, 0]);
    assert_eq!(hex(Message::receive_buffer(5)), [101, 5, 0xcafe, 0, 0]);
    assert_eq!(hex(Message::send_buffer(6)), [104, 6, 0, 0, 0]);
    assert_eq!(
        hex(Message::revoke_receive_buffer()),
        [103, 0xcafe, 0, 0, 0]
    );
    assert_eq!(hex(Message::revoke_send_buffer()), [106, 0, 0, 0, 0]);
    assert_eq!(hex(Message::sub_channels(3)), [133, 1, 3, 0, 0]);
    assert_eq!(
        hex(Message::rndis(Channel::Control, None)),
        [107, 1, u32::MAX, 0, 0]
    );
    assert_eq!(
        hex(Message::rndis(Channel::Data, Some((3, 60)))),
        [107, 0, 3, 60, 0]
    );
}

#[test]
fn requests() {
    let mut buffer = [0xee; 1280];
    let len = query::set_filter(&mut buffer, 3, Filter::new(false, true, true)).unwrap();
    let words: Vec<u32> = (0..len / 4).map(|n| word(&buffer, n * 4)).collect();
    assert_eq!(words, [5, 32, 3, 0x1010e, 4, 20, 0, 13]);
    assert_eq!(Filter::new(true, true, true), Filter(0x20));
    assert_eq!(Filter::new(false, false, false), Filter(1));
    assert_eq!(rndis::initialize(&mut buffer, 1), Some(24));
    assert_eq!(rndis::halt(&mut buffer, 1), Some(12));
    assert_eq!(rndis::query(&mut buffer, 1, 2, &[]), Some(28));
    // What does not fit is not built.
    assert_eq!(rndis::query(&mut buffer[..27], 1, 2, &[]), None);
    assert_eq!(rndis::set(&mut buffer, 1, 2, &[&[0; 1253]]), None);
    assert_eq!(query::set_address(&mut buffer[..99], 1, [2; 6]), None);

    let table: Vec<u16> = (0..256).map(|n| n % 4).collect();
    let len = rss::set(&mut buffer, 9, &table, &[0xab; 40], false).unwrap();
    assert_eq!(len, 28 + 40 + 1024 + 40);
    let value = &buffer[28..len];
    assert_eq!(value[..8], [0x89, 2, 40, 0, 0, 0, 0, 0]);
    assert_eq!(word(value, 8), 0x1701);
    assert_eq!([word(value, 12), word(value, 16)], [1024, 40]);
    assert_eq!([word(value, 20), word(value, 24)], [40, 1064]);
    assert_eq!(word(value, 40 + 4 * 7), 3);
    assert_eq!(value[1064..], [0xab; 40]);
    let off = rss::set(&mut buffer, 9, &table[..128], &[0; 40], true).unwrap();
    assert_eq!(off, 28 + 40 + 512 + 40);
    assert_eq!(buffer[28 + 4], 0x10);
    // More entries than any table has.
    assert_eq!(
        rss::set(&mut buffer, 9, &[0; 300], &[0; 40], true),
        Some(len)
    );
}

#[test]
fn offloads_depend_on_each_other() {
    let mut value = vec![0u8; 112];
    value[..4].copy_from_slice(&[0xa7, 1, 112, 0]);
    let mut set = |at: usize, n: u32| {
        value[at..at + 4].copy_from_slice(&n.to_le_bytes());
        Offloads::parse(Version::V6_1, &value).unwrap()
    };
    // Segmentation and UDP need TCP with its options.
    assert_eq!(
        set(80, 2),
        Offloads {
            max_segmented: 65_536,
            ..Offloads::NONE
        }
    );
    set(84, 65_536);
    assert_eq!(set(8, 0x50).ipv4, Family::default());
    assert_eq!(
        set(8, 0x54).ipv4,
        Family {
            tcp: true,
            udp: true,
            segments: true
        }
    );
    assert!(!set(84, 4095).ipv4.segments);
    assert_eq!(set(84, u32::MAX).max_segmented, 65_536);
    set(92, 2);
    set(96, 8192);
    assert!(!set(24, 0x15).ipv6.segments);
    let both = set(104, 5);
    assert!(both.ipv6.segments);
    assert_eq!(both.max_segmented, 8192);
    // Nothing of a newer revision.
    assert!(!both.coalesce);
    for (at, bad) in [(0, 0x80), (1, 0), (2, 111), (2, 113)] {
        let mut value = value.clone();
        value[at] = bad;
        assert_eq!(Offloads::parse(Version::V6_1, &value), None, "{at}");
    }
    assert_eq!(Offloads::parse(Version::V6_1, &[]), None);
}

#[test]
fn a_header_in_one_range() {
    for k in 1..=256u64 {
        let mut pieces = Pieces::new();
        pieces.push(0x10_0000 + 4096 - k, 300).unwrap();
        assert_eq!(pieces.ranges(), 1);
        let header = pieces.header();
        assert_eq!(header.len(), 8 + 8 + 16);
        assert_eq!(word(header, 4), 1);
        assert_eq!(word(header, 8), 300);
        assert_eq!(u64::from(word(header, 12)), 4096 - k);
        assert_eq!([word(header, 16), word(header, 24)], [0x100, 0x101]);
    }
}

#[test]
fn pages_have_a_limit() {
    let mut pieces = Pieces::new();
    for n in 0..MAX_PAGES as u64 {
        pieces.push(n * 0x10_000, 4096).unwrap();
    }
    assert_eq!(pieces.header().len(), 8 + 16 * MAX_PAGES);
    assert!(pieces.push(0x9990_0000, 1).is_err());
    assert!(Pieces::new().push(u64::MAX - 1, 3).is_err());
    assert!(Pieces::new().push(0, u32::MAX).is_err());
    assert!(Pieces::new().push(1, 32 * 4096).is_err());
    assert!(Pieces::new().push(0, 32 * 4096).is_ok());
    assert_eq!(Pieces::new().header(), [0; 8]);
}

#[test]
fn sections_go_back_once() {
    let mut storage = [0; 8];
    let mut sections = Sections::new(&mut storage[..], 10..15);
    let mut taken = Vec::new();
    while let Some(section) = sections.take() {
        taken.push(section);
    }
    let mut numbers: Vec<u32> = taken.iter().map(|s| s.number()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [10, 11, 12, 13, 14]);
    let last = taken.pop().unwrap();
    let number = last.number();
    sections.give(last);
    assert_eq!(sections.free(), 1);
    assert_eq!(sections.take().unwrap().number(), number);
    // No more than there is storage for.
    let mut small = [0; 2];
    assert_eq!(Sections::new(&mut small[..], 0..5).free(), 2);
}

/// Where the pieces of memory are, as the host sees them: byte by byte.
fn bytes_of(header: &[u8]) -> Vec<u64> {
    let mut bytes = Vec::new();
    let mut at = 8;
    for _ in 0..word(header, 4) {
        let (len, offset) = (word(header, at) as u64, word(header, at + 4) as u64);
        at += 8;
        let pages = (offset + len).div_ceil(4096);
        for n in offset..offset + len {
            let pfn = at + 8 * (n / 4096) as usize;
            let pfn = u64::from_le_bytes(header[pfn..pfn + 8].try_into().unwrap());
            bytes.push(pfn * 4096 + n % 4096);
        }
        at += 8 * pages as usize;
    }
    assert_eq!(at, header.len());
    bytes
}

fn task() -> impl Strategy<Value = Task> {
    let flags = (any::<bool>(), any::<bool>(), 0u16..1024, 1u16..);
    prop_oneof![
        Just(Task::None),
        flags
            .clone()
            .prop_map(|(ipv6, udp, offset, _)| Task::Checksum { ipv6, udp, offset }),
        flags.prop_map(|(ipv6, _, offset, mss)| Task::Segment { ipv6, mss, offset }),
    ]
}

fn outgoing() -> impl Strategy<Value = Outgoing> {
    let vlan = proptest::option::of(any::<u16>().prop_map(Tci));
    (proptest::option::of(any::<u32>()), vlan, task()).prop_map(|(hash, vlan, task)| Outgoing {
        hash,
        vlan,
        task,
    })
}

/// The header of a frame; room that is too short or too long is refused.
fn header_of(infos: &Outgoing, bytes: u32, gap: u32) -> Vec<u8> {
    let mut room = vec![0xff; frame::len_of(infos) as usize + 1];
    assert_eq!(frame::put(infos, bytes, gap, &mut room), None);
    room.pop();
    assert_eq!(frame::put(infos, bytes, gap, &mut room), Some(()));
    let mut short = room.clone();
    short.pop();
    assert_eq!(frame::put(infos, bytes, gap, &mut short), None);
    room
}

proptest! {
    #[test]
    fn what_is_sent_can_be_received(
        infos in outgoing(),
        data in proptest::collection::vec(any::<u8>(), 14..200),
        gap in 0..ALIGN,
    ) {
        let mut bytes = header_of(&infos, data.len() as u32, gap);
        prop_assert!(bytes.len() as u32 <= MAX_LEN);
        let start = bytes.len() as u32 + gap;
        bytes.resize(start as usize, 0);
        bytes.extend_from_slice(&data);
        let range = Range { start: 0, len: bytes.len() as u32 };
        let Ok(Received::Frame(frame)) = parse(&Bytes(&bytes), range, &mut Scratch::default()) else {
            panic!("{bytes:?}");
        };
        prop_assert_eq!(frame.data, Range { start, len: data.len() as u32 });
        prop_assert_eq!(frame.infos.vlan, infos.vlan);
        prop_assert_eq!(frame.infos.hash, infos.hash);
    }

    #[test]
    fn a_header_says_what_is_to_be_done(infos in outgoing()) {
        let header = header_of(&infos, 1000, 0);
        let records = &header[44..];
        match (infos.task, records.chunks(16).last()) {
            (Task::Checksum { ipv6, udp, offset }, Some(last)) => {
                prop_assert_eq!(word(last, 4), 0);
                let value = word(last, 12);
                prop_assert_eq!(value & 3, if ipv6 { 2 } else { 1 });
                prop_assert_eq!(value & 12, if udp { 8 } else { 4 });
                prop_assert_eq!(value >> 16, u32::from(offset));
            }
            (Task::Segment { ipv6, mss, offset }, Some(last)) => {
                prop_assert_eq!(word(last, 4), 2);
                let value = word(last, 12);
                prop_assert_eq!(value & 0xf_ffff, u32::from(mss));
                prop_assert_eq!((value >> 20) & 0x3ff, u32::from(offset));
                prop_assert_eq!(value >> 30, if ipv6 { 3 } else { 1 });
            }
            (Task::None, _) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pieces_are_all_there(
        pieces in proptest::collection::vec((0u64..1 << 40, 0u32..9000, any::<bool>()), 0..12),
    ) {
        let mut built = Pieces::new();
        let mut expected = Vec::new();
        let mut end = 0;
        let mut fits = true;
        for (start, len, go_on) in pieces {
            let start = if go_on { end } else { start };
            end = start + u64::from(len);
            fits &= built.push(start, len).is_ok();
            if !fits {
                break;
            }
            expected.extend(start..end);
        }
        if fits {
            prop_assert_eq!(bytes_of(built.header()), expected);
        }
    }

    #[test]
    fn tags_survive(tci: u16) {
        let infos = Outgoing { vlan: Some(Tci(tci)), ..Outgoing::NONE };
        let header = header_of(&infos, 0, 0);
        let back = Incoming::parse(&header[44..]).unwrap();
        prop_assert_eq!(back.vlan, Some(Tci(tci)));
    }

    #[test]
    fn every_section_has_one_queue(count in 0u32..5000, queues in 1u32..70) {
        let mut next = 0;
        for queue in 0..queues {
            let range = share(count, queues, queue);
            prop_assert_eq!(range.start, next);
            prop_assert!(range.end >= next);
            next = range.end;
        }
        prop_assert_eq!(next, count);
        prop_assert_eq!(share(count, queues, queues), 0..0);
    }

    #[test]
    fn nothing_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        start: u32, len: u32, version: u32,
    ) {
        let version = Version(version);
        let _ = Answer::parse(&bytes);
        let _ = sent_status(&bytes);
        let _ = Notice::parse(version, &bytes);
        let _ = Event::parse(&bytes);
        let _ = Initialized::parse(&bytes);
        let _ = rndis::queried(&bytes);
        let _ = rndis::was_set(&bytes);
        let _ = Offloads::parse(version, &bytes);
        let _ = rss::Capabilities::parse(&bytes);
        let _ = query::Name::parse(&bytes);
        let _ = query::address(&bytes);
        let _ = Incoming::parse(&bytes);
        let _ = parse(&Bytes(&bytes), Range { start, len }, &mut Scratch::default());
        let whole = Range { start: 0, len: bytes.len() as u32 };
        let mut frame = bytes.clone();
        if let Some(kind) = frame.first_chunk_mut() {
            *kind = [1, 0, 0, 0];
        }
        if let Ok(Received::Frame(frame)) = parse(&Bytes(&frame), whole, &mut Scratch::default()) {
            prop_assert!(frame.data.start + frame.data.len <= whole.len);
        }
        let layout = netvsc_protocol::buffers::Layout { section: 1728, count: 9 };
        if let Ok(transfer) = Transfer::parse(layout, &bytes, &[107, 0, 0, 0]) {
            for range in transfer.ranges().flatten() {
                prop_assert!(range.start + range.len <= 1728 * 9);
            }
        }
    }
}
