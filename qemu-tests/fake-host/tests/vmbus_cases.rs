// SPDX-License-Identifier: GPL-2.0

//! One test for each known bug of the control path, with its right outcome.

use fake_host::{
    guest::{Guest, GuestError},
    host::{FakeHost, Reaction},
    messages::{self, OfferSpec},
    slot::{Access, FakeSlot},
};
use vmbus_protocol::{
    channel::{ChannelLife, State},
    class,
    gpadl::{GpadlLife, MemoryFate},
    link::{Link, LinkEvent},
    message::{Inbound, MessageError},
    synic::{iter_set, read_slot, release_slot, EndOfMessage, SlotContent, HVMSG_CHANNEL},
    version::{Negotiation, NegotiationError, Step, Version},
    GpadlHandle, Relid,
};

const V4: u32 = 4 << 16;
const V5_3: u32 = (5 << 16) | 3;

fn connected(offers: Vec<OfferSpec>) -> Guest {
    let mut host = FakeHost::new(V5_3);
    host.offers = offers;
    let mut guest = Guest::new(host, None);
    assert_eq!(guest.connect(), Ok(Version::V5_3));
    guest
}

fn one_channel() -> Guest {
    connected(vec![OfferSpec::new(class::BALLOON, 5)])
}

#[test]
fn message_rewritten_while_it_is_read() {
    let slot = FakeSlot::new();
    let offer = OfferSpec::new(class::NIC, 1).bytes();
    slot.deliver(&offer);
    slot.script_sizes(&[16, 240]);
    slot.replace_after_copy(&messages::rescind(1));
    let SlotContent::Message(message) = read_slot(&slot) else {
        panic!("no message");
    };
    // Only the first read counts, and the copy is bounded by it.
    assert_eq!(message.payload(), &offer[..16]);
    assert_eq!(
        slot.log(),
        [Access::Type, Access::Size, Access::Payload(16)]
    );
    assert_eq!(
        Inbound::parse(message.payload()),
        Err(MessageError::TooShort {
            msgtype: 1,
            got: 16,
            want: 196
        })
    );
}

#[test]
fn oversized_payload_is_refused_and_the_slot_freed() {
    for size in [241, 255] {
        let slot = FakeSlot::new();
        slot.deliver(&messages::all_offers());
        slot.script_sizes(&[size]);
        let SlotContent::Oversized {
            message_type,
            payload_size,
        } = read_slot(&slot)
        else {
            panic!("accepted {size} bytes");
        };
        assert_eq!(payload_size, size);
        assert_eq!(release_slot(&slot, message_type), EndOfMessage::NotNeeded);
        assert!(matches!(read_slot(&slot), SlotContent::Empty));
    }
}

#[test]
fn short_messages_are_dropped_and_long_ones_accepted() {
    for (kind, min) in messages::HOST_MESSAGES {
        for len in 4..min {
            assert_eq!(
                Inbound::parse(&messages::blank(kind, len)),
                Err(MessageError::TooShort {
                    msgtype: kind,
                    got: len,
                    want: min
                }),
            );
        }
        let exact = Inbound::parse(&messages::blank(kind, min)).unwrap();
        let longer = Inbound::parse(&messages::blank(kind, min + 8)).unwrap();
        assert_eq!(exact, longer);
    }
    for kind in [
        0,
        3,
        5,
        7,
        8,
        9,
        11,
        13,
        14,
        16,
        18,
        19,
        20,
        21,
        22,
        25,
        u32::MAX,
    ] {
        assert_eq!(
            Inbound::parse(&messages::blank(kind, 240)),
            Err(MessageError::Unknown { msgtype: kind })
        );
    }
    for len in 0..4 {
        assert_eq!(
            Inbound::parse(&[1; 3][..len.min(3)]),
            Err(MessageError::NoHeader { got: len.min(3) })
        );
    }
}

#[test]
fn the_next_message_still_arrives() {
    let mut guest = one_channel();
    guest.slot.deliver(&messages::blank(15, 8));
    guest.slot.deliver(&messages::blank(1, 100));
    guest.slot.deliver(&messages::blank(77, 8));
    guest.slot.deliver(&OfferSpec::new(class::NIC, 6).bytes());
    guest.handle_slot();
    assert_eq!(guest.slot.queued(), 0);
    assert_eq!(guest.counters.bad_messages, 3);
    assert!(guest.channels.contains_key(&Relid(6)));
}

#[test]
fn nothing_unwritten_reaches_the_host() {
    let mut guest = one_channel();
    guest.open(Relid(5), 100).unwrap();
    guest.close(Relid(5)).unwrap();
    assert_eq!(guest.host.violations, Vec::<String>::new());
    let open = guest.host.posted.iter().find(|m| m[0] == 5).unwrap();
    assert!(open[28..].iter().all(|byte| *byte == 0));
    for message in &guest.host.posted {
        assert!(!message.windows(4).any(|w| w == [0xa5; 4]), "{message:x?}");
    }
}

#[test]
fn rescind_after_unbind_removes_once() {
    let mut guest = one_channel();
    guest.open(Relid(5), 4).unwrap();
    guest.close(Relid(5)).unwrap();
    guest.host.rescind(5);
    guest.pump();
    assert_eq!(guest.counters.removed, 1);
    assert!(guest.channels.is_empty());
    assert_eq!(guest.host.released, [5]);
    assert_eq!(guest.host.violations, Vec::<String>::new());
}

#[test]
fn second_rescind_is_ignored() {
    let mut guest = one_channel();
    guest.open(Relid(5), 4).unwrap();
    guest.host.rescind(5);
    guest.host.send(messages::rescind(5));
    guest.host.send(messages::rescind(6));
    guest.pump();
    assert_eq!(guest.counters.removed, 1);
    assert_eq!(guest.counters.ignored_rescinds, 2);
    assert_eq!(guest.host.released, [5]);
    assert_eq!((guest.counters.freed, guest.counters.leaked), (1, 0));
}

/// Every order of two rescinds with the steps of open, close and removal.
#[test]
fn every_interleaving_releases_exactly_once() {
    // Bit i of `order` picks whose step comes next: the driver's or a rescind.
    let driver: [fn(&mut ChannelLife); 6] = [
        |life| assert!(life.open_begin().is_ok() || life.is_rescinded()),
        |life| {
            let posted = life.open_posting(GpadlHandle(1), 1).is_ok();
            if !posted || life.open_end(0).is_err() {
                assert!(life.is_rescinded());
                let _ = life.open_abort();
            }
        },
        |life| assert!(life.close_begin().is_ok() || life.is_rescinded()),
        |life| assert!(life.close_end().is_ok() || life.is_rescinded()),
        |life| life.removed(),
        |_| {},
    ];
    for order in 0u32..1 << 8 {
        if order.count_ones() != 2 {
            continue;
        }
        let mut life = ChannelLife::new();
        let mut steps = driver.iter();
        let mut released = 0;
        for i in 0..8 {
            if order & (1 << i) != 0 {
                life.rescind();
            } else {
                steps.next().unwrap()(&mut life);
            }
            if life.take_release() {
                assert!(life.is_rescinded());
                assert!(!matches!(life.state(), State::Open | State::Opening));
                released += 1;
            }
        }
        assert_eq!(released, 1, "order {order:#010b}");
    }
}

#[test]
fn failed_open_leaves_nothing_behind() {
    // 100 pages: header, 3 bodies, open.
    for n in 1..=5 {
        let mut guest = one_channel();
        guest.fail_post = Some(n);
        assert_eq!(guest.open(Relid(5), 100), Err(GuestError::Post), "post {n}");
        assert!(guest.pending.is_empty());
        let posted_gpadl = (2..=4).contains(&n);
        assert_eq!(guest.counters.leaked, u32::from(posted_gpadl), "post {n}");
        assert_eq!(guest.counters.freed, u32::from(!posted_gpadl), "post {n}");

        // A late result of the failed open changes nothing.
        let handle = vmbus_protocol::gpadl::FIRST_HANDLE;
        guest.host.send(messages::open_result(5, handle, 0));
        guest.pump();
        assert_eq!(guest.pending.stray(), 1);
        assert_eq!(guest.channels[&Relid(5)].life.state(), State::Closed);
        assert_eq!(guest.open(Relid(5), 4), Ok(()));
        assert_eq!(guest.host.violations, Vec::<String>::new());
    }
}

#[test]
fn rescind_while_a_request_waits() {
    for (kind, freed) in [(8, 1), (5, 1)] {
        let mut guest = one_channel();
        guest.host.react(kind, Reaction::Rescind);
        assert_eq!(guest.open(Relid(5), 30), Err(GuestError::Rescinded));
        assert!(guest.pending.is_empty());
        assert_eq!(guest.counters.freed, freed);
        assert_eq!(guest.counters.removed, 1);
        assert_eq!(guest.host.released, [5]);
        assert!(guest.channels.is_empty());
    }
    // During the teardown of a close.
    let mut guest = one_channel();
    guest.open(Relid(5), 4).unwrap();
    guest.host.react(11, Reaction::Rescind);
    guest.close(Relid(5)).unwrap();
    assert_eq!(guest.host.released, [5]);
    assert_eq!(guest.counters.removed, 1);
}

#[test]
fn replies_are_matched_by_everything_they_carry() {
    let mut guest = one_channel();
    for kind in [8, 5] {
        guest.host.react(kind, Reaction::WrongIdFirst);
    }
    guest.open(Relid(5), 4).unwrap();
    assert_eq!(guest.pending.stray(), 2);
    guest.host.react(11, Reaction::Twice);
    guest.close(Relid(5)).unwrap();
    guest.pump();
    assert_eq!(guest.pending.stray(), 3);
    assert_eq!(guest.counters.freed, 1);

    guest.host.react(5, Reaction::Status(0xc000_0001));
    assert_eq!(
        guest.open(Relid(5), 4),
        Err(GuestError::Status(0xc000_0001))
    );
    guest.host.react(8, Reaction::Status(1));
    assert_eq!(guest.open(Relid(5), 4), Err(GuestError::Status(1)));
    assert_eq!(guest.open(Relid(5), 4), Ok(()));
    assert_eq!(guest.host.violations, Vec::<String>::new());
}

#[test]
fn unanswered_requests_end_and_leak_only_what_the_host_has() {
    for (kind, leaked) in [(8, 1), (5, 0)] {
        let mut guest = one_channel();
        guest.host.react(kind, Reaction::Silent);
        assert_eq!(guest.open(Relid(5), 4), Err(GuestError::Timeout));
        assert!(guest.pending.is_empty());
        assert_eq!(guest.counters.leaked, leaked);
    }
    let mut guest = one_channel();
    guest.open(Relid(5), 4).unwrap();
    guest.host.react(11, Reaction::Silent);
    guest.close(Relid(5)).unwrap();
    assert_eq!(guest.counters.leaked, 1);
}

#[test]
fn event_flags_without_channels() {
    let guest = Guest::new(FakeHost::new(V4), None);
    let mut words = [0u64; 32];
    for relid in [1usize, 5, 2047] {
        words[relid / 64] |= 1 << (relid % 64);
    }
    let mut seen = Vec::new();
    for (index, word) in (0u32..).zip(words) {
        for bit in iter_set(word) {
            let relid = index * 64 + bit;
            seen.push(relid);
            assert!(!guest.channels.contains_key(&Relid(relid)));
        }
    }
    assert_eq!(seen, [1, 5, 2047]);
}

#[test]
fn memory_with_doubtful_encryption_is_leaked() {
    // Decrypting failed and encrypting again does too.
    let mut life = GpadlLife::new();
    life.decrypting();
    assert_eq!(life.memory(), MemoryFate::Keep);
    life.encrypted(false);
    assert_eq!(life.memory(), MemoryFate::Leak);
    life.encrypted(true);
    assert_eq!(life.memory(), MemoryFate::Leak, "a doubt is final");

    // Teardown succeeded: free only after encrypting succeeded.
    let mut life = GpadlLife::new();
    life.decrypting();
    life.posting().unwrap();
    life.created(0).unwrap();
    life.tearing_down().unwrap();
    assert_eq!(life.memory(), MemoryFate::Keep);
    life.torndown().unwrap();
    assert_eq!(life.memory(), MemoryFate::Keep);
    life.encrypted(true);
    assert_eq!(life.memory(), MemoryFate::Free);

    // The host did not confirm: encrypting does not help.
    let mut life = GpadlLife::new();
    life.decrypting();
    life.posting().unwrap();
    life.created(0).unwrap();
    life.gave_up();
    life.encrypted(true);
    assert_eq!(life.memory(), MemoryFate::Leak);
}

#[test]
fn unload_response_counts_once() {
    let message = Inbound::parse(&messages::unload_response()).unwrap();
    assert_eq!(message, Inbound::UnloadResponse);
    let unloading = Link::Up.after(LinkEvent::Unload).unwrap();
    let down = unloading.after(LinkEvent::Unloaded).unwrap();
    assert_eq!(down, Link::Down);
    assert_eq!(down.after(LinkEvent::Unloaded), None);
}

#[test]
fn a_channel_is_usable_only_between_open_and_close() {
    let mut life = ChannelLife::new();
    assert!(!life.is_usable());
    assert!(life.open_end(0).is_err());
    life.open_begin().unwrap();
    life.open_posting(GpadlHandle(1), 1).unwrap();
    assert!(!life.is_usable());
    life.open_end(0).unwrap();
    assert!(life.is_usable());
    life.close_begin().unwrap();
    assert!(!life.is_usable());
    life.close_end().unwrap();
    assert!(!life.is_usable());
}

#[test]
fn acceptance_of_what_was_not_offered() {
    let accept = |bytes: &[u8]| match Inbound::parse(bytes).unwrap() {
        Inbound::VersionResponse(response) => response,
        other => panic!("{other:?}"),
    };
    let yes = accept(&messages::version_response(true, 9));
    let no = accept(&messages::version_response(false, 0));

    let mut negotiation = Negotiation::new(Some(V4)).unwrap();
    assert_eq!(negotiation.on_response(&yes), Step::Unexpected);
    assert!(negotiation.current().is_some());
    negotiation.posted();
    assert!(matches!(
        negotiation.on_response(&yes),
        Step::Accepted {
            version: Version::V4_0,
            msg_conn_id: 1,
            ..
        }
    ));
    // Neither a second acceptance nor a late refusal changes anything.
    assert_eq!(negotiation.on_response(&yes), Step::Unexpected);
    assert_eq!(negotiation.on_response(&no), Step::Unexpected);
    assert_eq!(negotiation.unexpected(), 3);

    // A timeout is final.
    let mut negotiation = Negotiation::new(None).unwrap();
    negotiation.posted();
    assert_eq!(negotiation.on_timeout(), Step::Refused);
    assert_eq!(negotiation.on_response(&yes), Step::Unexpected);
    assert_eq!(
        Negotiation::new(Some(V4 - 1)).unwrap_err(),
        NegotiationError::NothingToOffer
    );
}

#[test]
fn offers_and_markers_out_of_turn() {
    let mut host = FakeHost::new(V5_3);
    host.send(OfferSpec::new(class::NIC, 1).bytes());
    host.send(messages::all_offers());
    host.offers = vec![OfferSpec::new(class::BALLOON, 5)];
    let mut guest = Guest::new(host, None);
    guest.pump();
    assert_eq!(guest.counters.refused_offers, 1);
    assert!(guest.channels.is_empty());
    assert_eq!(guest.connect(), Ok(Version::V5_3));
    guest.host.send(messages::all_offers());
    guest.host.send(messages::version_response(true, 0x99));
    guest.host.send(messages::version_response(false, 0));
    guest.pump();
    assert_eq!(guest.counters.all_offers, 3);
    assert_eq!(guest.counters.stray_versions, 2);
    assert_eq!(guest.version, Some(Version::V5_3));
    assert_eq!(guest.connection_id, 0x4242);
    assert_eq!(guest.channels.len(), 1);
}

#[test]
fn monitor_id_out_of_range_falls_back_to_the_hypercall() {
    let mut bad = OfferSpec::new(class::BALLOON, 5);
    bad.monitor_id = Some(255);
    let mut edge = OfferSpec::new(class::KVP, 6);
    edge.monitor_id = Some(128);
    let mut good = OfferSpec::new(class::NIC, 7);
    good.monitor_id = Some(127);
    let guest = connected(vec![bad, edge, good]);
    let properties = |relid| &guest.channels[&relid].properties;
    assert_eq!(properties(Relid(5)).monitor, None);
    assert_eq!(properties(Relid(5)).bad_monitor_id, Some(255));
    assert_eq!(properties(Relid(6)).monitor, None);
    let bit = properties(Relid(7)).monitor.unwrap();
    assert_eq!((bit.group(), bit.bit()), (3, 31));
    assert_eq!(bit.pending_offset(), 0x20);
    assert_eq!(bit.latency_offset(), 0x240 + 254);
    assert_eq!(bit.parameter_offset(), 0x440 + 127 * 8);
}

#[test]
fn offers_that_would_corrupt_the_channel_table() {
    let mut guest = one_channel();
    let mut same_instance = OfferSpec::new(class::BALLOON, 9);
    same_instance.instance = OfferSpec::new(class::BALLOON, 5).instance;
    let mut orphan = OfferSpec::new(class::NIC, 10);
    orphan.sub_channel_index = 1;
    for offer in [
        OfferSpec::new(class::NIC, 0),
        OfferSpec::new(class::NIC, 2048),
        OfferSpec::new(class::NIC, u32::MAX),
        OfferSpec::new(class::NIC, 5),
        same_instance,
        orphan,
    ] {
        guest.host.send(offer.bytes());
    }
    guest.pump();
    assert_eq!(guest.counters.refused_offers, 6);
    assert_eq!(guest.channels.len(), 1);
    // Limits themselves are fine.
    guest.host.send(OfferSpec::new(class::NIC, 2047).bytes());
    guest.pump();
    assert!(guest.channels.contains_key(&Relid(2047)));
}

#[test]
fn the_relid_of_a_refused_offer_is_handed_back() {
    let mut guest = one_channel();
    let mut orphan = OfferSpec::new(class::NIC, 10);
    orphan.sub_channel_index = 1;
    guest.host.send(orphan.bytes());
    // Taken until the host rescinds it, though nothing uses it.
    guest.host.send(OfferSpec::new(class::KVP, 10).bytes());
    guest.pump();
    assert_eq!(guest.counters.refused_offers, 2);
    guest.host.rescind(10);
    guest.pump();
    assert_eq!(guest.host.released, [10]);
    assert_eq!(guest.counters.ignored_rescinds, 0);
    guest.host.send(OfferSpec::new(class::KVP, 10).bytes());
    guest.pump();
    assert!(guest.channels.contains_key(&Relid(10)));
    assert!(guest.host.violations.is_empty());
}

#[test]
fn a_class_without_a_driver_is_a_device() {
    let guest = connected(vec![
        OfferSpec::new(class::IMC, 11),
        OfferSpec::new(class::AVMA1, 12),
    ]);
    assert!(guest.channels.contains_key(&Relid(11)) && guest.channels.contains_key(&Relid(12)));
    assert_eq!(guest.channels[&Relid(11)].properties.class, None);
}

#[test]
fn a_relid_can_be_offered_again_after_its_release() {
    let mut guest = one_channel();
    guest.host.rescind(5);
    guest.host.send(OfferSpec::new(class::BALLOON, 5).bytes());
    guest.pump();
    assert!(guest.channels.contains_key(&Relid(5)));
    assert!(!guest.channels[&Relid(5)].life.is_rescinded());
    assert_eq!(guest.open(Relid(5), 4), Ok(()));
}

#[test]
fn message_that_moved_in_before_the_clear_is_not_lost() {
    let slot = FakeSlot::new();
    slot.deliver(&messages::all_offers());
    slot.race_before_clear(HVMSG_CHANNEL + 1, 8);
    assert_eq!(release_slot(&slot, HVMSG_CHANNEL), EndOfMessage::Lost);
    assert!(matches!(read_slot(&slot), SlotContent::Message(_)));
}

#[test]
fn pending_flag_is_read_after_the_clear() {
    let slot = FakeSlot::new();
    slot.deliver(&messages::all_offers());
    slot.deliver(&messages::rescind(1));
    assert_eq!(release_slot(&slot, HVMSG_CHANNEL), EndOfMessage::Write);
    assert_eq!(
        slot.log(),
        [Access::Clear(true), Access::Barrier, Access::Flags]
    );
}
