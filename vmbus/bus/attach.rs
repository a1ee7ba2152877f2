// SPDX-License-Identifier: GPL-2.0

//! When and where a driver's `probe` runs, if not at once and where the device or the driver is added.
//!
//! A `probe` waits for the host for a bounded time. A host under load that needs longer would cost the machine a
//! device for good (`drivers/hv` waits for some answers without end, and loses the device with others): the device is
//! offered to the drivers again; not without end while memory of it is left to the host.
//!
//! Devices that are probed in order ([`Driver::IN_ORDER`](super::Driver::IN_ORDER)) are so on a queue of their own: on
//! that of devices, all others would wait for their host.

use crate::{
    abstractions::{workqueue, Shown},
    channel::{Channel, ATTACH},
    connection::{Connection, CONNECTION},
};
use kernel::{
    ffi::c_int,
    impl_has_work, new_work,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc,
    },
    time::Msecs,
    workqueue::{Work, WorkItem},
};

/// How long until the second `probe`, and how long at most until another one. Each takes its own time.
const FIRST_MS: Msecs = 10_000;
const MOST_MS: Msecs = 160_000;

/// How often a device is probed again although memory of it is left to the host, which gets some more each time.
const MOST_WITH_MEMORY: u32 = 3;

/// A `probe` may run where it is due.
const HERE: u32 = 0;
/// One that others would wait for may not: the device is being added.
const ELSEWHERE: u32 = 1;
/// One was about to.
const POSTPONED: u32 = 2;

/// Drivers whose devices are probed in order, and which are being registered: their turns come when all of their
/// devices are known.
static REGISTERING: Atomic<i32> = Atomic::new(0);

/// Whether, when and where a device is offered to the drivers again.
pub(crate) struct Attach {
    wanted: Atomic<bool>,
    pause_ms: Atomic<Msecs>,
    with_memory: Atomic<u32>,
    /// The driver that gave up is one whose devices are probed in order.
    in_order: Atomic<bool>,
    /// [`HERE`], [`ELSEWHERE`] or [`POSTPONED`].
    place: Atomic<u32>,
    /// It waits for its turn.
    queued: Atomic<bool>,
}

impl Attach {
    /// It was not offered yet.
    pub(crate) const fn new() -> Self {
        Self {
            wanted: Atomic::new(false),
            pause_ms: Atomic::new(FIRST_MS),
            with_memory: Atomic::new(0),
            in_order: Atomic::new(false),
            place: Atomic::new(HERE),
            queued: Atomic::new(false),
        }
    }
}

/// Runs `f`, which adds a device, where others would wait for its `probe`: if it is probed in order it is so
/// afterwards, in its turn.
pub(crate) fn without_waiting<R>(channel: &Channel, f: impl FnOnce() -> R) -> R {
    let place = &channel.attach_state().place;

    place.xchg(ELSEWHERE, Full);
    let result = f();

    if place.xchg(HERE, Full) == POSTPONED {
        queue(channel);
    }
    result
}

/// A driver whose devices are probed in order is about to probe one: whether that is done later.
pub(super) fn postpone(channel: &Channel) -> bool {
    let place = &channel.attach_state().place;
    let is_being_added = match place.cmpxchg(ELSEWHERE, POSTPONED, Full) {
        Ok(_) | Err(POSTPONED) => true,
        Err(_) => false,
    };
    let is_registering = REGISTERING.load(Acquire) != 0;

    if is_registering && !is_being_added {
        queue(channel);
    }
    is_registering || is_being_added
}

/// Registers a driver whose devices are probed in order, by `f`, and waits until those that are there have been. May
/// sleep, for as long as that takes.
pub(super) fn in_order<R>(f: impl FnOnce() -> R) -> R {
    REGISTERING.fetch_add(1, Full);
    let result = f();

    REGISTERING.fetch_sub(1, Full);
    if let Some(connection) = CONNECTION.get() {
        let waiting = connection
            .channels
            .look(|list| list.iter().filter(|channel| is_queued(channel)).count());

        // A turn for each. Not until there is none left: a device for which the host is late comes again.
        for _ in 0..waiting {
            connection.turns.kick(&connection);
            connection.queues.probes.flush();
        }
    }
    result
}

fn is_queued(channel: &Channel) -> bool {
    channel.attach_state().queued.load(Relaxed)
}

/// It waits for its turn.
fn queue(channel: &Channel) {
    channel.attach_state().queued.store(true, Relaxed);
    CONNECTION.with(|connection| connection.turns.kick(&connection));
}

/// Gives devices their turns, one each time that it runs: nobody waits for those of others.
#[pin_data]
pub(crate) struct Turns {
    #[pin]
    work: Work<Turns>,
}

impl_has_work! {
    impl HasWork<Self> for Turns { self.work }
}

impl Turns {
    /// It does not run yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_work!("vmbus_turns"),
            }),
            GFP_KERNEL,
        )
    }

    /// Any context but NMI.
    fn kick(self: &Arc<Self>, connection: &Connection) {
        // An item that waits already will do.
        let _ = connection.queues.probes.enqueue(self.clone());
    }
}

impl WorkItem for Turns {
    type Pointer = Arc<Turns>;

    /// Has the first device probed, in the order of the offers, that waits for its turn.
    fn run(this: Arc<Turns>) {
        let Some(connection) = CONNECTION.get() else {
            return;
        };

        // There may be more of them, before these: whoever registers the driver goes on.
        if REGISTERING.load(Acquire) != 0 {
            return;
        }
        let Some(channel) = connection.channels.find(is_queued) else {
            return;
        };

        channel.attach_state().queued.store(false, Relaxed);
        find_driver(&channel);
        this.kick(&connection);
    }
}

/// A `probe` begins, of a driver whose devices are probed in order or not: its turn is now.
pub(super) fn begin(channel: &Channel, in_order: bool) {
    if in_order {
        channel.attach_state().queued.store(false, Relaxed);
    }
}

/// It has ended.
pub(super) fn end(channel: &Arc<Channel>, in_order: bool, result: c_int) {
    let state = channel.attach_state();

    if result == 0 {
        // Nobody waits for another one.
        state.wanted.store(false, Relaxed);
        state.queued.store(false, Relaxed);
        state.with_memory.store(0, Relaxed);
        return state.pause_ms.store(FIRST_MS, Relaxed);
    }
    // The second one: the host has not let go of what it was late with. The third: it had no room for a message.
    let late = [ETIMEDOUT, EBUSY, EAGAIN].map(Error::to_errno);

    if !late.contains(&result) || channel.is_rescinded() {
        return;
    }
    state.in_order.store(in_order, Relaxed);
    let pause_ms = again_later(channel);
    let instance = &channel.offer().instance;

    if channel.lines.allow_about(instance) {
        pr_notice!(
            "{}: the host was late; trying again in {} s\n",
            Shown(instance),
            pause_ms / 1_000
        );
    }
}

/// Returns after how many milliseconds.
fn again_later(channel: &Arc<Channel>) -> Msecs {
    let state = channel.attach_state();
    // One `probe` of a device runs at a time, and no other one begins before the item has run.
    let pause_ms = state.pause_ms.load(Relaxed);

    state
        .pause_ms
        .store(pause_ms.saturating_mul(2).min(MOST_MS), Relaxed);
    state.wanted.store(true, Relaxed);
    // One that waits already will do.
    let _ = workqueue::enqueue_delayed::<_, ATTACH>(
        workqueue::system_dfl_long(),
        channel.clone(),
        pause_ms,
    );
    pause_ms
}

/// The time for another `probe` has come. May sleep, for as long as that takes.
pub(crate) fn again(channel: &Arc<Channel>) {
    if !channel.attach_state().wanted.xchg(false, Full) {
        return;
    }
    if has_memory_left(channel) {
        let times = channel.attach_state().with_memory.fetch_add(1u32, Relaxed);

        if times >= MOST_WITH_MEMORY {
            if times == MOST_WITH_MEMORY {
                pr_warn!(
                    "{}: not tried again until the host lets go of its memory\n",
                    Shown(&channel.offer().instance)
                );
            }
            again_later(channel);
            return;
        }
    }
    if channel.attach_state().in_order.load(Relaxed) {
        queue(channel);
    } else {
        find_driver(channel);
    }
}

/// Has the driver core look for a driver that takes the device. May sleep, for as long as a `probe` takes.
fn find_driver(channel: &Arc<Channel>) {
    if let Some(device) = channel.device() {
        device.find_driver();
    }
}

/// Memory of a device without a driver that the host has not let go of.
fn has_memory_left(channel: &Arc<Channel>) -> bool {
    let Some(connection) = CONNECTION.get() else {
        return true;
    };
    let mut left = connection.gpadls.has_any(channel.relid());

    connection.channels.for_each_sub(channel, |sub| {
        left |= connection.gpadls.has_any(sub.relid());
    });
    left
}
