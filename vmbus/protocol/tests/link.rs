// SPDX-License-Identifier: GPL-2.0

//! The connection as a whole, under every order of events.

use proptest::prelude::*;
use vmbus_protocol::link::{HostMemory, Link, LinkEvent};
use vmbus_protocol::shared::SharedState;

const EVENTS: [LinkEvent; 7] = [
    LinkEvent::Propose,
    LinkEvent::Accepted,
    LinkEvent::Refused,
    LinkEvent::NoAnswer,
    LinkEvent::Close,
    LinkEvent::Unload,
    LinkEvent::Unloaded,
];

#[test]
fn memory_is_not_free_before_the_host_has_answered_unload() {
    for before in [Link::Up, Link::Closing] {
        let unloading = before.after(LinkEvent::Unload).unwrap();
        assert_eq!(unloading.memory(), HostMemory::Wait);
        let failed = unloading.after(LinkEvent::NoAnswer).unwrap();
        assert_eq!(failed.memory(), HostMemory::Keep);
        let done = unloading.after(LinkEvent::Unloaded).unwrap();
        assert_eq!(done.memory(), HostMemory::LetGo);
    }
}

#[test]
fn unload_is_sent_once() {
    let unloading = Link::Up.after(LinkEvent::Unload).unwrap();
    for event in EVENTS {
        let next = unloading.after(event);
        assert!(next.is_none_or(|l| l.after(LinkEvent::Unload).is_none()));
    }
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    for raw in 0..6 {
        let link = Link::from_raw(raw);
        assert_eq!(link.raw(), raw);
        if link != Link::Unloading {
            assert_eq!(link.after(LinkEvent::Unloaded), None);
        }
    }
}

proptest! {
    /// Once a version was accepted, only UNLOAD_RESPONSE gives the memory back.
    #[test]
    fn only_unload_response_means_let_go(events in prop::collection::vec(0..EVENTS.len(), 0..40)) {
        let mut link = Link::Down;
        let mut with_host = false;
        for event in events.into_iter().map(|at| EVENTS[at]) {
            let Some(next) = link.after(event) else { continue };
            with_host = match event {
                LinkEvent::Propose => true,
                // the host has said that it does not take the pages
                LinkEvent::Refused | LinkEvent::Unloaded => false,
                _ => with_host,
            };
            link = next;
            prop_assert_eq!(link.memory() == HostMemory::LetGo, !with_host);
            prop_assert!(with_host || !link.needs_cpus());
        }
    }
}
