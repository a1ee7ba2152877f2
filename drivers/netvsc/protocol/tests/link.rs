// SPDX-License-Identifier: GPL-2.0

//! What a host has said of the link.

use netvsc_protocol::link::{tell_after, Event, Link, DOWN_MS, TOLD_EVERY_MS};

#[test]
fn no_link_before_the_host_has_said_so() {
    let mut link = Link::new();

    assert!(!link.is_up(0));
    assert_eq!(link.speed(), None);
    link.on_event(Event::Changed, 0);
    assert!(!link.is_up(0));
    link.on_answer(true, Some(10_000));
    assert!(link.is_up(0));
    assert_eq!(link.speed(), Some(10_000));
}

#[test]
fn what_came_while_it_was_asked_is_newer() {
    let mut link = Link::new();

    link.on_event(Event::Disconnected, 0);
    link.on_event(Event::Speed(25_000), 0);
    link.on_answer(true, Some(10_000));
    assert!(!link.is_up(0));
    assert_eq!(link.speed(), Some(25_000));
    link.on_event(Event::Connected, 0);
    assert!(link.is_up(0));
}

fn shown() -> Link {
    let mut link = Link::new();

    link.on_answer(true, None);
    link.set_shown(true);
    link
}

#[test]
fn a_link_that_was_lost_or_leads_elsewhere_is_shown_as_down_for_a_while() {
    let down = u64::from(DOWN_MS);
    for lost in [Event::Disconnected, Event::Changed] {
        let mut link = shown();

        assert!(link.is_up(5));
        assert_eq!(link.up_in(5), None);
        link.on_event(lost, 10);
        // There again before anybody has looked.
        link.on_event(Event::Connected, 11);
        assert!(!link.is_up(11));
        assert_eq!(link.up_in(11), Some(DOWN_MS - 1));
        assert!(!link.is_up(9 + down));
        assert!(link.is_up(10 + down));
        assert_eq!(link.up_in(10 + down), None);
    }
    // One that stays down comes back at once when it comes.
    let mut link = shown();
    link.on_event(Event::Disconnected, 10);
    assert_eq!(link.up_in(11), None);
    // Said twice, it does not take longer.
    link.on_event(Event::Disconnected, 1_000);
    link.on_event(Event::Connected, 10 + down);
    assert!(link.is_up(10 + down));
    // One that nobody has seen is not lost.
    let mut link = Link::new();
    link.on_answer(true, None);
    link.on_event(Event::Changed, 10);
    assert!(link.is_up(10));
}

#[test]
fn a_host_that_says_again_and_again_that_it_leads_elsewhere_has_a_link_in_between() {
    let down = u64::from(DOWN_MS);
    let mut link = shown();
    for now in 0..=down + 100 {
        link.on_event(Event::Changed, now);
        assert_eq!(link.is_up(now), now >= down);
    }
    link.set_shown(true);
    link.on_event(Event::Changed, down + 101);
    assert!(!link.is_up(down + 101));
}

#[test]
fn a_speed_of_nothing_is_none() {
    let mut link = Link::new();

    link.on_answer(true, None);
    link.on_event(Event::Speed(0), 0);
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
