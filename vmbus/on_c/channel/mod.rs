// SPDX-License-Identifier: GPL-2.0

//! Channels: what this core keeps of one of the C core's while a driver has it, and how packets
//! move.

pub(crate) mod bound;
#[path = "../../channel/buffer.rs"]
mod buffer;
mod claim;
mod close;
#[path = "../../channel/drain.rs"]
mod drain;
mod gpadl;
#[path = "../../channel/open.rs"]
mod open;
pub(crate) mod raw;
#[path = "../../channel/receive.rs"]
mod receive;
#[path = "../../channel/send.rs"]
mod send;
mod session;
mod sub;
#[path = "../../channel/sub_channel.rs"]
mod sub_channel;
pub(crate) mod watch;

pub use buffer::HostBuffer;
pub use gpadl::Lingering;
pub use open::{ChannelConfig, OpenChannel};
pub use receive::{CallbackContext, Handler, Line, Receiver, Signal};
pub use send::{Batch, Doorbell, Sender, TxGuard};
pub use sub_channel::{SubChannel, SubChannels};

use crate::{
    abstractions::{RcuArc, Workqueue},
    Lines,
};
use kernel::{
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Release},
        static_lock_class, Arc, Mutex, SpinLockIrq,
    },
};
use raw::RawChannel;
use session::{RxSlot, Session};
use vmbus_protocol::{Guid, Relid};

/// Where handlers run that may sleep, and the channels' fate is told of. There while the module is.
pub(crate) static QUEUE: RcuArc<Workqueue> = RcuArc::empty();

/// What does not change of a channel.
pub(crate) struct Offer {
    /// The GUID of its device.
    pub(crate) instance: Guid,
    /// As the host says: a primary channel has any index, that of a sub-channel is not 0.
    pub(crate) sub_channel_index: u16,
    /// It is the device's primary channel. For the C core that is the first one that was offered.
    pub(crate) primary: bool,
}

/// One channel: a primary one from before its driver is bound until after that, a sub-channel from
/// its announcement on.
#[pin_data]
pub(crate) struct Channel {
    raw: RawChannel,
    offer: Offer,
    queue: Arc<Workqueue>,
    /// See [`claim::Claim`].
    claimed: Atomic<bool>,
    /// Of a primary channel: a driver is bound to the device, or about to be. Written under the
    /// lock of `session`.
    bound: Atomic<bool>,
    /// Where the outgoing ring was when it was full last.
    full_at: Atomic<u32>,
    /// Packets that were dropped because something was wrong with them.
    dropped: Atomic<u64>,
    /// Lines about it that the host can cause.
    lines: Lines,
    /// Where interrupts find the session of now.
    #[pin]
    rx: SpinLockIrq<Option<RxSlot>>,
    /// The session of now. That of a primary channel may be held around that of a sub-channel.
    #[pin]
    session: Mutex<Option<Arc<Session>>>,
    /// Of a primary channel: who takes its sub-channels.
    #[pin]
    acceptor: Mutex<Option<Arc<dyn SubChannels>>>,
    /// Of a primary channel: held while its driver is told of a sub-channel, which it may open
    /// then.
    #[pin]
    telling: Mutex<()>,
    /// Of a primary channel: the sessions of its sub-channels that the C core has not closed.
    /// Innermost.
    #[pin]
    subs: Mutex<KVec<Arc<Session>>>,
}

impl Channel {
    fn new(raw: RawChannel) -> Result<Arc<Self>> {
        let primary = raw.is_primary();
        // That of a primary channel is held around that of its sub-channels.
        let session_class = if primary {
            static_lock_class!()
        } else {
            static_lock_class!()
        };

        Arc::pin_init(
            try_pin_init!(Self {
                offer: Offer {
                    instance: raw.instance(),
                    sub_channel_index: raw.index(),
                    primary,
                },
                raw,
                queue: QUEUE.get().ok_or(ENODEV)?,
                claimed: Atomic::new(false),
                bound: Atomic::new(false),
                full_at: Atomic::new(u32::MAX),
                dropped: Atomic::new(0),
                lines: Lines::new(),
                rx <- new_spinlock_irq!(None),
                session <- Mutex::new(None, c"vmbus_session", session_class),
                acceptor <- new_mutex!(None),
                telling <- new_mutex!(()),
                subs <- new_mutex!(KVec::new()),
            }? Error),
            GFP_KERNEL,
        )
    }

    fn claim(&self) -> bool {
        !self.claimed.xchg(true, Full)
    }

    fn unclaim(&self) {
        // What was written of the channel is there for the next one who claims it.
        self.claimed.store(false, Release);
    }

    /// The channel's number in messages.
    fn relid(&self) -> Relid {
        self.raw.relid()
    }

    /// The CPU that the host interrupts for this channel.
    fn target_cpu(&self) -> u32 {
        self.raw.target_cpu()
    }

    /// The NUMA node of that CPU.
    fn numa_node(&self) -> i32 {
        self.raw.node()
    }

    /// A packet did not fit into the outgoing ring, which is written next at `position`.
    #[cold]
    fn note_full(&self, position: u32) {
        // Nothing was written since the last time: it is full still.
        let first = self.full_at.xchg(position, Full) != position;

        self.raw.count_full(first);
    }

    /// Tells the host that waits for it of room in the incoming ring. Any context.
    #[cold]
    fn signal_room(&self) {
        self.raw.signal_room();
    }

    /// Rings the host's doorbell of this channel. Any context.
    fn signal_host(&self) {
        self.raw.signal();
    }
}
