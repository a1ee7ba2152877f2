// SPDX-License-Identifier: GPL-2.0

//! A short, orderly conversation with VMBus, in which one number at a time is a bad one.
//!
//! The random part says such things as well, but rarely gets as far as an open channel.

use crate::checks::{compose, enable_synic, set, slot, soon, Checks};
use crate::cpu::{hypercall, Call};
use crate::hyperv::{code, msr, status};
use crate::memory::{self, read, write, FREE, INPUT, PAGE};

/// Message types (Linux: `enum vmbus_channel_message_type`).
pub(crate) mod message {
    pub(crate) const OFFER: u32 = 1;
    pub(crate) const REQUEST_OFFERS: u32 = 3;
    pub(crate) const ALL_OFFERS_DELIVERED: u32 = 4;
    pub(crate) const OPEN_CHANNEL: u32 = 5;
    pub(crate) const OPEN_RESULT: u32 = 6;
    pub(crate) const CLOSE_CHANNEL: u32 = 7;
    pub(crate) const GPADL_HEADER: u32 = 8;
    pub(crate) const GPADL_BODY: u32 = 9;
    pub(crate) const GPADL_CREATED: u32 = 10;
    pub(crate) const GPADL_TEARDOWN: u32 = 11;
    pub(crate) const GPADL_TORNDOWN: u32 = 12;
    pub(crate) const RELID_RELEASED: u32 = 13;
    pub(crate) const INITIATE_CONTACT: u32 = 14;
    pub(crate) const VERSION_RESPONSE: u32 = 15;
    pub(crate) const UNLOAD: u32 = 16;
    pub(crate) const UNLOAD_RESPONSE: u32 = 17;
    pub(crate) const MODIFY_CHANNEL: u32 = 22;
}

/// The bus's connection, SINT and the version of the conversation: 4.0.
const CONNECTION: u32 = 1;
const SINT: u32 = 2;
const VERSION: u32 = 0x4_0000;

/// Where the rings are, and how many pages they have together.
const RINGS: u64 = FREE + 16 * PAGE;
const PAGES: u32 = 8;

/// Pages of the guest's ring of which no channel can be opened: one of the two rings has no data, or the
/// other one begins outside of the buffer.
const BAD_OFFSETS: [u32; 9] = [
    0,
    1,
    PAGES - 1,
    PAGES,
    PAGES + 1,
    0x10_0000 + 4,
    i32::MAX as u32,
    u32::MAX - 1,
    u32::MAX,
];
const GOOD_OFFSET: u32 = PAGES / 2;

/// Where a message's payload is in its slot, after the header of the SynIC's.
const PAYLOAD: u64 = 16;
/// Where an offer has the channel's relid, and how many channels are kept.
const OFFER_RELID: u64 = PAYLOAD + 184;
const CHANNELS: usize = 8;

/// Post a message: its type, then these words of 32 bits.
fn post(message_type: u32, words: &[u32]) -> Result<u64, u64> {
    compose(INPUT, CONNECTION, 1, 8 + 4 * words.len() as u32);
    write(INPUT + PAYLOAD, message_type);
    for (at, word) in (INPUT + PAYLOAD + 8..).step_by(4).zip(words) {
        write(at, *word);
    }
    hypercall(Call::Vmcall, code::POST_MESSAGE, INPUT, 0)
}

/// A field of the message that has come.
fn field(offset: u64) -> u32 {
    read(slot(SINT) + offset)
}

/// Make room for the next message.
fn taken() {
    write(slot(SINT), 0_u64);
    set(msr::EOM, 0);
}

impl Checks {
    /// Post a message; the bus takes it.
    fn say_to_bus(&mut self, message_type: u32, words: &[u32]) {
        let found = post(message_type, words);
        self.expect_at("a message", message_type.into(), found, Ok(status::SUCCESS));
    }

    /// Wait for this message of the bus, and leave it in its slot.
    fn hear_from_bus(&mut self, message_type: u32) {
        let came = soon(|| read::<u32>(slot(SINT)) != 0);
        self.expect_at("an answer of the bus", message_type.into(), came, true);
        self.expect_at(
            "its type",
            message_type.into(),
            field(PAYLOAD),
            message_type,
        );
    }

    /// Rings of every offset, for every channel.
    pub(crate) fn channels(&mut self) {
        enable_synic();
        let interrupts = (memory::FREE + 12 * PAGE) as u32;
        self.say_to_bus(
            message::INITIATE_CONTACT,
            &[VERSION, 0, interrupts, 0, interrupts, 0, interrupts, 0],
        );
        self.hear_from_bus(message::VERSION_RESPONSE);
        self.expect("version 4.0", field(PAYLOAD + 8) & 0xff, 1);
        taken();

        self.say_to_bus(message::REQUEST_OFFERS, &[]);
        let mut relids = [0; CHANNELS];
        let mut offers = 0;
        while soon(|| read::<u32>(slot(SINT)) != 0) && field(PAYLOAD) == message::OFFER {
            if let Some(relid) = relids.get_mut(offers) {
                *relid = field(OFFER_RELID);
            }
            offers += 1;
            taken();
        }
        self.hear_from_bus(message::ALL_OFFERS_DELIVERED);
        taken();
        self.expect("channels", (1..=CHANNELS).contains(&offers), true);

        for relid in relids.into_iter().take(offers) {
            self.channel(relid);
        }
        self.say_to_bus(message::UNLOAD, &[]);
        self.hear_from_bus(message::UNLOAD_RESPONSE);
        taken();
    }

    /// One channel: bad rings, then good ones.
    fn channel(&mut self, relid: u32) {
        let gpadl = 0x100 + relid;
        let mut words = [0; 5 + 2 * PAGES as usize];
        words[..5].copy_from_slice(&[
            relid,
            gpadl,
            (8 + 8 * PAGES) | (1 << 16),
            PAGES * PAGE as u32,
            0,
        ]);
        for (word, page) in words[5..].iter_mut().step_by(2).zip(RINGS / PAGE..) {
            *word = page as u32;
        }
        for page in 0..u64::from(PAGES) {
            write(RINGS + page * PAGE, [0_u64; 16]);
        }
        self.say_to_bus(message::GPADL_HEADER, &words);
        self.hear_from_bus(message::GPADL_CREATED);
        self.expect_at("a GPADL", relid.into(), field(PAYLOAD + 16), 0);
        taken();

        for offset in BAD_OFFSETS {
            let opened = self.open(relid, gpadl, offset);
            self.expect_at("bad rings", offset.into(), opened, false);
        }
        let opened = self.open(relid, gpadl, GOOD_OFFSET);
        self.expect_at("good rings", relid.into(), opened, true);
        self.say_to_bus(message::CLOSE_CHANNEL, &[relid]);
        self.say_to_bus(message::GPADL_TEARDOWN, &[relid, gpadl]);
        self.hear_from_bus(message::GPADL_TORNDOWN);
        taken();
    }

    /// Whether the bus opens a channel with the host's ring at this page of the buffer.
    fn open(&mut self, relid: u32, gpadl: u32, offset: u32) -> bool {
        let mut words = [0; 5 + 30];
        words[..5].copy_from_slice(&[relid, offset, gpadl, 0, offset]);
        self.say_to_bus(message::OPEN_CHANNEL, &words);
        self.hear_from_bus(message::OPEN_RESULT);
        self.expect("its channel", field(PAYLOAD + 8), relid);
        self.expect("its number", field(PAYLOAD + 12), offset);
        let opened = field(PAYLOAD + 16) == 0;
        taken();
        opened
    }
}
