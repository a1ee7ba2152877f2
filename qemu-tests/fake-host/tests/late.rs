// SPDX-License-Identifier: GPL-2.0

//! A host that does what it was asked for after the guest has given up.

use fake_host::{
    guest::{Guest, GuestError},
    host::{FakeHost, Reaction},
    messages::OfferSpec,
};
use vmbus_protocol::{class, Relid};

const GPADL_HEADER: u32 = 8;
const OPEN: u32 = 5;
const CLOSE: u8 = 7;
const TEARDOWN: u8 = 11;

fn guest() -> Guest {
    let mut host = FakeHost::new(5 << 16);
    host.offers = vec![OfferSpec::new(class::BALLOON, 5)];
    let mut guest = Guest::new(host, None);
    guest.connect().unwrap();
    guest
}

/// The numbers of what the guest posted last.
fn last_posted(guest: &Guest, count: usize) -> Vec<u8> {
    let posted = &guest.host.posted;
    let from = posted.len().saturating_sub(count);
    posted[from..].iter().map(|message| message[0]).collect()
}

#[test]
fn a_channel_that_is_opened_late_is_closed() {
    let mut guest = guest();
    guest.host.react(OPEN, Reaction::Late);
    assert_eq!(guest.open(Relid(5), 4), Err(GuestError::Timeout));
    // In case it was opened: closed, and the memory asked for.
    assert_eq!(last_posted(&guest, 2), [CLOSE, TEARDOWN]);
    assert_eq!((guest.counters.freed, guest.lingering.len()), (0, 1));
    // The host may open it at any time: what closes that would close another one, too.
    assert_eq!(guest.open(Relid(5), 4), Err(GuestError::Life));

    guest.host.catch_up();
    guest.pump();
    assert_eq!(last_posted(&guest, 2), [CLOSE, TEARDOWN]);
    assert!(guest.host.open.is_empty() && guest.host.gpadls.is_empty());
    assert!(guest.lingering.is_empty());
    guest.open(Relid(5), 4).unwrap();
    guest.close(Relid(5)).unwrap();
    assert_eq!(guest.host.violations, [""; 0]);
}

#[test]
fn a_channel_that_is_refused_late_can_be_opened_again() {
    let mut guest = guest();
    guest.host.react(OPEN, Reaction::Silent);
    assert_eq!(guest.open(Relid(5), 4), Err(GuestError::Timeout));
    // The host has let go of the ring: it is not going to open the channel with it.
    assert_eq!(guest.counters.freed, 1);
    guest.open(Relid(5), 4).unwrap();
    assert_eq!(guest.host.violations, [""; 0]);
}

#[test]
fn a_channel_that_is_rescinded_instead_goes() {
    let mut guest = guest();
    guest.host.react(OPEN, Reaction::Late);
    assert_eq!(guest.open(Relid(5), 4), Err(GuestError::Timeout));
    guest.host.rescind(5);
    guest.pump();
    assert_eq!(guest.host.released, [5]);
    assert_eq!(guest.host.violations, [""; 0]);
}

#[test]
fn memory_that_is_taken_late_is_asked_for() {
    let mut guest = guest();
    guest.host.react(GPADL_HEADER, Reaction::Late);
    assert_eq!(guest.open(Relid(5), 4), Err(GuestError::Timeout));
    assert_eq!(guest.lingering.len(), 1);
    guest.host.catch_up();
    guest.pump();
    assert_eq!(last_posted(&guest, 1), [TEARDOWN]);
    assert!(guest.host.gpadls.is_empty() && guest.lingering.is_empty());
    assert_eq!(guest.host.violations, [""; 0]);
}
