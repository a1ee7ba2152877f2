// SPDX-License-Identifier: GPL-2.0

//! Memory that the host adds, on its way into the kernel.
//!
//! What is decided is in [`balloon_protocol::hot_add`]; here it is done. The kernel has one
//! callback for memory that comes online, whoever added it and whenever: [`Watch`] is that
//! callback. It gives the allocator what the host backs of our blocks, and leaves all other memory
//! to the kernel. As long as the kernel could bring a block online of which the host backs a part
//! only, the module cannot be unloaded.
//!
//! # Locking
//!
//! The ledger's lock is taken within the lock of memory hotplug, by the callback. So it is not held
//! while a block is added or removed, and no memory is allocated under it.

use super::{
    ffi::{self, event},
    phase::Phase,
};
use balloon_protocol::{
    hot_add::{Block, BlockState, End, Ledger, MemoryEvent, Plan, Span, Step, Table},
    message::HotAdd,
};
use kernel::{
    error::to_result,
    ffi::{c_uint, c_ulong, c_void},
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed, Release},
        global_lock,
        Arc,
        Mutex, //
    },
};

/// Blocks, in memory that is there before it is needed.
struct Blocks(KVVec<Block>);

impl Table for Blocks {
    fn blocks(&self) -> &[Block] {
        self.0.as_slice()
    }

    fn blocks_mut(&mut self) -> &mut [Block] {
        self.0.as_mut_slice()
    }

    fn insert(&mut self, place: usize, block: Block) -> bool {
        self.0.insert_within_capacity(place, block).is_ok()
    }

    fn remove(&mut self, place: usize) {
        let _ = self.0.remove(place);
    }
}

/// Why memory cannot be added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyNot {
    /// The kernel was built without it.
    NotBuilt,
    /// The module parameter says so.
    SwitchedOff,
    /// The kernel's units are not those of the protocol.
    Units,
    /// Another driver has the callback.
    Taken,
    /// Another device has it: a block that one is about to add is not the other one's to remove.
    Busy,
    /// There is no memory.
    NoMemory,
}

impl WhyNot {
    /// For the log.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NotBuilt => "this kernel cannot add memory (CONFIG_MEMORY_HOTPLUG)",
            Self::SwitchedOff => "the parameter hot_add is off",
            Self::Units => "the protocol has no words for this kernel's pages or memory blocks",
            Self::Taken => "another driver decides what becomes of new memory",
            Self::Busy => "another balloon device has added memory",
            Self::NoMemory => "there is no memory to begin with",
        }
    }
}

/// Why a step was not done.
pub(crate) struct Stop {
    /// The reason.
    pub(crate) end: End,
    /// What the kernel said, if it was asked.
    pub(crate) error: Option<Error>,
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self { end, error: None }
    }
}

/// The largest block that a host can be told of: 32 GiB.
const MAX_BLOCK_BYTES: u64 = 32 << 30;

/// How many blocks there is room for at first, and how many more each time.
const MORE_BLOCKS: usize = 64;

/// What the host has added.
#[pin_data]
pub(crate) struct Memory {
    #[pin]
    ledger: Mutex<Ledger<Blocks>>,
    /// A device has it.
    is_taken: Atomic<bool>,
    /// The module cannot be unloaded: without it the kernel would use all of a block of which the
    /// host backs only a part. Changes with the ledger locked.
    is_pinned: Atomic<bool>,
}

impl Memory {
    fn new() -> Result<Arc<Self>, WhyNot> {
        let bytes = super::memory_block_bytes();
        if !super::HOST_PAGES_FIT || bytes > MAX_BLOCK_BYTES {
            return Err(WhyNot::Units);
        }
        // SAFETY: Both return what is settled during boot.
        let (max_order, end_frame) = unsafe {
            (
                ffi::hv_balloon_shim_max_order(),
                ffi::hv_balloon_shim_end_frame(),
            )
        };
        let blocks = KVVec::with_capacity(MORE_BLOCKS, GFP_KERNEL).map_err(|_| WhyNot::NoMemory)?;
        let ledger =
            Ledger::new(bytes / 4096, max_order, end_frame, Blocks(blocks)).ok_or(WhyNot::Units)?;
        let memory = pin_init!(Self {
            ledger <- new_mutex!(ledger, "hv_balloon::ledger"),
            is_taken: Atomic::new(false),
            is_pinned: Atomic::new(false),
        });

        Arc::pin_init(memory, GFP_KERNEL).map_err(|_| WhyNot::NoMemory)
    }

    /// Begins with a request.
    pub(crate) fn plan(&self, request: &HotAdd) -> Result<Plan, End> {
        self.ledger.lock().plan(request)
    }

    /// Does the next step of a request: adds a block, or uses more of one. Returns what was done.
    /// May sleep.
    pub(crate) fn step(&self, plan: &mut Plan) -> Result<Step, Stop> {
        self.make_room()?;
        let mut ledger = self.ledger.lock();
        let step = ledger.next(plan)?;

        match &step {
            Step::Add { block, backed } => {
                ledger.add(block, backed)?;
                if !self.pin_if_needed(&ledger) {
                    ledger.undo(block, false);
                    return Err(End::Closing.into());
                }
                drop(ledger);
                // SAFETY: The block is a whole one below the limit. The host says that there is
                // memory at these addresses, in as far as the ledger calls it backed; while the
                // callback is ours, see `Watch`, nothing else of it is used. The ledger is not
                // locked.
                let ret = unsafe { ffi::hv_balloon_shim_add_block(block.start as c_ulong) };

                if let Err(error) = to_result(ret) {
                    let mut ledger = self.ledger.lock();
                    let end = ledger.undo(block, error == EEXIST);

                    self.pin_if_needed(&ledger);
                    return Err(Stop {
                        end,
                        error: Some(error),
                    });
                }
            }
            Step::Back { backed } => {
                // SAFETY: The ledger gives what is backed of a block that is online, and was not
                // given since it came online.
                ledger.back(backed, |frame, order| unsafe { give(frame, order) })?;
                self.pin_if_needed(&ledger);
            }
        }
        plan.advance(&step);
        Ok(step)
    }

    /// Pins the module, or lets go of it, after a change of the ledger. Returns whether it is as it
    /// has to be: a module that is being unloaded cannot be pinned.
    fn pin_if_needed(&self, ledger: &Ledger<Blocks>) -> bool {
        let needed = ledger.is_needed();

        if self.is_pinned.load(Relaxed) == needed {
            return true;
        }
        // SAFETY: The module runs, as unloading it waits for devices and callbacks. With the ledger
        // locked it is let go of as often as it was pinned.
        let is_done = unsafe { ffi::hv_balloon_shim_pin(needed) };

        if is_done {
            self.is_pinned.store(needed, Relaxed);
        }
        is_done
    }

    /// Makes room for one more block, without the lock.
    fn make_room(&self) -> Result<(), End> {
        let len = {
            let ledger = self.ledger.lock();
            let blocks = &ledger.table().0;

            if blocks.len() < blocks.capacity() {
                return Ok(());
            }
            blocks.len()
        };
        let mut larger = KVVec::with_capacity(len.saturating_add(MORE_BLOCKS), GFP_KERNEL)
            .map_err(|_| End::Failed)?;
        let mut ledger = self.ledger.lock();
        let blocks = &mut ledger.table_mut().0;

        for block in blocks.as_slice() {
            // If they have become more meanwhile, so has their room.
            if larger.push_within_capacity(*block).is_err() {
                return Ok(());
            }
        }
        core::mem::swap(blocks, &mut larger);
        // The former list is freed without the lock.
        drop(ledger);
        drop(larger);
        Ok(())
    }

    /// Whether adding memory may work, now or later.
    pub(crate) fn is_possible(&self) -> bool {
        self.ledger.lock().is_possible()
    }

    /// Whether the block that this frame lies in is in use.
    pub(crate) fn is_online(&self, frame: u64) -> bool {
        let ledger = self.ledger.lock();

        ledger.block(frame).map(Block::state) == Some(BlockState::Online)
    }

    /// Pages that were added, and those of them that are in use.
    pub(crate) fn added_and_onlined(&self) -> (u64, u64) {
        let ledger = self.ledger.lock();

        (ledger.added(), ledger.onlined())
    }

    /// Lists what was added, see [`Ledger::spans`].
    pub(crate) fn spans(&self, spans: &mut [Span]) -> (usize, bool) {
        self.ledger.lock().spans(spans)
    }

    /// Takes blocks away of which the host backs a part only and that are not online, when the
    /// device goes that they came through: nobody will back the rest, and the module is pinned as
    /// long as they are there. Those that are online stay, and cannot go offline. May sleep.
    fn remove_unusable(&self) {
        let mut from = 0;

        loop {
            // Not in the condition of a loop, where the lock would be held for longer.
            let Some(block) = self.ledger.lock().unusable(from) else {
                return;
            };
            from = block.end;
            // SAFETY: The block was added by us, as a whole. The kernel does not remove it if it
            // has come online meanwhile. The ledger is not locked.
            let ret = unsafe { ffi::hv_balloon_shim_remove_block(block.start as c_ulong) };

            match to_result(ret) {
                Ok(()) => {
                    let mut ledger = self.ledger.lock();

                    ledger.forget(block.start);
                    self.pin_if_needed(&ledger);
                    drop(ledger);
                    pr_info!(
                        "memory block at {:#x} removed: the host backs only a part of it\n",
                        block.start.saturating_mul(4096)
                    );
                }
                Err(_) if self.is_online(block.start) => (),
                Err(error) => pr_err!(
                    "memory block at {:#x} cannot be removed ({:?}): the host backs only a part of it, so the module stays until it is online\n",
                    block.start.saturating_mul(4096),
                    error
                ),
            }
        }
    }
}

/// Returns whether the kernel brings memory online when it is added. If not, user space does, or
/// nobody.
pub(crate) fn onlines_itself() -> bool {
    // SAFETY: Reads a setting; has no requirements.
    unsafe { ffi::hv_balloon_shim_onlines_itself() }
}

/// Gives pages to the allocator.
///
/// # Safety
///
/// The frames must be aligned to their number, lie in a block that is online or going to be, be
/// marked `PageOffline` since it began to, and be backed by the host.
unsafe fn give(frame: u64, order: u32) {
    // SAFETY: By the requirements of this function.
    unsafe { ffi::hv_balloon_shim_give(frame as c_ulong, order) };
}

/// Being the kernel's callback for memory that comes online, until this is dropped.
///
/// Memory stays when the device that it came through goes, so this stays as long as the module:
/// then the next device's requests meet the blocks of the one before.
///
/// # Invariants
///
/// The shim's watcher is `memory`.
struct Watch {
    memory: Arc<Memory>,
}

global_lock! {
    // SAFETY: `WatchUntilDrop::new` initialises it, and until then nobody uses it, see `PHASE`.
    unsafe(uninit) static WATCH: Mutex<Option<Watch>> = None;
}

/// How far `WATCH` is.
static PHASE: Phase = Phase::new();

/// What there is to watch at all is watched from the first device that can have memory added until
/// this is dropped. The module has it, and drops it behind its driver.
pub(crate) struct WatchUntilDrop(());

impl WatchUntilDrop {
    /// Prepares to watch. `EBUSY` the second time.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: `begin` does this once.
        PHASE.begin(|| unsafe { WATCH.init() })?;
        Ok(Self(()))
    }
}

impl Drop for WatchUntilDrop {
    fn drop(&mut self) {
        // Not dropped under the lock.
        let watch = WATCH.lock().take();

        drop(watch);
    }
}

/// What was and is added by a host, for the one device that has this. When it is dropped, what is
/// of no use without the device is removed, which may sleep.
pub(crate) struct Claim(Arc<Memory>);

impl Claim {
    /// What was added.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.remove_unusable();
        // Release: the next device comes after that.
        self.0.is_taken.store(false, Release);
    }
}

/// What was and is added by a host, for a device that is about to be bound; why not, if none can
/// be. May sleep.
pub(crate) fn watch() -> Result<Claim, WhyNot> {
    // SAFETY: Has no requirements.
    if !unsafe { ffi::hv_balloon_shim_hot_add_built() } {
        return Err(WhyNot::NotBuilt);
    }
    // SAFETY: The variable is always valid. It may be written through sysfs at any time, hence
    // volatile; it is a byte that is 0 or 1.
    if !unsafe { (&raw const ffi::hv_balloon_shim_hot_add).read_volatile() } {
        return Err(WhyNot::SwitchedOff);
    }
    if !PHASE.is_ready() {
        return Err(WhyNot::NoMemory);
    }
    let mut watch = WATCH.lock();

    if watch.is_none() {
        *watch = Some(Watch::start()?);
    }
    let Some(memory) = watch.as_ref().map(|watch| watch.memory.clone()) else {
        return Err(WhyNot::NoMemory);
    };

    if memory.is_taken.xchg(true, Full) {
        return Err(WhyNot::Busy);
    }
    memory.ledger.lock().connect();
    Ok(Claim(memory))
}

impl Watch {
    /// Becomes the callback. May sleep.
    fn start() -> Result<Self, WhyNot> {
        let memory = Memory::new()?;
        let watcher: *const c_void = Arc::as_ptr(&memory).cast();

        // SAFETY: `memory` stays valid until `unwatch` has returned, see `drop`.
        to_result(unsafe { ffi::hv_balloon_shim_watch(watcher) }).map_err(|_| WhyNot::Taken)?;
        // INVARIANT: It is, as of now.
        Ok(Self { memory })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: By the type invariant we are the watcher. The module goes, so it is not pinned,
        // and could not be pinned since: each block is online or backed as a whole, and may come
        // online without us.
        unsafe { ffi::hv_balloon_shim_unwatch() };
    }
}

/// Takes a part of a block that comes online. Returns whether the block is ours.
///
/// # Safety
///
/// The shim calls this with its watcher, which is a [`Memory`], for `1 << order` frames, aligned to
/// that, of a block that is going online, whose descriptors are fresh, thus marked `PageOffline`.
/// Each part is asked for once.
#[no_mangle]
unsafe extern "C" fn hv_balloon_rust_come_online(
    watcher: *const c_void,
    pfn: c_ulong,
    order: c_uint,
) -> bool {
    // SAFETY: By the requirements of this function, and by those of `hv_balloon_shim_watch`.
    let memory = unsafe { &*watcher.cast::<Memory>() };
    let start = pfn as u64;
    let end = start.saturating_add(1u64.checked_shl(order).unwrap_or(0));

    memory
        .ledger
        .lock()
        // SAFETY: The ledger gives frames of this part that are backed.
        .come_online(start..end, |frame, order| unsafe { give(frame, order) })
}

/// The kernel says something of memory blocks.
///
/// # Safety
///
/// The shim calls this with its watcher, which is a [`Memory`], after each change to all blocks in
/// the range, and before they go online. The range is in units of pages.
#[no_mangle]
unsafe extern "C" fn hv_balloon_rust_memory_event(
    watcher: *const c_void,
    event: c_uint,
    pfn: c_ulong,
    nr: c_ulong,
) {
    // SAFETY: By the requirements of this function, and by those of `hv_balloon_shim_watch`.
    let memory = unsafe { &*watcher.cast::<Memory>() };
    let start = pfn as u64;
    let range = start..start.saturating_add(nr as u64);
    let event = match event {
        event::GOING_ONLINE => MemoryEvent::GoingOnline,
        event::ONLINE => MemoryEvent::Online,
        event::CANCEL_ONLINE => MemoryEvent::CancelOnline,
        event::OFFLINE => MemoryEvent::Offline,
        _ => return,
    };

    let mut ledger = memory.ledger.lock();

    // SAFETY: The ledger gives what is backed of a block that is online, and was not given since it
    // came online.
    ledger.on_event(&range, event, |frame, order| unsafe { give(frame, order) });
    memory.pin_if_needed(&ledger);
}
