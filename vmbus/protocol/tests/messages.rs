// SPDX-License-Identifier: GPL-2.0

//! Messages, byte by byte, and the GPADL splitter.
#![allow(clippy::cast_possible_truncation)] // Small constants.

use proptest::prelude::*;
use vmbus_protocol::{
    class,
    gpadl::{self, GpadlError, BODY_PFNS, HEADER_PFNS, MAX_PAGES},
    message::{
        CloseChannel, ContactParams, GpadlTeardown, Inbound, InitiateContact, MessageType,
        ModifyChannel, OpenChannel, OpenParams, RelidReleased, RequestOffers, TlConnectRequest,
        Unload, MAX_MESSAGE,
    },
    packet::{GpaRange, PacketDescriptor, PacketFlags, PacketType, PageBuffer},
    synic::PostMessageInput,
    GpadlHandle, Relid, Version, VpIndex,
};
use zerocopy::{FromBytes, IntoBytes};

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks(4)
        .map(|chunk| u32::from_le_bytes(chunk.try_into().unwrap()))
        .collect()
}

const PARAMS: ContactParams = ContactParams {
    target_vp: VpIndex(3),
    interrupt_page: 0x1_2345_6000,
    vtl: 2,
    confidential: true,
    monitor_page1: 0x1000,
    monitor_page2: 0x2_0000_2000,
};

#[test]
fn initiate_contact_in_both_forms() {
    let old = InitiateContact::new(Version::V4_0, &PARAMS);
    assert_eq!(
        words(old.as_bytes()),
        [14, 0, 4 << 16, 3, 0x2345_6000, 1, 0x1000, 0, 0x2000, 2]
    );
    let new = InitiateContact::new(Version::V5_3, &PARAMS);
    assert_eq!(
        words(new.as_bytes()),
        [14, 0, (5 << 16) | 3, 3, 0x0202, 0, 0x1000, 0, 0x2000, 2]
    );
    let flags = InitiateContact::new(Version::V6_0, &PARAMS);
    assert_eq!(words(flags.as_bytes())[5], 0x10);
    let plain = ContactParams {
        confidential: false,
        ..PARAMS
    };
    let flags = InitiateContact::new(Version::V6_0, &plain);
    assert_eq!(words(flags.as_bytes())[5], 0);
}

#[test]
fn small_messages() {
    assert_eq!(words(RequestOffers::new().as_bytes()), [3, 0]);
    assert_eq!(words(Unload::new().as_bytes()), [16, 0]);
    assert_eq!(words(CloseChannel::new(Relid(9)).as_bytes()), [7, 0, 9]);
    assert_eq!(words(RelidReleased::new(Relid(9)).as_bytes()), [13, 0, 9]);
    assert_eq!(
        words(ModifyChannel::new(Relid(9), VpIndex(2)).as_bytes()),
        [22, 0, 9, 2]
    );
    assert_eq!(
        words(GpadlTeardown::new(Relid(9), GpadlHandle(0xe1e10)).as_bytes()),
        [11, 0, 9, 0xe1e10]
    );
    let connect = TlConnectRequest::new(class::NIC, class::SCSI);
    assert_eq!(words(&connect.as_bytes()[..8]), [21, 0]);
    assert_eq!(connect.as_bytes()[8..24], class::NIC.to_bytes());
    assert_eq!(connect.as_bytes()[24..], class::SCSI.to_bytes());
}

#[test]
fn open_channel_bounds_its_user_data() {
    let mut params = OpenParams {
        relid: Relid(1),
        open_id: 2,
        ring_gpadl: GpadlHandle(3),
        target_vp: VpIndex(4),
        downstream_page_offset: 5,
        user_data: &[0xff; 120],
    };
    let full = OpenChannel::new(&params).unwrap();
    assert_eq!(words(&full.as_bytes()[..28]), [5, 0, 1, 2, 3, 4, 5]);
    assert!(full.as_bytes()[28..].iter().all(|b| *b == 0xff));
    params.user_data = &[0xff; 121];
    assert!(OpenChannel::new(&params).is_none());
    params.user_data = &[0xff; 3];
    let short = OpenChannel::new(&params).unwrap();
    assert!(short.as_bytes()[31..].iter().all(|b| *b == 0));
}

#[test]
fn post_message_input_is_zero_behind_the_message() {
    let input = PostMessageInput::new(4, &[0xff; 12]).unwrap();
    assert_eq!(words(&input.as_bytes()[..16]), [4, 0, 1, 12]);
    assert!(input.as_bytes()[28..].iter().all(|b| *b == 0));
    assert!(PostMessageInput::new(4, &[0; 240]).is_some());
    assert!(PostMessageInput::new(4, &[0; 241]).is_none());
}

#[test]
fn message_types_round_trip() {
    for raw in 0..64 {
        if let Some(kind) = MessageType::from_raw(raw) {
            assert_eq!(kind.raw(), raw);
        } else {
            assert!(matches!(raw, 0 | 18..=20 | 25..));
        }
    }
}

/// Splits, and returns the messages and the page numbers in them.
fn split(pages: usize) -> (Vec<Vec<u8>>, Vec<u64>) {
    let pfns: Vec<u64> = (0..pages as u64).map(|i| (i << 20) | 7).collect();
    let mut splitter = gpadl::split(
        GpadlHandle(9),
        Relid(5),
        (pages * 4096) as u32,
        pfns.into_iter(),
    )
    .unwrap();
    let mut messages = Vec::new();
    let mut found = Vec::new();
    let mut buffer = [0xa5; MAX_MESSAGE];
    let expected = splitter.remaining();
    while let Some(message) = splitter.next_message(&mut buffer) {
        let head = if messages.is_empty() { 28 } else { 16 };
        found.extend(
            message[head..]
                .chunks(8)
                .map(|pfn| u64::from_le_bytes(pfn.try_into().unwrap())),
        );
        messages.push(message.to_vec());
    }
    assert_eq!(messages.len(), expected);
    assert_eq!(splitter.remaining(), 0);
    assert!(splitter.next_message(&mut buffer).is_none());
    (messages, found)
}

#[test]
fn gpadl_messages_at_the_edges() {
    for (pages, count) in [
        (1, 1),
        (HEADER_PFNS, 1),
        (HEADER_PFNS + 1, 2),
        (HEADER_PFNS + BODY_PFNS, 2),
        (HEADER_PFNS + BODY_PFNS + 1, 3),
        (MAX_PAGES, 1 + (MAX_PAGES - 26).div_ceil(28)),
    ] {
        let (messages, pfns) = split(pages);
        assert_eq!(messages.len(), count, "{pages}");
        assert_eq!(pfns.len(), pages);
        let head = words(&messages[0][..28]);
        assert_eq!(head[..4], [8, 0, 5, 9]);
        assert_eq!(head[4], (1 << 16) | (8 + 8 * pages as u32));
        assert_eq!(head[5..], [(pages * 4096) as u32, 0]);
        for body in &messages[1..] {
            assert_eq!(words(&body[..16]), [9, 0, 0, 9]);
            assert!(body.len() <= MAX_MESSAGE);
        }
    }
}

#[test]
fn gpadl_refuses_what_does_not_fit() {
    let try_split = |pages: usize, bytes: u32, handle: u32| {
        gpadl::split(
            GpadlHandle(handle),
            Relid(1),
            bytes,
            vec![0u64; pages].into_iter(),
        )
        .map(|_| ())
    };
    assert_eq!(try_split(0, 4096, 1), Err(GpadlError::Empty));
    assert_eq!(try_split(1, 0, 1), Err(GpadlError::Empty));
    assert_eq!(try_split(1, 4096, 0), Err(GpadlError::NullHandle));
    assert_eq!(
        try_split(8191, 8191 * 4096, 1),
        Err(GpadlError::TooManyPages { pages: 8191 })
    );
    for bytes in [1, 4095, 4096] {
        assert_eq!(try_split(1, bytes, 1), Ok(()));
    }
    assert!(try_split(1, 4097, 1).is_err());
    assert!(try_split(2, 4096, 1).is_err());
}

#[test]
fn ring_layout_with_larger_pages() {
    use gpadl::{ring_gpadl_bytes, ring_page_count, ring_page_offset, ring_size};
    assert_eq!(ring_size(128 << 10, 4096), Some(128 << 10));
    assert_eq!(ring_size(16 << 10, 4096), Some(20 << 10));
    assert_eq!(ring_size(128 << 10, 65536), Some(192 << 10));
    assert_eq!(ring_size(u32::MAX, 4096), None);
    let page = 65536;
    let one = 192 << 10;
    assert_eq!(ring_page_count(2 * one, page), Some((one - 61440) / 2048));
    assert_eq!(ring_gpadl_bytes(page, page), None);
    let count = ring_page_count(2 * one, page).unwrap();
    let offsets: Vec<u32> = (0..count)
        .map(|i| ring_page_offset(i, one, page).unwrap())
        .collect();
    // First header, first data, ..., second header, second data, the last page.
    assert_eq!(offsets[..2], [0, page]);
    let second = offsets.iter().position(|o| *o == one).unwrap();
    assert_eq!(offsets[second - 1], one - 4096);
    assert_eq!(offsets[second + 1], one + page);
    assert_eq!(*offsets.last().unwrap(), 2 * one - 4096);
    // With 4 KiB pages it is the identity.
    for i in 0..10 {
        assert_eq!(ring_page_offset(i, 16384, 4096), Some(i * 4096));
    }
}

#[test]
fn ranges_count_the_pages_they_touch() {
    assert_eq!(GpaRange::new(0, 0).page_count(), 0);
    assert_eq!(GpaRange::new(1, 4095).page_count(), 1);
    assert_eq!(GpaRange::new(2, 4095).page_count(), 2);
    assert_eq!(GpaRange::new(u32::MAX, u32::MAX).page_count(), 1 << 21);
    let page = PageBuffer::new(1, 2, 3);
    assert_eq!(words(page.as_bytes()), [1, 2, 3, 0]);
}

#[test]
fn descriptor_lengths() {
    let new = |header, payload| {
        PacketDescriptor::new(
            PacketType::DATA_INBAND,
            PacketFlags::COMPLETION_REQUESTED,
            7,
            header,
            payload,
        )
    };
    let plain = new(0, 0).unwrap();
    assert_eq!(plain.as_bytes()[..8], [6, 0, 2, 0, 2, 0, 1, 0]);
    let odd = new(8, 1).unwrap();
    assert_eq!((odd.offset8.get(), odd.len8.get()), (3, 4));
    assert!(new(4, 0).is_none());
    assert!(new(0, 0xffff * 8 - 16).is_some());
    assert!(new(0, 0xffff * 8 - 15).is_none());
    assert!(new(usize::MAX - 7, 8).is_none());
    assert!(new(0, usize::MAX).is_none());
}

proptest! {
    #[test]
    fn gpadl_split_loses_no_page(pages in 1usize..300) {
        let (messages, pfns) = split(pages);
        prop_assert_eq!(pfns.len(), pages);
        for (i, pfn) in pfns.into_iter().enumerate() {
            prop_assert_eq!(pfn, ((i as u64) << 20) | 7);
        }
        prop_assert!(messages.iter().all(|m| m.len() <= MAX_MESSAGE));
    }

    #[test]
    fn parser_takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..260), kind in 0u8..30) {
        let _ = Inbound::parse(&bytes);
        let mut typed = bytes;
        if let Some(head) = typed.get_mut(..4) {
            head.copy_from_slice(&u32::from(kind).to_le_bytes());
        }
        if Inbound::parse(&typed).is_ok() {
            let min = MessageType::from_raw(u32::from(kind)).and_then(|k| k.min_len()).unwrap();
            prop_assert!(typed.len() >= min);
        }
    }

    #[test]
    fn descriptor_layout_stays_within(bytes in any::<[u8; 16]>()) {
        let descriptor = PacketDescriptor::read_from_bytes(&bytes[..]).unwrap();
        if let Some(layout) = descriptor.layout() {
            prop_assert!(layout.payload_offset >= 16 && layout.payload_offset <= layout.len);
            prop_assert!(layout.len <= 0xffff * 8);
        }
    }
}
