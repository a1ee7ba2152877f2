// SPDX-License-Identifier: GPL-2.0

//! Commands on their way out. Nothing here allocates, and nothing waits.

use crate::{
    channels::{Route, Routes},
    reset,
    scsi::{Command, Mapped, Operations, Refused, Unit, Verdict},
};
use kernel::{
    prelude::*,
    sync::{Arc, ArcBorrow},
};
use storvsc_protocol::{
    outcome::LogLevel,
    packet::{Execute, Request, Version},
    route::alternatives,
    HostByte, Outcome,
};
use vmbus::{ratelimited, Doorbell, Outgoing, PagePacket, SendError};
use vmbus_protocol::packet::{GpaRange, PacketFlags};
use zerocopy::IntoBytes;

/// Seconds after which a command is late.
const TIMEOUT_SECS: u32 = 180;

/// The driver, for the midlayer.
pub(crate) struct Storvsc;

impl Operations for Storvsc {
    type Data = Routes;

    #[inline]
    fn queue(routes: ArcBorrow<'_, Routes>, command: Command<'_>) -> Verdict {
        let routes = &*routes;
        let home = routes.home(command.queue());
        let last = command.is_last();
        let (verdict, used) = send(routes, command, home, last);

        // The host knows of all that this queue sent before it rests: the channel that took the
        // command rang itself, but commands before it may have gone elsewhere.
        if last && used != Some(home) {
            routes.ring(home);
        }
        verdict
    }

    fn commit(routes: ArcBorrow<'_, Routes>, queue: u16) {
        routes.ring(routes.home(queue));
    }

    fn reset(routes: Arc<Routes>) -> bool {
        routes
            .channels
            .first()
            .is_some_and(|primary| reset::run(&routes.shared, &primary.sender))
    }

    fn timed_out(routes: ArcBorrow<'_, Routes>) {
        let shared = &routes.shared;

        if shared.logs(LogLevel::Error) {
            ratelimited!(dev_warn!(
                shared.dev,
                "a command is late; its time starts again\n"
            ));
        }
    }

    fn configure(routes: Arc<Routes>, unit: &Unit) {
        let version = routes.shared.init.lock().version();
        let of_host = unit.vendor() == *b"Msft";

        // The host's own disks claim an older standard than they implement.
        unit.configure(
            of_host && version == Version::WIN8_1,
            !(of_host && version >= Version::WIN10),
            TIMEOUT_SECS,
        );
    }
}

/// Sends a command; also returns the channel that took it.
#[inline]
fn send(
    routes: &Routes,
    command: Command<'_>,
    home: usize,
    last: bool,
) -> (Verdict, Option<usize>) {
    let shared = &routes.shared;

    if shared.is_dead() {
        return (end(command, HostByte::NoConnect), None);
    }
    let Some(direction) = command.direction() else {
        return (end(command, HostByte::Error), None);
    };
    let packet = Execute::new(&Request {
        address: command.address(),
        port: shared.settings.port,
        cdb: command.cdb(),
        direction,
        data_len: command.data_len(),
        tagged: command.is_tagged(),
    });
    let mut mapped = match command.map_dma(&shared.slots) {
        Ok(mapped) => mapped,
        Err((command, Refused::Busy)) => return (command.busy(), None),
        Err((command, Refused::Invalid)) => return (end(command, HostByte::Error), None),
    };
    let alone = routes.channels.len() <= 1;
    // A channel that is nearly full is for those who have no other.
    let keep = if alone { 0 } else { shared.settings.low_water };
    let mut error = ENODEV;

    if let Some(route) = routes.channels.get(home) {
        let doorbell = if last {
            Doorbell::Ring
        } else {
            Doorbell::Defer
        };

        match try_send(route, mapped, &packet, keep, doorbell) {
            Ok(verdict) => return (verdict, Some(home)),
            Err((back, why)) => (mapped, error) = (back, why),
        }
    }
    if !alone && (error == EAGAIN || error == ENODEV) {
        for index in alternatives(&routes.places, home) {
            let Some(route) = routes.channels.get(index) else {
                continue;
            };

            match try_send(route, mapped, &packet, keep, Doorbell::Ring) {
                Ok(verdict) => return (verdict, Some(index)),
                Err((back, _)) => mapped = back,
            }
        }
        if let Some(route) = routes.channels.get(home) {
            match try_send(route, mapped, &packet, 0, Doorbell::Ring) {
                Ok(verdict) => return (verdict, Some(home)),
                Err((back, why)) => (mapped, error) = (back, why),
            }
        }
    }
    (not_sent(routes, mapped, error), None)
}

/// What becomes of a command that no channel took.
#[cold]
fn not_sent(routes: &Routes, mapped: Mapped<'_>, error: Error) -> Verdict {
    let shared = &routes.shared;
    let command = mapped.unmap();

    if error == EAGAIN {
        return command.busy();
    }
    if error == ENODEV || error == EIO {
        // A sub-channel that is about to be taken out of the routes: later.
        return if !shared.is_dead() && home_is_sub(routes, &command) {
            command.busy()
        } else {
            end(command, HostByte::NoConnect)
        };
    }
    ratelimited!(dev_err!(
        shared.dev,
        "a command with {} bytes of data cannot be sent: {:?}\n",
        command.data_len(),
        error
    ));
    end(command, HostByte::Error)
}

fn home_is_sub(routes: &Routes, command: &Command<'_>) -> bool {
    routes.home(command.queue()) != 0
}

fn end(command: Command<'_>, host: HostByte) -> Verdict {
    let outcome = Outcome::not_done(host, command.data_len());

    command.complete(&outcome)
}

/// Sends a command on one channel, or gives it back.
///
/// The command is handed over after its packet is written and before it becomes visible: until then
/// an answer that the host makes up finds nothing, so nobody else touches the command's list of
/// memory while its pages are read; and from then on nothing can fail.
#[inline]
fn try_send<'a>(
    route: &Route,
    mapped: Mapped<'a>,
    packet: &Execute,
    keep: u32,
    doorbell: Doorbell,
) -> Result<Verdict, (Mapped<'a>, Error)> {
    let mut ours = Some(mapped);
    let mut verdict = None;
    let result = route.sender.batch(doorbell, |batch| {
        let Some(mapped) = ours.take() else {
            return Err(SendError::TooLarge);
        };
        let Some(transaction_id) = mapped.transaction_id(route.number) else {
            ours = Some(mapped);
            return Err(SendError::TooLarge);
        };
        let flags = PacketFlags::COMPLETION_REQUESTED;
        let payload = packet.as_bytes();

        batch.keep_free(keep);
        let pushed = if mapped.data_len() == 0 {
            batch.push(&Outgoing::inband(flags, transaction_id, &[payload]))
        } else {
            let range = GpaRange::new(mapped.data_len(), mapped.page_offset());
            let packet = PagePacket {
                flags,
                transaction_id,
                range,
                payload,
            };

            batch.push_pages(&packet, mapped.pages())
        };

        if let Err(error) = pushed {
            ours = Some(mapped);
            return Err(error);
        }
        match mapped.publish(route.number) {
            Ok(done) => {
                verdict = Some(done);
                Ok(())
            }
            Err(back) => {
                ours = Some(back);
                Err(SendError::TooLarge)
            }
        }
    });

    match (verdict, ours) {
        (Some(verdict), _) => Ok(verdict),
        (None, Some(back)) => Err((back, result.err().unwrap_or(EIO))),
        // Not reached: the command is in one of the two places.
        (None, None) => Ok(Verdict::taken()),
    }
}
