// SPDX-License-Identifier: GPL-2.0

//! Hyper-V Dynamic Memory: lets the host take memory from the guest and give it back.
//!
//! The host offers one device of this class. Over its channel the two agree on a version, the guest
//! reports once a second how much memory it needs, and the host asks for page frames (balloon up)
//! or returns some (balloon down).
//!
//! What is where:
//!
//!  * `balloon_protocol`, a crate that knows nothing of the kernel: messages, the state of the
//!    session, and the policy (how much to give, what to report);
//!  * [`memory`]: the frames; the only part with `unsafe` code;
//!  * [`session`]: what is shared by all parts, sending, and the negotiation;
//!  * [`requests`]: what to do about a message of the host;
//!  * [`inflate`] and [`pressure`]: the two work items;
//!  * [`status`]: counters, and the file in debugfs.
//!
//! # When the device goes away
//!
//! The host forgets what is in the balloon when the channel is closed. So after it is closed, when
//! neither side can act on a message any more, all frames return to the guest: unbinding the driver,
//! unloading the module and the loss of the device all end with an empty balloon.
//!
//! # Hibernation
//!
//! The host forgets the balloon over ACPI S4 as well. Where the guest may hibernate nothing is given
//! away; the host still gets an answer to each request, since it would wait for one for ever.
//!
//! Memory hot-add and free page reporting are not served yet; a request to add memory is declined.

use core::marker::PhantomData;
use kernel::{
    debugfs,
    device::Core,
    prelude::*,
    sync::Arc, //
};
use vmbus::{
    abstractions::workqueue::{Delayed, DisableOnDrop, Plain},
    ChannelConfig, Device, DeviceId, Driver, IdTable, OpenChannel,
};

mod inflate;
mod memory;
mod pressure;
mod requests;
mod session;
mod status;

use requests::Requests;
use session::{Reclaim, Shared, Stop, INFLATE, PRESSURE};

/// Bytes of data in each ring: room for four of the largest messages.
const RING_BYTES: usize = 16 * 1024;

/// The longest packet: a message of at most 4 KiB and what goes around it, generously.
const MAX_PACKET: usize = 8 * 1024;

vmbus::vmbus_device_table!(
    TABLE,
    <Balloon as Driver>::IdInfo,
    [(DeviceId::new(vmbus_protocol::class::BALLOON), ())]
);

vmbus::module_vmbus_driver! {
    type: Balloon,
    name: "hv_balloon_rust",
    authors: ["The VMBus Rust developers"],
    description: "Hyper-V dynamic memory driver",
    license: "GPL",
}

/// The driver.
struct Balloon;

/// What belongs to a bound device.
///
/// The order of the fields is the order in which things end: first the guest stops what it does by
/// itself, then the channel is closed, then the frames come back. They are set up the other way
/// round.
#[pin_data]
struct Data<'bound> {
    #[pin]
    _status: debugfs::File<Arc<Shared>>,
    _directory: debugfs::Dir,
    _stop: Stop,
    _pressure: DisableOnDrop<Shared, Delayed, PRESSURE>,
    _channel: OpenChannel,
    _inflate: DisableOnDrop<Shared, Plain, INFLATE>,
    _reclaim: Reclaim,
    _device: PhantomData<&'bound ()>,
}

impl Driver for Balloon {
    type IdInfo = ();
    type Data<'bound> = Data<'bound>;

    const ID_TABLE: IdTable<Self::IdInfo> = &TABLE;

    fn probe<'bound>(
        dev: &'bound Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let shared = Shared::new(dev.as_ref())?;
            let reclaim = Reclaim(shared.clone());
            let inflate = DisableOnDrop::new(shared.clone());
            let channel = dev.open(
                Arc::new(Requests(shared.clone()), GFP_KERNEL)?,
                &ChannelConfig {
                    send_bytes: RING_BYTES,
                    recv_bytes: RING_BYTES,
                    max_packet: MAX_PACKET,
                    user_data: &[],
                },
            )?;
            let pressure = DisableOnDrop::new(shared.clone());
            let stop = Stop(shared.clone());

            shared.negotiate(channel.sender())?;
            pressure::start(&shared);

            let directory = debugfs::Dir::new(c"hv-balloon-rust");
            Ok(try_pin_init!(Data {
                _reclaim: reclaim,
                _inflate: inflate,
                _channel: channel,
                _pressure: pressure,
                _stop: stop,
                _status <- status::file(&directory, shared),
                _directory: directory,
                _device: PhantomData,
            }? Error))
        })
    }
}
