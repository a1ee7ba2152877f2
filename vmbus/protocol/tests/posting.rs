// SPDX-License-Identifier: GPL-2.0

//! Hosts that have no room for a message, for a while or for ever.

use proptest::prelude::*;
use vmbus_protocol::post::{Next, PostError, Purpose, Tries, LONG_US, MAX_PAUSE_US};

const MEMORY: u64 = 0x0b;
const NO_CONNECTION: u64 = 0x12;
const BUFFERS: u64 = 0x13;

/// Posts to a host that answers with `busy` until `after_us` of pauses; gives
/// the tries, the pauses, and how it ended.
fn post(purpose: Purpose, busy: u64, after_us: u64) -> (u32, u64, Next) {
    let mut tries = Tries::new(purpose);
    let (mut count, mut waited) = (0, 0);
    loop {
        count += 1;
        let status = if waited < after_us { busy } else { 0 };
        match tries.after(status) {
            Next::Pause(us) => waited += u64::from(us),
            end => return (count, waited, end),
        }
    }
}

#[test]
fn a_host_may_be_full_for_30_seconds() {
    for busy in [MEMORY, BUFFERS, NO_CONNECTION] {
        let (_, waited, end) = post(Purpose::Request, busy, 30_000_000);
        assert_eq!(end, Next::Posted, "status {busy:#x}");
        // not long after there is room
        assert!(waited < 30_000_000 + u64::from(MAX_PAUSE_US));
    }
}

#[test]
fn an_unknown_connection_ends_a_contact_at_once() {
    let (count, _, end) = post(Purpose::Contact, NO_CONNECTION, u64::MAX);
    assert_eq!((count, end), (1, Next::Failed(PostError::NoConnection)));
}

#[test]
fn a_host_that_is_never_free_is_given_up() {
    for (purpose, seconds) in [
        (Purpose::Contact, 180),
        (Purpose::Request, 180),
        (Purpose::AfterFull, 1),
        (Purpose::Crash, 30),
    ] {
        let (count, waited, end) = post(purpose, BUFFERS, u64::MAX);
        assert_eq!(end, Next::Failed(PostError::Full(BUFFERS)));
        assert_eq!(waited, seconds * 1_000_000, "{purpose:?}");
        assert!(count < 2000, "{count} hypercalls");
    }
}

#[test]
fn a_long_wait_is_told_once() {
    for purpose in [Purpose::Contact, Purpose::Request, Purpose::Crash] {
        let mut tries = Tries::new(purpose);
        let (mut waited, mut told) = (0, Vec::new());
        while let Next::Pause(us) = tries.after(BUFFERS) {
            waited += us;
            if tries.become_long(us) {
                told.push(waited);
            }
        }
        let [at] = told[..] else {
            panic!("{purpose:?}: {told:?}");
        };
        assert!((LONG_US..LONG_US + MAX_PAUSE_US).contains(&at), "{at}");
    }
    let mut tries = Tries::new(Purpose::AfterFull);
    while let Next::Pause(us) = tries.after(BUFFERS) {
        assert!(!tries.become_long(us));
    }
}

#[test]
fn the_first_tries_come_soon() {
    let mut tries = Tries::new(Purpose::Request);
    let pauses: Vec<_> = (0..18).map(|_| tries.after(BUFFERS)).collect();
    assert_eq!(
        pauses[..3],
        [Next::Pause(1), Next::Pause(2), Next::Pause(4)]
    );
    assert_eq!(pauses[17], Next::Pause(MAX_PAUSE_US));
}

proptest! {
    #[test]
    fn only_busy_statuses_are_tried_again(status in any::<u64>()) {
        let next = Tries::new(Purpose::Request).after(status);
        let expected = match status {
            0 => Next::Posted,
            MEMORY | BUFFERS | NO_CONNECTION => Next::Pause(1),
            other => Next::Failed(PostError::Status(other)),
        };
        prop_assert_eq!(next, expected);
    }
}
