// SPDX-License-Identifier: GPL-2.0

//! The VMBus for drivers in Rust, on the kernel's own core in C.
//!
//! The second form of crate `vmbus` (`hv_vmbus_rust_on_c`): the same API, for the same drivers,
//! beside the drivers in C that the kernel has for other devices. Offers, rescinds, the opening and
//! closing of channels and the messages for it are the C core's, and so is the bus; packets move by
//! our own ring crate. What this form shares with the other one is in the same files.
//!
//! What the C core insists on, and what cannot be made safe on it, is in `docs/status.md`.

use kernel::{prelude::*, sync::Arc};

#[path = "../abstractions/mod.rs"]
pub mod abstractions;
mod bus;
mod c_core;
mod channel;
#[allow(dead_code)] // more than this form needs
mod ffi;
#[path = "../lines.rs"]
mod lines;
#[allow(dead_code)] // as above
mod memory;
#[allow(dead_code)] // as above
#[path = "../state.rs"]
mod state;

pub use bus::{Adapter, Device, DeviceId, Driver, IdTable, RawDevice, RawDriver};
pub use channel::{
    Batch, CallbackContext, ChannelConfig, Doorbell, Handler, HostBuffer, Line, Lingering,
    OpenChannel, Receiver, Sender, Signal, SubChannel, SubChannels, TxGuard,
};
pub use lines::Lines;
pub use vmbus_protocol as protocol;
pub use vmbus_protocol::Guid;
pub use vmbus_ring::{GpaDirectPacket, OutgoingPacket, Packet, ReadError, SendError};

/// The C core closes with a lock held that it holds, too, while it waits for sysfs
/// (`vmbus_disconnect_ring`, `vmbus_onoffer_rescind`), and who has that may wait for memory.
pub(crate) const CLOSES_WITHOUT_MEMORY: bool = false;

use abstractions::{workqueue::ReclaimQueue, Workqueue, WqFlags};
use c_core::Callbacks;
use channel::{bound, watch::Watching, QUEUE};

module! {
    type: OnC,
    name: "hv_vmbus_rust_on_c",
    authors: ["The VMBus Rust developers"],
    description: "VMBus drivers in Rust on the kernel's own (C) VMBus core",
    license: "GPL",
}

/// Says in the description of a driver's module which core it is for.
#[doc(hidden)]
#[macro_export]
macro_rules! describe_core {
    () => {
        #[cfg(MODULE)]
        #[used]
        #[link_section = ".modinfo"]
        static VMBUS_CORE: [u8; $crate::CORE_DESCRIPTION.len()] = *$crate::CORE_DESCRIPTION;
    };
}

/// See [`describe_core`].
#[doc(hidden)]
pub const CORE_DESCRIPTION: &[u8; 54] = b"description=Runs on the kernel's own VMBus core, in C\0";

/// The loaded module. Fields are dropped in this order.
struct OnC {
    _watching: Watching,
    _queue: Queue,
    _callbacks: Callbacks,
    _reclaim: ReclaimQueue,
}

impl kernel::Module for OnC {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        if !c_core::runs() {
            pr_err!(
                "the kernel's own VMBus core does not run here, or is of an isolated VM; with the Rust core use the drivers without _on_c\n"
            );
            return Err(ENODEV);
        }
        // SAFETY: Module initialization runs once, and drivers' modules need this one.
        unsafe { bound::init() };
        Ok(Self {
            _reclaim: ReclaimQueue::new()?,
            _callbacks: Callbacks::new(),
            _queue: Queue::new()?,
            _watching: Watching::new()?,
        })
    }
}

/// Whether there is a C core to work with.
fn is_up() -> bool {
    QUEUE.with(|_| ()).is_some()
}

/// Where handlers run that may sleep.
struct Queue(());

impl Queue {
    fn new() -> Result<Self> {
        let flags = WqFlags::PERCPU | WqFlags::HIGHPRI | WqFlags::MEM_RECLAIM;
        let queue = Workqueue::new(c"vmbus_channels", flags, 0)?;

        QUEUE.publish(Arc::new(queue, GFP_KERNEL)?)?;
        Ok(Self(()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(QUEUE.unpublish());
        if memory::leaked_pages() != 0 {
            pr_warn!("{} pages were left to the host\n", memory::leaked_pages());
        }
    }
}
