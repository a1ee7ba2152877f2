// SPDX-License-Identifier: GPL-2.0

//! The life of a session, whatever happens in which order.

use proptest::prelude::*;
use std::cell::Cell;
use vmbus_protocol::{
    session::{SessionEvent, SessionLife},
    shared::{happen, SharedState, StateWord},
};

#[derive(Default)]
struct Word(Cell<u32>);

impl StateWord for Word {
    fn load(&self) -> u32 {
        self.0.get()
    }

    fn exchange(&self, old: u32, new: u32) -> Result<(), u32> {
        if self.0.get() != old {
            return Err(self.0.get());
        }
        self.0.set(new);
        Ok(())
    }
}

fn events() -> impl Strategy<Value = Vec<SessionEvent>> {
    let event = prop_oneof![
        Just(SessionEvent::Broken),
        Just(SessionEvent::Rescinded),
        Just(SessionEvent::Moved),
        Just(SessionEvent::Tell),
        Just(SessionEvent::BeginClose),
        Just(SessionEvent::Closed),
    ];
    prop::collection::vec(event, 0..40)
}

proptest! {
    #[test]
    fn it_only_goes_on(events in events()) {
        let word = Word::default();
        let (mut begun, mut over) = (0, 0);
        for event in events {
            let before = SessionLife::from_raw(word.load());
            let happened = happen::<SessionLife>(&word, event);
            let after = SessionLife::from_raw(word.load());
            prop_assert!(happened.is_none_or(|state| state == before));
            prop_assert_eq!(happened.is_some(), before != after);
            // What has ended stays so.
            prop_assert!(before.sends() || !after.sends());
            prop_assert!(!before.is_closing() || after.is_closing());
            prop_assert!(!before.is_over() || after.is_over());
            prop_assert!(!after.is_closing() || !after.sends());
            prop_assert!(!after.is_over() || after.is_closing());
            // The driver is told nothing new after the end began.
            let news = (after.tells_rescind() && !before.tells_rescind())
                || (after.tells_move() && !before.tells_move());
            prop_assert!(!(news && before.is_closing()));
            begun += i32::from(happened.is_some() && event == SessionEvent::BeginClose);
            over += i32::from(happened.is_some() && event == SessionEvent::Closed);
            if event == SessionEvent::Tell {
                prop_assert!(!after.tells_rescind() && !after.tells_move());
            }
            if matches!(event, SessionEvent::Broken | SessionEvent::Rescinded) {
                prop_assert!(!after.sends());
            }
        }
        prop_assert!(begun <= 1 && over <= begun);
    }
}
