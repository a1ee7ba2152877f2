// SPDX-License-Identifier: GPL-2.0

//! The initialisation.

use crate::{buffers::Io, channels, control::Control, shared::Shared};
use kernel::{
    device::{Bound, Core},
    prelude::*,
    sync::Arc,
};
use netvsc_protocol::{
    buffers::{RECEIVE_BYTES, SEND_BYTES},
    sections::share,
    setup::{Action, Agreed, Buffer, Config, Request, Setup, SetupError, STANDARD_MTU},
};
use vmbus::{abstractions::Shown, Device, HostBuffer, OpenChannel};

/// Opens the channel and goes through the initialisation. May sleep.
///
/// Each step takes [`netvsc_protocol::ANSWER_TIMEOUT_MS`] at most, and the first one that takes
/// longer is the last one.
pub(crate) fn connect(shared: &Arc<Shared>, dev: &Device<Core<'_>>) -> Result {
    let dev: &Device<Bound> = dev;
    let channel = channels::open(shared, 0, 0, |events, config| {
        dev.open_polled(events, config)
    })?;
    let result = run(shared, channel.open_channel());

    shared.channels.lock().set_primary(channel);
    let agreed = result?;
    let planned = channels::planned(shared, agreed.rss);

    for index in 0..planned {
        if let Some(queue) = shared.queues.get(index as usize) {
            queue.prepare(share(agreed.send.count, planned, index))?;
        }
    }
    dev_info!(
        shared.dev,
        "network protocol {}, {} receive and {} send sections\n",
        Shown(&agreed.version),
        agreed.receive.count,
        agreed.send.count
    );
    shared.agreed.populate(agreed);
    Ok(())
}

/// What is made on the way.
#[derive(Default)]
struct Made {
    receive: Option<HostBuffer>,
    send: Option<HostBuffer>,
}

/// Goes from step to step until there is none left.
fn run(shared: &Shared, channel: &OpenChannel) -> Result<Agreed> {
    let mut setup = Setup::new(Config {
        mtu: STANDARD_MTU,
        receive_bytes: RECEIVE_BYTES,
        send_bytes: SEND_BYTES,
        coalesce: true,
    });
    let mut made = Made::default();

    loop {
        let done = match setup.action() {
            Action::Done => break,
            Action::Stop(error) => return Err(failed(shared, &error)),
            action => step(shared, channel, &mut setup, &mut made, action),
        };

        shared.set_version(setup.agreed().version);
        match done {
            Ok(()) => {}
            Err(error) if error == ETIMEDOUT || error == EBUSY => setup.on_timeout(),
            Err(error) if error == ENOMEM => return Err(error),
            Err(_) => setup.on_channel_lost(),
        }
    }
    Ok(*setup.agreed())
}

/// Both buffers are there: what the host sends from here on lies in one of them.
fn start_receiving(shared: &Shared, setup: &Setup, made: &mut Made) -> Result {
    let agreed = setup.agreed();

    if let (Some(receive), Some(send)) = (made.receive.take(), made.send.take()) {
        let io = Io::new((receive, agreed.receive), (send, agreed.send))?;

        shared.io.populate(io);
    }
    Ok(())
}

/// Does one step.
fn step(
    shared: &Shared,
    channel: &OpenChannel,
    setup: &mut Setup,
    made: &mut Made,
    action: Action,
) -> Result {
    let control = &shared.control;

    match action {
        Action::Tell(message) => {
            control.tell(shared, &message)?;
            setup.sent();
        }
        Action::Ask(message) => setup.on_answer(control.ask(shared, &message)?),
        Action::Announce(buffer, bytes) => {
            let memory = channel.host_buffer(bytes as usize)?;

            setup.announced(memory.handle());
            match buffer {
                Buffer::Receive => made.receive = Some(memory),
                Buffer::Send => made.send = Some(memory),
            }
        }
        Action::Request(request) => {
            start_receiving(shared, setup, made)?;
            return ask(control, shared, setup, request);
        }
        Action::Done | Action::Stop(_) => {}
    }
    Ok(())
}

fn ask(control: &Control, shared: &Shared, setup: &mut Setup, request: Request) -> Result {
    let version = setup.agreed().version;

    control.request(
        shared,
        request.kind(),
        |buffer, id| request.build(buffer, id, version),
        |answer| setup.on_response(answer),
    )
}

fn failed(shared: &Shared, error: &SetupError) -> Error {
    dev_err!(shared.dev, "initialisation failed: {}\n", Shown(error));
    match error {
        SetupError::NoVersion => EINVAL,
        SetupError::Timeout => ETIMEDOUT,
        SetupError::Channel if shared.is_dead() => ENODEV,
        SetupError::Channel => EIO,
        _ => EPROTO,
    }
}
