// SPDX-License-Identifier: GPL-2.0

//! State machines and tables against simple models.
#![allow(clippy::cast_possible_truncation)] // Small constants.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use vmbus_protocol::{
    channel::{ChannelLife, RescindAction},
    class,
    gpadl::{GpadlLife, GpadlState, MemoryFate},
    message::{GpadlCreated, Inbound, Offer, OfferFlags, OpenResult},
    offers::{admit, Admission, Limits, LiveChannel, OfferError},
    pending::{Answer, Pending, Place, RegisterError},
    reply::{Reply, ReplyKey},
    requests::{RequestTable, Slot},
    synic::{iter_set, MonitorBit},
    GpadlHandle, Guid, Relid, VpIndex,
};

fn offer(class: Guid, instance: u8, relid: u32, index: u16) -> Offer {
    let relid = Relid(relid);
    Offer {
        class,
        instance: Guid([instance; 16]),
        flags: OfferFlags::empty(),
        mmio_megabytes: 0,
        user_defined: [0; 120],
        sub_channel_index: index,
        relid,
        monitor_id: None,
        dedicated_interrupt: true,
        connection_id: 0,
    }
}

fn live(offer: &Offer) -> LiveChannel {
    LiveChannel {
        relid: offer.relid,
        class: offer.class,
        instance: offer.instance,
        sub_channel_index: offer.sub_channel_index,
        rescinded: false,
    }
}

#[test]
fn sub_channels_need_their_primary() {
    let primary = live(&offer(class::NIC, 1, 1, 0));
    let sub = offer(class::NIC, 1, 2, 1);
    let limits = Limits::default();
    let admit_with =
        |offer: &Offer, channels: &[LiveChannel]| admit(offer, channels.iter().copied(), &limits);
    assert!(matches!(
        admit_with(&sub, &[primary]),
        Admission::SubChannel {
            primary_relid: Relid(1),
            ..
        }
    ));
    assert_eq!(
        admit_with(&sub, &[primary, live(&sub)]),
        Admission::Refuse(OfferError::DuplicateRelid { relid: Relid(2) })
    );
    let twin = offer(class::NIC, 1, 3, 1);
    assert_eq!(
        admit_with(&twin, &[primary, live(&sub)]),
        Admission::Refuse(OfferError::DuplicateSubChannel { index: 1 })
    );
    // Another class with the same instance is not its primary.
    let other = offer(class::SCSI, 1, 3, 1);
    assert_eq!(
        admit_with(&other, &[primary]),
        Admission::Refuse(OfferError::NoPrimary { index: 1 })
    );
    // A rescinded primary is gone for new sub-channels, and does not stand in
    // the way of a new one with its instance.
    let gone = LiveChannel {
        rescinded: true,
        ..primary
    };
    assert_eq!(
        admit_with(&sub, &[gone]),
        Admission::Refuse(OfferError::NoPrimary { index: 1 })
    );
    assert!(matches!(
        admit_with(&offer(class::NIC, 1, 9, 0), &[gone]),
        Admission::Primary(_)
    ));
}

#[test]
fn isolated_guests_are_choosy() {
    let isolated = Limits {
        isolated: true,
        ..Limits::default()
    };
    for info in &class::CLASSES {
        let admitted = matches!(
            admit(&offer(info.guid, 1, 1, 0), [], &isolated),
            Admission::Primary(_)
        );
        assert_eq!(admitted, info.allowed_in_isolated, "{}", info.name);
    }
    let mut socket = offer(Guid([9; 16]), 1, 1, 0);
    assert!(matches!(
        admit(&socket, [], &isolated),
        Admission::Refuse(OfferError::NotAllowedInIsolation)
    ));
    socket.flags = OfferFlags::TLNPI_PROVIDER_OFFER;
    assert!(matches!(
        admit(&socket, [], &isolated),
        Admission::Primary(p) if p.hvsock && p.class.is_none()
    ));
}

#[test]
fn confidential_flags_have_to_be_negotiated() {
    let mut nic = offer(class::NIC, 1, 1, 0);
    let plain = Limits::default();
    let confidential = Limits {
        confidential: true,
        ..plain
    };
    nic.flags = OfferFlags::CONFIDENTIAL_EXTERNAL_MEMORY;
    assert_eq!(
        admit(&nic, [], &confidential),
        Admission::Refuse(OfferError::ConfidentialMemoryWithoutRing)
    );
    nic.flags |= OfferFlags::CONFIDENTIAL_RING_BUFFER;
    assert_eq!(
        admit(&nic, [], &plain),
        Admission::Refuse(OfferError::ConfidentialNotNegotiated)
    );
    assert!(matches!(
        admit(&nic, [], &confidential),
        Admission::Primary(p) if p.confidential_ring && p.confidential_external_memory
    ));
}

#[test]
fn pending_requests_are_told_apart() {
    let mut pending: Pending<&str, _> =
        Pending::new((0..3).map(|_| Place::new()).collect::<Vec<_>>());
    let key = ReplyKey::Open {
        relid: Relid(1),
        open_id: 1,
    };
    let token = pending.register(key, "open").unwrap();
    assert_eq!(pending.register(key, "x"), Err(RegisterError::Duplicate));
    let other = ReplyKey::GpadlCreated {
        relid: Relid(1),
        gpadl: GpadlHandle(1),
    };
    pending.register(other, "gpadl").unwrap();
    pending.register(ReplyKey::Version, "version").unwrap();
    assert_eq!(
        pending.register(
            ReplyKey::Modify {
                relid: Relid(9),
                vp: VpIndex(0)
            },
            "x"
        ),
        Err(RegisterError::Full)
    );
    let result = |relid, open_id| {
        Inbound::OpenResult(OpenResult {
            relid: Relid(relid),
            open_id,
            status: 3,
        })
    };
    assert_eq!(pending.resolve(&result(1, 2)), Some(Answer::Stray));
    assert_eq!(pending.resolve(&result(2, 1)), Some(Answer::Stray));
    assert_eq!(pending.resolve(&Inbound::AllOffersDelivered), None);
    assert_eq!(pending.stray(), 2);
    assert_eq!(
        pending.resolve(&result(1, 1)),
        Some(Answer::Awaited("open", Reply::Status(3)))
    );
    // The token of a resolved request is dead, even when its place is reused.
    pending
        .register(
            ReplyKey::Modify {
                relid: Relid(1),
                vp: VpIndex(0),
            },
            "modify",
        )
        .unwrap();
    assert_eq!(pending.posted(token, 0), None);
    let mut woken = [
        pending.rescind(Relid(1)),
        pending.rescind(Relid(1)),
        pending.rescind(Relid(1)),
    ];
    woken.sort_unstable();
    assert_eq!(woken, [None, Some("gpadl"), Some("modify")]);
    let created = Inbound::GpadlCreated(GpadlCreated {
        relid: Relid(1),
        gpadl: GpadlHandle(1),
        status: 0,
    });
    assert_eq!(pending.resolve(&created), Some(Answer::Stray));
    assert_eq!(pending.len(), 1);
}

#[test]
fn request_table_fills_up_and_empties() {
    let mut storage = [const { Slot::new() }; 3];
    let mut table = RequestTable::new(&mut storage[..]);
    let ids: Vec<u64> = (0..3).map(|i| table.alloc(i).unwrap()).collect();
    assert_eq!(table.alloc(9), Err(9));
    assert_eq!(table.get(ids[1]), Ok(&1));
    *table.get_mut(ids[1]).unwrap() = 7;
    assert_eq!(table.complete(ids[1]), Ok(7));
    let mut rest = [table.take_any(), table.take_any(), table.take_any()];
    rest.sort_unstable();
    assert_eq!(rest, [None, Some(0), Some(2)]);
    assert_eq!((table.pending(), table.capacity()), (0, 3));
}

#[test]
fn monitor_bits() {
    for id in 0..=255 {
        assert_eq!(MonitorBit::new(id).is_some(), id < 128);
    }
    let bit = MonitorBit::new(33).unwrap();
    assert_eq!(
        (bit.id(), bit.group(), bit.bit(), bit.mask()),
        (33, 1, 1, 2)
    );
    assert_eq!(bit.pending_offset(), 0x10);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    OpenBegin,
    OpenPosting,
    OpenEnd(u32),
    OpenLate(u32),
    LetGo,
    ClosedLate,
    CloseNotPosted,
    OpenAbort,
    CloseBegin,
    CloseEnd,
    Rescind,
    Removed,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::OpenBegin),
        Just(Step::OpenPosting),
        (0u32..2).prop_map(Step::OpenLate),
        Just(Step::LetGo),
        Just(Step::ClosedLate),
        Just(Step::CloseNotPosted),
        (0u32..2).prop_map(Step::OpenEnd),
        Just(Step::OpenAbort),
        Just(Step::CloseBegin),
        Just(Step::CloseEnd),
        Just(Step::Rescind),
        Just(Step::Removed),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn channel_is_released_at_most_once(steps in steps()) {
        let mut life = ChannelLife::new();
        let (mut released, mut rescinds, mut removed) = (0, 0, false);
        for step in steps {
            match step {
                Step::OpenBegin => {
                    let refused = life.open_begin().is_err();
                    prop_assert!(refused || !(life.is_rescinded() || removed));
                }
                Step::OpenPosting => drop(life.open_posting(GpadlHandle(1), 1).is_ok()),
                Step::OpenLate(status) => drop(life.open_late(1, status)),
                Step::LetGo => life.let_go(GpadlHandle(1)),
                Step::ClosedLate => {
                    let owed = life.must_close();
                    prop_assert_eq!(life.close_late_begin(), owed);
                    life.close_late_end(true);
                }
                Step::CloseNotPosted => life.close_not_posted(),
                Step::OpenEnd(status) => drop(life.open_end(status).is_ok()),
                Step::OpenAbort => drop(life.open_abort().is_ok()),
                Step::CloseBegin => drop(life.close_begin().is_ok()),
                Step::CloseEnd => drop(life.close_end().is_ok()),
                Step::Rescind => {
                    rescinds += i32::from(life.rescind() != RescindAction::Ignore);
                }
                Step::Removed => {
                    life.removed();
                    removed = true;
                }
            }
            prop_assert!(!(life.is_usable() && life.is_rescinded()));
            prop_assert!(!(life.must_close() && life.is_rescinded()));
            prop_assert!(!life.must_close() || life.open_begin().is_err());
            if life.take_release() {
                released += 1;
                prop_assert!(removed && life.is_rescinded());
            }
        }
        prop_assert!(released <= 1 && rescinds <= 1);
        // Finishing what is under way always lets a doomed channel go.
        let _ = life.open_abort();
        let _ = life.close_begin();
        let _ = life.close_end();
        life.rescind();
        life.removed();
        released += i32::from(life.take_release());
        prop_assert_eq!(released, 1);
        prop_assert!(life.is_released());
    }

    #[test]
    fn memory_is_free_only_when_the_host_let_go(events in proptest::collection::vec(0u8..11, 0..30)) {
        let mut life = GpadlLife::new();
        // The model: may the host still write, is the memory private?
        let (mut shared, mut private, mut doubt) = (false, true, false);
        for event in events {
            let before = life.state();
            match event {
                0 => { life.decrypting(); private = false; }
                1 => { life.encrypted(true); private = true; }
                2 => { life.encrypted(false); doubt = true; }
                3 => if life.posting().is_ok() { shared = true; },
                4 => if life.post_failed(false).is_ok() { shared = false; },
                5 => drop(life.post_failed(true).is_ok()),
                6 => if life.created(0x1).is_ok() { shared = false; },
                7 => drop(life.created(0).is_ok()),
                8 => { let _ = life.tearing_down(); if life.torndown().is_ok() { shared = false; } }
                9 => life.gave_up(),
                // The host's own word, so what it was asked for, or left with, is free.
                _ => {
                    let asked = matches!(before, GpadlState::TearingDown | GpadlState::Leaked);
                    prop_assert_eq!(life.let_go(), before == GpadlState::Leaked);
                    if asked { shared = false; }
                }
            }
            if before == GpadlState::Leaked && event != 10 {
                prop_assert_eq!(life.state(), GpadlState::Leaked);
            }
            if life.memory() == MemoryFate::Free {
                prop_assert!(!shared && private && !doubt);
            }
        }
    }

    #[test]
    fn request_table_is_a_map(ops in proptest::collection::vec(any::<(bool, u16)>(), 0..200)) {
        let mut table = RequestTable::new((0..8).map(|_| Slot::new()).collect::<Vec<_>>());
        let mut model: BTreeMap<u64, u16> = BTreeMap::new();
        let mut used: BTreeSet<u64> = BTreeSet::new();
        for (alloc, value) in ops {
            if alloc {
                match table.alloc(value) {
                    Ok(id) => {
                        prop_assert!(id != 0 && used.insert(id), "id {} twice", id);
                        model.insert(id, value);
                    }
                    Err(_) => prop_assert_eq!(model.len(), 8),
                }
            } else {
                // Any id ever issued, and some that never were.
                let pick = used.iter().nth(usize::from(value) % (used.len() + 1));
                let id = pick.copied().unwrap_or(u64::from(value));
                prop_assert_eq!(table.complete(id).ok(), model.remove(&id));
            }
            prop_assert_eq!(table.pending(), model.len());
        }
    }

    #[test]
    fn admission_keeps_the_table_consistent(
        offers in proptest::collection::vec((0u32..6, 0u8..3, 0u16..3, 0usize..2), 0..40)
    ) {
        let classes = [class::NIC, class::SCSI];
        let limits = Limits { max_relid: 4, ..Limits::default() };
        let mut table: Vec<LiveChannel> = Vec::new();
        for (relid, instance, index, kind) in offers {
            let offer = offer(classes[kind], instance, relid, index);
            match admit(&offer, table.iter().copied(), &limits) {
                Admission::Primary(_) => table.push(live(&offer)),
                Admission::SubChannel { primary_relid, .. } => {
                    prop_assert!(table.iter().any(|c| c.relid == primary_relid && c.sub_channel_index == 0));
                    table.push(live(&offer));
                }
                Admission::Refuse(_) => {}
            }
            let relids: BTreeSet<u32> = table.iter().map(|c| c.relid.raw()).collect();
            prop_assert_eq!(relids.len(), table.len());
            prop_assert!(relids.iter().all(|r| (1..=4).contains(r)));
            let places: BTreeSet<_> = table.iter().map(|c| (c.instance, c.class, c.sub_channel_index)).collect();
            prop_assert_eq!(places.len(), table.len());
        }
    }

    #[test]
    fn set_bits(word in any::<u64>()) {
        let bits: Vec<u32> = iter_set(word).collect();
        prop_assert_eq!(bits.len() as u32, word.count_ones());
        prop_assert_eq!(bits.iter().fold(0u64, |w, b| w | (1 << b)), word);
        prop_assert!(bits.windows(2).all(|w| w[0] < w[1]));
    }
}
