// SPDX-License-Identifier: GPL-2.0

//! A network host that a script can bend: NVSP and RNDIS, byte by byte, and the
//! receive buffer's memory.

use netvsc_protocol::{
    exchange::{Exchange, Outcome},
    inbound::Answer,
    rx::Memory,
    setup::{Action, Buffer, Setup},
};
use std::{cell::RefCell, collections::BTreeMap};

/// Little-endian words.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The answer to a QUERY.
pub fn query_done(id: u32, status: u32, info: &[u8]) -> Vec<u8> {
    let len = 24 + info.len() as u32;
    let mut bytes = words(&[0x8000_0004, len, id, status, info.len() as u32, 16]);
    bytes.extend_from_slice(info);
    bytes
}

/// The answer to a SET.
pub fn set_done(id: u32, status: u32) -> Vec<u8> {
    words(&[0x8000_0005, 16, id, status])
}

/// The answer to INITIALIZE.
pub fn initialize_done(id: u32, status: u32) -> Vec<u8> {
    words(&[0x8000_0002, 52, id, status, 1, 0, 1, 0, 8, 0x4000, 3, 0, 0])
}

/// One record beside a frame.
pub fn record(kind: u32, value: u32) -> Vec<u8> {
    words(&[16, kind, 12, value])
}

/// A frame as it stands in the receive buffer.
pub fn frame(infos: &[u8], data: &[u8]) -> Vec<u8> {
    let (i, d) = (infos.len() as u32, data.len() as u32);
    let mut bytes = words(&[1, 44 + i + d, 36 + i, d, 0, 0, 0, 36, i, 0, 0]);
    bytes.extend_from_slice(infos);
    bytes.extend_from_slice(data);
    bytes
}

/// The header of a transfer-page packet.
pub fn transfer(pageset: u16, count: u32, ranges: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = words(&[pageset.into(), count]);
    for (offset, len) in ranges {
        bytes.extend(words(&[*len, *offset]));
    }
    bytes
}

/// Receive-buffer memory that can change each time it is read.
pub struct Shared {
    bytes: RefCell<Vec<u8>>,
    /// What is written after the next reads: place and byte.
    flips: RefCell<Vec<(usize, u8)>>,
}

impl Shared {
    /// Memory that starts with `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Shared {
            bytes: RefCell::new(bytes.to_vec()),
            flips: RefCell::new(Vec::new()),
        }
    }

    /// Writes `byte` at `at` right after somebody has read that place.
    pub fn flip_after_read(&self, at: usize, byte: u8) {
        self.flips.borrow_mut().push((at, byte));
    }

    /// What is there now.
    pub fn now(&self, at: usize) -> u8 {
        self.bytes.borrow()[at]
    }
}

impl Memory for Shared {
    fn read(&self, at: u32, into: &mut [u8]) -> bool {
        let at = at as usize;
        let mut bytes = self.bytes.borrow_mut();
        let Some(from) = bytes.get(at..at + into.len()) else {
            return false;
        };
        into.copy_from_slice(from);
        self.flips.borrow_mut().retain(|(place, byte)| {
            let hit = (at..at + into.len()).contains(place);
            if hit {
                bytes[*place] = *byte;
            }
            !hit
        });
        true
    }
}

/// A host, and what it does to whom.
pub struct Host {
    /// Versions that it has.
    pub versions: Vec<u32>,
    /// Bytes of a receive section and of a send section.
    pub sections: (u32, u32),
    /// Objects: status and value.
    pub objects: BTreeMap<u32, (u32, Vec<u8>)>,
    /// Each answer comes so many times.
    pub times: usize,
    /// It answers no more after so many answers.
    pub patience: usize,
    /// NVSP messages that came, by type.
    pub seen: Vec<u32>,
    /// Objects that were set, with their values.
    pub set: Vec<(u32, Vec<u8>)>,
    /// Bytes of what was announced.
    pub announced: Vec<(Buffer, u32)>,
}

/// The description of a host that can do everything.
pub fn all_offloads() -> Vec<u8> {
    let mut bytes = vec![0; 156];
    bytes[..4].copy_from_slice(&[0xa7, 3, 156, 0]);
    for (at, value) in [
        (8, 0x154),
        (24, 0x55),
        (80, 2),
        (84, 0xf53c),
        (88, 2),
        (92, 2),
        (96, 0xf53c),
        (100, 2),
        (104, 5),
    ] {
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    bytes[144..146].copy_from_slice(&[1, 1]);
    bytes
}

impl Default for Host {
    fn default() -> Self {
        let rss = [words(&[0x0012_0288, 0, 0, 8]), vec![128, 0]].concat();
        let objects = [
            (0x0101_0101, vec![0, 0x15, 0x5d, 1, 2, 3]),
            (0x0001_0106, words(&[1500])),
            (0x0002_0216, utf16("Synthetic 1")),
            (0xfc01_020d, all_offloads()),
            (0xfc01_020c, Vec::new()),
            (0x0001_0114, words(&[0])),
            (0x0001_0107, words(&[100_000_000])),
            (0x0001_0203, rss),
        ];
        Host {
            versions: vec![0x6_0001, 0x6_0000, 0x5_0000],
            sections: (1728, 6144),
            objects: objects.into_iter().map(|(o, v)| (o, (0, v))).collect(),
            times: 1,
            patience: usize::MAX,
            seen: Vec::new(),
            set: Vec::new(),
            announced: Vec::new(),
        }
    }
}

/// Text as the host has it.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

impl Host {
    fn on_nvsp(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        assert_eq!(message.len(), 40);
        self.seen.push(word(message, 0));
        match word(message, 0) {
            1 => {
                assert_eq!(word(message, 4), word(message, 8));
                let known = self.versions.contains(&word(message, 4));
                Some(words(&[2, u32::MAX, 34, if known { 1 } else { 2 }]))
            }
            101 => {
                let (_, bytes) = *self.announced.last()?;
                let count = bytes.next_multiple_of(4096) / self.sections.0;
                let end = self.sections.0 * count;
                Some(words(&[102, 1, 1, 0, self.sections.0, count, end]))
            }
            104 => Some(words(&[105, 1, self.sections.1])),
            _ => None,
        }
    }

    fn on_rndis(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        assert_eq!(word(message, 4) as usize, message.len());
        let id = word(message, 8);
        match word(message, 0) {
            2 => Some(initialize_done(id, 0)),
            4 => {
                let known = self.objects.get(&word(message, 12));
                let (status, value) = known.cloned().unwrap_or((0xc001_0017, Vec::new()));
                Some(query_done(id, status, &value))
            }
            5 => {
                let at = 8 + word(message, 20) as usize;
                let len = word(message, 16) as usize;
                let oid = word(message, 12);
                self.set.push((oid, message[at..at + len].to_vec()));
                let known = self.objects.get(&oid);
                Some(set_done(id, known.map_or(0xc001_0017, |known| known.0)))
            }
            _ => None,
        }
    }

    /// Goes through an initialisation; it ends by itself.
    pub fn run(&mut self, setup: &mut Setup) -> Action {
        let mut exchange = Exchange::new();
        for _ in 0..100 {
            let action = setup.action();
            match action {
                Action::Tell(message) => {
                    assert!(self.on_nvsp(message.bytes()).is_none());
                    setup.sent();
                }
                Action::Ask(message) => {
                    let answer = self.on_nvsp(message.bytes()).unwrap();
                    if !self.is_willing() {
                        setup.on_timeout();
                        continue;
                    }
                    setup.on_answer(Answer::parse(&answer).ok());
                }
                Action::Announce(buffer, bytes) => {
                    self.announced.push((buffer, bytes));
                    setup.announced(7);
                }
                Action::Request(request) => {
                    let mut buffer = [0xee; 1280];
                    let id = exchange.begin(request.kind());
                    let version = setup.agreed().version;
                    let len = request.build(&mut buffer, id, version).unwrap();
                    let answer = self.on_rndis(&buffer[..len]).unwrap();
                    if !self.is_willing() {
                        setup.on_timeout();
                        continue;
                    }
                    for turn in 0..self.times {
                        let outcome = exchange.on_message(&answer);
                        assert_eq!(outcome == Outcome::Answered, turn == 0);
                    }
                    setup.on_response(exchange.answer().unwrap());
                    exchange.end();
                }
                Action::Done | Action::Stop(_) => return action,
            }
        }
        panic!("the initialisation does not end");
    }

    fn is_willing(&mut self) -> bool {
        match self.patience.checked_sub(1) {
            Some(left) => {
                self.patience = left;
                true
            }
            None => false,
        }
    }
}
