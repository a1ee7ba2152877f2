// SPDX-License-Identifier: GPL-2.0

//! A host that does not answer: what it is asked again, and when.

use netvsc_protocol::{
    exchange::{Exchange, Outcome},
    rndis::Kind,
    silence::{
        Question, Recoveries, Unanswered, FIRST_PAUSE_MS, GOING_ON_MS, LONGEST_PAUSE_MS,
        LONGEST_REST_MS,
    },
};

/// A completion of a request to set something.
fn set_done(id: u32) -> Vec<u8> {
    [0x8000_0005, 16, id, 0].map(u32::to_le_bytes).concat()
}

#[test]
fn pauses_grow_up_to_a_limit_and_are_short_again_after_an_answer() {
    let mut unanswered = Unanswered::new();
    let mut last = 0;

    for _ in 0..100 {
        let pause = unanswered.add(Question::Mode);

        assert!(pause > last || pause == LONGEST_PAUSE_MS);
        assert!(pause <= LONGEST_PAUSE_MS);
        last = pause;
        unanswered.ask_again();
    }
    assert_eq!(last, LONGEST_PAUSE_MS);
    let _ = unanswered.answered();
    assert_eq!(unanswered.add(Question::Mode), FIRST_PAUSE_MS);
}

#[test]
fn what_was_not_answered_is_asked_once() {
    let mut unanswered = Unanswered::new();

    let _ = unanswered.add(Question::Recovery);
    let _ = unanswered.add(Question::Mode);
    let _ = unanswered.add(Question::Mode);
    assert_eq!(unanswered.take(), Some(Question::Mode));
    assert_eq!(unanswered.take(), Some(Question::Recovery));
    assert_eq!(unanswered.take(), None);
}

#[test]
fn a_host_that_answers_again_is_left_alone_with_a_new_connection() {
    let mut unanswered = Unanswered::new();

    let _ = unanswered.add(Question::Recovery);
    let _ = unanswered.add(Question::Spread);
    assert_eq!(unanswered.take_harmless(), Some(Question::Spread));
    assert_eq!(unanswered.take_harmless(), None);
    assert_eq!(unanswered.take(), Some(Question::Recovery));
}

#[test]
fn a_host_that_flaps_does_not_fill_the_log() {
    let mut unanswered = Unanswered::new();
    let mut lines = 0;

    for _ in 0..100_000 {
        lines += u32::from(unanswered.silent().is_some());
        lines += u32::from(unanswered.answered());
    }
    assert!(lines <= 2 * 17, "{lines} lines");
}

#[test]
fn a_late_answer_is_known_as_one_and_counts_once() {
    let mut exchange = Exchange::new();
    let id = exchange.begin(Kind::SET);

    exchange.end();
    assert_eq!(exchange.on_message(&set_done(id)), Outcome::Late);
    assert_eq!(exchange.answer(), None);
    assert_eq!(exchange.on_message(&set_done(id)), Outcome::Ignored);
}

#[test]
fn a_late_answer_is_not_that_to_the_next_request() {
    let mut exchange = Exchange::new();
    let first = exchange.begin(Kind::SET);

    exchange.end();
    let second = exchange.begin(Kind::SET);
    assert_eq!(exchange.on_message(&set_done(first)), Outcome::Late);
    assert_eq!(exchange.answer(), None);
    assert_eq!(exchange.on_message(&set_done(second)), Outcome::Answered);
    exchange.end();
    // It was in time, and comes a second time.
    assert_eq!(exchange.on_message(&set_done(second)), Outcome::Ignored);
}

#[test]
fn a_request_that_was_not_sent_has_no_late_answer() {
    let mut exchange = Exchange::new();
    let first = exchange.begin(Kind::SET);

    exchange.end();
    let _ = exchange.begin(Kind::SET);
    exchange.withdraw();
    exchange.end();
    assert_eq!(exchange.on_message(&set_done(first)), Outcome::Late);
}

#[test]
fn new_connections_that_are_of_no_use_become_rare() {
    let mut recoveries = Recoveries::new();
    let mut last = 0;
    let mut now = 1;

    // The first one is at once.
    assert_eq!(recoveries.rest(7, now), None);
    recoveries.begin(7);
    for _ in 0..100 {
        let rest = recoveries.rest(7, now).expect("a rest");

        assert!(rest > last || rest == LONGEST_REST_MS);
        last = rest;
        // Others ask meanwhile, which does not end it.
        now += u64::from(rest) / 2;
        assert_eq!(recoveries.rest(7, now), Some(rest - rest / 2));
        assert_eq!(recoveries.rest(7, now + 1), Some(rest - rest / 2 - 1));
        now += u64::from(rest - rest / 2);
        // It is over, and nothing has moved.
        assert_eq!(recoveries.rest(7, now), None);
        recoveries.begin(7);
    }
    // The host has sent something since: as at the beginning.
    assert_eq!(recoveries.rest(8, now), None);
    recoveries.begin(8);
    assert_eq!(recoveries.rest(8, now), Some(FIRST_PAUSE_MS));
}

#[test]
fn a_host_that_goes_on_has_time_for_all_queues() {
    let mut recoveries = Recoveries::new();

    assert_eq!(recoveries.rest(7, 0), None);
    recoveries.begin(7);
    assert_eq!(recoveries.rest(7, 0), Some(FIRST_PAUSE_MS));
    // It goes on with the frames of one queue, then with more of them.
    assert_eq!(recoveries.rest(8, 500), Some(GOING_ON_MS));
    assert_eq!(recoveries.rest(9, 1_500), Some(GOING_ON_MS - 1_000));
    // Another one stays as it is: a new connection is due.
    let late = 500 + u64::from(GOING_ON_MS);
    assert_eq!(recoveries.rest(9, late), None);
    assert_eq!(recoveries.rest(10, late + 1), None);
    recoveries.begin(10);
    assert_eq!(recoveries.rest(10, late + 1), Some(FIRST_PAUSE_MS));
    // It goes on, and is held up at once: its time begins when it answers.
    assert_eq!(recoveries.rest(11, late + 2), Some(GOING_ON_MS));
    recoveries.silent();
    assert_eq!(recoveries.rest(11, late + 100_000), Some(GOING_ON_MS));
}

#[test]
fn a_host_that_went_on_and_stops_again_has_no_time_left_over() {
    let mut recoveries = Recoveries::new();

    assert_eq!(recoveries.rest(7, 0), None);
    recoveries.begin(7);
    assert_eq!(recoveries.rest(7, 0), Some(FIRST_PAUSE_MS));
    recoveries.useful();
    assert_eq!(recoveries.rest(9, 1_000_000), None);
}
