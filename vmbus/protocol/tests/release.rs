// SPDX-License-Identifier: GPL-2.0

//! Relids that are still to be handed back.

use proptest::prelude::*;
use std::collections::BTreeSet;
use vmbus_protocol::{message::MAX_CHANNEL_RELIDS, release::Unreleased, Relid};

fn all(mut unreleased: Unreleased) -> Vec<u32> {
    core::iter::from_fn(|| unreleased.take())
        .map(Relid::raw)
        .collect()
}

#[test]
fn there_is_room_for_all_and_no_more() {
    let mut unreleased = Unreleased::new();
    for relid in 0..MAX_CHANNEL_RELIDS + 70 {
        unreleased.add(Relid(relid));
    }
    unreleased.add(Relid(u32::MAX));
    assert!(all(unreleased.clone())
        .into_iter()
        .eq(0..MAX_CHANNEL_RELIDS));
    assert!(!unreleased.remove(Relid(MAX_CHANNEL_RELIDS)));
    assert!(!unreleased.remove(Relid(u32::MAX)));
    unreleased.clear();
    assert_eq!(unreleased.take(), None);
}

proptest! {
    #[test]
    fn each_is_taken_once_the_lowest_first(relids in prop::collection::vec(0..MAX_CHANNEL_RELIDS, 0..40)) {
        let mut unreleased = Unreleased::new();
        for relid in &relids {
            unreleased.add(Relid(*relid));
        }
        let wanted: BTreeSet<u32> = relids.into_iter().collect();
        prop_assert!(all(unreleased).into_iter().eq(wanted));
    }

    #[test]
    fn what_is_removed_is_not_there(
        relids in prop::collection::vec(0..64u32 * 3, 0..40),
        removed in prop::collection::vec(0..64u32 * 3, 0..40),
    ) {
        let mut unreleased = Unreleased::new();
        let mut wanted = BTreeSet::new();
        for relid in relids {
            unreleased.add(Relid(relid));
            wanted.insert(relid);
        }
        for relid in removed {
            prop_assert_eq!(unreleased.remove(Relid(relid)), wanted.remove(&relid));
        }
        prop_assert!(all(unreleased).into_iter().eq(wanted));
    }
}
