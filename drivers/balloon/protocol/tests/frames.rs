// SPDX-License-Identifier: GPL-2.0

//! The frame sets of the balloon's bookkeeping, against a plain set of numbers.
//!
//! The file under test is part of the kernel driver, but knows nothing of the kernel.

#[path = "../../memory/frames.rs"]
mod frames;

use frames::{FrameSet, Span, BLOCK_FRAMES};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn span(from: u64, len: u64) -> Option<Span> {
    Span::of_block(0, from, from + len)
}

fn numbers(span: Span) -> impl Iterator<Item = u32> {
    span.first()..span.first() + span.len()
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(u64, u64),
    Remove(u64, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let range = (0..BLOCK_FRAMES, 1..=BLOCK_FRAMES);
    prop_oneof![
        range
            .clone()
            .prop_map(|(from, len)| Change::Insert(from, len)),
        range.prop_map(|(from, len)| Change::Remove(from, len)),
    ]
}

proptest! {
    #[test]
    fn set_behaves_like_a_set(
        changes in prop::collection::vec(change(), 0..20),
        probe in (0..BLOCK_FRAMES, 1..=BLOCK_FRAMES),
    ) {
        let mut set = FrameSet::EMPTY;
        let mut oracle = BTreeSet::new();

        for change in changes {
            match change {
                Change::Insert(from, len) => {
                    let span = span(from, len).unwrap();
                    set.insert(span);
                    oracle.extend(numbers(span));
                }
                Change::Remove(from, len) => {
                    let span = span(from, len).unwrap();
                    set.remove(span);
                    oracle.retain(|n| !numbers(span).any(|m| m == *n));
                }
            }
        }

        let probe = span(probe.0, probe.1).unwrap();
        prop_assert_eq!(set.contains(probe), numbers(probe).all(|n| oracle.contains(&n)));
        prop_assert_eq!(set.intersects(probe), numbers(probe).any(|n| oracle.contains(&n)));
        prop_assert_eq!(set.is_empty(), oracle.is_empty());

        // Taken out bit by bit, each frame comes once.
        let mut seen = BTreeSet::new();
        while let Some(span) = set.pop() {
            prop_assert!(u64::from(span.first() + span.len()) <= BLOCK_FRAMES);
            for n in numbers(span) {
                prop_assert!(seen.insert(n));
            }
        }
        prop_assert_eq!(seen, oracle);
        prop_assert!(set.is_empty());
    }

    #[test]
    fn span_is_the_part_of_the_block(
        block in 0..32u64,
        start in 0..20_000u64,
        len in 0..4096u64,
    ) {
        let end = start + len;
        let span = Span::of_block(block, start, end);

        let base = u128::from(block) * u128::from(BLOCK_FRAMES);
        let wanted: Vec<_> = (0..BLOCK_FRAMES)
            .filter(|n| {
                let frame = base + u128::from(*n);
                u128::from(start) <= frame && frame < u128::from(end)
            })
            .collect();
        let found: Vec<_> = span.into_iter().flat_map(numbers).map(u64::from).collect();
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn whole_block() {
    assert_eq!(Span::of_block(7, 7 * 512, 8 * 512), Some(Span::WHOLE));
    assert_eq!(Span::of_block(7, 0, u64::MAX), Some(Span::WHOLE));
    assert!(FrameSet::FULL.contains(Span::WHOLE));
    assert!(!FrameSet::EMPTY.intersects(Span::WHOLE));

    let mut set = FrameSet::FULL;
    set.remove(Span::WHOLE);
    assert!(set.is_empty());
}

#[test]
fn no_part_of_the_block() {
    assert_eq!(Span::of_block(7, 0, 7 * 512), None);
    assert_eq!(Span::of_block(7, 8 * 512, 9 * 512), None);
    assert_eq!(Span::of_block(7, 7 * 512, 7 * 512), None);
    assert_eq!(Span::of_block(u64::MAX, 0, u64::MAX), None);
}
