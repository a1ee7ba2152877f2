// SPDX-License-Identifier: GPL-2.0

//! Transaction ids of commands.

use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use storvsc_protocol::tags::{Answer, BadId, Word, MAX_SLOTS};

#[test]
fn repeated_and_foreign_ids() {
    let mut word = Word::UNUSED;
    let (sent, id) = word.as_free().unwrap().next(7, 2);
    // Not sent yet: nothing is in flight.
    let early = Answer::parse(id, 2).unwrap();
    assert_ne!(word, early.expected);
    assert_eq!(early.refusal(word), BadId::NotPending);
    word = sent;
    // In use: not to be used again.
    assert_eq!(word.as_free(), None);
    // On another channel, or with another generation.
    assert_ne!(Answer::parse(id, 1).unwrap().expected, word);
    assert_ne!(Answer::parse(id + (1 << 32), 2).unwrap().expected, word);
    let answer = Answer::parse(id, 2).unwrap();
    assert_eq!((answer.slot, answer.expected), (7, word));
    assert_eq!(word.channel(), 2);
    word = word.free();
    // The same answer again, before and after the tag is in use again.
    assert_ne!(answer.expected, word);
    assert_eq!(answer.refusal(word), BadId::NotPending);
    let (again, other) = word.as_free().unwrap().next(7, 2);
    assert_ne!(id, other);
    assert_ne!(answer.expected, again);
    assert_eq!(answer.refusal(again), BadId::Stale);
}

#[test]
fn ids_that_no_command_has() {
    for id in [0, 1 << 63, u64::MAX, u64::MAX - 15, (1 << 63) | 5, 7 << 32] {
        assert_eq!(Answer::parse(id, 0), Err(BadId::Unknown), "{id:#x}");
    }
    // Whether there is such a slot the caller knows.
    assert_eq!(
        Answer::parse(u64::from(MAX_SLOTS), 0).unwrap().slot,
        MAX_SLOTS - 1
    );
}

/// Several threads that all have the same answers: each command ends once.
#[test]
fn each_command_ends_once() {
    let word = AtomicU64::new(Word::UNUSED.0);
    for round in 0..2_000u64 {
        let (next, id) = Word(word.load(Ordering::Relaxed))
            .as_free()
            .unwrap()
            .next(0, 1);
        word.store(next.0, Ordering::Release);
        let won = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..if round % 100 == 0 { 3 } else { 0 } {
                scope.spawn(|| complete(&word, id, &won));
            }
            complete(&word, id, &won);
        });
        assert_eq!(won.load(Ordering::Relaxed), 1);
    }
}

fn complete(word: &AtomicU64, id: u64, won: &AtomicUsize) {
    let expected = Answer::parse(id, 1).unwrap().expected;
    let free = expected.free();
    if word
        .compare_exchange(expected.0, free.0, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
    {
        won.fetch_add(1, Ordering::Relaxed);
    }
}

proptest! {
    #[test]
    fn an_id_fits_its_slot_only(slot in 0u32..0x7fff_ffff, channel: u16, generation in 0u64..0x7fff_ffff) {
        let (word, id) = Word(generation << 32).as_free().unwrap().next(slot, channel);
        let answer = Answer::parse(id, channel).unwrap();
        prop_assert_eq!((answer.slot, answer.expected), (slot, word));
        // The others are for ids of the driver's own.
        prop_assert!(id != 0 && id >> 63 == 0);
    }
}
