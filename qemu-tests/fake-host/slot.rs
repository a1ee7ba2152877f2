// SPDX-License-Identifier: GPL-2.0

//! A SynIC message slot that a script can change between any two reads.

use std::{cell::RefCell, collections::VecDeque};
use vmbus_protocol::synic::{MessageSlot, HVMSG_CHANNEL, HVMSG_NONE};

/// Accesses of a slot by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The type was read.
    Type,
    /// The payload size was read.
    Size,
    /// The flags were read.
    Flags,
    /// That many payload bytes were copied.
    Payload(usize),
    /// The type was cleared (or not).
    Clear(bool),
    /// A full barrier.
    Barrier,
}

#[derive(Default)]
struct State {
    message_type: u32,
    size: u8,
    payload: Vec<u8>,
    queue: VecDeque<Vec<u8>>,
    sizes: VecDeque<u8>,
    log: Vec<Access>,
    on_clear: Option<(u32, u8)>,
    between: Option<Vec<u8>>,
}

/// A message slot and the hypervisor's queue behind it.
#[derive(Default)]
pub struct FakeSlot(RefCell<State>);

impl FakeSlot {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Delivers a channel message: into the slot if it is free, else into the
    /// queue, which sets the pending flag.
    pub fn deliver(&self, payload: &[u8]) {
        let mut state = self.0.borrow_mut();
        if state.message_type == HVMSG_NONE {
            state.fill(payload.to_vec());
        } else {
            state.queue.push_back(payload.to_vec());
        }
    }

    /// Scripts the values that reads of the payload size return, before the
    /// real one.
    pub fn script_sizes(&self, sizes: &[u8]) {
        self.0.borrow_mut().sizes = sizes.iter().copied().collect();
    }

    /// Replaces the payload right after it was copied.
    pub fn replace_after_copy(&self, payload: &[u8]) {
        self.0.borrow_mut().between = Some(payload.to_vec());
    }

    /// Puts another message of type `message_type` into the slot just before
    /// the guest clears it, as another CPU's clear and a new delivery would.
    pub fn race_before_clear(&self, message_type: u32, size: u8) {
        self.0.borrow_mut().on_clear = Some((message_type, size));
    }

    /// The EOM register was written: the next queued message moves in.
    pub fn end_of_message(&self) {
        let mut state = self.0.borrow_mut();
        if state.message_type == HVMSG_NONE {
            if let Some(next) = state.queue.pop_front() {
                state.fill(next);
            }
        }
    }

    /// The guest's accesses so far.
    pub fn log(&self) -> Vec<Access> {
        self.0.borrow().log.clone()
    }

    /// Messages that wait in the queue.
    pub fn queued(&self) -> usize {
        self.0.borrow().queue.len()
    }
}

impl State {
    fn fill(&mut self, payload: Vec<u8>) {
        self.message_type = HVMSG_CHANNEL;
        self.size = payload.len().min(255) as u8;
        self.payload = payload;
    }
}

impl MessageSlot for FakeSlot {
    fn message_type(&self) -> u32 {
        let mut state = self.0.borrow_mut();
        state.log.push(Access::Type);
        state.message_type
    }
    fn payload_size(&self) -> u8 {
        let mut state = self.0.borrow_mut();
        state.log.push(Access::Size);
        let scripted = state.sizes.pop_front();
        scripted.unwrap_or(state.size)
    }
    fn message_flags(&self) -> u8 {
        let mut state = self.0.borrow_mut();
        state.log.push(Access::Flags);
        u8::from(!state.queue.is_empty())
    }
    fn copy_payload(&self, dst: &mut [u8]) {
        let mut state = self.0.borrow_mut();
        assert!(dst.len() <= 240);
        state.log.push(Access::Payload(dst.len()));
        for (i, byte) in dst.iter_mut().enumerate() {
            *byte = state.payload.get(i).copied().unwrap_or(0xa5);
        }
        if let Some(payload) = state.between.take() {
            state.payload = payload;
        }
    }
    fn clear_type(&self, old: u32) -> bool {
        let mut state = self.0.borrow_mut();
        if let Some((message_type, size)) = state.on_clear.take() {
            state.message_type = message_type;
            state.size = size;
        }
        let cleared = state.message_type == old;
        if cleared {
            state.message_type = HVMSG_NONE;
        }
        state.log.push(Access::Clear(cleared));
        cleared
    }
    fn full_barrier(&self) {
        self.0.borrow_mut().log.push(Access::Barrier);
    }
}
