// SPDX-License-Identifier: GPL-2.0

//! All blocks that were added, and the host's regions.

use super::{
    block::{Block, BlockState},
    chunks,
    pieces::{Pieces, TooManyPieces},
    End, Plan, Step,
};
use crate::message::HotAdd;
use core::ops::Range;

/// How many regions that do not touch each other the host may name.
pub const MAX_REGIONS: usize = 32;

/// Where the blocks are kept: a list whose memory is its owner's.
pub trait Table {
    /// The blocks.
    fn blocks(&self) -> &[Block];
    /// The blocks.
    fn blocks_mut(&mut self) -> &mut [Block];
    /// Puts a block at this place. Returns whether there was room; without, nothing is changed.
    fn insert(&mut self, place: usize, block: Block) -> bool;
    /// Takes the block at this place out.
    fn remove(&mut self, place: usize);
}

/// What the kernel says of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryEvent {
    /// It begins to bring them online.
    GoingOnline,
    /// They are online.
    Online,
    /// They did not come online.
    CancelOnline,
    /// They are offline.
    Offline,
}

/// All blocks that were added, and the host's regions. Frames are in units of 4 KiB.
#[derive(Debug)]
pub struct Ledger<T> {
    block_pages: u64,
    max_order: u32,
    end_frame: u64,
    regions: Pieces<MAX_REGIONS>,
    /// Ascending, and none twice.
    table: T,
    possible: bool,
    added: u64,
    onlined: u64,
}

impl<T: Table> Ledger<T> {
    /// A ledger without blocks; the table is empty. `None` if the kernel's figures make no sense:
    /// blocks of `block_pages` frames, brought online in parts of up to `1 << max_order` frames,
    /// can be added below `end_frame`.
    #[must_use]
    pub fn new(block_pages: u64, max_order: u32, end_frame: u64, table: T) -> Option<Self> {
        let part = 1u64.checked_shl(max_order)?;
        let sane = block_pages.is_power_of_two() && block_pages >= part;
        sane.then_some(Ledger {
            block_pages,
            max_order,
            end_frame,
            regions: Pieces::EMPTY,
            table,
            possible: true,
            added: 0,
            onlined: 0,
        })
    }

    /// Whether adding memory may work, now or later.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.possible
    }

    /// Frames that were added: those that the host backs.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Of those, the frames that the kernel uses.
    #[must_use]
    pub fn onlined(&self) -> u64 {
        self.onlined
    }

    /// Where the blocks are.
    pub fn table(&self) -> &T {
        &self.table
    }

    /// Where the blocks are, to make room for more. They must stay as they are.
    pub fn table_mut(&mut self) -> &mut T {
        &mut self.table
    }

    fn align_down(&self, frame: u64) -> u64 {
        frame & !self.block_pages.saturating_sub(1)
    }

    /// The block that the frame lies in, added or not.
    pub(super) fn block_at(&self, frame: u64) -> Range<u64> {
        let start = self.align_down(frame);
        start..start.saturating_add(self.block_pages)
    }

    /// Where the block with this first frame is, or would be.
    fn place(&self, start: u64) -> Result<usize, usize> {
        self.table
            .blocks()
            .binary_search_by_key(&start, Block::start)
    }

    /// The block that the frame lies in, if it was added.
    #[must_use]
    pub fn block(&self, frame: u64) -> Option<&Block> {
        let place = self.place(self.align_down(frame)).ok()?;
        self.table.blocks().get(place)
    }

    fn block_mut(&mut self, frame: u64) -> Option<&mut Block> {
        let place = self.place(self.align_down(frame)).ok()?;
        self.table.blocks_mut().get_mut(place)
    }

    /// Another connection to a host begins: it has not named any region yet, and it may have memory
    /// that can be added where the one before had not. The blocks are still there.
    pub fn connect(&mut self) {
        self.regions = Pieces::EMPTY;
        self.possible = true;
    }

    /// Begins with a request. A region that the host names is known from now on; where it names
    /// none, and is not one that does, the blocks around the range may be added for this request.
    ///
    /// # Errors
    ///
    /// Why nothing is done.
    pub fn plan(&mut self, request: &HotAdd) -> Result<Plan, End> {
        if !self.possible {
            return Err(End::Exists);
        }
        let around = match request.region {
            Some(region) => {
                self.regions
                    .insert(region.start()..region.end())
                    .map_err(|TooManyPieces| End::TooManyPieces)?;
                (0, 0)
            }
            None if request.host_regions => (0, 0),
            None => {
                let last = request.range.end().saturating_sub(1);
                let start = self.align_down(request.range.start());
                (start, self.block_at(last).end)
            }
        };
        Ok(Plan::new(request, around))
    }

    /// What is to be done next. A block may reach beyond its region, the host need not back that
    /// part, but not begin before it.
    ///
    /// # Errors
    ///
    /// Why there is nothing.
    pub fn next(&self, plan: &Plan) -> Result<Step, End> {
        let end = plan.range.end();
        if plan.at >= end {
            return Err(End::Done);
        }
        let block = self.block_at(plan.at);
        let backed = plan.at..end.min(block.end);
        if self.place(block.start).is_ok() {
            Ok(Step::Back { backed })
        } else if !plan.allows(&block) && !self.regions.contains(&(block.start..backed.end)) {
            Err(End::NoRegion)
        } else if block.end > self.end_frame {
            Err(End::TooHigh)
        } else {
            Ok(Step::Add { block, backed })
        }
    }

    /// Notes a block that is about to be added: the kernel may bring it online while it adds it.
    ///
    /// # Errors
    ///
    /// [`End::Failed`]; nothing is noted, and the block must not be added.
    pub fn add(&mut self, block: &Range<u64>, backed: &Range<u64>) -> Result<(), End> {
        let new = Block::new(block.start, backed.clone()).map_err(|_| End::Failed)?;
        let pages = new.backed().pages();
        match self.place(block.start) {
            Err(place) if self.table.insert(place, new) => {
                self.added = self.added.saturating_add(pages);
                Ok(())
            }
            _ => Err(End::Failed),
        }
    }

    /// The kernel has not added the block. `exists` says that it has such memory: nothing will be
    /// added from now on, as in `drivers/hv/hv_balloon.c:hv_mem_hot_add`.
    pub fn undo(&mut self, block: &Range<u64>, exists: bool) -> End {
        self.forget(block.start);
        if exists {
            self.possible = false;
            End::Exists
        } else {
            End::Failed
        }
    }

    /// The host backs more of a block that was added. What the allocator gets now goes to `give`,
    /// as first frames and orders. Returns how many frames are new.
    ///
    /// # Errors
    ///
    /// [`End::TooManyPieces`], or [`End::Failed`] if there is no such block; nothing is changed.
    pub fn back(
        &mut self,
        frames: &Range<u64>,
        mut give: impl FnMut(u64, u32),
    ) -> Result<u64, End> {
        let max_order = self.max_order;
        let block = self.block_mut(frames.start).ok_or(End::Failed)?;
        let before = block.given().pages();
        let online = block.state() == BlockState::Online;
        let new = block
            .back(frames.clone(), |part| {
                chunks(part, max_order).for_each(|(frame, order)| give(frame, order));
            })
            .map_err(|TooManyPieces| End::TooManyPieces)?;
        let given = block.given().pages().saturating_sub(before);
        self.added = self.added.saturating_add(new);
        if online {
            self.onlined = self.onlined.saturating_add(given);
        }
        Ok(new)
    }

    /// The kernel brings these frames online, a part of a block. What of them the allocator may
    /// have goes to `give`, as first frames and orders. Returns whether the block is one of ours;
    /// if it is not, this has nothing to say of it.
    pub fn come_online(&self, frames: Range<u64>, mut give: impl FnMut(u64, u32)) -> bool {
        let Some(block) = self.block(frames.start) else {
            return false;
        };
        if block.state() == BlockState::GoingOnline {
            for part in block.given().within(frames) {
                chunks(part, self.max_order).for_each(|(frame, order)| give(frame, order));
            }
        }
        true
    }

    /// The kernel says something of all blocks in this range. What the allocator gets now goes to
    /// `give`, as first frames and orders.
    pub fn on_event(
        &mut self,
        range: &Range<u64>,
        event: MemoryEvent,
        mut give: impl FnMut(u64, u32),
    ) {
        let max_order = self.max_order;
        let (Ok(first) | Err(first)) = self.place(range.start);
        let blocks = self.table.blocks_mut().get_mut(first..).unwrap_or_default();
        for block in blocks.iter_mut().take_while(|b| b.start() < range.end) {
            let used = |block: &Block| match block.state() {
                BlockState::Online => block.given().pages(),
                BlockState::Offline | BlockState::GoingOnline => 0,
            };
            let before = used(block);
            match event {
                MemoryEvent::GoingOnline => block.going_online(),
                MemoryEvent::Online => block.online(|part| {
                    chunks(part, max_order).for_each(|(frame, order)| give(frame, order));
                }),
                MemoryEvent::CancelOnline | MemoryEvent::Offline => block.offline(),
            }
            self.onlined = self
                .onlined
                .saturating_sub(before)
                .saturating_add(used(block));
        }
    }

    /// Whether there is a block that may come online, and of which the host backs a part only: the
    /// kernel would use all of it without this ledger. One that is online cannot go offline, since
    /// what nobody backs cannot be moved.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.table.blocks().iter().any(|block| {
            block.state() != BlockState::Online
                && !block.backed().contains(&self.block_at(block.start()))
        })
    }

    /// The first block from this frame on that must never come online without this ledger: it is
    /// offline, and the host backs a part of it only.
    #[must_use]
    pub fn unusable(&self, from: u64) -> Option<Range<u64>> {
        let (Ok(first) | Err(first)) = self.place(from);
        let blocks = self.table.blocks().get(first..)?;
        blocks
            .iter()
            .filter(|block| block.state() == BlockState::Offline)
            .map(|block| (block, self.block_at(block.start())))
            .find(|(block, all)| !block.backed().contains(all))
            .map(|(_, all)| all)
    }

    /// The block with this first frame is gone.
    pub fn forget(&mut self, start: u64) {
        let Ok(place) = self.place(start) else { return };
        if let Some(block) = self.table.blocks().get(place) {
            self.added = self.added.saturating_sub(block.backed().pages());
            if block.state() == BlockState::Online {
                self.onlined = self.onlined.saturating_sub(block.given().pages());
            }
        }
        self.table.remove(place);
    }
}
