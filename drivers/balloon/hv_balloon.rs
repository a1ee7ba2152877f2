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
//!  * [`inflate`], [`hot_add`] and [`pressure`]: the work items;
//!  * [`reporting`]: telling the host what is free;
//!  * [`status`]: counters, and the file in debugfs.
//!
//! # When the device goes away
//!
//! The host forgets what is in the balloon when the channel is closed. So after it is closed, when
//! neither side can act on a message any more, all frames return to the guest: unbinding the
//! driver, unloading the module and the loss of the device all end with an empty balloon. Where the
//! host does not confirm that the channel is closed, it may not have forgotten: the frames stay
//! away until it has, see [`memory::withheld`]; what it has not let go of when the module goes is
//! left to it.
//!
//! # Hibernation
//!
//! The host forgets the balloon over ACPI S4 as well. Where the guest may hibernate nothing is
//! given away; the host still gets an answer to each request, since it would wait for one for ever.
//!
//! # Memory that the host adds
//!
//! It stays when the device and the driver go, and comes online without them, except where the host
//! backs a part of a block only: such a block is removed with the device, or else keeps the module.
//! Where memory cannot be added the host is told so when the two agree on what the guest can do,
//! and the log says why.
//!
//! # Free memory
//!
//! If the host takes hints about memory whose contents nobody needs, the kernel's free page
//! reporting is passed on to it. That is between the kernel and the hypervisor, and has nothing to
//! do with the channel.

use core::marker::PhantomData;
use kernel::{
    debugfs,
    device::Core,
    driver::Registration,
    prelude::*,
    sync::Arc,
    InPlaceModule,
    ModuleMetadata, //
};
use vmbus::{
    abstractions::workqueue::{Delayed, DisableOnDrop, Plain},
    Adapter, ChannelConfig, Device, DeviceId, Driver, IdTable,
};

mod hot_add;
mod inflate;
mod memory;
mod pressure;
mod reporting;
mod requests;
mod session;
mod status;

use memory::{Claim, Link, WatchUntilDrop, WithheldUntilDrop};
use reporting::StopReporting;
use requests::Requests;
use session::{Channel, Reclaim, Shared, Stop, HOT_ADD, INFLATE, PRESSURE, REPORTING};

/// Bytes of data in each ring: room for four of the largest messages.
const RING_BYTES: usize = 16 * 1024;

/// The longest packet: a message of at most 4 KiB and what goes around it, generously.
const MAX_PACKET: usize = 8 * 1024;

vmbus::vmbus_device_table!(
    TABLE,
    <Balloon as Driver>::IdInfo,
    [(DeviceId::new(vmbus_protocol::class::BALLOON), ())]
);

vmbus::describe_core!();
module! {
    type: BalloonModule,
    name: "hv_balloon_rust",
    authors: ["The VMBus Rust developers"],
    description: "Hyper-V dynamic memory driver",
    license: "GPL",
    alias: ["hv_balloon"],
}

/// The module.
///
/// The order of the fields is the order in which they end: devices first.
#[pin_data]
struct BalloonModule {
    #[pin]
    _driver: Registration<Adapter<Balloon>>,
    _watch: WatchUntilDrop,
    _withheld: WithheldUntilDrop,
}

impl InPlaceModule for BalloonModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _withheld: WithheldUntilDrop::new()?,
            _watch: WatchUntilDrop::new()?,
            _driver <- Registration::new(<Self as ModuleMetadata>::NAME, module),
        })
    }
}

/// The driver.
struct Balloon;

/// What belongs to a bound device.
///
/// The order of the fields is the order in which things end: first what the host has asked for ends
/// early and is answered, since the host would count on other memory than the guest has; it goes on
/// hearing of its pressure meanwhile, and may ask for pages. Then the channel is closed, then the
/// frames come back, and last added memory goes that is of no use. They are set up the other way
/// round.
#[pin_data]
struct Data<'bound> {
    _link: Option<Link>,
    #[pin]
    _as_c: debugfs::File<Arc<Shared>>,
    #[pin]
    _status: debugfs::File<Arc<Shared>>,
    _directory: debugfs::Dir,
    _stop: Stop,
    _listening: StopReporting,
    _reporting: DisableOnDrop<Shared, Plain, REPORTING>,
    _hot_add: DisableOnDrop<Shared, Plain, HOT_ADD>,
    _inflate: DisableOnDrop<Shared, Plain, INFLATE>,
    _pressure: DisableOnDrop<Shared, Delayed, PRESSURE>,
    _channel: Channel,
    _reclaim: Reclaim,
    _added: Option<Claim>,
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
            let added = hot_add::memory_of(dev.as_ref());
            let memory = added.as_ref().map(|added| added.memory().clone());
            let shared = Shared::new(dev.as_ref(), memory)?;
            let reclaim = Reclaim(shared.clone());
            let channel = dev.open(
                Arc::new(Requests(shared.clone()), GFP_KERNEL)?,
                &ChannelConfig {
                    send_bytes: RING_BYTES,
                    recv_bytes: RING_BYTES,
                    max_packet: MAX_PACKET,
                    user_data: &[],
                },
            )?;
            let channel = Channel::new(channel, shared.clone());
            let pressure = DisableOnDrop::new(shared.clone());
            let inflate = DisableOnDrop::new(shared.clone());
            let hot_add = DisableOnDrop::new(shared.clone());
            let reporting = DisableOnDrop::new(shared.clone());
            let listening = StopReporting(shared.clone());
            let stop = Stop(shared.clone());

            shared.negotiate(channel.sender())?;
            pressure::start(&shared);
            reporting::start(&shared);

            let directory = debugfs::Dir::new(c"hv-balloon-rust");
            Ok(try_pin_init!(Data {
                _added: added,
                _reclaim: reclaim,
                _channel: channel,
                _pressure: pressure,
                _inflate: inflate,
                _hot_add: hot_add,
                _reporting: reporting,
                _listening: listening,
                _stop: stop,
                _status <- status::file(&directory, shared.clone()),
                _as_c <- status::file_as_c(&directory, shared),
                _link: Link::new(c"hv-balloon", c"hv-balloon-rust/hv-balloon"),
                _directory: directory,
                _device: PhantomData,
            }? Error))
        })
    }
}
