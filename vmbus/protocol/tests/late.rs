// SPDX-License-Identifier: GPL-2.0

//! Answers that come after whoever asked has given up.

use proptest::prelude::*;
use std::collections::VecDeque;
use vmbus_protocol::{
    channel::{ChannelLife, CloseAction, LateOpen, LifeError, OpenOutcome},
    gpadl::{GpadlLife, GpadlState, MemoryFate},
    message::{GpadlCreated, Inbound, ModifyChannelResponse, OpenResult},
    pending::{Answer, Pending, Place, RegisterError, MAX_OWED_MODIFIES},
    reply::{Reply, ReplyKey},
    GpadlHandle, Relid, VpIndex,
};

type Table = Pending<u32, Vec<Place<u32>>>;

fn table(places: usize) -> Table {
    Pending::new((0..places).map(|_| Place::new()).collect())
}

fn moved(status: u32) -> Inbound {
    Inbound::ModifyChannelResponse(ModifyChannelResponse {
        relid: Relid(1),
        status,
    })
}

const fn to(vp: u32) -> ReplyKey {
    ReplyKey::Modify {
        relid: Relid(1),
        vp: VpIndex(vp),
    }
}

#[test]
fn a_late_answer_is_not_the_next_requests() {
    let mut pending = table(4);
    let first = pending.register(to(2), 10).unwrap();
    assert_eq!(pending.give_up(first), Some(10));
    let second = pending.register(to(3), 11).unwrap();
    assert_eq!((first.times(), second.times()), (1, 2));
    assert_eq!(
        pending.resolve(&moved(0)),
        Some(Answer::Late(to(2), Reply::Status(0)))
    );
    assert_eq!((pending.len(), pending.owed()), (1, 1));
    assert_eq!(
        pending.resolve(&moved(7)),
        Some(Answer::Late(to(3), Reply::Status(7)))
    );
    assert_eq!(
        pending.resolve(&moved(7)),
        Some(Answer::Awaited(11, Reply::Status(7)))
    );
    assert_eq!(pending.resolve(&moved(0)), Some(Answer::Stray));
}

#[test]
fn an_answer_that_is_lost_keeps_nobody_waiting() {
    let mut pending = table(4);
    let first = pending.register(to(2), 10).unwrap();
    pending.give_up(first);
    pending.register(to(3), 11).unwrap();
    // Posted twice, answered twice.
    assert_eq!(
        pending.resolve(&moved(0)),
        Some(Answer::Late(to(2), Reply::Status(0)))
    );
    assert_eq!(
        pending.resolve(&moved(0)),
        Some(Answer::Awaited(11, Reply::Status(0)))
    );
}

#[test]
fn asked_for_the_same_again_any_answer_is_one() {
    let mut pending = table(4);
    let first = pending.register(to(2), 10).unwrap();
    pending.give_up(first);
    let second = pending.register(to(2), 11).unwrap();
    assert_eq!(
        pending.resolve(&moved(0)),
        Some(Answer::Awaited(11, Reply::Status(0)))
    );
    // Its own answers are still to come, and it cannot be given up again.
    assert_eq!((pending.len(), pending.owed()), (0, 2));
    assert_eq!(
        (pending.give_up(second), pending.posted(second, 0)),
        (None, None)
    );
    assert_eq!(
        pending.resolve(&moved(0)),
        Some(Answer::Late(to(2), Reply::Status(0)))
    );
}

#[test]
fn a_host_that_owes_too_much_is_not_asked() {
    let mut pending = table(12);
    while pending.owed() < MAX_OWED_MODIFIES {
        let token = pending.register(to(2), 1).unwrap();
        pending.give_up(token);
    }
    assert_eq!(pending.register(to(2), 9), Err(RegisterError::Owed));
    while pending.owed() >= MAX_OWED_MODIFIES {
        assert!(pending.resolve(&moved(0)).is_some());
    }
    assert!(pending.register(to(2), 9).is_ok());
    // Neither does it owe anything about a channel that is gone.
    assert_eq!(pending.rescind(Relid(1)), Some(9));
    assert_eq!(pending.rescind(Relid(1)), None);
    assert_eq!((pending.len(), pending.owed()), (0, 0));
}

#[test]
fn answers_owed_take_no_place_from_who_waits() {
    let mut pending = table(2);
    let open = |open_id| ReplyKey::Open {
        relid: Relid(1),
        open_id,
    };
    for open_id in 0..9 {
        let token = pending.register(open(open_id), open_id).unwrap();
        assert_eq!(pending.give_up(token), Some(open_id));
    }
    let result = |open_id| {
        Inbound::OpenResult(OpenResult {
            relid: Relid(1),
            open_id,
            status: 0,
        })
    };
    // The oldest are forgotten first.
    assert_eq!(pending.resolve(&result(6)), Some(Answer::Stray));
    assert_eq!(
        pending.resolve(&result(8)),
        Some(Answer::Late(open(8), Reply::Status(0)))
    );
    // What could be taken for another's answer is not forgotten.
    let modify = pending.register(to(2), 1).unwrap();
    pending.give_up(modify);
    pending.register(open(20), 2).unwrap();
    assert_eq!(pending.register(open(21), 3), Err(RegisterError::Full));
}

#[test]
fn a_late_gpadl_is_known_by_its_handle() {
    let mut pending = table(4);
    let key = |gpadl| ReplyKey::GpadlCreated {
        relid: Relid(1),
        gpadl: GpadlHandle(gpadl),
    };
    let token = pending.register(key(7), 1).unwrap();
    pending.give_up(token);
    pending.register(key(8), 2).unwrap();
    let created = Inbound::GpadlCreated(GpadlCreated {
        relid: Relid(1),
        gpadl: GpadlHandle(7),
        status: 0,
    });
    assert_eq!(
        pending.resolve(&created),
        Some(Answer::Late(key(7), Reply::Status(0)))
    );
    let mut life = GpadlLife::new();
    life.posting().unwrap();
    life.gave_up();
    assert!(!life.created_late(0));
    assert!(life.take_ask_again() && !life.take_ask_again());
    assert!(life.let_go());
    let mut refused = GpadlLife::new();
    refused.posting().unwrap();
    refused.gave_up();
    assert!(refused.created_late(3));
    assert!(!refused.take_ask_again());
}

#[test]
fn an_open_without_an_answer_is_closed() {
    let mut life = ChannelLife::new();
    life.open_begin().unwrap();
    life.open_posting(GpadlHandle(9), 1).unwrap();
    assert_eq!(life.close_begin(), Ok(CloseAction::Post));
    life.close_end().unwrap();
    assert_eq!(life.open_begin(), Err(LifeError::Unanswered));
    assert_eq!(
        life.open_late(1, 0),
        LateOpen::Close {
            ring: GpadlHandle(9)
        }
    );
    // Not before the host is told, or it would close the next one.
    assert_eq!(life.open_begin(), Err(LifeError::Unanswered));
    assert!(life.must_close());
    assert!(life.close_late_begin());
    life.close_late_end(true);
    life.open_begin().unwrap();
    // An answer right before the close is seen by it.
    life.open_posting(GpadlHandle(10), 2).unwrap();
    assert_eq!(life.open_late(2, 0), LateOpen::Nothing);
    assert_eq!(life.close_begin(), Ok(CloseAction::Post));
    life.close_end().unwrap();
    // A ring that the host has let go of is not opened with.
    life.open_begin().unwrap();
    life.open_posting(GpadlHandle(11), 3).unwrap();
    life.close_begin().unwrap();
    life.let_go(GpadlHandle(11));
    life.close_end().unwrap();
    assert_eq!(life.open_late(3, 0), LateOpen::Nothing);
    life.open_begin().unwrap();
}

fn opened() -> ChannelLife {
    let mut life = ChannelLife::new();
    life.open_begin().unwrap();
    life.open_posting(GpadlHandle(9), 1).unwrap();
    assert_eq!(life.open_end(0), Ok(OpenOutcome::Opened));
    life
}

#[test]
fn a_close_that_was_not_posted_is_made_up_for() {
    let mut life = opened();
    assert_eq!(life.close_begin(), Ok(CloseAction::Post));
    life.close_not_posted();
    assert!(life.must_close());
    life.close_end().unwrap();
    assert_eq!(life.open_begin(), Err(LifeError::Unanswered));
    assert!(life.close_late_begin());
    life.close_late_end(true);
    assert_eq!(life.open_begin(), Ok(()));
    // Once it is posted, there is nothing to make up for.
    let mut life = opened();
    assert_eq!(life.close_begin(), Ok(CloseAction::Post));
    life.close_end().unwrap();
    life.close_not_posted();
    assert!(!life.must_close());

    // Its memory is the host's until it has let go of it.
    let mut gpadl = GpadlLife::new();
    gpadl.posting().unwrap();
    gpadl.created(0).unwrap();
    gpadl.gave_up();
    gpadl.ask_again();
    assert_eq!(gpadl.memory(), MemoryFate::Leak);
    assert!(gpadl.wants_ask_again());
    assert!(gpadl.take_ask_again());
    assert!(!gpadl.take_ask_again());
    assert!(gpadl.let_go());
    assert_eq!(gpadl.memory(), MemoryFate::Free);
}

/// A host that has not answered an open, and has no room for the CLOSECHANNEL behind it, may open the channel at any
/// time: the close is owed before its memory is asked for.
#[test]
fn a_close_of_an_unanswered_open_is_made_up_for() {
    let unanswered = || {
        let mut life = ChannelLife::new();
        life.open_begin().unwrap();
        life.open_posting(GpadlHandle(9), 1).unwrap();
        assert_eq!(life.close_begin(), Ok(CloseAction::Post));
        assert!(!life.must_close());
        life.close_not_posted();
        assert!(life.must_close());
        life
    };
    let mut life = unanswered();
    life.close_end().unwrap();
    // It is posted, and the open is not answered still.
    assert!(life.close_late_begin());
    life.close_late_end(true);
    assert!(!life.must_close());
    assert_eq!(life.open_begin(), Err(LifeError::Unanswered));
    life.let_go(GpadlHandle(9));
    assert_eq!(life.open_begin(), Ok(()));
    // The answer comes first: it is one close, whatever the answer.
    let mut life = unanswered();
    life.close_end().unwrap();
    let ring = GpadlHandle(9);
    assert_eq!(life.open_late(1, 0), LateOpen::Close { ring });
    assert!(life.must_close());
    assert!(life.close_late_begin());
    life.close_late_end(true);
    assert!(!life.must_close());
    assert_eq!(life.open_begin(), Ok(()));
    let mut life = unanswered();
    assert_eq!(life.open_late(1, 3), LateOpen::Nothing);
    assert!(!life.must_close());
    // While the close is on its way, no other open may be: it would be closed.
    let mut life = unanswered();
    life.close_end().unwrap();
    assert!(life.close_late_begin());
    assert_eq!(life.open_late(1, 3), LateOpen::Nothing);
    assert_eq!(life.open_begin(), Err(LifeError::Unanswered));
    life.close_late_end(false);
    assert!(!life.close_late_begin());
    assert_eq!(life.open_begin(), Ok(()));
    // Opened while it was on its way, before or after it: it is closed once more.
    let mut life = unanswered();
    life.close_end().unwrap();
    assert!(life.close_late_begin());
    assert_eq!(life.open_late(1, 0), LateOpen::Close { ring });
    life.close_late_end(true);
    assert!(life.close_late_begin());
    life.close_late_end(true);
    assert!(!life.must_close());
    assert_eq!(life.open_begin(), Ok(()));
    // One that was not posted is owed still.
    let mut life = unanswered();
    life.close_end().unwrap();
    assert!(life.close_late_begin());
    life.close_late_end(false);
    assert!(life.must_close());
    // Of a channel that is rescinded nothing is owed, though an answer to its open comes after that.
    let mut life = ChannelLife::new();
    life.open_begin().unwrap();
    life.rescind();
    life.open_posting(GpadlHandle(9), 1).unwrap();
    life.close_begin().unwrap();
    let _ = life.open_late(1, 0);
    assert!(!life.must_close() && !life.close_late_begin());
    // A rescind ends it, also one that came before the close was given up.
    let mut life = unanswered();
    life.rescind();
    assert!(!life.must_close());
    life.close_not_posted();
    assert!(!life.must_close());
}

/// Of a list of pages that could not be posted to its end, the host has a part, and says nothing of it by itself.
#[test]
fn half_a_list_of_pages_is_asked_for() {
    let mut life = GpadlLife::new();
    life.posting().unwrap();
    life.post_failed(true).unwrap();
    assert_eq!(life.memory(), MemoryFate::Leak);
    assert!(life.take_ask_again() && !life.take_ask_again());
    assert!(life.let_go());
    let mut unknown = GpadlLife::new();
    unknown.posting().unwrap();
    unknown.post_failed(false).unwrap();
    assert!(!unknown.take_ask_again());
    assert_eq!(unknown.memory(), MemoryFate::Free);
}

/// A host that tears the ring of an open down first and answers the open later, when there is another one.
#[test]
fn a_late_answer_to_an_open_is_not_the_next_opens() {
    for status in [0, 3] {
        let mut life = ChannelLife::new();
        life.open_begin().unwrap();
        life.open_posting(GpadlHandle(1), 1).unwrap();
        life.close_begin().unwrap();
        life.let_go(GpadlHandle(1));
        life.close_end().unwrap();

        life.open_begin().unwrap();
        life.open_posting(GpadlHandle(2), 2).unwrap();
        assert_eq!(life.open_late(1, status), LateOpen::Nothing);
        assert_eq!(life.open_end(0), Ok(OpenOutcome::Opened));
        assert_eq!(life.close_begin(), Ok(CloseAction::Post));
    }
}

#[test]
fn a_request_that_was_not_posted_is_owed_no_answer() {
    let mut pending = table(12);
    let first = pending.register(to(2), 1).unwrap();
    pending.give_up(first);
    for _ in 0..20 {
        let token = pending.register(to(3), 2).unwrap();
        assert_eq!(pending.posted(token, 0), Some(2));
        assert_eq!((pending.len(), pending.owed()), (0, 1));
    }
    // One of two was.
    let token = pending.register(to(3), 3).unwrap();
    assert_eq!((token.times(), pending.posted(token, 1)), (2, None));
    assert_eq!((pending.len(), pending.owed()), (1, 1));
    // Without room for all of it there is none of it.
    let mut full = table(2);
    let first = full.register(to(2), 1).unwrap();
    full.give_up(first);
    assert_eq!(full.register(to(3), 2), Err(RegisterError::Full));
    assert_eq!((full.len(), full.owed()), (0, 1));
}

/// Two answers are lost; what the host answers afterwards is enough.
#[test]
fn several_lost_answers_keep_nobody_waiting() {
    let mut pending = table(12);
    for _ in 0..2 {
        let token = pending.register(to(2), 1).unwrap();
        let waiter = pending.posted(token, 1).or_else(|| pending.give_up(token));
        assert_eq!(waiter, Some(1));
    }
    let token = pending.register(to(3), 2).unwrap();
    assert_eq!((pending.owed(), token.times()), (4, 3));
    let mut answers = (0..token.times()).map(|_| pending.resolve(&moved(0)));
    assert!(answers.any(|a| a == Some(Answer::Awaited(2, Reply::Status(0)))));
}

/// A host answers in order: what it did not answer before it tore the ring down it never will.
#[test]
fn nothing_is_owed_about_a_channel_that_was_closed() {
    let mut pending = table(12);
    let token = pending.register(to(2), 1).unwrap();
    pending.give_up(token);
    pending.forget_modifies(Relid(2));
    assert_eq!(pending.owed(), 1);
    pending.forget_modifies(Relid(1));
    assert_eq!(pending.owed(), 0);
    assert_eq!(pending.register(to(3), 2).unwrap().times(), 1);
    pending.forget_modifies(Relid(1));
    assert_eq!(pending.len(), 1);
}

/// The host says that it has taken the memory while the guest gives up; and it opens a channel late while
/// the guest closes it.
#[test]
fn what_comes_between_is_not_lost() {
    let mut life = GpadlLife::new();
    life.posting().unwrap();
    assert!(!life.created_late(0));
    assert_eq!(life.state(), GpadlState::Live);
    let mut refused = GpadlLife::new();
    refused.posting().unwrap();
    assert!(!refused.created_late(3));
    assert_eq!(refused.memory(), MemoryFate::Free);

    life.ask_again();
    assert!(!life.take_ask_again());
    life.tearing_down().unwrap();
    assert!(life.take_ask_again() && !life.take_ask_again());
}

/// What happens between a guest that asks for CPUs and a host that answers in order, if it does.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The guest asks for a CPU.
    Ask(u32),
    /// The guest waits no longer.
    GiveUp,
    /// The host does what it was asked for next, or refuses, and answers, or does not.
    Do { refuse: bool, answer: bool },
    /// The host's next answer arrives.
    Deliver,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0..3u32).prop_map(Event::Ask),
        Just(Event::GiveUp),
        (any::<bool>(), 0..4u8).prop_map(|(refuse, n)| Event::Do {
            refuse,
            answer: n > 0
        }),
        Just(Event::Deliver),
        Just(Event::Deliver),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    /// When the guest is told where the channel is, that is where it is and stays.
    #[test]
    fn what_the_guest_is_told_is_true(events in events()) {
        let mut pending = table(16);
        let (mut asked, mut answers) = (VecDeque::new(), VecDeque::new());
        let mut host = 9;
        let mut waits = None;
        for (number, event) in (0u32..).zip(events) {
            match event {
                Event::Ask(cpu) => if let Ok(token) = pending.register(to(cpu), number) {
                    for _ in 0..token.times() {
                        asked.push_back((number, cpu));
                    }
                    waits = Some((token, number, cpu));
                }
                Event::GiveUp => if let Some((token, number, _)) = waits.take() {
                    prop_assert_eq!(pending.give_up(token), Some(number));
                }
                Event::Do { refuse, answer } => if let Some((number, cpu)) = asked.pop_front() {
                    if !refuse {
                        host = cpu;
                    }
                    if answer {
                        answers.push_back((number, u32::from(refuse)));
                    }
                }
                Event::Deliver => if let Some((number, status)) = answers.pop_front() {
                    if let Some(Answer::Awaited(waiter, reply)) = pending.resolve(&moved(status)) {
                        let (_, who, cpu) = waits.take().unwrap();
                        prop_assert_eq!((waiter, reply), (who, Reply::Status(status)));
                        if status == 0 {
                            prop_assert_eq!(host, cpu);
                            prop_assert!(asked.iter().all(|(_, other)| *other == cpu));
                        } else {
                            prop_assert_eq!(number, who);
                        }
                    }
                }
            }
        }
    }
}
