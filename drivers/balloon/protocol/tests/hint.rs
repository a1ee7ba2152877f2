// SPDX-License-Identifier: GPL-2.0

//! The cold-discard hint, and hosts that refuse it.

use balloon_protocol::{
    hint::{DoesNotFit, Health, Hint, Verdict, INVALID_PARAMETER, MAX_RANGES, MAX_REFUSALS},
    PageRange,
};
use proptest::prelude::*;

fn range(start: u64, count: u32) -> PageRange {
    PageRange::new(start, count).unwrap()
}

/// What a host reads: the first frame, frames, and whether the unit is 2 MiB.
fn decode(word: u64) -> (u64, u64, bool) {
    let additional = word & 0x7ff;
    if word & 0x800 == 0 {
        return (word >> 12, additional + 1, false);
    }
    assert_eq!((word >> 12) & 0x1ff, 0, "neither 1 GiB nor reserved bits");
    ((word >> 21) * 512, (additional + 1) * 512, true)
}

#[test]
fn words_byte_by_byte() {
    let mut hint = Hint::new();
    assert_eq!(hint.words(), [2]);
    hint.push(range(0x4_0200, 512)).unwrap();
    assert!(!hint.has_small());
    hint.push(range(0x4_0400, 1024)).unwrap();
    hint.push(range(0x1234, 8)).unwrap();
    assert_eq!(hint.words(), [2, 0x4020_0800, 0x4040_0801, 0x0123_4007]);
    assert!(hint.has_small());
    assert_eq!(hint.pages(), 512 + 1024 + 8);
}

#[test]
fn what_does_not_fit() {
    let mut hint = Hint::new();
    // 2048 units at most
    assert_eq!(hint.push(range(1, 2049)), Err(DoesNotFit));
    assert_eq!(hint.push(range(512, 2049 * 512)), Err(DoesNotFit));
    assert_eq!(hint.words(), [2]);
    for i in 0..MAX_RANGES as u64 {
        hint.push(range(512 * i, 512)).unwrap();
    }
    assert_eq!(hint.push(range(0, 1)), Err(DoesNotFit));
    assert_eq!(hint.words().len(), 1 + MAX_RANGES);
    assert!(!hint.has_small());
}

proptest! {
    #[test]
    fn the_host_reads_what_was_meant(
        ranges in prop::collection::vec((0u64..1 << 39, 1u32..2048, any::<bool>()), 0..=MAX_RANGES),
    ) {
        let mut hint = Hint::new();
        let mut meant = Vec::new();
        for (start, count, large) in ranges {
            let (start, count) = if large { (start & !511, count * 512) } else { (start, count) };
            hint.push(range(start, count)).unwrap();
            meant.push((start, u64::from(count)));
        }
        let read: Vec<_> = hint.words()[1..].iter().map(|w| decode(*w)).collect();
        let frames: Vec<_> = read.iter().map(|(start, count, _)| (*start, *count)).collect();
        prop_assert_eq!(&frames, &meant);
        prop_assert_eq!(hint.has_small(), read.iter().any(|r| !r.2));
        prop_assert_eq!(hint.pages(), meant.iter().map(|r| r.1).sum::<u64>());
    }

    /// It ends, and not before it has to.
    #[test]
    fn a_host_that_refuses_is_left_alone(answers in prop::collection::vec((0u16..10, any::<bool>()), 0..100)) {
        let mut health = Health::new();
        let (mut in_a_row, mut large_only) = (0, false);
        for (status, has_small) in answers {
            let verdict = health.on_status(status, has_small);
            match verdict {
                Verdict::Taken => in_a_row = 0,
                Verdict::LargeOnly => {
                    prop_assert!(!large_only && has_small && status == INVALID_PARAMETER);
                    large_only = true;
                }
                Verdict::Refused | Verdict::SwitchOff => in_a_row += 1,
            }
            prop_assert_eq!(verdict == Verdict::Taken, status == 0);
            prop_assert_eq!(verdict == Verdict::SwitchOff, status != 0 && verdict != Verdict::LargeOnly && in_a_row == MAX_REFUSALS);
        }
    }
}
