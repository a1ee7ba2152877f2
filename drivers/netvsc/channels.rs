// SPDX-License-Identifier: GPL-2.0

//! The channels of a device, and how many of them are used.
//!
//! The queues of the interface are those of the channels 0 to n without a gap. A channel that does
//! not open, or that the host takes back, ends the row: the interface goes on with those before it.

use crate::{
    adapter::Adapter,
    connection::Connection,
    control::{is_silence, Wait},
    net::{ring_pages, Napi, Rtnl},
    poll::{Events, Poller},
    work::SPREAD,
};
use kernel::{prelude::*, sync::Arc, workqueue::WorkItem};
use netvsc_protocol::{
    inbound::Answer,
    nvsp::{Message, STATUS_SUCCESS},
    rss::{Capabilities, KEY_LEN},
    silence::Question,
    transfer::MAX_PACKET,
};
use vmbus::{ChannelConfig, Lingering, OpenChannel, Receiver, SubChannel, SubChannels};

/// Bytes of a page.
const PAGE: usize = 4096;
/// How long who asked for channels waits for them, in milliseconds.
const COME_MS: u32 = 2_000;
/// Pages of a ring at least and at most.
const RING_PAGES: core::ops::RangeInclusive<usize> = 16..=4096;

/// How a channel of the device is opened.
fn config() -> ChannelConfig<'static> {
    let pages = (ring_pages() as usize).clamp(*RING_PAGES.start(), *RING_PAGES.end());
    let bytes = pages.saturating_sub(1).saturating_mul(PAGE);

    ChannelConfig {
        send_bytes: bytes,
        recv_bytes: bytes,
        max_packet: MAX_PACKET,
        user_data: &[],
    }
}

/// A channel that is open and polled.
pub(crate) struct Channel {
    index: u32,
    relid: u32,
    napi: Arc<Napi>,
    open: OpenChannel,
}

impl Channel {
    /// The channel.
    pub(crate) fn open_channel(&self) -> &OpenChannel {
        &self.open
    }

    /// Ends the polling, and asks the host for the memory. May sleep.
    fn begin_end(&self) {
        self.napi.disable();
        self.napi.with_disabled(Poller::stop);
        self.open.begin_close();
    }

    /// Closes the channel, and ends what is still with the host. May sleep.
    pub(crate) fn end(self, connection: &Connection) -> Option<Lingering> {
        self.begin_end();
        let lingering = self.open.close();

        if let Some(queue) = connection.queues.get(self.index as usize) {
            queue.end(lingering.as_ref(), &connection.adapter.counters);
        }
        lingering
    }
}

/// Opens the channel of queue `index`. May sleep.
pub(crate) fn open(
    connection: &Arc<Connection>,
    index: u32,
    relid: u32,
    opener: impl FnOnce(Arc<Events>, &ChannelConfig<'_>) -> Result<(OpenChannel, Receiver)>,
) -> Result<Channel> {
    let queue = connection.queues.get(index as usize).ok_or(EINVAL)?;
    let poller = Poller::new(connection.clone(), queue.clone())?;
    let napi = Napi::new(&connection.adapter.netdev, index, poller)?;
    let events = Events::new(connection.clone(), napi.clone(), index == 0)?;
    let (open, receiver) = opener(events, &config())?;
    let sender = open.sender();

    // A queue has one channel in its life.
    if !queue.sender.populate(sender.clone()) {
        return Err(EBUSY);
    }
    napi.with_disabled(|poller| poller.start(receiver, sender));
    napi.enable();
    // What came before somebody could be told.
    napi.kick();
    Ok(Channel {
        index,
        relid,
        napi,
        open,
    })
}

/// The open channels.
pub(crate) struct Channels {
    primary: Option<Channel>,
    subs: KVec<Channel>,
    /// Sub-channels that were asked for.
    asked: u32,
    /// Those that the host has promised, once it has answered.
    promised: Option<u32>,
    /// Those that it has offered, whether they are used or not.
    offered: u32,
}

impl Channels {
    /// No channel is open.
    pub(crate) const fn new() -> Self {
        Self {
            primary: None,
            subs: KVec::new(),
            asked: 0,
            promised: None,
            offered: 0,
        }
    }

    /// Takes them all out.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    /// Ends them all, sub-channels first, and waits for the host's answers all at the same time;
    /// what is left to the host of the primary one. May sleep.
    pub(crate) fn end(self, connection: &Connection) -> Option<Lingering> {
        for channel in Iterator::chain(self.subs.iter(), &self.primary) {
            channel.begin_end();
        }
        for channel in self.subs {
            drop(channel.end(connection));
        }
        self.primary.and_then(|channel| channel.end(connection))
    }

    /// Keeps the primary channel.
    pub(crate) fn set_primary(&mut self, channel: Channel) {
        self.primary = Some(channel);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.subs.len().saturating_add(self.primary.iter().count())
    }

    /// Calls `f` with the numbers of those that interrupt a CPU.
    pub(crate) fn of_cpu(&self, cpu: u32, mut f: impl FnMut(u32)) {
        for channel in Iterator::chain(self.subs.iter(), &self.primary) {
            if channel.open.target_cpu() == cpu {
                f(channel.index);
            }
        }
    }

    /// Whether the host has kept its promise.
    fn have_all_come(&self) -> bool {
        self.promised
            .is_some_and(|promised| self.offered >= promised)
    }

    /// Whether it has promised more than there are.
    fn are_to_come(&self) -> bool {
        self.promised.is_some() && !self.have_all_come()
    }

    /// How many there are without a gap.
    fn row(&self) -> u32 {
        let mut row = u32::from(self.primary.is_some());

        while row != 0 && self.subs.iter().any(|channel| channel.index == row) {
            row = row.saturating_add(1);
        }
        row
    }
}

/// How many channels are wanted.
pub(crate) fn planned(connection: &Connection, rss: Option<Capabilities>) -> u32 {
    let most = u32::try_from(connection.queues.len()).unwrap_or(1);
    let wanted = connection.adapter.settings.lock().channels;

    rss.map_or(1, |rss| rss.channels).min(wanted).clamp(1, most)
}

/// Asks for sub-channels. May sleep. Without them the interface works as well.
pub(crate) fn spread(connection: &Arc<Connection>) {
    let rss = connection.agreed.as_ref().and_then(|agreed| agreed.rss);
    let wanted = planned(connection, rss).saturating_sub(1);

    if wanted != 0 {
        if let Err(error) = ask(connection, wanted) {
            dev_warn!(connection.adapter.dev, "no sub-channels: {:?}\n", error);
        }
    }
}

fn ask(connection: &Arc<Connection>, wanted: u32) -> Result {
    let acceptor: Arc<dyn SubChannels> = Arc::new(Acceptor(connection.clone()), GFP_KERNEL)?;

    {
        let mut channels = connection.channels.lock();

        // Only those that are asked for are taken, and they may be offered before the answer.
        channels.asked = wanted;
        channels
            .primary
            .as_ref()
            .ok_or(ENODEV)?
            .open
            .accept_sub_channels(acceptor)?;
    }
    match connection
        .control
        .ask(connection, &Message::sub_channels(wanted))?
    {
        Some(Answer::SubChannels {
            status: STATUS_SUCCESS,
            count,
        }) => {
            // A host may say more than it was asked for.
            note(connection, |channels| {
                channels.promised = Some(count.min(wanted));
            });
            Ok(())
        }
        Some(Answer::SubChannels { .. }) => Err(EIO),
        _ => Err(EPROTO),
    }
}

/// Takes a note of sub-channels, and wakes who waits for all of them.
fn note(connection: &Connection, take: impl FnOnce(&mut Channels)) {
    let mut channels = connection.channels.lock();

    take(&mut channels);
    if channels.have_all_come() {
        connection.all_came.complete();
    }
}

/// Waits for the sub-channels that the host has promised, and uses them: whoever has asked for
/// another connection finds as many queues as it has. What comes later is used when it does. May
/// sleep, for [`COME_MS`] at most: the host is asked to spread over them by the work item, which
/// runs for each of them.
pub(crate) fn await_all(connection: &Arc<Connection>, rtnl: &Rtnl<'_>) {
    let adapter = &connection.adapter;

    // Who opens them needs no RTNL. Whoever gives up, or is in a hurry, after this look wakes us.
    if connection.channels.lock().are_to_come()
        && !connection.is_dead()
        && !connection.control.is_hurried()
    {
        connection.all_came.wait_timeout(COME_MS);
    }
    let row = connection.channels.lock().row();

    // Fewer are used once the host does not spread over the others any more.
    if row <= connection.used() {
        return;
    }
    let own_table = adapter.netdev.has_own_table(rtnl);

    adapter.spread.lock().on_other_row(own_table);
    connection.set_used(row);
    adapter.netdev.use_queues(rtnl, row);
}

/// Takes the sub-channels of the device.
struct Acceptor(Arc<Connection>);

impl Acceptor {
    fn open(&self, channel: &SubChannel) -> Result {
        let connection = &self.0;
        let index = u32::from(channel.index());

        // Each has rings and a queue; a host may offer thousands.
        if index == 0 || index > connection.channels.lock().asked {
            return Err(EINVAL);
        }
        let opened = open(connection, index, channel.relid(), |events, config| {
            channel.open_polled(events, config)
        })?;
        let mut channels = connection.channels.lock();

        if channels.primary.is_none() {
            // The device is being ended; the lock goes before the channel does.
            drop(channels);
            drop(opened.end(connection));
            return Err(ENODEV);
        }
        if let Err(error) = channels.subs.reserve(1, GFP_KERNEL) {
            drop(channels);
            drop(opened.end(connection));
            return Err(error.into());
        }
        let _ = channels.subs.push_within_capacity(opened);
        drop(channels);
        connection.adapter.respread();
        Ok(())
    }
}

impl SubChannels for Acceptor {
    fn offered(&self, channel: SubChannel) {
        let opened = self.open(&channel);

        note(&self.0, |channels| {
            if (1..=channels.asked).contains(&channel.index().into()) {
                channels.offered = channels.offered.saturating_add(1);
            }
        });
        let Err(error) = opened else {
            return;
        };
        let adapter = &self.0.adapter;

        if adapter.event_lines.allow(&adapter.dev) {
            dev_warn!(
                adapter.dev,
                "sub-channel {} not used: {:?}\n",
                channel.index(),
                error
            );
        }
    }

    fn rescinded(&self, relid: u32) {
        let connection = &self.0;
        let sub = {
            let mut channels = connection.channels.lock();
            let at = channels.subs.iter().position(|sub| sub.relid == relid);

            at.and_then(|at| channels.subs.remove(at).ok())
        };

        if let Some(sub) = sub {
            // What is sent there meanwhile is dropped.
            connection.adapter.respread();
            let index = sub.index;

            drop(sub.end(connection));
            // Or the stack would find it stopped for ever. It is still this connection's: the end
            // of the primary channel, before which there is no other one, waits for us.
            connection.adapter.netdev.end_queue(index);
        }
    }
}

impl WorkItem<SPREAD> for Adapter {
    type Pointer = Arc<Adapter>;

    /// Uses the channels that there are.
    fn run(this: Arc<Adapter>) {
        let Ok(connection) = this.connection() else {
            return;
        };
        let row = connection.channels.lock().row();

        if row == 0 {
            return;
        }
        // A new connection, which is made under RTNL, begins with one queue.
        let result = spread_over(&connection, Wait::Patient, row, || {
            this.netdev.set_queues(row, |own_table| {
                // Where the row is another one by now, that is for the next run.
                let published =
                    this.is_published(&connection) && connection.channels.lock().row() == row;

                if published {
                    this.spread.lock().on_other_row(own_table);
                }

                // Under RTNL, so that who sets the table there knows how many there are.
                if published {
                    connection.set_used(row);
                }
                published
            })
        });

        match result {
            Err(error) if is_silence(error) => this.ask_again(Question::Spread),
            // It goes away.
            Ok(()) | Err(ENODEV) => {}
            Err(error) => dev_warn!(
                this.dev,
                "the host spreads its frames as before: {:?}\n",
                error
            ),
        }
    }
}

/// The host stops spreading, `between` is done, and the host spreads over the first `row` channels;
/// that is left when `between` returns false. Channels that are gone are not used any more,
/// whatever the host says. May sleep.
pub(crate) fn spread_over(
    connection: &Connection,
    wait: Wait,
    row: u32,
    between: impl FnOnce() -> bool,
) -> Result {
    let agreed = connection.agreed.as_ref();
    let set = |off| match agreed.and_then(|agreed| agreed.rss) {
        Some(rss) => {
            connection
                .control
                .set_rss(connection, wait, || table(connection, rss, row), off)
        }
        None => Err(EOPNOTSUPP),
    };
    let stopped = set(true);

    if (stopped.is_ok() || row < connection.used()) && !between() {
        return Ok(());
    }
    stopped?;
    set(false)
}

/// How the host is to spread over the first `row` channels: the table and the key. May sleep.
fn table(
    connection: &Connection,
    rss: Capabilities,
    row: u32,
) -> Result<(KVec<u16>, [u8; KEY_LEN])> {
    let mut table = KVec::with_capacity(rss.table.into(), GFP_KERNEL)?;
    let spread = connection.adapter.spread.lock();

    for slot in 0..usize::from(rss.table) {
        table.push(spread.entry(slot, row), GFP_KERNEL)?;
    }
    Ok((table, spread.key))
}
