// SPDX-License-Identifier: GPL-2.0

//! Requests to add memory, on a kernel that brings each block online at once.

use balloon_protocol::{
    hot_add::{Block, Ledger, MemoryEvent, Step, Table},
    message::HotAdd,
};

/// Frames of a block.
const BLOCK: u64 = 1 << 15;
/// The kernel's largest part of one.
const MAX_ORDER: u32 = 10;
/// Behind the last frame that can be added.
const END_FRAME: u64 = 1 << 34;
/// Blocks that there is room for.
const ROOM: usize = 40;

/// Blocks with a bound.
#[derive(Default)]
pub(super) struct Blocks(Vec<Block>);

impl Table for Blocks {
    fn blocks(&self) -> &[Block] {
        &self.0
    }

    fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.0
    }

    fn insert(&mut self, place: usize, block: Block) -> bool {
        let room = self.0.len() < ROOM;
        if room {
            self.0.insert(place, block);
        }
        room
    }

    fn remove(&mut self, place: usize) {
        self.0.remove(place);
    }
}

/// A ledger without blocks.
pub(super) fn ledger() -> Ledger<Blocks> {
    Ledger::new(BLOCK, MAX_ORDER, END_FRAME, Blocks::default()).unwrap()
}

/// Does what a request asks for. What is given is new, aligned and what the host has named; the sums are
/// right.
pub(super) fn serve(ledger: &mut Ledger<Blocks>, request: &HotAdd) {
    let Ok(mut plan) = ledger.plan(request) else {
        return;
    };
    let before = ledger.added();
    let mut given = 0;
    while let Ok(step) = ledger.next(&plan) {
        let frames = step.frames();
        let mut give = |frame: u64, order: u32| {
            let pages = 1 << order;
            assert!(order <= MAX_ORDER && frame % pages == 0);
            assert!(frames.start <= frame && frame + pages <= frames.end);
            given += pages;
        };
        match &step {
            Step::Add { block, backed } => {
                if ledger.add(block, backed).is_err() {
                    break;
                }
                ledger.on_event(block, MemoryEvent::GoingOnline, &mut give);
                for part in (block.start..block.end).step_by(1 << MAX_ORDER) {
                    assert!(ledger.come_online(part..part + (1 << MAX_ORDER), &mut give));
                }
                ledger.on_event(block, MemoryEvent::Online, &mut give);
            }
            Step::Back { backed } => {
                if ledger.back(backed, &mut give).is_err() {
                    break;
                }
            }
        }
        plan.advance(&step);
    }
    let answer = plan.answer(ledger.is_possible());
    assert!(answer.pages <= request.range.count());
    assert_eq!(answer.result == 1, answer.pages > 0);
    assert_eq!(ledger.added() - before, given);
    assert_eq!(ledger.onlined(), ledger.added());
}
