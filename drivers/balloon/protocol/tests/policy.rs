// SPDX-License-Identifier: GPL-2.0

//! Policy, ranges and responses.
#![allow(clippy::cast_possible_truncation)] // Small constants.

use balloon_protocol::{
    message::{
        Capabilities, CapabilityBits, HotAddResponse, Info, MessageError, UnballoonResponse,
        VersionRequest, MAX_RANGES, VERSION_2_0,
    },
    policy::{
        balloon_target, capabilities, floor_pages, hot_add_result, pause_ms, pressure, Limits,
        MemoryCounts, Patience, ReportSchedule,
    },
    range::{check_set, RangeLimits, WireRange, MAX_RANGE_PAGES},
    response::ResponseBuilder,
    Inbound, PageRange, RangeError, MAX_MESSAGE,
};
use fake_host::balloon as wire;
use proptest::prelude::*;
use std::collections::BTreeSet;
use zerocopy::{little_endian::U64, IntoBytes};

fn range(start: u64, count: u32) -> PageRange {
    PageRange::new(start, count).unwrap()
}

#[test]
fn an_answer_is_never_given_up() {
    // A step of the negotiation has five seconds.
    assert_eq!(pause_ms(Patience::Step, 300, 4_999), Some(20));
    assert_eq!(pause_ms(Patience::Step, 300, 5_000), None);
    for (tries, pause) in [(0, 1), (1, 2), (4, 16), (5, 20), (u32::MAX, 20)] {
        assert_eq!(pause_ms(Patience::Answer, tries, 0), Some(pause));
        assert_eq!(pause_ms(Patience::Answer, tries, u64::MAX), Some(pause));
    }
}

#[test]
fn messages_byte_by_byte() {
    assert_eq!(
        VersionRequest::new(7, VERSION_2_0, true).as_bytes(),
        [1, 0, 16, 0, 7, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0]
    );
    let bits = CapabilityBits {
        balloon: true,
        hot_add: true,
        hot_add_alignment: 7,
    };
    let message = Capabilities::new(1, bits);
    assert_eq!(
        message.as_bytes()[..16],
        [3, 0, 32, 0, 1, 0, 0, 0, 0b1_1111, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(message.as_bytes()[16..24], [0; 8]);
    assert_eq!(message.as_bytes()[24..], [0xff; 8]);
    let wide = CapabilityBits {
        hot_add_alignment: 200,
        ..bits
    };
    assert_eq!(Capabilities::new(1, wide).bits.get(), 0b11_1111);
    assert_eq!(
        UnballoonResponse::new(2).as_bytes(),
        [9, 0, 8, 0, 2, 0, 0, 0]
    );
    assert_eq!(
        HotAddResponse::new(2, 0x8000, 1).as_bytes(),
        [11, 0, 16, 0, 2, 0, 0, 0, 0, 0x80, 0, 0, 1, 0, 0, 0]
    );
}

#[test]
fn inbound_messages() {
    let parse = |bytes: &[u8]| format!("{:?}", Inbound::parse(bytes).unwrap());
    assert!(parse(&wire::balloon(0x1234_5678)).contains("305419896"));
    assert!(parse(&wire::info(0, &[1, 0, 0, 0, 0, 0, 0, 0])).contains("MaxPageCount(1)"));
    assert_eq!(
        Inbound::parse(&wire::info(0, &[0; 4])).unwrap(),
        Inbound::Info(Info::Unknown { info_type: 0 })
    );
    assert_eq!(
        Inbound::parse(&wire::message(6, 15, &[0; 8])),
        Err(MessageError::TooShort {
            kind: 6,
            got: 16,
            size: 15,
            want: 16
        })
    );
    // Longer than needed is accepted.
    assert!(Inbound::parse(&wire::honest(6, &[0; 100])).is_ok());
}

#[test]
fn floor_is_the_documented_function() {
    let mib = |n: u64| n * 256;
    for (total, floor) in [
        (0, 8),
        (16, 16),
        (32, 24),
        (128, 72),
        (512, 168),
        (2048, 360),
        (8192, 744),
        (32768, 1512),
    ] {
        assert_eq!(floor_pages(mib(total), 4096), mib(floor), "{total} MiB");
    }
    assert_eq!(floor_pages(u64::MAX, 4096), (u64::MAX >> 5) + mib(488));
    assert_eq!(floor_pages(77, 0), 77);
}

#[test]
fn block_size_becomes_an_exponent() {
    for (bytes, exponent) in [
        (0u64, 0),
        (1, 0),
        (1 << 20, 0),
        (128 << 20, 7),
        (129 << 20, 8),
        (2 << 30, 11),
        (32 << 30, 15),
        (64 << 30, 15),
        (u64::MAX, 15),
    ] {
        assert_eq!(capabilities(4096, true, bytes).hot_add_alignment, exponent);
    }
}

#[test]
fn an_administrator_has_limits() {
    let none = Limits::from_mib(0, 0);
    assert_eq!(none, Limits::default());
    assert_eq!(none.give(u64::MAX, 1000), 1000);
    assert!(none.may_add(u64::MAX, u64::MAX));

    let limits = Limits::from_mib(2, 4);
    for (pages, total, given) in [
        (100, 512 + 200, 100),
        (200, 512 + 200, 200),
        (201, 512 + 200, 200),
        (1, 512, 0),
        (1, 0, 0),
        (0, u64::MAX, 0),
    ] {
        assert_eq!(limits.give(pages, total), given, "{pages} of {total}");
    }
    assert!(limits.may_add(512, 512));
    assert!(!limits.may_add(513, 512));
    assert!(!limits.may_add(u64::MAX, u64::MAX));
    assert_eq!(Limits::from_mib(u32::MAX, u32::MAX).give(1, u64::MAX), 1);
}

#[test]
fn hot_add_results() {
    assert_eq!(hot_add_result(1, true), 1);
    assert_eq!(hot_add_result(1, false), 1);
    assert_eq!(hot_add_result(0, true), 0);
    assert_eq!(hot_add_result(0, false), 1);
}

#[test]
fn reports_come_once_a_second_after_the_delay() {
    let mut schedule = ReportSchedule::new(1000, 45);
    let due: Vec<u64> = (0..60_000)
        .step_by(100)
        .filter(|now| schedule.poll(*now))
        .collect();
    assert_eq!(due.first(), Some(&46_000));
    assert!(due.windows(2).all(|w| w[1] - w[0] == 1000));
    assert_eq!(schedule.due_in(59_500), 500);
    assert_eq!(schedule.due_in(u64::MAX), 0);
    // After a long pause there is one report, not a burst.
    assert!(schedule.poll(1_000_000));
    assert!(!schedule.poll(1_000_999));
    assert!(schedule.poll(1_001_000));
}

#[test]
fn pressure_saturates() {
    let counts = MemoryCounts {
        available: u64::MAX,
        committed: u64::MAX,
        ballooned: 1,
        withheld: 1,
        added: 1,
        onlined: 5,
        floor: u64::MAX,
    };
    let report = pressure(&counts, 16);
    assert_eq!(report.available, u64::MAX);
    assert_eq!(report.committed, u64::MAX);
}

#[test]
fn range_limits() {
    let top = (1u64 << 40) - 1;
    assert_eq!(PageRange::new(5, 0), Err(RangeError::Empty { start: 5 }));
    assert!(PageRange::new(top, 1).is_ok());
    assert_eq!(
        PageRange::new(top, 2),
        Err(RangeError::Overflow {
            start: top,
            count: 2
        })
    );
    assert_eq!(
        PageRange::new(0, MAX_RANGE_PAGES + 1),
        Err(RangeError::NotRepresentable)
    );
    assert_eq!(
        PageRange::new(top + 1, 1),
        Err(RangeError::NotRepresentable)
    );
    let big = range(0, MAX_RANGE_PAGES);
    assert_eq!(big.merge(range(u64::from(MAX_RANGE_PAGES), 1)), None);
    assert_eq!(range(1, 2).merge(range(3, 4)), Some(range(1, 6)));
    assert_eq!(range(1, 2).merge(range(4, 4)), None);
    assert!(range(1, 2).overlaps(range(2, 1)) && !range(1, 2).overlaps(range(3, 1)));
    assert!(range(1, 4).contains(range(2, 3)) && !range(1, 4).contains(range(2, 4)));
    assert!(range(16, 32).is_aligned(16) && !range(16, 8).is_aligned(16));
    assert!(!range(16, 32).is_aligned(0));
}

#[test]
fn response_holds_510_ranges() {
    let mut buffer = [0xa5; MAX_MESSAGE];
    let mut builder = ResponseBuilder::new(&mut buffer);
    for i in 0..MAX_RANGES as u64 {
        builder.push(range(i * 2, 1)).unwrap();
    }
    let next = range(MAX_RANGES as u64 * 2, 1);
    assert_eq!(builder.push(next), Err(next));
    // A neighbour of the last one still fits.
    builder.push(range(MAX_RANGES as u64 * 2 - 1, 1)).unwrap();
    assert_eq!((builder.range_count(), builder.pages()), (510, 511));
    let message = builder.finish(9, true);
    assert_eq!(message.len(), 4096);
    assert_eq!(message[..8], [7, 0, 0, 16, 9, 0, 0, 0]);
    assert_eq!(message[8..16], [0, 0, 0, 0, 0xfd, 3, 0, 0]);
}

#[test]
fn empty_response_ends_a_request() {
    let mut buffer = [0xa5; MAX_MESSAGE];
    let mut builder = ResponseBuilder::new(&mut buffer);
    assert_eq!(
        builder.finish(1, false),
        [7, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert!(builder.ranges().is_empty());
}

proptest! {
    #[test]
    fn floor_is_monotone_and_continuous(total in 0u64..1 << 30) {
        let (a, b) = (floor_pages(total, 4096), floor_pages(total + 1, 4096));
        prop_assert!(a <= b && b <= a + 1);
    }

    #[test]
    fn target_respects_the_floor(requested in any::<u64>(), available in any::<u64>(), floor in any::<u64>()) {
        let target = balloon_target(requested, available, floor);
        prop_assert!(target <= requested);
        prop_assert!(target == 0 || available - target >= floor);
        prop_assert!(target == requested || target == available.saturating_sub(floor));
    }

    #[test]
    fn wire_ranges_round_trip(value in any::<u64>()) {
        let wire = WireRange(U64::new(value));
        if let Ok(range) = PageRange::try_from(wire) {
            prop_assert_eq!(range.to_wire(), wire);
            prop_assert!(range.end() <= 1 << 40 && range.count() > 0);
        }
    }

    /// Whatever is pushed comes out, in as few messages as possible, each within
    /// its limit, and only the last one without `more_pages`.
    #[test]
    fn responses_carry_every_page(starts in proptest::collection::vec((0u64..40, 1u32..4), 0..1500)) {
        let mut frame = 100_000;
        let ranges: Vec<PageRange> = starts.into_iter().map(|(gap, count)| {
            // Some neighbours below, some above, some apart.
            let r = match gap { 0..=9 => range(frame, count), _ => range(frame + gap, count) };
            frame = r.end();
            r
        }).collect();
        let given: BTreeSet<u64> = ranges.iter().flat_map(|r| r.start()..r.end()).collect();
        let mut got = BTreeSet::new();
        let mut rest = &ranges[..];
        let mut last_more = true;
        let mut buffer = [0; MAX_MESSAGE];
        while last_more {
            let mut builder = ResponseBuilder::new(&mut buffer);
            while let Some((first, tail)) = rest.split_first() {
                if builder.push(*first).is_err() { break; }
                rest = tail;
            }
            let count = builder.range_count();
            last_more = !rest.is_empty();
            prop_assert!(!last_more || count == MAX_RANGES);
            let message = builder.finish(1, last_more);
            prop_assert_eq!(message.len(), 16 + count * 8);
            let word = u32::from_le_bytes(message[12..16].try_into().unwrap());
            prop_assert_eq!(word, ((count as u32) << 1) | u32::from(last_more));
            for bytes in message[16..].chunks(8) {
                let value = u64::from_le_bytes(bytes.try_into().unwrap());
                let (start, pages) = (value & 0xff_ffff_ffff, value >> 40);
                for pfn in start..start + pages {
                    prop_assert!(got.insert(pfn), "frame {} twice", pfn);
                }
            }
        }
        prop_assert_eq!(got, given);
    }

    #[test]
    fn set_check_agrees_with_a_bitmap(ranges in proptest::collection::vec((0u64..64, 0u64..8), 0..12)) {
        let wire_ranges: Vec<WireRange> = ranges
            .iter()
            .map(|(start, count)| WireRange(U64::new(wire::range(*start, *count))))
            .collect();
        let mut seen = BTreeSet::new();
        let mut good = true;
        for (start, count) in &ranges {
            good &= *count == 0 || start + count <= 60;
            for pfn in *start..start + count {
                good &= seen.insert(pfn);
            }
        }
        let limits = RangeLimits { end_frame: 60, guest_page_units: 1 };
        match check_set(&wire_ranges, &limits) {
            Ok(total) => { prop_assert!(good); prop_assert_eq!(total, seen.len() as u64); }
            Err(_) => prop_assert!(!good),
        }
    }

    #[test]
    fn parser_takes_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), kind in 0u8..14) {
        let _ = Inbound::parse(&bytes);
        if bytes.len() >= 4 {
            bytes[0] = kind;
            bytes[1] = 0;
            bytes[3] = 0;
        }
        if let Ok(Inbound::UnballoonRequest(request)) = Inbound::parse(&bytes) {
            let size = usize::from(bytes[2]);
            prop_assert!(16 + request.ranges.len() * 8 <= bytes.len().min(size));
        }
    }
}
