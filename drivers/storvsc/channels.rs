// SPDX-License-Identifier: GPL-2.0

//! The channels of a device, the packets that come through them, and which hardware queue uses which.

use crate::{
    luns, probe, reset,
    scsi::{cpus_present, node_of},
    shared::Shared,
};
use kernel::{
    cpu::{nr_cpu_ids, CpuId},
    prelude::*,
    sync::Arc,
};
use storvsc_protocol::{
    inbound::Status,
    luns::is_sign_of_life,
    outcome::outcome,
    route::{home, is_queue_of_one_cpu, Place},
    HostByte, Inbound, Outcome,
};
use vmbus::{
    abstractions::{NoIo, Shown},
    CallbackContext, ChannelConfig, Handler, OpenChannel, Packet, Sender, SubChannel, SubChannels,
};

/// Number of the primary channel in the slots of commands.
pub(crate) const PRIMARY: u16 = 0;

/// Longest packet, in bytes: descriptor and packet, and some more that is not looked at.
const MAX_PACKET: usize = 256;

/// How a channel of the device is opened.
pub(crate) fn config(shared: &Shared) -> ChannelConfig<'static> {
    let bytes = shared.settings.ring_bytes as usize;

    ChannelConfig {
        send_bytes: bytes,
        recv_bytes: bytes,
        max_packet: MAX_PACKET,
        user_data: &[0; 24],
    }
}

/// A sub-channel in use.
struct Sub {
    relid: u32,
    /// Its number in the slots of commands.
    number: u16,
    channel: OpenChannel,
}

/// The channels, open or closed. Dropping closes them, one after the other.
pub(crate) struct Channels {
    subs: KVec<Sub>,
    primary: Option<OpenChannel>,
    /// Number of the newest sub-channel. Not used again soon, since late answers name it.
    last_number: u16,
}

impl Channels {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            subs: KVec::new(),
            primary: None,
            last_number: PRIMARY,
        }
    }

    /// Takes them all out.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    fn all(&self) -> impl Iterator<Item = (u16, &OpenChannel)> {
        let subs = self.subs.iter().map(|sub| (sub.number, &sub.channel));
        let primary = self.primary.iter().map(|channel| (PRIMARY, channel));

        Iterator::chain(subs, primary)
    }

    /// Closes them, sub-channels first, and waits for the host's answers all at the same time. May
    /// sleep; allocates nothing.
    pub(crate) fn close(&self) {
        for (_, channel) in self.all() {
            channel.begin_close();
        }
        for (_, channel) in self.all() {
            let _ = channel.close();
        }
    }

    /// Of closed channels: whether the host has not given back the memory of the one with this
    /// number. Until it has, it may write to the data of the commands on it.
    pub(crate) fn withholds(&self, number: u16) -> bool {
        self.all()
            .filter(|(other, _)| *other == number)
            .filter_map(|(_, channel)| channel.close())
            .any(|memory| !memory.is_over())
    }

    /// Of closed channels: whether the host has not given back all memory.
    pub(crate) fn withhold_any(&self) -> bool {
        self.all().any(|(number, _)| self.withholds(number))
    }

    /// Opens the primary channel again, which was closed. May sleep. `ENODEV` when there is none, or
    /// it is rescinded.
    pub(crate) fn open_again(&self, shared: &Arc<Shared>) -> Result<OpenChannel> {
        let inbox = Arc::new(Inbox::new(shared.clone(), PRIMARY), GFP_KERNEL)?;
        let closed = self.primary.as_ref().ok_or(ENODEV)?;

        closed.open_again(inbox, &config(shared))
    }

    /// Keeps the primary channel.
    pub(crate) fn set_primary(&mut self, channel: OpenChannel) {
        self.primary = Some(channel);
    }

    /// Takes sub-channels from now on. `ENODEV` when the device is gone.
    pub(crate) fn accept_sub_channels(&self, acceptor: Arc<dyn SubChannels>) -> Result {
        self.primary
            .as_ref()
            .ok_or(ENODEV)?
            .accept_sub_channels(acceptor)
    }

    /// Sends on the primary channel, if it is open.
    pub(crate) fn primary_sender(&self) -> Option<Sender> {
        self.primary.as_ref().map(OpenChannel::sender)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.subs.len().saturating_add(self.primary.iter().count())
    }

    /// A number that no channel in use has.
    fn next_number(&mut self) -> u16 {
        loop {
            self.last_number = self.last_number.wrapping_add(1);
            let number = self.last_number;

            if number != PRIMARY && self.subs.iter().all(|sub| sub.number != number) {
                return number;
            }
        }
    }
}

/// Takes the packets of one channel.
pub(crate) struct Inbox {
    shared: Arc<Shared>,
    number: u16,
}

impl Inbox {
    /// For the channel with this number.
    pub(crate) fn new(shared: Arc<Shared>, number: u16) -> Self {
        Self { shared, number }
    }

    /// A command ended, with this transaction id.
    #[inline]
    fn on_command(&self, id: u64, status: &Status) {
        let shared = &self.shared;

        match shared.slots.take(id, self.number) {
            Ok(command) => {
                let result = outcome(&command.sent(), status);

                let is_sign_of_life = is_sign_of_life(command.sent().opcode, status);

                if !is_sign_of_life {
                    if status.scsi != 0 || status.srb != 1 {
                        self.on_failure(id, command.sent().opcode, status, &result);
                    }
                    if let Some(followup) = result.followup {
                        luns::on_followup(shared, command.address(), followup);
                    }
                }
                command.finish(&result, status.sense(), is_sign_of_life);
            }
            Err(error) => {
                shared.counters.refused.count();
                if shared.packet_lines.allow(&shared.dev) {
                    dev_warn!(
                        shared.dev,
                        "answer with id {:#x} ignored: {}\n",
                        id,
                        Shown(&error)
                    );
                }
            }
        }
    }

    #[cold]
    fn on_failure(&self, id: u64, opcode: u8, status: &Status, result: &Outcome) {
        let shared = &self.shared;

        shared.counters.failed.count();
        if shared.logs(result.log) && shared.command_lines.allow(&shared.dev) {
            let slot = (id & 0xffff_ffff).saturating_sub(1);
            let depth = u64::from(shared.settings.depth);

            dev_warn!(
                shared.dev,
                "tag#{} cmd {:#x} status: {}\n",
                slot.checked_rem(depth).unwrap_or(slot),
                opcode,
                Shown(status)
            );
        }
    }
}

impl Handler for Inbox {
    const CONTEXT: CallbackContext = CallbackContext::Interrupt;

    #[inline]
    fn on_packet(&self, sender: &Sender, packet: &Packet<'_>) {
        let shared = &self.shared;
        let error = match Inbound::parse(packet.transaction_id(), packet.payload()) {
            Ok(Inbound::Command(id, status)) => return self.on_command(id, &status),
            Ok(Inbound::Rescan) => return luns::on_notice(shared),
            Ok(Inbound::Internal(id, status)) => {
                if !shared.internal.on_answer(id, status) {
                    shared.counters.refused.count();
                    if shared.packet_lines.allow(&shared.dev) {
                        dev_warn!(shared.dev, "answer to no command ignored\n");
                    }
                }
                return;
            }
            Ok(Inbound::Reset(status)) => {
                if !reset::on_answer(shared, status) {
                    shared.counters.refused.count();
                    if shared.packet_lines.allow(&shared.dev) {
                        dev_warn!(shared.dev, "answer to no reset ignored\n");
                    }
                }
                return;
            }
            Ok(Inbound::Init {
                id,
                operation,
                status,
                body,
            }) => {
                let next = shared.init.lock().on_answer(id, operation, status, &body);

                if let Some(step) = next {
                    probe::send_step(shared, sender, step);
                }
                return shared.step.complete();
            }
            Err(error) => error,
        };

        shared.counters.refused.count();
        if shared.packet_lines.allow(&shared.dev) {
            dev_warn!(shared.dev, "ignored: {}\n", Shown(&error));
        }
    }

    fn on_broken(&self) {
        self.shared.give_up();
    }

    fn on_rescind(&self) {
        // A sub-channel that goes alone is dealt with in `rescinded`.
        if self.number == PRIMARY {
            self.shared.give_up();
        }
    }

    fn on_moved(&self) {
        match reroute(&self.shared) {
            // There is none when the device is being ended.
            Ok(()) | Err(ENODEV) => {}
            Err(error) => dev_warn!(
                self.shared.dev,
                "I/O stays on the channels it is on: {:?}\n",
                error
            ),
        }
    }
}

/// Takes the sub-channels of the device.
struct Acceptor(Arc<Shared>);

/// Who takes the sub-channels of the device.
pub(crate) fn acceptor(shared: &Arc<Shared>) -> Result<Arc<dyn SubChannels>> {
    Ok(Arc::new(Acceptor(shared.clone()), GFP_KERNEL)?)
}

impl Acceptor {
    fn open(&self, channel: &SubChannel) -> Result {
        let shared = &self.0;

        // Each has rings, and a place in the routes; a host may offer thousands.
        if !shared.init.lock().wants_sub_channel(channel.index()) {
            return Err(EINVAL);
        }
        let number = shared.channels.lock().next_number();
        let inbox = Arc::new(Inbox::new(shared.clone(), number), GFP_KERNEL)?;
        let sub = Sub {
            relid: channel.relid(),
            number,
            channel: channel.open(inbox, &config(shared))?,
        };
        let mut channels = shared.channels.lock();

        if channels.primary.is_none() {
            // The device is being ended; the lock goes before the channel does.
            drop(channels);
            return Err(ENODEV);
        }
        channels.subs.push(sub, GFP_KERNEL)?;
        drop(channels);
        reroute(shared)
    }
}

impl SubChannels for Acceptor {
    fn offered(&self, channel: SubChannel) {
        if let Err(error) = self.open(&channel) {
            if self.0.packet_lines.allow(&self.0.dev) {
                dev_warn!(
                    self.0.dev,
                    "sub-channel {} not used: {:?}\n",
                    channel.index(),
                    error
                );
            }
        }
    }

    fn rescinded(&self, relid: u32) {
        let shared = &self.0;
        let sub = {
            let mut channels = shared.channels.lock();
            let at = channels.subs.iter().position(|sub| sub.relid == relid);

            at.and_then(|at| channels.subs.remove(at).ok())
        };
        let Some(sub) = sub else {
            return;
        };
        let number = sub.number;

        // First nobody sends there any more, then the channel is closed, then what was sent ends:
        // the midlayer sends it again on another channel.
        if reroute(shared).is_err() {
            return shared.give_up();
        }
        drop(sub);
        shared.slots.take_all(
            |on| on == number,
            |command| {
                let outcome = Outcome::not_done(HostByte::Requeue, command.sent().data_len);
                command.finish(&outcome, &[], false);
                shared.counters.requeued.count();
            },
        );
    }
}

/// One channel that commands can go out on.
pub(crate) struct Route {
    pub(crate) sender: Sender,
    /// Its number in the slots of commands.
    pub(crate) number: u16,
}

/// What the callbacks of the midlayer work with. Made anew when a channel comes or goes.
pub(crate) struct Routes {
    pub(crate) shared: Arc<Shared>,
    pub(crate) channels: KVec<Route>,
    /// Where they are, in the same order.
    pub(crate) places: KVec<Place>,
    /// For each hardware queue the index of its channel; [`BY_CPU`] if there are fewer queues than
    /// CPUs.
    homes: KVec<usize>,
    /// For each CPU the index of its channel.
    homes_of_cpus: KVec<usize>,
    /// Bytes of an outgoing ring that stay free as long as another channel can be used.
    pub(crate) keep_free: u32,
}

/// Not the index of a channel: whoever sends has to look which CPU it is on.
const BY_CPU: usize = usize::MAX;

impl Routes {
    /// The index of the channel of a hardware queue, or of none: [`Self::home_of_cpu`].
    #[inline]
    pub(crate) fn home(&self, queue: u16) -> usize {
        self.homes.get(usize::from(queue)).copied().unwrap_or(0)
    }

    /// The index of the channel of this CPU.
    pub(crate) fn home_of_cpu(&self) -> usize {
        let cpu = CpuId::current().as_u32() as usize;

        self.homes_of_cpus.get(cpu).copied().unwrap_or(0)
    }

    /// Tells the host about the commands that were sent on a channel, as far as it was not told.
    #[inline]
    pub(crate) fn ring(&self, index: usize) {
        if let Some(route) = self.channels.get(index) {
            route.sender.ring_doorbell();
        }
    }
}

/// Makes the routes for the channels of now. May sleep.
///
/// Commands whose doorbell was deferred on a channel are announced here: the queue that sent them may
/// have another channel from now on.
pub(crate) fn reroute(shared: &Arc<Shared>) -> Result {
    // The end of the device takes the lock, and it may be what memory is waited for.
    let _noio = NoIo::new();
    let channels = shared.channels.lock();
    let primary = channels.primary.as_ref().ok_or(ENODEV)?;
    let mut routes = Routes {
        shared: shared.clone(),
        channels: KVec::new(),
        places: KVec::new(),
        homes: KVec::new(),
        homes_of_cpus: KVec::new(),
        keep_free: match channels.subs.is_empty() {
            true => 0,
            false => shared.settings.low_water,
        },
    };
    let place = |cpu| Place {
        cpu,
        node: node_of(cpu),
    };

    routes.channels.push(
        Route {
            sender: primary.sender(),
            number: PRIMARY,
        },
        GFP_KERNEL,
    )?;
    routes
        .places
        .push(place(primary.target_cpu()), GFP_KERNEL)?;
    for sub in channels.subs.iter() {
        routes.channels.push(
            Route {
                sender: sub.channel.sender(),
                number: sub.number,
            },
            GFP_KERNEL,
        )?;
        routes
            .places
            .push(place(sub.channel.target_cpu()), GFP_KERNEL)?;
    }
    for cpu in 0..nr_cpu_ids() {
        let index = home(&routes.places, cpu, node_of(cpu));

        routes.homes_of_cpus.push(index, GFP_KERNEL)?;
    }
    let queues = shared.settings.queues;

    for queue in 0..queues as usize {
        let index = match routes.homes_of_cpus.get(queue) {
            Some(index) if is_queue_of_one_cpu(queues, cpus_present()) => *index,
            _ => BY_CPU,
        };

        routes.homes.push(index, GFP_KERNEL)?;
    }
    if let Some(old) = shared.host.publish(Arc::new(routes, GFP_KERNEL)?) {
        for index in 0..old.channels.len() {
            old.ring(index);
        }
    }
    Ok(())
}
