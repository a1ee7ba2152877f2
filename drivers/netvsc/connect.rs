// SPDX-License-Identifier: GPL-2.0

//! The initialisation.

use crate::{
    adapter::Adapter,
    buffers::Io,
    channels,
    connection::Connection,
    control::{is_silence, Control, Wait},
    net::is_isolated,
};
use kernel::{device::Bound, prelude::*, sync::Arc};
use netvsc_protocol::{
    sections::share,
    setup::{Action, Agreed, Buffer, Config, Request, Setup, SetupError},
};
use vmbus::{abstractions::Shown, Device, HostBuffer, OpenChannel};

/// Opens the channel, goes through the initialisation, and makes the connection the adapter's. May
/// sleep.
///
/// Each message takes [`netvsc_protocol::ANSWER_TIMEOUT_MS`] at most, the channel and each buffer
/// as long as the core gives a host; the first step that takes longer is the last one.
pub(crate) fn connect(adapter: &Arc<Adapter>, dev: &Device<Bound>) -> Result {
    let connection = Connection::new(adapter)?;
    let result = start(&connection, dev);

    if let Err(error) = result {
        connection.end();
        return Err(error);
    }
    // So that the end of a connection that died meanwhile is not missed, nor that it has no link.
    drop(adapter.connection.replace(connection.clone()));
    if connection.is_dead() {
        connection.give_up();
    }
    Ok(())
}

fn start(connection: &Arc<Connection>, dev: &Device<Bound>) -> Result {
    let adapter = &connection.adapter;
    let channel = channels::open(connection, 0, 0, |events, config| {
        dev.open_polled(events, config)
    })?;
    let result = run(connection, channel.open_channel());

    connection.channels.lock().set_primary(channel);
    let agreed = result?;
    let planned = channels::planned(connection, agreed.rss);

    for index in 0..planned {
        if let Some(queue) = connection.queues.get(index as usize) {
            queue.prepare(share(agreed.send.count, planned, index))?;
        }
    }
    dev_info!(
        adapter.dev,
        "network protocol {}, {} receive and {} send sections\n",
        Shown(&agreed.version),
        agreed.receive.count,
        agreed.send.count
    );
    connection.set_coalesces(agreed.offloads.coalesce);
    connection.agreed.populate(agreed);
    connection.on_link_answer(agreed.connected, agreed.speed);
    Ok(())
}

/// What is made on the way.
#[derive(Default)]
struct Made {
    receive: Option<HostBuffer>,
    send: Option<HostBuffer>,
}

/// Goes from step to step until there is none left.
fn run(connection: &Connection, channel: &OpenChannel) -> Result<Agreed> {
    let settings = *connection.adapter.settings.lock();
    let mut setup = Setup::new(Config {
        mtu: settings.mtu,
        receive_bytes: settings.receive_bytes,
        send_bytes: settings.send_bytes,
        coalesce: settings.coalesce,
        functions: !is_isolated(),
    });
    let mut made = Made::default();

    loop {
        let done = match setup.action() {
            Action::Done => break,
            Action::Stop(error) => return Err(failed(connection, &error)),
            action => step(connection, channel, &mut setup, &mut made, action),
        };

        connection.set_version(setup.agreed().version);
        match done {
            Ok(()) => {}
            Err(error) if is_silence(error) => setup.on_timeout(),
            Err(error) if error == ENOMEM => return Err(error),
            Err(_) => setup.on_channel_lost(),
        }
    }
    Ok(*setup.agreed())
}

/// Both buffers are there: what the host sends from here on lies in one of them.
fn start_receiving(connection: &Connection, setup: &Setup, made: &mut Made) -> Result {
    let agreed = setup.agreed();

    if let (Some(receive), Some(send)) = (made.receive.take(), made.send.take()) {
        let io = Io::new((receive, agreed.receive), (send, agreed.send))?;

        connection.io.populate(io);
    }
    Ok(())
}

/// Does one step.
fn step(
    connection: &Connection,
    channel: &OpenChannel,
    setup: &mut Setup,
    made: &mut Made,
    action: Action,
) -> Result {
    let control = &connection.control;

    match action {
        Action::Tell(message) => {
            control.tell(connection, &message)?;
            setup.sent();
        }
        Action::Ask(message) => setup.on_answer(control.ask(connection, &message)?),
        Action::Announce(buffer, bytes) => {
            let memory = channel.host_buffer(bytes as usize)?;

            setup.announced(memory.handle());
            match buffer {
                Buffer::Receive => made.receive = Some(memory),
                Buffer::Send => made.send = Some(memory),
            }
        }
        Action::Request(request) => {
            start_receiving(connection, setup, made)?;
            return ask(control, connection, setup, request);
        }
        Action::Done | Action::Stop(_) => {}
    }
    Ok(())
}

fn ask(control: &Control, connection: &Connection, setup: &mut Setup, request: Request) -> Result {
    let version = setup.agreed().version;

    control.request(
        connection,
        Wait::Brief,
        request.kind(),
        |buffer, id| request.build(buffer, id, version),
        |answer| setup.on_response(answer),
    )
}

fn failed(connection: &Connection, error: &SetupError) -> Error {
    dev_err!(
        connection.adapter.dev,
        "initialisation failed: {}\n",
        Shown(error)
    );
    match error {
        SetupError::NoVersion => EINVAL,
        SetupError::Timeout => ETIMEDOUT,
        SetupError::Channel if connection.is_dead() => ENODEV,
        SetupError::Channel => EIO,
        _ => EPROTO,
    }
}
