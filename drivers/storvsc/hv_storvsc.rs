// SPDX-License-Identifier: GPL-2.0

//! Hyper-V synthetic SCSI: disks of the host, over VMBus.
//!
//! The host offers one device for each SCSI controller, and one for each disk of the emulated IDE
//! controller. Over its channel the two agree on a version and on limits; then the guest sends SCSI
//! commands, whose data the host reads and writes in place. A controller can have more channels.
//!
//! What is where:
//!
//!  * `storvsc_protocol`, a crate that knows nothing of the kernel: packets, the initialisation,
//!    what answers mean, transaction ids, limits and policy;
//!  * [`scsi`]: the SCSI midlayer, for any driver; it and [`params`], the module parameters, are
//!    the parts with `unsafe` code;
//!  * [`shared`]: what all parts share; [`end`]: the end of a device;
//!  * [`probe`]: the initialisation, and what the midlayer is told;
//!  * [`channels`]: the primary channel and its sub-channels; [`inbox`]: their packets; [`routes`]:
//!    which queue sends on which of them;
//!  * [`queue`]: commands on their way out;
//!  * [`luns`]: logical units that come, go, change or are replaced; [`units`]: what the midlayer
//!    is told of them; [`obstacles`]: whose commands wait or end meanwhile;
//!  * [`internal`]: commands of the driver itself;
//!  * [`reset`]: the bus reset;
//!  * [`revive`]: a host that was given up, and answers again;
//!  * [`status`]: counters, and the file in debugfs.
//!
//! # When the device goes away
//!
//! A command that the host may still work on keeps its memory. When a controller is unbound in good
//! order, the midlayer shuts its disks down and waits for all commands, and then the channels are
//! closed. When the host takes the controller back, breaks a ring or does not get done with a
//! reset, it is the other way round: the channels are closed, which the host confirms or has done
//! by itself, then every command ends with `DID_NO_CONNECT`, and nothing waits for the host any
//! longer. See [`shared::Shared::end`]. Where the device stays, it is tried from time to time
//! whether the host answers again ([`revive`]).
//!
//! Fibre Channel and hibernation are not served yet.

use core::marker::PhantomData;
use kernel::{
    debugfs,
    device::{self, Core},
    prelude::*,
    sync::Arc,
};
use vmbus::{Device, DeviceId, Driver, IdTable};

mod channels;
mod end;
mod inbox;
mod internal;
mod luns;
mod obstacles;
mod params;
mod probe;
mod queue;
mod reset;
mod revive;
mod routes;
mod scsi;
mod shared;
mod status;
mod units;

use end::Bound;
use shared::Shared;

/// What a device is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A SCSI controller.
    Scsi,
    /// A disk of the emulated IDE controller.
    Ide,
}

vmbus::vmbus_device_table!(
    TABLE,
    <Storvsc as Driver>::IdInfo,
    [
        (DeviceId::new(vmbus_protocol::class::SCSI), Kind::Scsi),
        (DeviceId::new(vmbus_protocol::class::IDE), Kind::Ide),
    ]
);

vmbus::module_vmbus_driver! {
    type: Storvsc,
    name: "hv_storvsc_rust",
    authors: ["The VMBus Rust developers"],
    description: "Hyper-V synthetic SCSI driver",
    license: "GPL",
}

/// The driver.
struct Storvsc;

/// What belongs to a bound device: dropping `bound` ends it. It comes last and goes first: the file
/// shows what is waited for, also while the device starts and while it ends.
#[pin_data]
struct Data<'bound> {
    _bound: Bound,
    #[pin]
    _status: debugfs::File<Arc<Shared>>,
    _directory: debugfs::Dir,
    _device: PhantomData<&'bound ()>,
}

impl Driver for Storvsc {
    type IdInfo = Kind;
    type Data<'bound> = Data<'bound>;

    const ID_TABLE: IdTable<Self::IdInfo> = &TABLE;

    fn probe<'bound>(
        dev: &'bound Device<Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let kind = match info {
                Some(kind) => *kind,
                None if dev.class() == vmbus_protocol::class::IDE => Kind::Ide,
                // Bound by hand to something that cannot work.
                None if dev.class() != vmbus_protocol::class::SCSI => return Err(ENODEV),
                None => Kind::Scsi,
            };
            let device: &Device<device::Bound> = dev;
            let shared = Shared::new(device.as_ref(), kind)?;

            Ok(try_pin_init!(Data {
                _directory: status::directory(dev.as_ref())?,
                _status <- status::file(_directory, shared.clone()),
                // From here on dropping it undoes whatever was done.
                _bound: Bound(shared.clone()),
                _: {
                    probe::connect(&shared, dev)?;
                    probe::register(&shared, dev)?;
                },
                _device: PhantomData,
            }? Error))
        })
    }
}
