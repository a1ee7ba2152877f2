// SPDX-License-Identifier: GPL-2.0

//! The host's ends of the rings, written against the wire format alone.

use crate::memory::SharedRing;
use vmbus_ring::Field;

/// Bytes of a descriptor with freely chosen values.
pub fn descriptor(kind: u16, offset8: u16, len8: u16, flags: u16, id: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0..2].copy_from_slice(&kind.to_le_bytes());
    bytes[2..4].copy_from_slice(&offset8.to_le_bytes());
    bytes[4..6].copy_from_slice(&len8.to_le_bytes());
    bytes[6..8].copy_from_slice(&flags.to_le_bytes());
    bytes[8..16].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// Puts packets into the host-to-guest ring.
pub struct Producer<'a> {
    ring: &'a SharedRing,
    /// Where the next packet goes; free to be changed.
    pub write: u32,
}

impl<'a> Producer<'a> {
    /// Starts at the beginning.
    pub fn new(ring: &'a SharedRing) -> Self {
        Producer { ring, write: 0 }
    }

    /// Writes bytes without publishing them.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.ring.poke(self.write, bytes);
        self.write = (self.write + bytes.len() as u32) % self.ring.len();
    }

    /// Writes a correct packet, trailer included, without publishing it.
    /// `header` and `payload` must be multiples of 8 bytes.
    pub fn packet(&mut self, kind: u16, flags: u16, id: u64, header: &[u8], payload: &[u8]) {
        assert!(header.len() % 8 == 0 && payload.len() % 8 == 0);
        let start = self.write;
        let offset8 = (16 + header.len()) / 8;
        let len8 = offset8 + payload.len() / 8;
        self.raw(&descriptor(kind, offset8 as u16, len8 as u16, flags, id));
        self.raw(header);
        self.raw(payload);
        self.raw(&(u64::from(start) << 32).to_le_bytes());
    }

    /// Writes a descriptor that may lie, then `body` bytes.
    pub fn lie(&mut self, offset8: u16, len8: u16, body: usize) {
        self.raw(&descriptor(6, offset8, len8, 0, 1));
        self.raw(&vec![0xee; body]);
    }

    /// Publishes everything written.
    pub fn publish(&self) {
        self.ring.set(Field::WriteIndex, self.write);
    }

    /// Free bytes, by the guest's read index.
    pub fn free(&self) -> u32 {
        let read = self.ring.get(Field::ReadIndex);
        if self.write >= read {
            self.ring.len() - (self.write - read)
        } else {
            read - self.write
        }
    }
}

/// A packet the guest sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// Its transaction id.
    pub id: u64,
    /// Bytes between descriptor and payload.
    pub header: Vec<u8>,
    /// The payload with its padding.
    pub payload: Vec<u8>,
}

/// Takes packets out of the guest-to-host ring, and is strict about them.
pub struct Consumer<'a> {
    ring: &'a SharedRing,
    read: u32,
}

impl<'a> Consumer<'a> {
    /// Starts at the beginning.
    pub fn new(ring: &'a SharedRing) -> Self {
        Consumer { ring, read: 0 }
    }

    /// Takes the next packet out and publishes the read index.
    ///
    /// # Panics
    ///
    /// When the guest wrote anything that is not a correct packet.
    pub fn pop(&mut self) -> Option<Received> {
        let len = self.ring.len();
        let write = self.ring.get(Field::WriteIndex);
        assert!(write < len && write % 8 == 0, "write index {write}");
        let available = (write + len - self.read) % len;
        if available == 0 {
            return None;
        }
        let mut head = [0; 16];
        self.ring.peek(self.read, &mut head);
        let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (offset, bytes) = (u32::from(word(2)) * 8, u32::from(word(4)) * 8);
        assert!(16 <= offset && offset <= bytes && bytes + 8 <= available);
        let mut packet = vec![0; bytes as usize + 8];
        self.ring.peek(self.read, &mut packet);
        let trailer = packet.split_off(bytes as usize);
        assert_eq!(trailer, (u64::from(self.read) << 32).to_le_bytes());
        self.read = (self.read + bytes + 8) % len;
        self.ring.set(Field::ReadIndex, self.read);
        Some(Received {
            kind: word(0),
            flags: word(6),
            id: u64::from_le_bytes(head[8..16].try_into().unwrap()),
            header: packet[16..offset as usize].to_vec(),
            payload: packet[offset as usize..].to_vec(),
        })
    }
}
