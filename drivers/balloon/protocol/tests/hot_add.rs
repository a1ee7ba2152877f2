// SPDX-License-Identifier: GPL-2.0

//! Hot-add against a kernel of frames: what the allocator has is what the host backs of blocks that are
//! online, each frame once, whatever is asked for and whenever blocks go online.

#![allow(clippy::cast_possible_truncation)] // Small constants.

#[path = "hot_add/kernel.rs"]
mod kernel;

use balloon_protocol::{
    hot_add::{chunks, BlockState, End, Ledger, MemoryEvent, Pieces, Span, Step, TooManyPieces},
    message::HotAdd,
    PageRange,
};
use kernel::{Blocks, Kernel, BLOCK, END_FRAME, MAX_ORDER};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn range(start: u64, count: u64) -> PageRange {
    PageRange::new(start, u32::try_from(count).unwrap()).unwrap()
}

/// The form without a region.
fn plain(start: u64, count: u64) -> HotAdd {
    HotAdd {
        range: range(start, count),
        region: None,
        host_regions: false,
    }
}

/// The form with one.
fn in_region(start: u64, count: u64, region: Option<(u64, u64)>) -> HotAdd {
    HotAdd {
        range: range(start, count),
        region: region.map(|(start, count)| range(start, count)),
        host_regions: true,
    }
}

#[test]
fn whole_blocks_are_added_and_used() {
    let mut kernel = Kernel::new();
    let answer = kernel.serve(&plain(4 * BLOCK, 2 * BLOCK));
    assert_eq!((answer.pages, answer.result), (2 * BLOCK as u32, 1));
    assert_eq!(kernel.allocator, (4 * BLOCK..6 * BLOCK).collect());
    // Each part that the kernel asks for is given in one go.
    assert!(kernel.gifts.iter().all(|(_, order)| *order == MAX_ORDER));
    assert_eq!(kernel.ledger.added(), 2 * BLOCK);
    assert_eq!(kernel.ledger.onlined(), 2 * BLOCK);
    assert_eq!(kernel.ledger.unusable(0), None);
}

#[test]
fn a_range_between_block_borders() {
    let mut kernel = Kernel::new();
    // The C driver makes up a region that ends before the range does, and counts more than it added.
    let answer = kernel.serve(&plain(4 * BLOCK + 5, BLOCK));
    assert_eq!((answer.pages, answer.result), (BLOCK as u32, 1));
    assert_eq!(kernel.present, [4, 5].into());
    assert_eq!(kernel.allocator, (4 * BLOCK + 5..5 * BLOCK + 5).collect());
    // Both could come online without the ledger only with frames that nobody backs.
    assert_eq!(kernel.ledger.unusable(0), None);
    kernel.event(4, MemoryEvent::Offline);
    assert_eq!(kernel.ledger.unusable(0), Some(4 * BLOCK..5 * BLOCK));
    assert_eq!(kernel.ledger.unusable(5 * BLOCK), None);
}

#[test]
fn spans_are_neighbours_in_the_same_state() {
    let mut kernel = Kernel::new();
    let mut spans: [Span; 3] = Default::default();
    assert_eq!(kernel.ledger.spans(&mut spans), (0, false));
    kernel.serve(&plain(4 * BLOCK, 4 * BLOCK));
    assert_eq!(kernel.ledger.spans(&mut spans), (1, false));
    let span = |start, end, is_online| Span {
        frames: start * BLOCK..end * BLOCK,
        is_online,
    };
    assert_eq!(spans[0], span(4, 8, true));
    kernel.event(5, MemoryEvent::Offline);
    assert_eq!(kernel.ledger.spans(&mut spans), (3, false));
    assert_eq!(
        spans,
        [span(4, 5, true), span(5, 6, false), span(6, 8, true)]
    );
    // More than there is room for.
    kernel.event(7, MemoryEvent::Offline);
    assert_eq!(kernel.ledger.spans(&mut spans), (3, true));
    assert_eq!(kernel.ledger.spans(&mut []), (0, true));
    // Not neighbours.
    kernel.event(7, MemoryEvent::Online);
    kernel.event(5, MemoryEvent::Online);
    kernel.serve(&plain(10 * BLOCK, BLOCK));
    assert_eq!(kernel.ledger.spans(&mut spans), (2, false));
    assert_eq!(spans[1], span(10, 11, true));
}

#[test]
fn the_rest_of_a_block_comes_later() {
    for online in [true, false] {
        let mut kernel = Kernel::new();
        kernel.auto_online = online;
        assert_eq!(kernel.serve(&plain(4 * BLOCK, 10)).pages, 10);
        let answer = kernel.serve(&plain(4 * BLOCK + 10, BLOCK));
        assert_eq!((answer.pages, answer.result), (BLOCK as u32, 1));
        assert_eq!(kernel.present, [4, 5].into());
        assert_eq!(kernel.ledger.added(), BLOCK + 10);
        if !online {
            assert_eq!((kernel.allocator.len(), kernel.ledger.onlined()), (0, 0));
            kernel.online(4);
            kernel.online(5);
        }
        assert_eq!(kernel.allocator, (4 * BLOCK..5 * BLOCK + 10).collect());
        assert_eq!(kernel.ledger.onlined(), BLOCK + 10);
    }
}

#[test]
fn what_is_in_use_already_counts_and_is_not_given_twice() {
    let mut kernel = Kernel::new();
    for _ in 0..3 {
        let answer = kernel.serve(&plain(4 * BLOCK, BLOCK));
        assert_eq!((answer.pages, answer.result), (BLOCK as u32, 1));
    }
    // Overlapping at both ends.
    let answer = kernel.serve(&plain(3 * BLOCK, 3 * BLOCK));
    assert_eq!(answer.pages, 3 * BLOCK as u32);
    assert_eq!(kernel.allocator, (3 * BLOCK..6 * BLOCK).collect());
    assert_eq!(kernel.ledger.added(), 3 * BLOCK);
}

#[test]
fn counts_of_the_protocol() {
    for count in [1, 511, 513] {
        let mut kernel = Kernel::new();
        let answer = kernel.serve(&plain(4 * BLOCK, count));
        assert_eq!(u64::from(answer.pages), count);
        assert_eq!(kernel.allocator, (4 * BLOCK..4 * BLOCK + count).collect());
    }
    // The most that the wire can carry.
    let mut kernel = Kernel::new();
    kernel.auto_online = false;
    assert_eq!(kernel.serve(&plain(5, (1 << 24) - 1)).pages, (1 << 24) - 1);
    assert_eq!(kernel.ledger.added(), (1 << 24) - 1);
}

#[test]
fn blocks_lie_in_the_region() {
    let mut kernel = Kernel::new();
    // The region begins within a block, and so does the range.
    let answer = kernel.serve(&in_region(
        4 * BLOCK + 1,
        BLOCK,
        Some((4 * BLOCK + 1, 3 * BLOCK)),
    ));
    assert_eq!((answer.pages, answer.result), (0, 0));
    // The range begins with a whole block of it, and ends with a part of one, where the region ends,
    // too: a kernel adds whole blocks, and the rest of this one is never used.
    let answer = kernel.serve(&in_region(
        5 * BLOCK,
        2 * BLOCK + 1,
        Some((5 * BLOCK, 2 * BLOCK + 1)),
    ));
    assert_eq!((answer.pages, answer.result), (2 * BLOCK as u32 + 1, 1));
    assert_eq!(kernel.present, [5, 6, 7].into());
    assert_eq!(kernel.allocator, (5 * BLOCK..7 * BLOCK + 1).collect());
    // A region that was named before, and one that was not.
    kernel.serve(&in_region(10 * BLOCK, 1, Some((10 * BLOCK, 2 * BLOCK))));
    let answer = kernel.serve(&in_region(11 * BLOCK, 7, None));
    assert_eq!((answer.pages, answer.result), (7, 1));
    let answer = kernel.serve(&in_region(12 * BLOCK, 7, None));
    assert_eq!((answer.pages, answer.result), (0, 0));
    assert_eq!(kernel.present, [5, 6, 7, 10, 11].into());
}

#[test]
fn memory_that_exists_ends_it_for_good() {
    let mut kernel = Kernel::new();
    // Block 5 is there from the boot. The one before it is added, and counts.
    kernel.present.insert(5);
    let answer = kernel.serve(&plain(4 * BLOCK, 2 * BLOCK));
    assert_eq!((answer.pages, answer.result), (BLOCK as u32, 1));
    assert!(!kernel.ledger.is_possible());
    let answer = kernel.serve(&plain(8 * BLOCK, BLOCK));
    assert_eq!((answer.pages, answer.result), (0, 1));
    assert_eq!(kernel.ledger.added(), BLOCK);
    assert_eq!(kernel.allocator, (4 * BLOCK..5 * BLOCK).collect());
}

#[test]
fn a_failure_may_be_tried_again() {
    let mut kernel = Kernel::new();
    kernel.fails_at = Some(5);
    assert_eq!(kernel.serve(&plain(5 * BLOCK, BLOCK)).result, 0);
    let answer = kernel.serve(&plain(4 * BLOCK, 2 * BLOCK));
    assert_eq!((answer.pages, answer.result), (BLOCK as u32, 1));
    kernel.fails_at = None;
    let answer = kernel.serve(&plain(4 * BLOCK, 2 * BLOCK));
    assert_eq!((answer.pages, answer.result), (2 * BLOCK as u32, 1));
    assert_eq!(kernel.allocator, (4 * BLOCK..6 * BLOCK).collect());
}

#[test]
fn addresses_beyond_the_kernel() {
    let mut kernel = Kernel::new();
    let answer = kernel.serve(&plain(END_FRAME - BLOCK, BLOCK + 1));
    assert_eq!((answer.pages, answer.result), (BLOCK as u32, 1));
    let answer = kernel.serve(&plain((1 << 40) - 1, 1));
    assert_eq!((answer.pages, answer.result), (0, 0));
    assert_eq!(kernel.present.len(), 1);
}

#[test]
fn many_pieces_are_refused() {
    let mut kernel = Kernel::new();
    // Each piece of a block stands alone.
    let served = (0..10).take_while(|i| kernel.serve(&plain(4 * BLOCK + 2 * i, 1)).pages == 1);
    assert_eq!(served.count(), 4);
    assert_eq!(kernel.allocator.len(), 4);
    assert_eq!(kernel.serve(&plain(4 * BLOCK, 9)).pages, 9);
    assert_eq!(kernel.allocator, (4 * BLOCK..4 * BLOCK + 9).collect());
    // So do regions.
    let served = (0..50).take_while(|i| {
        let start = (100 + 2 * i) * BLOCK;
        kernel
            .serve(&in_region(start, 1, Some((start, BLOCK))))
            .pages
            == 1
    });
    assert_eq!(served.count(), 32);
    assert!(kernel.ledger.is_possible());
}

#[test]
fn without_regions_there_is_no_limit_of_them() {
    let mut kernel = Kernel::new();
    for i in 0..50 {
        assert_eq!(kernel.serve(&plain(2 * i * BLOCK, 1)).pages, 1, "{i}");
    }
    // What one request allows is not for the next one.
    assert_eq!(kernel.serve(&in_region(BLOCK, 1, None)).pages, 0);
}

#[test]
fn blocks_outlive_a_connection() {
    let mut kernel = Kernel::new();
    kernel.serve(&in_region(
        4 * BLOCK,
        BLOCK + 10,
        Some((4 * BLOCK, 4 * BLOCK)),
    ));
    kernel.present.insert(6);
    assert_eq!(kernel.serve(&plain(6 * BLOCK, 1)).pages, 0);
    assert!(!kernel.ledger.is_possible());
    kernel.ledger.connect();
    assert!(kernel.ledger.is_possible());
    assert_eq!(kernel.ledger.added(), BLOCK + 10);
    // The rest of a block that was added; the next one lies in a region of the host before.
    let answer = kernel.serve(&in_region(5 * BLOCK + 10, 2 * BLOCK, None));
    assert_eq!(answer.pages, BLOCK as u32 - 10);
    assert_eq!(kernel.allocator, (4 * BLOCK..6 * BLOCK).collect());
}

#[test]
fn it_is_needed_while_a_part_of_a_block_may_come_online() {
    let mut kernel = Kernel::new();
    kernel.auto_online = false;
    assert!(!kernel.ledger.is_needed());
    kernel.serve(&plain(4 * BLOCK, 10));
    assert!(kernel.ledger.is_needed());
    kernel.event(4, MemoryEvent::GoingOnline);
    assert!(kernel.ledger.is_needed());
    kernel.event(4, MemoryEvent::CancelOnline);
    assert!(kernel.ledger.is_needed());
    kernel.online(4);
    assert!(!kernel.ledger.is_needed());
    // All of it is backed.
    kernel.serve(&plain(5 * BLOCK, 10));
    assert!(kernel.ledger.is_needed());
    kernel.serve(&plain(5 * BLOCK + 10, BLOCK - 10));
    assert!(!kernel.ledger.is_needed());
    kernel.serve(&plain(6 * BLOCK, 10));
    assert!(kernel.ledger.is_needed());
    kernel.ledger.forget(6 * BLOCK);
    assert!(!kernel.ledger.is_needed());
}

#[test]
fn backed_while_the_block_goes_online() {
    let mut kernel = Kernel::new();
    kernel.auto_online = false;
    kernel.serve(&plain(4 * BLOCK, 10));
    kernel.event(4, MemoryEvent::GoingOnline);
    kernel.parts(4, 0, 1);
    // The part that it is in was asked for, so the kernel would not ask again.
    assert_eq!(kernel.serve(&plain(4 * BLOCK + 10, 5)).pages, 5);
    assert_eq!(kernel.allocator.len(), 10);
    kernel.parts(4, 1, u64::MAX);
    kernel.event(4, MemoryEvent::Online);
    assert_eq!(kernel.allocator, (4 * BLOCK..4 * BLOCK + 15).collect());
    assert_eq!(kernel.ledger.onlined(), 15);
}

#[test]
fn a_block_that_does_not_come_online() {
    let mut kernel = Kernel::new();
    kernel.auto_online = false;
    kernel.serve(&plain(4 * BLOCK, 10));
    kernel.event(4, MemoryEvent::GoingOnline);
    kernel.event(4, MemoryEvent::CancelOnline);
    kernel.serve(&plain(4 * BLOCK + 10, 10));
    assert_eq!((kernel.allocator.len(), kernel.ledger.onlined()), (0, 0));
    kernel.online(4);
    assert_eq!(kernel.allocator, (4 * BLOCK..4 * BLOCK + 20).collect());
}

#[test]
fn other_memory_is_not_ours() {
    let mut kernel = Kernel::new();
    kernel.serve(&plain(4 * BLOCK, 1));
    let mut given = 0;
    assert!(!kernel
        .ledger
        .come_online(7 * BLOCK..7 * BLOCK + 1, |_, _| given += 1));
    assert!(kernel
        .ledger
        .come_online(4 * BLOCK..4 * BLOCK + 1, |_, _| given += 1));
    assert_eq!(
        given, 0,
        "the block is online; the kernel does not ask twice"
    );
    kernel
        .ledger
        .on_event(&(7 * BLOCK..8 * BLOCK), MemoryEvent::Offline, |_, _| {
            given += 1
        });
    assert_eq!(given, 0);
    assert_eq!(
        kernel.ledger.block(4 * BLOCK + 9).unwrap().state(),
        BlockState::Online
    );
}

#[test]
fn figures_that_make_no_sense() {
    for (block, order) in [(0, 0), (96, 5), (16, 5), (64, 64)] {
        assert!(Ledger::new(block, order, END_FRAME, Blocks::default()).is_none());
    }
}

#[test]
fn a_table_without_room() {
    let mut kernel = Kernel::new();
    kernel.ledger.table_mut().room = 1;
    let answer = kernel.serve(&plain(4 * BLOCK, 2 * BLOCK));
    assert_eq!((answer.pages, answer.result), (BLOCK as u32, 1));
    assert_eq!(kernel.present, [4].into());
}

#[test]
fn a_plan_ends_with_a_reason() {
    let mut kernel = Kernel::new();
    let mut plan = kernel.ledger.plan(&plain(4 * BLOCK, 1)).unwrap();
    let step = kernel.ledger.next(&plan).unwrap();
    assert_eq!(
        step,
        Step::Add {
            block: 4 * BLOCK..5 * BLOCK,
            backed: 4 * BLOCK..4 * BLOCK + 1
        }
    );
    plan.advance(&step);
    assert_eq!(kernel.ledger.next(&plan), Err(End::Done));
    assert_eq!(kernel.ledger.undo(&(0..BLOCK), true), End::Exists);
    assert_eq!(kernel.ledger.plan(&plain(0, 1)).unwrap_err(), End::Exists);
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    Plain(u64, u64),
    Region(u64, u64, Option<(u64, u64)>),
    Online(u64),
    /// A request comes when so many parts have been asked for.
    OnlineMeanwhile(u64, u64, u64, u64),
    Offline(u64),
    Forget(u64),
}

fn event() -> impl Strategy<Value = Event> {
    const SPACE: u64 = 8 * BLOCK;
    let frames = || (0..SPACE, 1..3 * BLOCK);
    let near = || (0..SPACE / 8, 1..BLOCK / 8).prop_map(|(a, n)| (a * 8, n * 8));
    let asked = || prop_oneof![frames(), near()];
    prop_oneof![
        4 => asked().prop_map(|(a, n)| Event::Plain(a, n)),
        2 => (asked(), prop::option::of((0..BLOCK, 0..BLOCK))).prop_map(|((a, n), around)| {
            let region = around.map(|(b, e)| (a.saturating_sub(b), n + b + e));
            Event::Region(a, n, region)
        }),
        2 => (0..10u64).prop_map(Event::Online),
        2 => (0..10u64, 0..6u64, 0..SPACE, 1..BLOCK).prop_map(|(block, parts, a, n)| {
            Event::OnlineMeanwhile(block, parts, a, n)
        }),
        1 => (0..10u64).prop_map(Event::Offline),
        1 => (0..10u64).prop_map(Event::Forget),
    ]
}

proptest! {
    #[test]
    fn the_allocator_has_what_is_backed_and_online(
        auto_online: bool,
        at_boot in prop::option::of(0..10u64),
        fails_at in prop::option::of(0..10u64),
        events in prop::collection::vec(event(), 1..30),
    ) {
        let mut kernel = Kernel::new();
        kernel.auto_online = auto_online;
        kernel.present.extend(at_boot);
        kernel.fails_at = fails_at;
        let mut promised = BTreeSet::new();
        let mut ask = |kernel: &mut Kernel, request: HotAdd| {
            let (start, count) = (request.range.start(), request.range.count());
            promised.extend(request.range.start()..request.range.end());
            let answer = kernel.serve(&request);
            assert!(answer.pages <= count);
            assert!(answer.result == 1 || answer.pages == 0);
            assert!(answer.pages > 0 || (answer.result == 1) != kernel.ledger.is_possible());
            // What was counted is backed.
            for frame in start..start + u64::from(answer.pages) {
                let block = kernel.ledger.block(frame).unwrap();
                assert!(block.backed().contains(&(frame..frame + 1)));
            }
        };
        for event in events {
            match event {
                Event::Plain(a, n) => ask(&mut kernel, plain(a, n)),
                Event::Region(a, n, region) => ask(&mut kernel, in_region(a, n, region)),
                Event::Online(block) => kernel.online(block),
                Event::OnlineMeanwhile(block, parts, a, n) if kernel.can_online(block) => {
                    kernel.event(block, MemoryEvent::GoingOnline);
                    kernel.parts(block, 0, parts);
                    ask(&mut kernel, plain(a, n));
                    kernel.parts(block, parts, u64::MAX);
                    kernel.event(block, MemoryEvent::Online);
                }
                Event::OnlineMeanwhile(..) => {}
                Event::Offline(block) => kernel.offline(block),
                Event::Forget(block) => kernel.forget(block),
            }
            kernel.check();
        }
        prop_assert!(kernel.allocator.is_subset(&promised));
    }

    #[test]
    fn pieces_behave_like_a_set(
        ranges in prop::collection::vec((0u64..60, 0u64..9), 0..12),
        probe in (0u64..60, 0u64..20),
    ) {
        let mut pieces = Pieces::<4>::EMPTY;
        let mut oracle = BTreeSet::new();
        for (start, len) in ranges {
            let range = start..start + len;
            let before = pieces;
            match pieces.insert(range.clone()) {
                Ok(()) => oracle.extend(range),
                Err(TooManyPieces) => {
                    prop_assert_eq!(pieces, before);
                    prop_assert_eq!(before.iter().count(), 4);
                }
            }
        }
        prop_assert_eq!(pieces.pages(), oracle.len() as u64);
        prop_assert!(pieces.iter().eq(pieces.within(0..u64::MAX)));
        let ends: Vec<_> = pieces.iter().collect();
        prop_assert!(ends.windows(2).all(|pair| pair[0].end < pair[1].start));
        let probe = probe.0..probe.0 + probe.1;
        let inside: BTreeSet<u64> = pieces.within(probe.clone()).flatten().collect();
        let outside: BTreeSet<u64> = pieces.gaps(probe.clone()).flatten().collect();
        prop_assert!(inside.is_disjoint(&outside));
        prop_assert!(inside.is_subset(&oracle) && outside.is_disjoint(&oracle));
        prop_assert_eq!((inside.len() + outside.len()) as u64, probe.end - probe.start);
        prop_assert_eq!(pieces.contains(&probe), outside.is_empty());
        prop_assert_eq!(pieces.gap(probe.clone()), pieces.gaps(probe).next());
    }

    #[test]
    fn chunks_are_aligned_and_cover(start in 0u64..5000, len in 0u64..5000, max_order in 0u32..11) {
        let mut at = start;
        for (frame, order) in chunks(start..start + len, max_order) {
            prop_assert_eq!(frame, at);
            prop_assert!(order <= max_order && frame % (1 << order) == 0);
            at += 1 << order;
        }
        prop_assert_eq!(at, start + len);
    }
}

#[test]
fn chunks_at_the_end_of_the_numbers() {
    let all: Vec<_> = chunks(u64::MAX - 3..u64::MAX, 10).collect();
    assert_eq!(all, [(u64::MAX - 3, 1), (u64::MAX - 1, 0)]);
    assert_eq!(chunks(0..0, 10).count(), 0);
    assert_eq!(chunks(0..4096, 10).count(), 4);
}
