// SPDX-License-Identifier: GPL-2.0

//! Hyper-V synthetic network interfaces, over VMBus.
//!
//! The host offers one device for each interface. Over its channel the two agree on a version of
//! NVSP and on two buffers in guest memory; then they exchange RNDIS messages: requests that
//! configure the interface, and frames. What the host sends lies in sections of the receive buffer;
//! what the guest sends lies in sections of the send buffer, or stays where it is. More channels
//! carry more frames at a time.
//!
//! What is where:
//!
//!  * `netvsc_protocol`, a crate that knows nothing of the kernel: messages, the initialisation,
//!    checks of all that the host says, policy;
//!  * [`net`]: the network stack; the only part with `unsafe` code;
//!  * [`adapter`]: what lasts as long as the device is bound; [`bound`]: the order in which it
//!    ends;
//!  * [`work`]: what nobody waits for, and what the host is asked until it answers;
//!  * [`connection`]: what lasts as long as its channels are open;
//!  * [`connect`]: the initialisation;
//!  * [`reconfigure`]: changes that take another connection;
//!  * [`control`]: messages that have an answer;
//!  * [`requests`]: what they ask for;
//!  * [`channels`]: channels, and how many of them are used;
//!  * [`buffers`]: the two buffers;
//!  * [`queue`]: frames that are with the host, of each channel;
//!  * [`tx`]: frames on their way out;
//!  * [`poll`]: who takes packets, and when;
//!  * [`rx`]: what packets mean;
//!  * [`owed`]: the answers to received ones;
//!  * [`completions`]: frames that the host is done with;
//!  * [`interface`]: what the stack wants of an interface;
//!  * [`vf`]: virtual functions that are joined to an interface;
//!  * [`status`] has the counters, [`numbers`] is what the stack shows of them.
//!
//! # When the device goes away
//!
//! The interface is unregistered first: it is closed, which tells the host to send nothing more,
//! and nothing is transmitted any longer. Then the buffers are revoked, the channels closed, and
//! what is still with the host is freed; unless the host does not say that it has let go of it:
//! then it is left to the host for good. When the host takes the device back or breaks a ring, the
//! channels are closed first, and the interface stays, without a link, until it is unbound. Nobody
//! waits longer than [`netvsc_protocol::ANSWER_TIMEOUT_MS`] for an answer of the adapter, and the
//! first one that is missing ends what asked for it; before a request, the end of the one before is
//! waited for as long again, and who made that may have waited as long. Opening and closing
//! channels has the bounds of the core. Under RTNL there are those waits that the interface's user
//! asked for, and those of a new connection after a time-out of frames, which is made of a host
//! that has just answered, or after pauses where the last one failed.
//!
//! # When the host does not answer
//!
//! From then on it is silent, until it answers, if late. Under RTNL a request fails at once; a work
//! item asks the host again for what is wanted of it, after pauses that grow
//! ([`netvsc_protocol::silence`]). Where it does nothing with frames either, there is no link
//! meanwhile. It is never given up for that. Who unbinds the device does not wait for a host that
//! is silent.
//!
//! # Virtual functions
//!
//! A card that the host passes to the guest beside the adapter is joined to the interface, which it
//! serves as long as the host says so and the card is up and has a link. What needs RTNL and what
//! does not is cut as above: who brings a card down waits for the host to send by the adapter
//! again, once, if it has answered the last time.

use kernel::{
    debugfs,
    device::{self, Core},
    prelude::*,
    sync::Arc,
};
use vmbus::{Device, DeviceId, Driver, IdTable};

mod adapter;
mod bound;
mod buffers;
mod channels;
mod completions;
mod connect;
mod connection;
mod control;
mod interface;
mod net;
mod numbers;
mod owed;
mod poll;
mod queue;
mod reconfigure;
mod requests;
mod rx;
mod status;
mod tx;
mod vf;
mod work;

use adapter::Adapter;
use bound::Bound;

vmbus::vmbus_device_table!(
    TABLE,
    <Netvsc as Driver>::IdInfo,
    [(DeviceId::new(vmbus_protocol::class::NIC), ())]
);

vmbus::module_vmbus_driver! {
    type: Netvsc,
    name: "hv_netvsc_rust",
    authors: ["The VMBus Rust developers"],
    description: "Hyper-V synthetic network driver",
    license: "GPL",
}

/// The driver.
struct Netvsc;

/// What belongs to a bound device: dropping `bound` ends it.
#[pin_data]
struct Data<'bound> {
    #[pin]
    _status: debugfs::File<Arc<Adapter>>,
    _directory: debugfs::Dir,
    _bound: Bound<'bound>,
}

impl Driver for Netvsc {
    type IdInfo = ();
    type Data<'bound> = Data<'bound>;

    const ID_TABLE: IdTable<Self::IdInfo> = &TABLE;
    // The interfaces' names are those of the offers' order.
    const IN_ORDER: bool = true;

    fn probe<'bound>(
        dev: &'bound Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            // Bound by hand to something that cannot work.
            if dev.class() != vmbus_protocol::class::NIC {
                return Err(ENODEV);
            }
            let device: &Device<device::Bound> = dev;
            let adapter = Adapter::new(device)?;
            // From here on dropping it undoes whatever was done.
            let mut bound = Bound::new(adapter.clone());

            connect::connect(&adapter, device)?;
            bound.register(device)?;
            channels::spread(&adapter.connection()?);
            let directory = status::directory(device.as_ref())?;

            Ok(try_pin_init!(Data {
                _bound: bound,
                _status <- status::file(&directory, adapter),
                _directory: directory,
            }? Error))
        })
    }
}
