// SPDX-License-Identifier: GPL-2.0

//! Ring memory that two threads, or a test and a script, can share.

use std::sync::{
    atomic::{fence, AtomicBool, AtomicU32, AtomicU8, Ordering},
    Mutex,
};
use vmbus_ring::{init_control, Copies, Field, RingMemory};

/// One access of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A field was loaded.
    Load(Field),
    /// A field was stored.
    Store(Field, u32),
    /// Data was read.
    CopyOut(u32, usize),
    /// Data was written.
    CopyIn(u32, usize),
    /// A full barrier.
    Barrier,
}

type Hook = Box<dyn FnMut(&SharedRing, Access) + Send>;

/// Memory of one ring. The host's side uses the inherent methods, which the
/// hook does not see.
pub struct SharedRing {
    fields: [AtomicU32; 5],
    data: Box<[AtomicU8]>,
    hooked: AtomicBool,
    hook: Mutex<Option<Hook>>,
}

fn slot(field: Field) -> usize {
    match field {
        Field::WriteIndex => 0,
        Field::ReadIndex => 1,
        Field::InterruptMask => 2,
        Field::PendingSendSize => 3,
        Field::FeatureBits => 4,
    }
}

impl SharedRing {
    /// An empty, initialised ring of `len` data bytes, filled with 0xa5.
    pub fn new(len: u32) -> Self {
        let ring = SharedRing {
            fields: Default::default(),
            data: (0..len).map(|_| AtomicU8::new(0xa5)).collect(),
            hooked: AtomicBool::new(false),
            hook: Mutex::new(None),
        };
        init_control(&ring);
        ring
    }

    /// Calls `hook` after each access of the guest.
    pub fn set_hook(&self, hook: impl FnMut(&SharedRing, Access) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
        self.hooked.store(true, Ordering::SeqCst);
    }

    /// Stops calling the hook.
    pub fn clear_hook(&self) {
        self.hooked.store(false, Ordering::SeqCst);
        *self.hook.lock().unwrap() = None;
    }

    fn note(&self, access: Access) {
        if !self.hooked.load(Ordering::Relaxed) {
            return;
        }
        // Taken out meanwhile, so that the hook may remove itself.
        let hook = self.hook.lock().unwrap().take();
        if let Some(mut hook) = hook {
            hook(self, access);
            let mut place = self.hook.lock().unwrap();
            if place.is_none() && self.hooked.load(Ordering::SeqCst) {
                *place = Some(hook);
            }
        }
    }

    /// Host: reads a field.
    pub fn get(&self, field: Field) -> u32 {
        self.fields[slot(field)].load(Ordering::SeqCst)
    }

    /// Host: writes a field.
    pub fn set(&self, field: Field, value: u32) {
        self.fields[slot(field)].store(value, Ordering::SeqCst);
    }

    /// Host: reads data, wrapping at the end.
    pub fn peek(&self, offset: u32, dst: &mut [u8]) {
        let at = offset as usize;
        let len = self.data.len();
        for (i, byte) in dst.iter_mut().enumerate() {
            *byte = self.data[(at + i) % len].load(Ordering::Relaxed);
        }
    }

    /// Host: writes data, wrapping at the end.
    pub fn poke(&self, offset: u32, src: &[u8]) {
        let at = offset as usize;
        let len = self.data.len();
        for (i, byte) in src.iter().enumerate() {
            self.data[(at + i) % len].store(*byte, Ordering::Relaxed);
        }
    }

    /// Data length.
    pub fn len(&self) -> u32 {
        self.data.len() as u32
    }

    /// There is no data area.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The contract every caller of a copy has to keep.
    fn check_copy(&self, offset: u32, len: usize) {
        assert!(
            offset < self.len(),
            "copy at {offset}, size {}",
            self.data.len()
        );
        assert!(
            len <= self.data.len(),
            "copy of {len}, size {}",
            self.data.len()
        );
    }
}

impl RingMemory for SharedRing {
    type RingSpan<'a> = Copies<'a, SharedRing>;

    fn data_len(&self) -> u32 {
        self.len()
    }
    fn load(&self, field: Field) -> u32 {
        let value = self.fields[slot(field)].load(Ordering::Relaxed);
        self.note(Access::Load(field));
        value
    }
    fn load_acquire(&self, field: Field) -> u32 {
        let value = self.fields[slot(field)].load(Ordering::Acquire);
        self.note(Access::Load(field));
        value
    }
    fn store(&self, field: Field, value: u32) {
        self.fields[slot(field)].store(value, Ordering::Relaxed);
        self.note(Access::Store(field, value));
    }
    fn store_release(&self, field: Field, value: u32) {
        self.fields[slot(field)].store(value, Ordering::Release);
        self.note(Access::Store(field, value));
    }
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
        self.note(Access::Barrier);
    }
    fn copy_out(&self, offset: u32, dst: &mut [u8]) {
        self.check_copy(offset, dst.len());
        self.peek(offset, dst);
        self.note(Access::CopyOut(offset, dst.len()));
    }
    fn copy_in(&self, offset: u32, src: &[u8]) {
        self.check_copy(offset, src.len());
        self.poke(offset, src);
        self.note(Access::CopyIn(offset, src.len()));
    }
    fn span(&self, offset: u32, len: u32) -> Self::RingSpan<'_> {
        Copies::new(self, offset, len)
    }
}
