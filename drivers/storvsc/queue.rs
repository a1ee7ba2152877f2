// SPDX-License-Identifier: GPL-2.0

//! Commands on their way out, and the midlayer's other callbacks. Sending allocates nothing, and
//! waits for nothing.

use crate::{
    luns,
    params::Parameters,
    reset,
    routes::{Route, Routes},
    scsi::{self, MapError, Operations, QueueStatus, TimeoutAction, Unit},
    shared::Shared,
};
use kernel::{
    dma::DataDirection,
    prelude::*,
    sync::{Arc, ArcBorrow},
};
use storvsc_protocol::{
    limits,
    luns::{may_write, Admission},
    outcome::{LogLevel, Sent},
    packet::{Cdb, Direction, Execute, Request, Version, PACKET_LEN},
    pages::Pages,
    route::alternatives,
    HostByte, Outcome, HV_PAGE_SIZE,
};
use vmbus::{Doorbell, GpaDirectPacket, OutgoingPacket};
use vmbus_protocol::packet::{GpaRange, PacketFlags};
use zerocopy::{little_endian::U64, IntoBytes};

/// Seconds after which a command is late.
const TIMEOUT_SECS: u32 = 180;

/// Units of 8 bytes of a command's packet.
const EXECUTE_UNITS: usize = PACKET_LEN / 8;

/// A command.
type Command<'a> = scsi::Command<'a, Sent>;

/// A command whose data the host can reach.
type Mapped<'a> = scsi::Mapped<'a, Sent>;

/// The driver, for the midlayer.
pub(crate) struct Storvsc;

#[vtable]
impl Operations for Storvsc {
    type Data = Routes;
    type Sent = Sent;

    #[inline]
    fn queue<'a>(routes: ArcBorrow<'_, Routes>, command: Command<'a>) -> QueueStatus<'a> {
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

    fn timed_out(routes: ArcBorrow<'_, Routes>, age_secs: u32) -> TimeoutAction {
        let shared = &routes.shared;

        shared.counters.late.count();
        if shared.logs(LogLevel::Error) {
            if shared.command_lines.allow(&shared.dev) {
                dev_warn!(
                    shared.dev,
                    "a command is without an answer for {} s\n",
                    age_secs
                );
            }
        }
        match Parameters::answer_secs() {
            Some(limit) if age_secs >= limit.get() => TimeoutAction::Reset,
            _ => TimeoutAction::Wait,
        }
    }

    fn configure(routes: Arc<Routes>, unit: &Unit) {
        let version = routes.shared.init.lock().version();

        luns::on_new_unit(&routes.shared, unit.address().into());
        let of_host = unit.vendor() == *b"Msft";

        // The host's own disks claim an older standard than they implement.
        unit.configure(
            of_host && version == Version::WIN8_1,
            !(of_host && version >= Version::WIN10),
            Parameters::answer_secs().map_or(TIMEOUT_SECS, |limit| limit.get().min(TIMEOUT_SECS)),
        );
    }

    fn geometry(capacity: u64) -> [i32; 3] {
        limits::geometry(capacity)
    }
}

/// Which way the data of a command goes; `None` for both ways, which does not exist here.
#[inline]
fn direction(command: &Command<'_>) -> Option<Direction> {
    match command.direction() {
        DataDirection::ToDevice => Some(Direction::Write),
        DataDirection::FromDevice => Some(Direction::Read),
        DataDirection::None => Some(Direction::None),
        DataDirection::Bidirectional => None,
    }
}

/// What the result of a command depends on.
#[inline]
fn sent(command: &Command<'_>) -> Sent {
    let ([opcode, flags, ..], _) = command.cdb();

    Sent {
        opcode: *opcode,
        vpd: flags & 1 != 0,
        data_len: command.data_len(),
    }
}

/// Sends a command; also returns the channel that took it.
#[inline]
fn send<'a>(
    routes: &Routes,
    command: Command<'a>,
    home: usize,
    last: bool,
) -> (QueueStatus<'a>, Option<usize>) {
    let shared = &routes.shared;
    let Some(direction) = direction(&command) else {
        return (end(command, HostByte::Error), None);
    };

    if direction == Direction::Write {
        let unit = command.activity();

        if !may_write(unit.pending, unit.silent_ms) {
            return (wait_or_end(routes, command), None);
        }
    }
    let (cdb, cdb_len) = command.cdb();
    let packet = Execute::new(&Request {
        address: command.address().into(),
        port: shared.settings.port,
        cdb: Cdb::new(*cdb, cdb_len),
        direction,
        data_len: command.data_len(),
        tagged: command.is_tagged(),
    })
    .units();
    let mapped = match command.map_dma() {
        Ok(mapped) => mapped,
        Err((command, MapError::Busy)) => return (command.busy(), None),
        Err((command, MapError::Invalid)) => return (end(command, HostByte::Error), None),
    };
    let (mapped, error) = match routes.channels.get(home) {
        None => return send_from_cpu(routes, mapped, &packet),
        Some(route) => {
            let doorbell = if last {
                Doorbell::Ring
            } else {
                Doorbell::Defer
            };

            match try_send::<false>(routes, route, mapped, &packet, routes.keep_free, doorbell) {
                Ok(verdict) => return (verdict, Some(home)),
                Err(back) => back,
            }
        }
    };
    send_elsewhere(routes, mapped, &packet, home, error)
}

/// Sends a command of a hardware queue that has no channel of its own, on the channel of this CPU.
///
/// The host is told at once: the queue's next command may come on another CPU, and go elsewhere.
// Not inlined: with a hardware queue for each CPU it is never called.
#[inline(never)]
fn send_from_cpu<'a>(
    routes: &Routes,
    mapped: Mapped<'a>,
    packet: &[U64; EXECUTE_UNITS],
) -> (QueueStatus<'a>, Option<usize>) {
    let home = routes.home_of_cpu();
    let Some(route) = routes.channels.get(home) else {
        return (not_sent(routes, mapped.unmap(), ENODEV), None);
    };

    match try_send::<false>(
        routes,
        route,
        mapped,
        packet,
        routes.keep_free,
        Doorbell::Ring,
    ) {
        Ok(verdict) => (verdict, Some(home)),
        Err((mapped, error)) => send_elsewhere(routes, mapped, packet, home, error),
    }
}

/// Sends a command that the channel it belongs to did not take, for the reason `error`: `EPERM`
/// when some commands may not be sent, and it has to be looked which.
#[cold]
fn send_elsewhere<'a>(
    routes: &Routes,
    mut mapped: Mapped<'a>,
    packet: &[U64; EXECUTE_UNITS],
    home: usize,
    mut error: Error,
) -> (QueueStatus<'a>, Option<usize>) {
    let keep_free = routes.keep_free;
    // It was not tried where it belongs.
    let first = (error == EPERM).then_some((home, keep_free));
    let others = alternatives(&routes.places, home).map(|index| (index, keep_free));
    // A channel that is nearly full is for those who have no other.
    let last = (routes.channels.len() > 1).then_some((home, 0));

    for (index, keep_free) in Iterator::chain(Iterator::chain(first.into_iter(), others), last) {
        if error != EPERM && error != EAGAIN && error != ENODEV {
            break;
        }
        let Some(route) = routes.channels.get(index) else {
            continue;
        };
        let doorbell = Doorbell::Ring;

        match try_send::<true>(routes, route, mapped, packet, keep_free, doorbell) {
            Ok(verdict) => return (verdict, Some(index)),
            Err(back) => (mapped, error) = back,
        }
    }
    (not_sent(routes, mapped.unmap(), error), None)
}

/// A command that may not go to a silent unit: later, unless that will stay silent.
#[cold]
fn wait_or_end<'a>(routes: &Routes, command: Command<'a>) -> QueueStatus<'a> {
    let shared = &routes.shared;
    let obstacle = if shared.obstacles.exist() {
        obstacle::<true>(shared, &command)
    } else {
        None
    };

    not_sent(routes, command, obstacle.unwrap_or(EBUSY))
}

/// Why a command may not be sent now, if it may not: `EBUSY` when it has to wait, `ENXIO` when
/// there is no such unit, `ESHUTDOWN` when the device is dead. `EPERM` if it has to be looked
/// which, and this does not do so.
#[cold]
fn obstacle<const LOOKS: bool>(shared: &Shared, command: &Command<'_>) -> Option<Error> {
    let unit = command.address().into();

    if !LOOKS {
        return shared.obstacles.concern(unit).then_some(EPERM);
    }
    if shared.is_dead() {
        return Some(ESHUTDOWN);
    }
    let opcode = sent(command).opcode;

    match shared.with_luns(|luns| luns.admission(unit, opcode)) {
        Admission::Send => None,
        Admission::Hold => Some(EBUSY),
        Admission::Gone => Some(ENXIO),
    }
}

/// What becomes of a command that no channel took, or was asked to take.
#[cold]
fn not_sent<'a>(routes: &Routes, command: Command<'a>, error: Error) -> QueueStatus<'a> {
    let shared = &routes.shared;

    match error {
        EAGAIN | EBUSY => return command.busy(),
        ESHUTDOWN => return end(command, HostByte::NoConnect),
        // What a unit is told when it is removed: there is nothing left to be told.
        ENXIO if command.is_for_shutdown() => return end(command, HostByte::Ok),
        ENXIO => return end(command, HostByte::NoConnect),
        _ => {}
    }
    if error == ENODEV || error == EIO {
        // A sub-channel that is about to be taken out of the routes: later.
        return if !shared.is_dead() && routes.channels.len() > 1 {
            command.busy()
        } else {
            end(command, HostByte::NoConnect)
        };
    }
    if shared.command_lines.allow(&shared.dev) {
        dev_err!(
            shared.dev,
            "a command with {} bytes of data cannot be sent: {:?}\n",
            command.data_len(),
            error
        );
    }
    end(command, HostByte::Error)
}

fn end(command: Command<'_>, host: HostByte) -> QueueStatus<'_> {
    let outcome = Outcome::not_done(host, command.data_len());

    command.complete(outcome.result())
}

/// Sends a command on one channel, or gives it back. Where some commands may not be sent, looks
/// whether this one may if `LOOKS`, and gives it back with `EPERM` otherwise.
///
/// The command is handed over after its packet is written and before it becomes visible: until then
/// an answer that the host makes up finds nothing, so nobody else touches the command's list of
/// memory while its pages are read; and from then on nothing can fail.
// Always: of its two callers one is cold, and a call would carry the command through memory.
#[inline(always)]
fn try_send<'a, const LOOKS: bool>(
    routes: &Routes,
    route: &Route,
    mapped: Mapped<'a>,
    packet: &[U64; EXECUTE_UNITS],
    keep_free: u32,
    doorbell: Doorbell,
) -> Result<QueueStatus<'a>, (Mapped<'a>, Error)> {
    let mut outbox = match route.sender.lock() {
        Ok(outbox) => outbox,
        Err(error) => return Err((mapped, error)),
    };

    // With the ring locked: what is in it then was sent before anything was known.
    if routes.shared.obstacles.exist() {
        if let Some(error) = obstacle::<LOOKS>(&routes.shared, mapped.command()) {
            return Err((mapped, error));
        }
    }
    let mut batch = match outbox.batch() {
        Ok(batch) => batch,
        Err(error) => return Err((mapped, error)),
    };
    let flags = PacketFlags::COMPLETION_REQUESTED;
    let transaction_id = mapped.transaction_id(route.number);

    batch.keep_free(keep_free);
    let data_len = mapped.command().data_len();
    let pushed = if data_len == 0 {
        let payload: &[_] = &[packet.as_bytes()];

        batch.push(&OutgoingPacket::inband(flags, transaction_id, payload))
    } else {
        let packet = GpaDirectPacket {
            flags,
            transaction_id,
            range: GpaRange::new(data_len, page_offset(&mapped)),
            payload: packet,
        };

        batch.push_pages(&packet, Pages::new(mapped.pieces(), data_len))
    };

    if let Err(error) = pushed {
        return Err((mapped, outbox.refuse(error)));
    }
    let sent = sent(mapped.command());
    let verdict = mapped.publish(route.number, sent);

    batch.commit();
    outbox.release(doorbell);
    Ok(verdict)
}

/// Where a command's data starts in its first page, in bytes.
#[inline]
fn page_offset(mapped: &Mapped<'_>) -> u32 {
    let first = mapped.pieces().next().map_or(0, |(address, _)| address);

    (first % u64::from(HV_PAGE_SIZE)) as u32
}
