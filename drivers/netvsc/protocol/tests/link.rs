// SPDX-License-Identifier: GPL-2.0

//! What a host has said of the link.

use netvsc_protocol::link::{tell_after, Event, Link, TOLD_EVERY_MS};

#[test]
fn no_link_before_the_host_has_said_so() {
    let mut link = Link::new();

    assert!(!link.is_up());
    assert_eq!(link.speed(), None);
    link.on_event(Event::Changed);
    assert!(!link.is_up());
    link.on_answer(true, Some(10_000));
    assert!(link.is_up());
    assert_eq!(link.speed(), Some(10_000));
}

#[test]
fn what_came_while_it_was_asked_is_newer() {
    let mut link = Link::new();

    link.on_event(Event::Disconnected);
    link.on_event(Event::Speed(25_000));
    link.on_answer(true, Some(10_000));
    assert!(!link.is_up());
    assert_eq!(link.speed(), Some(25_000));
    link.on_event(Event::Connected);
    assert!(link.is_up());
}

#[test]
fn a_speed_of_nothing_is_none() {
    let mut link = Link::new();

    link.on_answer(true, None);
    link.on_event(Event::Speed(0));
    assert_eq!(link.speed(), None);
}

#[test]
fn neighbours_are_told_at_once_and_then_now_and_then() {
    assert_eq!(tell_after(None), 0);
    assert_eq!(tell_after(Some(0)), TOLD_EVERY_MS);
    assert_eq!(tell_after(Some(500)), 1_500);
    assert_eq!(tell_after(Some(TOLD_EVERY_MS.into())), 0);
    assert_eq!(tell_after(Some(i64::MAX)), 0);
    assert_eq!(tell_after(Some(-1)), 0);
}
