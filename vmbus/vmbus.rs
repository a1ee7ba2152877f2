// SPDX-License-Identifier: GPL-2.0

//! The VMBus: the channel between a guest and Hyper-V, over which the host offers its synthetic
//! devices.
//!
//! This crate is the core (`hv_vmbus_rust`). Drivers of VMBus devices use what is public here:
//! [`Driver`] and [`module_vmbus_driver!`] to bind a device, [`Device::open`] with a [`Handler`],
//! or [`Device::open_polled`] with a [`Signal`] and a [`Receiver`], to open its channel and receive
//! packets, [`Sender`] to send some, [`HostBuffer`] for memory beside the rings. Nothing else of
//! the core is visible to them, so the same drivers can run on another core.
//!
//! Layers, from the bottom: `hv` and `memory` (hypervisor and shared memory), `abstractions` (what
//! `rust/kernel` lacks), `connection`, `messages` and `channel` (the protocol at work, on top of
//! the pure crates `vmbus_protocol` and `vmbus_ring`), `bus` (the driver model).

use kernel::{bindings, prelude::*, sync::Arc};

pub mod abstractions;
mod bus;
mod channel;
mod connection;
mod counters;
mod ffi;
mod hotplug;
mod hv;
mod interrupt;
mod lines;
mod memory;
mod messages;
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

/// Whether what the end of a channel waits for waits for no memory, see
/// [`abstractions::Reclaim`].
pub(crate) const CLOSES_WITHOUT_MEMORY: bool = true;

use abstractions::{workqueue::ReclaimQueue, CpuHotplug, PanicNotifier};
use bus::{BusRegistration, PlatformDriver, Shutdown};
use connection::{Connection, CONNECTION};
use hv::interrupt::{InterruptHandler, ShutdownHandlers};

module! {
    type: Core,
    name: "hv_vmbus_rust",
    authors: ["The VMBus Rust developers"],
    description: "VMBus core for Hyper-V guests",
    license: "GPL",
    params: {
        answer_secs: u32 {
            default: 60,
            description: "Seconds the host has to answer a request (1 to 3600)",
        },
    },
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
pub const CORE_DESCRIPTION: &[u8; 59] =
    b"description=Runs on the VMBus core in Rust (hv_vmbus_rust)\0";

/// The loaded module. Fields are dropped in this order: a crash while the connection ends needs the
/// handlers, which find it by themselves.
#[pin_data(PinnedDrop)]
struct Core {
    link: Link,
    #[pin]
    _panic: PanicNotifier,
    _shutdown: ShutdownHandlers,
    _bus: BusRegistration,
    #[pin]
    _platform: PlatformDriver,
    _reclaim: ReclaimQueue,
}

impl kernel::InPlaceModule for Core {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _: {
                check_platform()?;
                // SAFETY: Module initialization runs once, and the bus is registered below.
                unsafe { bus::init_dynamic_ids() };
            },
            _reclaim: ReclaimQueue::new()?,
            _platform <- PlatformDriver::register::<Core>(module),
            _bus: BusRegistration::new()?,
            link: Link::establish(_platform.root().ok_or(ENODEV)?)?,
            _shutdown: ShutdownHandlers::register(kexec, crash),
            _panic <- PanicNotifier::new(panic, i32::MIN + 1),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Core {
    fn drop(self: Pin<&mut Self>) {
        pr_info!("unloading\n");
    }
}

/// Says why the core cannot work here, if it cannot.
fn check_platform() -> Result {
    if !hv::is_hyperv() {
        pr_info!("this is not a Hyper-V guest\n");
        return Err(ENODEV);
    }
    if hv::is_root_partition() {
        pr_info!("the root partition has no VMBus\n");
        return Err(ENODEV);
    }
    if hv::is_isolated() {
        pr_err!("isolated (confidential) VMs are not supported yet\n");
        return Err(ENODEV);
    }
    if hv::c_core_active() {
        pr_err!(
            "the built-in C core has the bus; boot with initcall_blacklist=hv_acpi_init to use this one\n"
        );
        return Err(EBUSY);
    }
    Ok(())
}

/// The connection while it is up. Dropping takes all devices away and disconnects.
struct Link(Arc<Connection>);

impl Link {
    fn establish(root: kernel::sync::aref::ARef<kernel::device::Device>) -> Result<Self> {
        let connection = Connection::new(root)?;

        CONNECTION.publish(connection.clone())?;
        // From here on dropping `link` undoes whatever was done.
        let link = Link(connection);
        let connection = &link.0;

        *connection.interrupts.lock() = Some(InterruptHandler::register(interrupt::on_callback)?);
        *connection.hotplug.lock() = Some(CpuHotplug::new::<hotplug::SynicHotplug>()?);
        connection.connect()?;
        connection.request_offers()?;
        Ok(link)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let connection = &self.0;

        connection.close_to_offers();
        // An offer that was taken before is on its way to its device's work, which follows.
        connection.queues.messages.flush();
        connection.queues.devices.flush();
        channel::take_everything_down(connection);
        connection.releases.end();
        connection.unload();
        // The guards are dropped outside of the locks that hold them.
        connection.release_cpus();
        let interrupts = connection.interrupts.lock().take();

        drop(interrupts);
        drop(CONNECTION.unpublish());
        connection.queues.messages.flush();
        connection.stock.end();
        connection.queues.devices.flush();
        // What they do is finished on the queue after them.
        connection.queues.withdrawals.flush();
        connection.queues.sub_channels.flush();
        connection.queues.channels.flush();
        // Its items have a reference to the connection while they run.
        connection.queues.probes.flush();
        bus::wait_for_devices();
        if memory::leaked_pages() != 0 {
            pr_warn!("{} pages were left to the host\n", memory::leaked_pages());
        }
    }
}

/// Whether the core has found a host.
fn is_up() -> bool {
    CONNECTION.with(|_| ()).is_some()
}

impl Shutdown for Core {
    /// The host must not touch our memory any more.
    fn shutdown() {
        if let Some(connection) = CONNECTION.get() {
            connection.unload();
        }
    }
}

/// Another kernel is about to be started: it must find a quiet SynIC.
extern "C" fn kexec() {
    let Some(connection) = CONNECTION.get() else {
        return;
    };

    connection.unload();
    connection.release_cpus();
}

/// A crash kernel is about to be started from this CPU.
extern "C" fn crash(_regs: *mut bindings::pt_regs) {
    panic();
    hv::interrupt::stop_timer_of_this_cpu();
    hv::synic::Synic::disable_this_cpu();
}

/// The kernel panics: tell the host, without locks and without sleeping.
fn panic() {
    CONNECTION.with(|connection| connection.unload_in_crash());
}
