// SPDX-License-Identifier: GPL-2.0

//! The host's side of the control path.
//!
//! It decodes what the guest posts by byte offset and complains about anything
//! that is not exactly right: wrong lengths, bytes that should be zero, page
//! numbers that do not add up, things done twice.

use crate::messages;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the host does instead of the right thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It does not answer.
    Silent,
    /// It answers twice.
    Twice,
    /// It answers with this status.
    Status(u32),
    /// It answers for another request first, then correctly.
    WrongIdFirst,
    /// It rescinds the channel and does not answer.
    Rescind,
    /// It does it, and says so, only at [`FakeHost::catch_up`].
    Late,
}

/// A GPADL as the host sees it.
#[derive(Clone, Debug, Default)]
pub struct HostGpadl {
    /// Page numbers so far.
    pub pfns: Vec<u64>,
    /// Page numbers announced.
    pub expected: usize,
    /// Bytes announced.
    pub byte_count: u32,
}

/// The host.
#[derive(Default)]
pub struct FakeHost {
    /// Newest version it accepts.
    pub max_version: u32,
    /// Connection id it returns.
    pub msg_conn_id: u32,
    /// Channels it offers on request.
    pub offers: Vec<messages::OfferSpec>,
    script: VecDeque<(u32, Reaction)>,
    queue: VecDeque<Vec<u8>>,
    late: Vec<Vec<u8>>,
    /// Channels that it is opening, with their rings: it takes neither a close nor a
    /// teardown meanwhile.
    opening: BTreeMap<u32, u32>,
    /// Everything the guest posted.
    pub posted: Vec<Vec<u8>>,
    /// What the guest did wrong.
    pub violations: Vec<String>,
    /// GPADLs by handle.
    pub gpadls: BTreeMap<u32, HostGpadl>,
    /// Open channels.
    pub open: BTreeSet<u32>,
    /// Rescinded channels that the guest has not released.
    pub rescinded: BTreeSet<u32>,
    /// Relids handed back, in order.
    pub released: Vec<u32>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap()))
}

impl FakeHost {
    /// A host that accepts versions up to `max_version` (raw).
    pub fn new(max_version: u32) -> Self {
        FakeHost {
            max_version,
            msg_conn_id: 0x4242,
            ..Default::default()
        }
    }

    /// Scripts the reaction to the next message of a type.
    pub fn react(&mut self, kind: u32, reaction: Reaction) {
        self.script.push_back((kind, reaction));
    }

    /// Queues a message for the guest.
    pub fn send(&mut self, message: Vec<u8>) {
        self.queue.push_back(message);
    }

    /// The next message for the guest.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        self.queue.pop_front()
    }

    /// Rescinds a channel: its GPADLs are gone.
    pub fn rescind(&mut self, relid: u32) {
        self.open.remove(&relid);
        self.opening.remove(&relid);
        self.rescinded.insert(relid);
        self.send(messages::rescind(relid));
    }

    /// Does what it was late with, and says so.
    pub fn catch_up(&mut self) {
        self.open.extend(std::mem::take(&mut self.opening).keys());
        self.queue.extend(self.late.drain(..));
    }

    fn complain(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    fn reaction(&mut self, kind: u32) -> Option<Reaction> {
        let at = self.script.iter().position(|(k, _)| *k == kind)?;
        self.script.remove(at).map(|(_, reaction)| reaction)
    }

    /// Answers a request, as the script wants it.
    fn answer(&mut self, kind: u32, relid: u32, status: u32, reply: impl Fn(u32, u32) -> Vec<u8>) {
        match self.reaction(kind) {
            None => self.send(reply(0, status)),
            Some(Reaction::Silent) => {}
            Some(Reaction::Twice) => {
                self.send(reply(0, status));
                self.send(reply(0, status));
            }
            Some(Reaction::Status(status)) => self.send(reply(0, status)),
            Some(Reaction::WrongIdFirst) => {
                self.send(reply(0x55, status));
                self.send(reply(0, status));
            }
            Some(Reaction::Rescind) => self.rescind(relid),
            Some(Reaction::Late) => self.late.push(reply(0, status)),
        }
    }

    /// Takes a message the guest posted.
    pub fn receive(&mut self, message: &[u8]) {
        self.posted.push(message.to_vec());
        if message.len() > 240 || message.len() < 8 || word(message, 4) != 0 {
            self.complain(format!("bad header: {message:02x?}"));
            return;
        }
        let relid = word(message, 8);
        match (word(message, 0), message.len()) {
            (14, 40) => self.on_contact(message),
            (3, 8) => {
                for offer in self.offers.clone() {
                    self.send(offer.bytes());
                }
                self.send(messages::all_offers());
            }
            (5, 148) => self.on_open(message, relid),
            (7, 12) => {
                if !self.open.remove(&relid) && !self.opening.contains_key(&relid) {
                    self.complain(format!("close of {relid}, which is not open"));
                }
            }
            (8, len) if len >= 28 => self.on_gpadl_header(message),
            (9, len) if len > 16 => self.on_gpadl_body(message),
            (11, 16) => self.on_teardown(relid, word(message, 12)),
            (13, 12) => {
                if !self.rescinded.remove(&relid) {
                    self.complain(format!("relid {relid} released without a rescind"));
                }
                self.released.push(relid);
            }
            (16, 8) => self.answer(16, 0, 0, |_, _| messages::unload_response()),
            (22, 16) => self.answer(22, relid, 0, |x, s| messages::modify_response(relid ^ x, s)),
            (kind, len) => self.complain(format!("message {kind} of {len} bytes")),
        }
    }

    fn on_contact(&mut self, message: &[u8]) {
        let version = word(message, 8);
        if version >= 5 << 16 && message[18..20] != [0, 0] {
            self.complain("reserved bytes of INITIATE_CONTACT");
        }
        let supported = version <= self.max_version;
        let id = self.msg_conn_id;
        self.answer(14, 0, 0, |_, _| messages::version_response(supported, id));
    }

    fn on_open(&mut self, message: &[u8], relid: u32) {
        if self.rescinded.contains(&relid) {
            return;
        }
        let (open_id, gpadl) = (word(message, 12), word(message, 16));
        match self.gpadls.get(&gpadl) {
            Some(g) if g.pfns.len() == g.expected => {}
            _ => self.complain(format!("open of {relid} with GPADL {gpadl:#x}")),
        }
        if !self.open.insert(relid) {
            self.complain(format!("{relid} opened twice"));
        }
        let (before, held) = (self.queue.len(), self.late.len());
        self.answer(5, relid, 0, |x, s| {
            messages::open_result(relid, open_id ^ x, s)
        });
        let failed = self.queue.iter().skip(before).any(|m| word(m, 16) != 0);
        if failed {
            self.open.remove(&relid);
        }
        if held < self.late.len() {
            self.open.remove(&relid);
            self.opening.insert(relid, gpadl);
        }
    }

    fn on_gpadl_header(&mut self, message: &[u8]) {
        let handle = word(message, 12);
        let range_bytes = usize::from(u16::from_le_bytes([message[16], message[17]]));
        let ranges = u16::from_le_bytes([message[18], message[19]]);
        let byte_count = word(message, 20);
        if ranges != 1 || word(message, 24) != 0 || range_bytes < 16 || range_bytes % 8 != 0 {
            self.complain(format!("GPADL {handle:#x}: bad header"));
        }
        let gpadl = HostGpadl {
            pfns: Vec::new(),
            expected: range_bytes / 8 - 1,
            byte_count,
        };
        if byte_count.div_ceil(4096) as usize != gpadl.expected {
            self.complain(format!("GPADL {handle:#x}: bytes and pages differ"));
        }
        if self.gpadls.insert(handle, gpadl).is_some() {
            self.complain(format!("GPADL {handle:#x} exists"));
        }
        self.add_pfns(word(message, 8), handle, &message[28..]);
    }

    fn on_gpadl_body(&mut self, message: &[u8]) {
        if word(message, 8) != 0 {
            self.complain("message number of GPADL_BODY");
        }
        // The body does not name the channel; only the handle matters here.
        self.add_pfns(0, word(message, 12), &message[16..]);
    }

    fn add_pfns(&mut self, relid: u32, handle: u32, bytes: &[u8]) {
        let Some(gpadl) = self.gpadls.get_mut(&handle) else {
            return self.complain(format!("body of unknown GPADL {handle:#x}"));
        };
        for pfn in bytes.chunks(8) {
            gpadl
                .pfns
                .push(pfn.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX));
        }
        let (got, want) = (gpadl.pfns.len(), gpadl.expected);
        if got > want {
            self.complain(format!("GPADL {handle:#x}: {got} pages of {want}"));
        }
        if got >= want {
            // Replies name the channel of the header message.
            let relid = if relid != 0 {
                relid
            } else {
                self.header_relid(handle)
            };
            let before = self.queue.len();
            self.answer(8, relid, 0, |x, s| {
                messages::gpadl_created(relid, handle ^ x, s)
            });
            if self.queue.iter().skip(before).any(|m| word(m, 16) != 0) {
                self.gpadls.remove(&handle);
            }
        }
    }

    fn header_relid(&self, handle: u32) -> u32 {
        self.posted
            .iter()
            .rev()
            .find(|m| word(m, 0) == 8 && word(m, 12) == handle)
            .map_or(0, |m| word(m, 8))
    }

    fn on_teardown(&mut self, relid: u32, handle: u32) {
        if self.opening.values().any(|ring| *ring == handle) {
            return;
        }
        if self.gpadls.remove(&handle).is_none() {
            self.complain(format!("teardown of unknown GPADL {handle:#x}"));
        }
        self.answer(11, relid, 0, |x, _| messages::gpadl_torndown(handle ^ x));
    }
}
