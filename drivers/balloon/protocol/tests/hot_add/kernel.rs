// SPDX-License-Identifier: GPL-2.0

//! A kernel as hot-add sees it: small blocks, and every frame that the allocator has.

use balloon_protocol::{
    hot_add::{Answer, Block, BlockState, End, Ledger, MemoryEvent, Step, Table},
    message::HotAdd,
};
use std::collections::BTreeSet;

/// Frames of a block.
pub(crate) const BLOCK: u64 = 256;
/// The kernel asks for parts of 64 frames.
pub(crate) const MAX_ORDER: u32 = 6;
/// Behind the last frame that can be added.
pub(crate) const END_FRAME: u64 = 1 << 30;

/// A list with a bound.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// How many there may be.
    pub(crate) room: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks {
            blocks: Vec::new(),
            room: usize::MAX,
        }
    }
}

impl Table for Blocks {
    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    fn insert(&mut self, place: usize, block: Block) -> bool {
        let room = self.blocks.len() < self.room;
        if room {
            self.blocks.insert(place, block);
        }
        room
    }

    fn remove(&mut self, place: usize) {
        self.blocks.remove(place);
    }
}

/// The kernel.
pub(crate) struct Kernel {
    /// What is under test.
    pub(crate) ledger: Ledger<Blocks>,
    /// Blocks that exist, by number.
    pub(crate) present: BTreeSet<u64>,
    /// Frames that the allocator has.
    pub(crate) allocator: BTreeSet<u64>,
    /// What it was given, as first frames and orders.
    pub(crate) gifts: Vec<(u64, u32)>,
    /// The policy: blocks come online when they are added.
    pub(crate) auto_online: bool,
    /// A block that cannot be added now.
    pub(crate) fails_at: Option<u64>,
}

/// Takes what the ledger gives.
fn receive(allocator: &mut BTreeSet<u64>, gifts: &mut Vec<(u64, u32)>, frame: u64, order: u32) {
    assert_eq!(frame % (1 << order), 0);
    gifts.push((frame, order));
    for frame in frame..frame + (1 << order) {
        assert!(allocator.insert(frame), "frame {frame} was given twice");
    }
}

impl Kernel {
    /// Without memory, with the policy to bring blocks online.
    pub(crate) fn new() -> Self {
        Kernel {
            ledger: Ledger::new(BLOCK, MAX_ORDER, END_FRAME, Blocks::default()).unwrap(),
            present: BTreeSet::new(),
            allocator: BTreeSet::new(),
            gifts: Vec::new(),
            auto_online: true,
            fails_at: None,
        }
    }

    /// Does what a request asks for, as the driver does.
    pub(crate) fn serve(&mut self, request: &HotAdd) -> Answer {
        let Ok(mut plan) = self.ledger.plan(request) else {
            return Answer {
                pages: 0,
                result: u32::from(!self.ledger.is_possible()),
            };
        };
        while let Ok(step) = self.ledger.next(&plan) {
            if self.act(&step).is_err() {
                break;
            }
            plan.advance(&step);
        }
        plan.answer(self.ledger.is_possible())
    }

    fn act(&mut self, step: &Step) -> Result<(), End> {
        match step {
            Step::Add { block, backed } => {
                assert!(block.start <= backed.start && backed.end <= block.end);
                assert_eq!((block.start % BLOCK, block.end - block.start), (0, BLOCK));
                self.ledger.add(block, backed)?;
                let number = block.start / BLOCK;
                if self.fails_at == Some(number) {
                    return Err(self.ledger.undo(block, false));
                }
                if !self.present.insert(number) {
                    return Err(self.ledger.undo(block, true));
                }
                if self.auto_online {
                    self.online(number);
                }
                Ok(())
            }
            Step::Back { backed } => {
                let (allocator, gifts) = (&mut self.allocator, &mut self.gifts);
                self.ledger
                    .back(backed, |frame, order| {
                        receive(allocator, gifts, frame, order)
                    })
                    .map(drop)
            }
        }
    }

    /// The kernel says something of a block.
    pub(crate) fn event(&mut self, number: u64, event: MemoryEvent) {
        let (allocator, gifts) = (&mut self.allocator, &mut self.gifts);
        let frames = number * BLOCK..(number + 1) * BLOCK;
        self.ledger.on_event(&frames, event, |frame, order| {
            receive(allocator, gifts, frame, order);
        });
        if event == MemoryEvent::Offline {
            self.allocator.retain(|frame| !frames.contains(frame));
        }
    }

    /// The kernel asks for some parts of a block that goes online.
    pub(crate) fn parts(&mut self, number: u64, from: u64, to: u64) {
        let size = 1u64 << MAX_ORDER;
        for part in from..to.min(BLOCK / size) {
            let start = number * BLOCK + part * size;
            let (allocator, gifts) = (&mut self.allocator, &mut self.gifts);
            self.ledger
                .come_online(start..start + size, |frame, order| {
                    receive(allocator, gifts, frame, order);
                });
        }
    }

    /// Whether a block is one of the ledger's, and offline.
    pub(crate) fn can_online(&self, number: u64) -> bool {
        let block = self.ledger.block(number * BLOCK);
        block.is_some_and(|block| block.state() == BlockState::Offline)
    }

    /// A block comes online.
    pub(crate) fn online(&mut self, number: u64) {
        if self.can_online(number) {
            self.event(number, MemoryEvent::GoingOnline);
            self.parts(number, 0, u64::MAX);
            self.event(number, MemoryEvent::Online);
        }
    }

    /// A block goes offline, if the host backs all of it: the kernel does not let others go.
    pub(crate) fn offline(&mut self, number: u64) {
        let all = number * BLOCK..(number + 1) * BLOCK;
        let block = self.ledger.block(all.start);
        if block.is_some_and(|b| b.state() == BlockState::Online && b.given().contains(&all)) {
            self.event(number, MemoryEvent::Offline);
        }
    }

    /// A block that is offline is removed.
    pub(crate) fn forget(&mut self, number: u64) {
        if self.can_online(number) {
            self.ledger.forget(number * BLOCK);
            self.present.remove(&number);
        }
    }

    /// The allocator has what is backed of blocks that are online, and the ledger's sums are right.
    pub(crate) fn check(&self) {
        let blocks = self.ledger.table().blocks();
        let mut online = BTreeSet::new();
        let mut added = 0;
        for block in blocks {
            assert!(self.present.contains(&(block.start() / BLOCK)));
            added += block.backed().pages();
            if block.state() == BlockState::Online {
                online.extend(block.backed().iter().flatten());
            }
        }
        assert!(blocks
            .windows(2)
            .all(|pair| pair[0].start() < pair[1].start()));
        assert_eq!(self.allocator, online);
        assert_eq!(self.ledger.onlined(), online.len() as u64);
        assert_eq!(self.ledger.added(), added);
    }
}
