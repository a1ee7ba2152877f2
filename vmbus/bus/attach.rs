// SPDX-License-Identifier: GPL-2.0

//! When and where a driver's `probe` runs, if not at once and where the device or the driver is
//! added.
//!
//! A `probe` waits for the host for a bounded time. A host under load that needs longer would cost
//! the machine a device for good (`drivers/hv` waits for some answers without end, and loses the
//! device with others): the device is offered to the drivers again; not without end while memory of
//! it is left to the host.
//!
//! Devices that are probed in order ([`Driver::IN_ORDER`](super::Driver::IN_ORDER)) are so on a
//! queue of their own: on that of devices, all others would wait for their host.

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
        atomic::{Acquire, Atomic, Full},
        Arc,
    },
    time::Msecs,
    workqueue::{Work, WorkItem},
};
use vmbus_protocol::attach::{AttachEvent, Next};

/// Drivers whose devices are probed in order, and which are being registered: their turns come when
/// all of their devices are known.
static REGISTERING: Atomic<i32> = Atomic::new(0);

/// Runs `f`, which adds a device, where others would wait for its `probe`: if it is probed in order
/// it is so afterwards, in its turn.
pub(crate) fn without_waiting<R>(channel: &Channel, f: impl FnOnce() -> R) -> R {
    let life = channel.attach_life();

    life.happen(AttachEvent::Add);
    let result = f();

    if life
        .happen(AttachEvent::Added)
        .is_some_and(|before| before.is_postponed())
    {
        kick();
    }
    result
}

/// A driver whose devices are probed in order is about to probe one: whether that is done later.
pub(super) fn postpone(channel: &Channel) -> bool {
    let registering = REGISTERING.load(Acquire) != 0;
    let is_later = channel
        .attach_life()
        .happen(AttachEvent::Due { registering })
        .is_some();

    if is_later {
        kick();
    }
    is_later
}

/// Registers a driver whose devices are probed in order, by `f`, and waits until those that are
/// there have been. May sleep, for as long as that takes.
pub(super) fn in_order<R>(f: impl FnOnce() -> R) -> R {
    REGISTERING.fetch_add(1, Full);
    let result = f();

    REGISTERING.fetch_sub(1, Full);
    if let Some(connection) = CONNECTION.get() {
        let give_turn = || {
            connection.turns.kick(&connection);
            connection.queues.probes.flush();
        };

        let waiting = connection
            .channels
            .look(|list| list.iter().filter(|channel| is_awaited(channel)).count());

        // One for each: those of devices that come again, since the host was late, are after these.
        // And one more: for what has been queued meanwhile, whoever asked was given none; and a
        // turn that has begun when they are counted is waited for, too.
        for _ in 0..=waiting {
            give_turn();
        }
    }
    result
}

fn is_awaited(channel: &Channel) -> bool {
    channel.attach_life().get().is_awaited()
}

fn is_queued(channel: &Channel) -> bool {
    channel.attach_life().get().is_queued()
}

/// A device waits for its turn.
fn kick() {
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

    /// Has the first device probed, in the order of the offers, that waits for its turn; first of
    /// those that a registration waits for.
    fn run(this: Arc<Turns>) {
        let Some(connection) = CONNECTION.get() else {
            return;
        };

        // There may be more of them, before these: whoever registers the driver goes on.
        if REGISTERING.load(Acquire) != 0 {
            return;
        }
        let channels = &connection.channels;
        let Some(channel) = channels
            .find(is_awaited)
            .or_else(|| channels.find(is_queued))
        else {
            return;
        };

        if channel.attach_life().happen(AttachEvent::Turn).is_some() {
            find_driver(&channel);
        }
        this.kick(&connection);
    }
}

/// A `probe` begins, of a driver whose devices are probed in order or not: its turn is now.
pub(super) fn begin(channel: &Channel, in_order: bool) {
    channel
        .attach_life()
        .happen(AttachEvent::Begin { in_order });
}

/// It has ended.
pub(super) fn end(channel: &Arc<Channel>, in_order: bool, result: c_int) {
    let life = channel.attach_life();

    if result == 0 {
        life.happen(AttachEvent::Bound);
        return;
    }
    // The second one: the host has not let go of what it was late with. The third: it had no room
    // for a message.
    let late = [ETIMEDOUT, EBUSY, EAGAIN].map(Error::to_errno);

    if !late.contains(&result) || channel.is_rescinded() {
        return;
    }
    let Some(before) = life.happen(AttachEvent::Late { in_order }) else {
        return;
    };
    let pause_ms = before.pause_ms();
    let instance = &channel.offer().instance;

    again_after(channel, pause_ms);
    if channel.lines.allow_about(instance) {
        pr_notice!(
            "{}: the host was late; trying again in {} s\n",
            Shown(instance),
            pause_ms / 1_000
        );
    }
}

fn again_after(channel: &Arc<Channel>, pause_ms: Msecs) {
    // One that waits already will do.
    let _ = workqueue::enqueue_delayed::<_, ATTACH>(
        workqueue::system_dfl_long(),
        channel.clone(),
        pause_ms,
    );
}

/// The time for another `probe` has come. May sleep, for as long as that takes.
pub(crate) fn again(channel: &Arc<Channel>) {
    let memory = has_memory_left(channel);
    let Some(before) = channel.attach_life().happen(AttachEvent::Again { memory }) else {
        return;
    };

    match before.next(memory) {
        Next::Nothing => {}
        Next::Now => find_driver(channel),
        Next::InTurn => kick(),
        Next::Wait { says } => {
            if says {
                pr_warn!(
                    "{}: not tried again until the host lets go of its memory\n",
                    Shown(&channel.offer().instance)
                );
            }
            again_after(channel, before.pause_ms());
        }
    }
}

/// Has the driver core look for a driver that takes the device. May sleep, for as long as a `probe`
/// takes.
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
