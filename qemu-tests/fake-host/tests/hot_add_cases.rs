// SPDX-License-Identifier: GPL-2.0

//! A host that adds memory, byte by byte: what the session lets through, and what becomes of it.

#![allow(clippy::cast_possible_truncation)] // Small constants.

#[allow(dead_code)] // The crate's own tests use more of it.
#[path = "../../../drivers/balloon/protocol/tests/hot_add/kernel.rs"]
mod kernel;

use balloon_protocol::{
    hot_add::Answer,
    message::MessageError,
    session::{Action, Features, Session},
    Inbound, RangeError,
};
use fake_host::balloon as wire;
use kernel::{Kernel, BLOCK};
use std::collections::BTreeSet;

/// A guest after the negotiation.
struct Guest {
    session: Session<'static>,
    kernel: Kernel,
}

impl Guest {
    fn new() -> Self {
        let mut session = Session::new(Features {
            hibernation: false,
            balloon: true,
            hot_add: true,
        });
        let _ = session.start();
        for kind in [2, 4] {
            let bytes = wire::accepted(kind, true);
            let _ = session.on_message(&Inbound::parse(&bytes).unwrap());
        }
        Guest {
            session,
            kernel: Kernel::new(),
        }
    }

    /// Takes a message, and does what it asks for.
    fn take(&mut self, bytes: &[u8]) -> Result<Answer, MessageError> {
        let message = Inbound::parse(bytes)?;
        let Action::HotAdd(request) = self.session.on_message(&message) else {
            panic!("not let through: {message:?}");
        };
        let answer = self.kernel.serve(&request);
        self.session.hot_add_done();
        self.kernel.check();
        Ok(answer)
    }

    fn frames(&self) -> BTreeSet<u64> {
        self.kernel.allocator.clone()
    }
}

fn good(pages: u64) -> Result<Answer, MessageError> {
    Ok(Answer {
        pages: u32::try_from(pages).unwrap(),
        result: 1,
    })
}

const LATER: Result<Answer, MessageError> = Ok(Answer {
    pages: 0,
    result: 0,
});

#[test]
fn unaligned() {
    let mut guest = Guest::new();
    let start = 4 * BLOCK + 77;
    assert_eq!(
        guest.take(&wire::hot_add(wire::range(start, BLOCK))),
        good(BLOCK)
    );
    assert_eq!(guest.frames(), (start..start + BLOCK).collect());
    // In a region that has no whole block there.
    let region = wire::range(20 * BLOCK + 1, BLOCK + 1);
    let bytes = wire::hot_add_region(wire::range(20 * BLOCK + 1, BLOCK), region);
    assert_eq!(guest.take(&bytes), LATER);
    // In one that has one behind it.
    let region = wire::range(30 * BLOCK - 1, 2 * BLOCK);
    let bytes = wire::hot_add_region(wire::range(30 * BLOCK, 9), region);
    assert_eq!(guest.take(&bytes), good(9));
}

#[test]
fn wrapping() {
    let mut guest = Guest::new();
    let top = (1u64 << 40) - 1;
    for (start, count) in [(top, 2), (top, (1 << 24) - 1), (top - 5, 7)] {
        let error = MessageError::Range(RangeError::Overflow {
            start,
            count: count as u32,
        });
        let bytes = wire::hot_add(wire::range(start, count));
        assert_eq!(guest.take(&bytes), Err(error));
        // The same as the region of a range that is good.
        let bytes = wire::hot_add_region(wire::range(top, 1), wire::range(start, count));
        assert_eq!(guest.take(&bytes), Err(error));
    }
    // All ones.
    assert!(guest.take(&wire::hot_add(u64::MAX)).is_err());
    assert!(guest
        .take(&wire::hot_add_region(u64::MAX, u64::MAX))
        .is_err());
    // The last frame there can be is not memory of this kernel.
    assert_eq!(guest.take(&wire::hot_add(wire::range(top, 1))), LATER);
    assert!(guest.frames().is_empty());
}

#[test]
fn outside_its_region() {
    let mut guest = Guest::new();
    let region = wire::range(4 * BLOCK, BLOCK);
    for (start, count) in [(4 * BLOCK - 1, 2), (9 * BLOCK, 1)] {
        let bytes = wire::hot_add_region(wire::range(start, count), region);
        assert_eq!(guest.take(&bytes), LATER);
        assert!(guest.kernel.present.is_empty());
    }
    // None was named, and none was before that holds it.
    let bytes = wire::hot_add_region(wire::range(7 * BLOCK, BLOCK), 0);
    assert_eq!(guest.take(&bytes), LATER);
    assert!(guest.kernel.present.is_empty());
    // What of a range lies in the region is added.
    let bytes = wire::hot_add_region(wire::range(5 * BLOCK - 1, 2), region);
    assert_eq!(guest.take(&bytes), good(1));
    assert_eq!(guest.kernel.present, [4].into());
}

#[test]
fn in_pieces() {
    let mut guest = Guest::new();
    let region = wire::range(4 * BLOCK, 4 * BLOCK);
    for piece in 0..16 {
        let start = 4 * BLOCK + piece * BLOCK / 4;
        let bytes = wire::hot_add_region(wire::range(start, BLOCK / 4), region);
        assert_eq!(guest.take(&bytes), good(BLOCK / 4));
        assert_eq!(guest.frames(), (4 * BLOCK..start + BLOCK / 4).collect());
    }
    assert_eq!(guest.kernel.present.len(), 4);

    // Without one, each frame by itself, from the last to the first.
    let mut guest = Guest::new();
    for frame in (4 * BLOCK..5 * BLOCK).rev() {
        assert_eq!(guest.take(&wire::hot_add(wire::range(frame, 1))), good(1));
    }
    assert_eq!(guest.frames(), (4 * BLOCK..5 * BLOCK).collect());
}

#[test]
fn repeated_and_overlapping() {
    let mut guest = Guest::new();
    let region = wire::range(4 * BLOCK, 3 * BLOCK);
    for (start, count) in [(4, 1), (4, 1), (4, 2), (5, 1), (5, 2), (4, 3), (4, 3)] {
        let bytes = wire::hot_add_region(wire::range(start * BLOCK, count * BLOCK), region);
        assert_eq!(guest.take(&bytes), good(count * BLOCK));
    }
    // No frame was given twice, or the kernel would have said so.
    assert_eq!(guest.frames(), (4 * BLOCK..7 * BLOCK).collect());
    assert_eq!(guest.kernel.ledger.added(), 3 * BLOCK);
}

#[test]
fn counts() {
    for (count, answer) in [
        (
            0,
            Err(MessageError::Range(RangeError::Empty { start: 4 * BLOCK })),
        ),
        (1, good(1)),
        (511, good(511)),
        (513, good(513)),
    ] {
        let mut guest = Guest::new();
        assert_eq!(
            guest.take(&wire::hot_add(wire::range(4 * BLOCK, count))),
            answer
        );
        let taken = answer.map_or(0, |answer| u64::from(answer.pages));
        assert_eq!(guest.frames().len() as u64, taken);
    }
    // The wire has 24 bits: of 2^32 - 1 they are all that is left.
    let mut guest = Guest::new();
    guest.kernel.auto_online = false;
    let bytes = wire::hot_add(wire::range(4 * BLOCK, u64::from(u32::MAX)));
    assert_eq!(guest.take(&bytes), good((1 << 24) - 1));
}

#[test]
fn what_exists() {
    let mut guest = Guest::new();
    guest.kernel.present.insert(4);
    let never = Ok(Answer {
        pages: 0,
        result: 1,
    });
    assert_eq!(
        guest.take(&wire::hot_add(wire::range(4 * BLOCK, BLOCK))),
        never
    );
    assert_eq!(
        guest.take(&wire::hot_add(wire::range(8 * BLOCK, BLOCK))),
        never
    );
    assert!(guest.frames().is_empty());
}

#[test]
fn a_request_during_another() {
    let mut guest = Guest::new();
    let first = wire::hot_add(wire::range(4 * BLOCK, BLOCK));
    let second = wire::hot_add(wire::range(5 * BLOCK, BLOCK));
    let first = Inbound::parse(&first).unwrap();
    let Action::HotAdd(request) = guest.session.on_message(&first) else {
        panic!("not let through");
    };
    for _ in 0..1000 {
        assert_eq!(
            guest.session.on_message(&Inbound::parse(&second).unwrap()),
            Action::Wait
        );
    }
    assert_eq!(guest.kernel.serve(&request).pages, BLOCK as u32);
    // It is served then, without being asked for again.
    let next = guest.session.hot_add_done().expect("the one that waited");
    assert_eq!(guest.kernel.serve(&next).pages, BLOCK as u32);
    assert_eq!(guest.session.hot_add_done(), None);
    assert_eq!(
        guest.take(&wire::hot_add(wire::range(6 * BLOCK, BLOCK))),
        good(BLOCK)
    );
}

#[test]
fn a_thousand_regions() {
    let mut guest = Guest::new();
    let mut good = 0;
    for i in 0..1000 {
        let start = (2 * i + 4) * BLOCK;
        let bytes = wire::hot_add_region(wire::range(start, 1), wire::range(start, BLOCK));
        let answer = guest.take(&bytes).unwrap();
        good += answer.pages;
        assert!(answer.result == 1 || answer.pages == 0);
    }
    assert_eq!((good, guest.kernel.present.len()), (32, 32));
    // They touch: one region, however many messages.
    let mut guest = Guest::new();
    for i in 0..1000 {
        let start = (i + 4) * BLOCK;
        let bytes = wire::hot_add_region(wire::range(start, 1), wire::range(start, BLOCK));
        assert_eq!(guest.take(&bytes).unwrap().pages, 1);
    }
}
