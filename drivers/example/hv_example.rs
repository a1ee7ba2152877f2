// SPDX-License-Identifier: GPL-2.0

//! A complete driver of a VMBus device, as small as one can be: see `docs/write-a-driver.md`.
//!
//! It binds to a SCSI controller, if it is told to (`driver_override`), asks its host to begin,
//! logs the answer, and gives the device back.

mod misuse;

use core::marker::PhantomData;
use kernel::{
    device::{self, Core},
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use vmbus::{
    abstractions::{Completion, Shown},
    protocol::packet::PacketFlags,
    CallbackContext, ChannelConfig, Device, DeviceId, Driver, Guid, Handler, IdTable, OpenChannel,
    OutgoingPacket, Packet, Sender,
};

/// The class of the devices that the driver is for. Nobody has this one.
const CLASS: Guid = Guid::parse("b5e86d5e-2f4d-4b1c-9d0a-6e8f0c7a3d21");

/// A packet of a SCSI controller that wants an answer.
const fn packet(operation: u8, value: u8) -> [u8; 64] {
    let mut packet = [0; 64];

    packet[0] = operation;
    packet[4] = 1;
    packet[12] = value;
    packet
}

/// "Begin to initialise".
const BEGIN: [u8; 64] = packet(7, 0);

/// How the channels are opened.
const CONFIG: ChannelConfig<'_> = ChannelConfig {
    send_bytes: 4096,
    recv_bytes: 4096,
    max_packet: 256,
    user_data: &[],
};

/// How long the host may take, in milliseconds.
const ANSWER_MS: u32 = 5_000;

/// What the handler and the driver share.
#[pin_data]
struct Answer {
    #[pin]
    there: Completion,
    status: Atomic<u32>,
}

impl Answer {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                there <- Completion::new(),
                status: Atomic::new(u32::MAX),
            }),
            GFP_KERNEL,
        )
    }
}

impl Handler for Answer {
    // The handler may sleep. `CallbackContext::Interrupt` is faster.
    const CONTEXT: CallbackContext = CallbackContext::Process;

    fn on_packet(&self, _sender: &Sender, packet: &Packet<'_>) {
        // Whatever it is: the bytes are the host's, and may be fewer than expected.
        if let Some(status) = packet.payload().get(8..12) {
            let status = status.try_into().map_or(u32::MAX, u32::from_le_bytes);

            self.status.store(status, Relaxed);
            self.there.complete();
        }
    }

    fn on_rescind(&self) {
        // Nobody waits any longer.
        self.there.complete();
    }
}

/// What belongs to a bound device. Dropping it closes the channel.
struct Bound<'bound> {
    dev: ARef<device::Device>,
    /// Not there when it was forgotten, for a test.
    _channel: Option<OpenChannel>,
    _device: PhantomData<&'bound ()>,
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        dev_info!(self.dev, "given back\n");
    }
}

struct Example;

vmbus::vmbus_device_table!(
    TABLE,
    <Example as Driver>::IdInfo,
    [(DeviceId::new(CLASS), ())]
);

vmbus::module_vmbus_driver! {
    type: Example,
    name: "hv_example_rust",
    authors: ["The VMBus Rust developers"],
    description: "Example of a VMBus driver",
    license: "GPL",
    params: {
        leave_open: u8 {
            default: 0,
            description: "Forget open channels, as a driver must not (for tests): 1 in a probe that fails, 2 in one that does not",
        },
    },
}

impl Driver for Example {
    type IdInfo = ();
    type Data<'bound> = Bound<'bound>;

    const ID_TABLE: IdTable<Self::IdInfo> = &TABLE;

    fn probe<'bound>(
        dev: &'bound Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        begin(dev)
    }
}

/// Opens the channel and asks the host to begin. May sleep.
fn begin<'bound>(dev: &Device<device::Bound>) -> Result<Bound<'bound>> {
    let answer = Answer::new()?;

    dev_info!(
        dev.as_ref(),
        "VMBus {}, CPU {}, node {}\n",
        Shown(&dev.protocol_version()),
        dev.target_cpu(),
        dev.numa_node()
    );
    let channel = dev.open(answer.clone(), &CONFIG)?;
    let dev: &device::Device = dev.as_ref();
    let status = ask(dev, &channel, &answer, &BEGIN)?;

    dev_info!(dev, "the host answers: status {:#x}\n", status);
    Ok(Bound {
        dev: dev.into(),
        _channel: misuse::pass(dev, channel, &answer)?,
        _device: PhantomData,
    })
}

/// Sends a packet, and returns the status in its answer. May sleep.
fn ask(
    dev: &device::Device,
    channel: &OpenChannel,
    answer: &Answer,
    packet: &[u8; 64],
) -> Result<u32> {
    channel.sender().send(&OutgoingPacket::inband(
        PacketFlags::COMPLETION_REQUESTED,
        1,
        &[packet],
    ))?;
    if !answer.there.wait_timeout(ANSWER_MS) {
        dev_err!(dev, "no answer in {} ms\n", ANSWER_MS);
        return Err(ETIMEDOUT);
    }
    Ok(answer.status.load(Relaxed))
}
