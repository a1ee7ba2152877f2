// SPDX-License-Identifier: GPL-2.0

//! Contexts that change a session, the connection or a limit of lines at the same time: `RUSTFLAGS="--cfg loom" cargo test -p
//! vmbus_protocol --test loom --release`.
#![cfg(loom)]

use loom::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};
use std::sync::Arc;
use vmbus_protocol::{
    lines::{LineAt, LineWindow, BURST},
    link::{HostMemory, Link, LinkEvent},
    session::{SessionEvent, SessionLife},
    shared::{happen, SharedState, StateWord},
};

struct Word(AtomicU32);

impl StateWord for Word {
    fn load(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn exchange(&self, old: u32, new: u32) -> Result<(), u32> {
        self.0
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .map(|_| ())
    }
}

fn spawn<R: 'static>(
    word: &Arc<Word>,
    f: impl FnOnce(&Word) -> R + 'static,
) -> thread::JoinHandle<R> {
    let word = word.clone();
    thread::spawn(move || f(&word))
}

fn does(word: &Word, event: SessionEvent) -> bool {
    happen::<SessionLife>(word, event).is_some()
}

/// A driver that drops its handle while the core ends the session after it was unbound, and the host
/// takes the channel back: one of the two ends it.
#[test]
fn one_of_two_ends_it() {
    loom::model(|| {
        let word = Arc::new(Word(AtomicU32::new(0)));
        let rescind = spawn(&word, |word| does(word, SessionEvent::Rescinded));
        let close = |word: &Word| does(word, SessionEvent::BeginClose);
        let other = spawn(&word, close);
        let mine = close(&word);
        assert!(mine != other.join().unwrap());
        rescind.join().unwrap();
        let life = SessionLife::from_raw(word.load());
        assert!(life.is_closing() && !life.sends());
    });
}

/// Two notices, and the work that is queued for each: nothing is told twice, and what came before the
/// end began is told.
#[test]
fn a_notice_is_told_once() {
    loom::model(|| {
        let word = Arc::new(Word(AtomicU32::new(0)));
        // Returns what is told of: a rescind, a move.
        let notice = |event| {
            move |word: &Word| {
                if !does(word, event) {
                    return (0, 0);
                }
                happen::<SessionLife>(word, SessionEvent::Tell).map_or((0, 0), |life| {
                    (
                        u32::from(life.tells_rescind()),
                        u32::from(life.tells_move()),
                    )
                })
            }
        };
        let moved = spawn(&word, notice(SessionEvent::Moved));
        let (r, m) = notice(SessionEvent::Rescinded)(&word);
        let (other_r, other_m) = moved.join().unwrap();
        assert_eq!((r + other_r, m + other_m), (1, 1));
    });
}

/// The module goes while the machine is shut down, and somebody closes a channel meanwhile: one of the two
/// posts UNLOAD, and nobody takes memory for free before the answer.
#[test]
fn one_of_two_unloads() {
    loom::model(|| {
        let word = Arc::new(Word(AtomicU32::new(Link::Up.raw())));
        let answered = Arc::new(AtomicU32::new(0));
        let unload = |answered: Arc<AtomicU32>| {
            move |word: &Word| {
                if happen::<Link>(word, LinkEvent::Unload).is_none() {
                    return false;
                }
                answered.store(1, Ordering::SeqCst);
                happen::<Link>(word, LinkEvent::Unloaded).is_some()
            }
        };
        let module = unload(answered.clone());
        let module = spawn(&word, move |word| {
            happen::<Link>(word, LinkEvent::Close);
            module(word)
        });
        let shutdown = spawn(&word, unload(answered.clone()));
        let memory = Link::from_raw(word.load()).memory();
        if memory == HostMemory::LetGo {
            assert_eq!(answered.load(Ordering::SeqCst), 1);
        }
        assert!(memory != HostMemory::Keep);
        assert!(module.join().unwrap() != shutdown.join().unwrap());
        assert_eq!(Link::from_raw(word.load()), Link::Down);
    });
}

/// A crash of the kernel while the module goes: who finds that the other one has begun posts nothing.
#[test]
fn a_crash_meets_an_unload_that_fails() {
    loom::model(|| {
        let word = Arc::new(Word(AtomicU32::new(Link::Closing.raw())));
        let crash = spawn(&word, |word| {
            happen::<Link>(word, LinkEvent::Unload).is_some()
        });
        let posts = happen::<Link>(&*word, LinkEvent::Unload).is_some();
        if posts {
            assert!(happen::<Link>(&*word, LinkEvent::NoAnswer).is_some());
        }
        assert!(posts != crash.join().unwrap());
        let memory = Link::from_raw(word.load()).memory();
        assert!(
            memory
                == if posts {
                    HostMemory::Keep
                } else {
                    HostMemory::Wait
                }
        );
    });
}

/// Two lines for the last place of a window: one is printed.
#[test]
fn a_window_has_one_last_line() {
    loom::model(|| {
        let now = LineAt::new(0);
        let word = Arc::new(Word(AtomicU32::new(LineWindow::default().raw())));
        for _ in 1..BURST {
            assert!(happen::<LineWindow>(&*word, now).is_some());
        }
        let print = move |word: &Word| happen::<LineWindow>(word, now).is_some();
        let other = spawn(&word, print);
        assert!(print(&word) != other.join().unwrap());
    });
}
