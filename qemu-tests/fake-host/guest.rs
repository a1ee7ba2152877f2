// SPDX-License-Identifier: GPL-2.0

//! A small guest: it drives the pure crates in the order the kernel code does,
//! against a [`FakeHost`], and counts what it sees.
//!
//! Waiting is "deliver what the host has queued"; a reply that is not among it
//! never comes.

use crate::{host::FakeHost, slot::FakeSlot};
use std::collections::{BTreeMap, BTreeSet};
use vmbus_protocol::{
    channel::{ChannelLife, CloseAction, LateOpen, OpenOutcome, RescindAction, State},
    gpadl::{self, GpadlLife, MemoryFate},
    message::{
        CloseChannel, ContactParams, GpadlTeardown, Inbound, InitiateContact, Offer, OpenChannel,
        OpenParams, RelidReleased, RequestOffers, MAX_MESSAGE,
    },
    offers::{admit, Admission, Limits, LiveChannel, Properties},
    pending::{Answer, Pending, Place},
    reply::{Reply, ReplyKey},
    synic::{read_slot, release_slot, EndOfMessage, SlotContent},
    version::{Negotiation, Step, Version},
    GpadlHandle, Guid, Relid, VpIndex,
};
use zerocopy::IntoBytes;

/// Why a guest operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestError {
    /// The channel does not exist.
    NoChannel,
    /// The life cycle forbids it.
    Life,
    /// Posting failed.
    Post,
    /// The channel was rescinded.
    Rescinded,
    /// The host refused.
    Status(u32),
    /// No reply came.
    Timeout,
}

/// What the guest counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that could not be parsed or were oversized.
    pub bad_messages: u32,
    /// Offers refused.
    pub refused_offers: u32,
    /// Rescinds of unknown channels, and repeated ones.
    pub ignored_rescinds: u32,
    /// Version responses nobody waited for.
    pub stray_versions: u32,
    /// ALLOFFERS_DELIVERED messages.
    pub all_offers: u32,
    /// Devices removed.
    pub removed: u32,
    /// Memory freed.
    pub freed: u32,
    /// Memory leaked on purpose.
    pub leaked: u32,
    /// Answers to requests that were given up.
    pub late: u32,
}

/// One channel of the guest.
pub struct GuestChannel {
    /// The offer.
    pub offer: Offer,
    /// What admission found.
    pub properties: Properties,
    /// The life cycle.
    pub life: ChannelLife,
    /// The ring's memory, with its handle.
    pub ring: Option<(GpadlHandle, GpadlLife)>,
}

/// The guest.
pub struct Guest {
    /// Its host.
    pub host: FakeHost,
    /// The SynIC slot.
    pub slot: FakeSlot,
    /// Limits on offers.
    pub limits: Limits,
    /// Channels by relid.
    pub channels: BTreeMap<Relid, GuestChannel>,
    /// Relids of refused offers that the host has not taken back.
    pub refused: BTreeSet<Relid>,
    /// Requests that wait.
    pub pending: Pending<u32, Vec<Place<u32>>>,
    /// Memory that is left to the host, by handle.
    pub lingering: BTreeMap<GpadlHandle, GpadlLife>,
    /// Counters.
    pub counters: Counters,
    /// Fail the post with this number, counted down.
    pub fail_post: Option<u32>,
    /// The negotiated version.
    pub version: Option<Version>,
    /// The connection id in force.
    pub connection_id: u32,
    negotiation: Negotiation,
    replies: BTreeMap<u32, Reply>,
    next_waiter: u32,
    next_gpadl: u32,
}

impl Guest {
    /// A guest that proposes versions up to `max`.
    pub fn new(host: FakeHost, max: Option<u32>) -> Self {
        Guest {
            host,
            slot: FakeSlot::new(),
            limits: Limits::default(),
            channels: BTreeMap::new(),
            refused: BTreeSet::new(),
            pending: Pending::new((0..8).map(|_| Place::new()).collect()),
            lingering: BTreeMap::new(),
            counters: Counters::default(),
            fail_post: None,
            version: None,
            connection_id: 0,
            negotiation: Negotiation::new(max).unwrap(),
            replies: BTreeMap::new(),
            next_waiter: 0,
            next_gpadl: gpadl::FIRST_HANDLE,
        }
    }

    /// Connects and asks for the offers.
    pub fn connect(&mut self) -> Result<Version, GuestError> {
        while let Some(attempt) = self.negotiation.current() {
            self.negotiation.posted();
            let message = InitiateContact::new(attempt.version, &ContactParams::default());
            self.post(message.as_bytes())?;
            self.pump();
            if let Some(version) = self.version {
                self.post(RequestOffers::new().as_bytes())?;
                self.pump();
                return Ok(version);
            }
            if self.negotiation.current() == Some(attempt) {
                self.negotiation.on_timeout();
                return Err(GuestError::Timeout);
            }
        }
        Err(GuestError::Status(0))
    }

    fn post(&mut self, message: &[u8]) -> Result<(), GuestError> {
        if let Some(left) = self.fail_post.as_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.fail_post = None;
                return Err(GuestError::Post);
            }
        }
        self.host.receive(message);
        Ok(())
    }

    /// Delivers everything the host has queued, through the message slot.
    pub fn pump(&mut self) {
        while let Some(message) = self.host.next_message() {
            self.slot.deliver(&message);
            self.handle_slot();
        }
    }

    /// The message interrupt: empties the slot, like the tasklet.
    pub fn handle_slot(&mut self) {
        loop {
            let message_type = match read_slot(&self.slot) {
                SlotContent::Empty => return,
                SlotContent::Oversized { message_type, .. } => {
                    self.counters.bad_messages += 1;
                    message_type
                }
                SlotContent::Message(message) => {
                    match Inbound::parse(message.payload()) {
                        Ok(inbound) => self.dispatch(&inbound),
                        Err(_) => self.counters.bad_messages += 1,
                    }
                    message.message_type()
                }
            };
            if release_slot(&self.slot, message_type) == EndOfMessage::Write {
                self.slot.end_of_message();
            }
        }
    }

    fn dispatch(&mut self, inbound: &Inbound) {
        match inbound {
            Inbound::Offer(offer) => self.on_offer(offer),
            Inbound::Rescind { relid } => self.on_rescind(*relid),
            Inbound::AllOffersDelivered => self.counters.all_offers += 1,
            Inbound::VersionResponse(response) => match self.negotiation.on_response(response) {
                Step::Accepted {
                    version,
                    msg_conn_id,
                    ..
                } => {
                    self.version = Some(version);
                    self.connection_id = msg_conn_id;
                }
                Step::Unexpected => self.counters.stray_versions += 1,
                Step::TryNext(_) | Step::Refused => {}
            },
            other => {
                if let Inbound::GpadlTorndown(torndown) = other {
                    self.on_torndown(torndown.gpadl);
                }
                match self.pending.resolve(other) {
                    Some(Answer::Awaited(waiter, reply)) => {
                        self.replies.insert(waiter, reply);
                    }
                    Some(Answer::Late(key, reply)) => self.on_late(key, reply),
                    Some(Answer::Stray) | None => {}
                }
            }
        }
    }

    /// The host has done late what it was asked for.
    fn on_late(&mut self, key: ReplyKey, reply: Reply) {
        self.counters.late += 1;
        match (key, reply) {
            (ReplyKey::Open { relid, open_id }, Reply::Status(status)) => {
                let Some(channel) = self.channels.get_mut(&relid) else {
                    return;
                };
                if let LateOpen::Close { ring } = channel.life.open_late(open_id, status) {
                    let owed = channel.life.close_late_begin();
                    let posted = !owed || self.post(CloseChannel::new(relid).as_bytes()).is_ok();
                    if let Some(channel) = self.channels.get_mut(&relid) {
                        channel.life.close_late_end(posted);
                    }
                    if posted {
                        let _ = self.post(GpadlTeardown::new(relid, ring).as_bytes());
                    }
                }
            }
            (ReplyKey::GpadlCreated { relid, gpadl }, Reply::Status(status)) => {
                let Some(life) = self.lingering.get_mut(&gpadl) else {
                    return;
                };
                if life.created_late(status) {
                    self.lingering.remove(&gpadl);
                } else if life.take_ask_again() {
                    let _ = self.post(GpadlTeardown::new(relid, gpadl).as_bytes());
                }
            }
            _ => {}
        }
    }

    /// The host has let go of memory that the guest left to it.
    fn on_torndown(&mut self, gpadl: GpadlHandle) {
        if self
            .lingering
            .get_mut(&gpadl)
            .is_some_and(GpadlLife::let_go)
        {
            self.lingering.remove(&gpadl);
            for channel in self.channels.values_mut() {
                channel.life.let_go(gpadl);
            }
        }
    }

    fn on_offer(&mut self, offer: &Offer) {
        if self.version.is_none() {
            self.counters.refused_offers += 1;
            return;
        }
        let live: Vec<LiveChannel> = self
            .channels
            .values()
            .map(|channel| LiveChannel {
                relid: channel.offer.relid,
                class: channel.offer.class,
                instance: channel.offer.instance,
                sub_channel_index: channel.offer.sub_channel_index,
                rescinded: channel.life.is_rescinded(),
            })
            .chain(self.refused.iter().map(|&relid| LiveChannel {
                relid,
                class: Guid::NULL,
                instance: Guid::NULL,
                sub_channel_index: 0,
                rescinded: true,
            }))
            .collect();
        match admit(offer, live, &self.limits) {
            Admission::Primary(properties) | Admission::SubChannel { properties, .. } => {
                self.channels.insert(
                    offer.relid,
                    GuestChannel {
                        offer: offer.clone(),
                        properties,
                        life: ChannelLife::new(),
                        ring: None,
                    },
                );
            }
            Admission::Refuse(error) => {
                self.counters.refused_offers += 1;
                if error.has_relid() {
                    self.refused.insert(offer.relid);
                }
            }
        }
    }

    fn on_rescind(&mut self, relid: Relid) {
        if self.refused.remove(&relid) {
            let _ = self.post(RelidReleased::new(relid).as_bytes());
            return;
        }
        let Some(channel) = self.channels.get_mut(&relid) else {
            self.counters.ignored_rescinds += 1;
            return;
        };
        match channel.life.rescind() {
            RescindAction::Ignore => self.counters.ignored_rescinds += 1,
            RescindAction::Handle { .. } => {
                // Whoever opens or closes the channel finishes first.
                let busy = matches!(channel.life.state(), State::Opening | State::Closing);
                if let Some((_, ring)) = channel.ring.as_mut() {
                    ring.revoked();
                }
                while let Some(waiter) = self.pending.rescind(relid) {
                    self.replies.insert(waiter, Reply::Rescinded);
                }
                if !busy {
                    self.remove(relid);
                }
            }
        }
    }

    /// The device is removed: its driver closes, then the channel goes.
    pub fn remove(&mut self, relid: Relid) {
        let _ = self.close(relid);
        if let Some(channel) = self.channels.get_mut(&relid) {
            channel.life.removed();
            self.counters.removed += 1;
        }
        self.try_release(relid);
    }

    fn try_release(&mut self, relid: Relid) {
        let release = self
            .channels
            .get_mut(&relid)
            .is_some_and(|channel| channel.life.take_release());
        if release {
            self.channels.remove(&relid);
            let _ = self.post(RelidReleased::new(relid).as_bytes());
        }
    }

    fn wait(&mut self, waiter: u32) -> Option<Reply> {
        self.pump();
        self.replies.remove(&waiter)
    }

    fn register(&mut self, key: ReplyKey) -> (u32, vmbus_protocol::pending::Token) {
        self.next_waiter += 1;
        let token = self.pending.register(key, self.next_waiter).unwrap();
        (self.next_waiter, token)
    }

    fn ring_mut(&mut self, relid: Relid) -> Option<&mut GpadlLife> {
        self.channels
            .get_mut(&relid)
            .and_then(|channel| channel.ring.as_mut())
            .map(|(_, life)| life)
    }

    fn create_ring(&mut self, relid: Relid, pages: u64) -> Result<GpadlHandle, GuestError> {
        let handle = GpadlHandle(self.next_gpadl);
        self.next_gpadl += 1;
        let mut life = GpadlLife::new();
        life.posting().unwrap();
        self.channels
            .get_mut(&relid)
            .ok_or(GuestError::NoChannel)?
            .ring = Some((handle, life));
        let (waiter, token) = self.register(ReplyKey::GpadlCreated {
            relid,
            gpadl: handle,
        });
        let pfns: Vec<u64> = (0..pages).map(|i| 0x1000 + i).collect();
        let mut messages =
            gpadl::split(handle, relid, pages as u32 * 4096, pfns.into_iter()).unwrap();
        let mut buffer = [0xa5; MAX_MESSAGE];
        let mut header_posted = false;
        while let Some(message) = messages.next_message(&mut buffer) {
            if let Err(error) = self.post(message) {
                self.pending.posted(token, 0);
                if let Some(ring) = self.ring_mut(relid) {
                    let _ = ring.post_failed(header_posted);
                }
                return Err(error);
            }
            header_posted = true;
        }
        let reply = self.wait(waiter);
        if reply.is_none() {
            self.pending.give_up(token);
        }
        let ring = self.ring_mut(relid).ok_or(GuestError::NoChannel)?;
        match reply {
            Some(Reply::Status(status)) => {
                ring.created(status).map_err(|_| GuestError::Life)?;
                if status == 0 {
                    Ok(handle)
                } else {
                    Err(GuestError::Status(status))
                }
            }
            Some(_) => Err(GuestError::Rescinded),
            None => {
                ring.gave_up();
                if let Some(ring) = self
                    .channels
                    .get_mut(&relid)
                    .and_then(|channel| channel.ring.take())
                {
                    self.linger(ring);
                }
                Err(GuestError::Timeout)
            }
        }
    }

    /// Leaves memory to the host.
    fn linger(&mut self, (handle, life): (GpadlHandle, GpadlLife)) {
        self.counters.leaked += 1;
        self.lingering.insert(handle, life);
    }

    fn destroy_ring(&mut self, relid: Relid) {
        let Some((handle, mut life)) = self.channels.get_mut(&relid).and_then(|c| c.ring.take())
        else {
            return;
        };
        if life.tearing_down().is_ok() {
            let (waiter, token) = self.register(ReplyKey::GpadlTorndown {
                relid,
                gpadl: handle,
            });
            let posted = self.post(GpadlTeardown::new(relid, handle).as_bytes());
            let reply = posted.ok().and_then(|()| self.wait(waiter));
            match reply {
                Some(Reply::Rescinded) => life.revoked(),
                Some(_) => life.torndown().unwrap(),
                None => {
                    self.pending.give_up(token);
                    life.gave_up();
                }
            }
        }
        match life.memory() {
            MemoryFate::Free => {
                self.counters.freed += 1;
                if let Some(channel) = self.channels.get_mut(&relid) {
                    channel.life.let_go(handle);
                }
            }
            MemoryFate::Keep | MemoryFate::Leak => self.linger((handle, life)),
        }
    }

    /// Opens a channel with a ring of `pages` pages.
    pub fn open(&mut self, relid: Relid, pages: u64) -> Result<(), GuestError> {
        let channel = self.channels.get_mut(&relid).ok_or(GuestError::NoChannel)?;
        channel.life.open_begin().map_err(|_| GuestError::Life)?;
        let result = self
            .create_ring(relid, pages)
            .and_then(|handle| self.post_open(relid, handle));
        if result.is_err() {
            let _ = self.close(relid);
        }
        result
    }

    fn post_open(&mut self, relid: Relid, handle: GpadlHandle) -> Result<(), GuestError> {
        let (waiter, token) = self.register(ReplyKey::Open {
            relid,
            open_id: handle.raw(),
        });
        let message = OpenChannel::new(&OpenParams {
            relid,
            open_id: handle.raw(),
            ring_gpadl: handle,
            target_vp: VpIndex(0),
            downstream_page_offset: 1,
            user_data: &[],
        })
        .unwrap();
        if let Some(channel) = self.channels.get_mut(&relid) {
            let _ = channel.life.open_posting(handle, handle.raw());
        }
        let posted = self.post(message.as_bytes());
        if posted.is_err() {
            self.pending.posted(token, 0);
            if let Some(channel) = self.channels.get_mut(&relid) {
                channel.life.open_not_posted();
            }
        }
        posted?;
        let reply = self.wait(waiter);
        if reply.is_none() {
            self.pending.give_up(token);
        }
        let channel = self.channels.get_mut(&relid).ok_or(GuestError::NoChannel)?;
        match reply {
            Some(Reply::Status(status)) => match channel.life.open_end(status) {
                Ok(OpenOutcome::Opened) => Ok(()),
                Ok(OpenOutcome::Failed { status }) => Err(GuestError::Status(status)),
                Err(_) => Err(GuestError::Rescinded),
            },
            Some(_) => Err(GuestError::Rescinded),
            None => Err(GuestError::Timeout),
        }
    }

    /// A rescind came while the channel was busy: the device goes now.
    fn remove_if_rescinded(&mut self, relid: Relid) {
        let rescinded = self
            .channels
            .get(&relid)
            .is_some_and(|channel| channel.life.is_rescinded());
        if rescinded {
            self.remove(relid);
        }
    }

    /// Closes a channel.
    pub fn close(&mut self, relid: Relid) -> Result<(), GuestError> {
        let channel = self.channels.get_mut(&relid).ok_or(GuestError::NoChannel)?;
        let action = channel.life.close_begin().map_err(|_| GuestError::Life)?;
        if action == CloseAction::Post {
            let _ = self.post(CloseChannel::new(relid).as_bytes());
        }
        self.destroy_ring(relid);
        if let Some(channel) = self.channels.get_mut(&relid) {
            let _ = channel.life.close_end();
        }
        self.remove_if_rescinded(relid);
        Ok(())
    }
}
