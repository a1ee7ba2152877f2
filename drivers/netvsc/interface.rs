// SPDX-License-Identifier: GPL-2.0

//! What the stack wants of an interface.

use crate::{
    adapter::{Adapter, Settings},
    channels,
    control::{is_silence, Wait},
    net::{
        Card, CardEvent, Dropped, Limits, Operations, Parent, Rtnl, Sections, Stats, Transmit,
        TxFrame,
    },
    numbers,
    reconfigure::{reconfigure, recover, renew},
    tx,
};
use kernel::{
    prelude::*,
    sync::{Arc, ArcBorrow},
};
use netvsc_protocol::{
    buffers::{receive_bytes, send_bytes},
    offload::Offloads,
    query,
    rss::KEY_LEN,
    silence::Question,
};

/// Fewest sections that a buffer is made of.
const MIN_SECTIONS: u32 = 10;

/// How long a host may take with the channels of a connection before another one is made for their
/// sake.
const COMING_MS: i64 = 10_000;

impl Operations for Adapter {
    fn parent(&self) -> &Parent {
        &self.parent
    }

    /// With a host that does not answer it comes up without a link, and has one when the host
    /// answers.
    fn open(this: ArcBorrow<'_, Self>) -> Result {
        let connection = this.connection()?;

        connection.set_useful();
        this.set_up(true);
        match connection.control.apply_mode(&connection, Wait::Brief) {
            Ok(()) => {}
            Err(error) if is_silence(error) => {
                connection.mute();
                Arc::from(this).ask_again(Question::Mode);
            }
            Err(error) => {
                this.set_up(false);
                return Err(error);
            }
        }
        this.netdev.wake_all();
        Ok(())
    }

    fn stop(this: ArcBorrow<'_, Self>) {
        this.netdev.disable_transmit();
        // Before the request: whoever asks the host after it asks for no frames either.
        this.set_up(false);
        // With a host that does not answer it is closed all the same: what still comes is dropped.
        if let Ok(connection) = this.connection() {
            if let Err(error) = connection.control.apply_mode(&connection, Wait::Brief) {
                dev_warn!(this.dev, "the host may still deliver: {:?}\n", error);
                Arc::from(this).ask_again(Question::Mode);
            }
        }
    }

    #[inline]
    fn transmit(&self, frame: TxFrame<'_>) -> Transmit {
        let mut frame = Some(frame);
        let done = self
            .connection
            .with(|connection| Some(tx::transmit(&connection, frame.take()?)));

        match done {
            Some(Some(done)) => done,
            // There is no connection: the frame is dropped.
            _ => {
                self.counters.tx_no_space.count();
                Transmit::Taken
            }
        }
    }

    fn dropped(&self, queue: u32, why: Dropped) {
        match why {
            Dropped::NoMemory => self.counters.tx_no_memory.count(),
            Dropped::TooBig => self.counters.tx_too_big.count(),
            Dropped::Vlan => self.counters.vlan_error.count(),
            Dropped::Other => self.counters.tx_no_space.count(),
        }
        // It may have been the last of several whose doorbell was left to it.
        self.connection.with(|connection| {
            let queue = connection.queues.get(queue as usize);

            if let Some(sender) = queue.and_then(|queue| queue.sender.as_ref()) {
                sender.ring_doorbell();
            }
        });
    }

    fn xdp_sent(&self, queue: u32, count: u32) {
        self.connection.with(|connection| {
            if let Some(queue) = connection.queues.get(queue as usize) {
                queue.counters.xdp_xmit.add(count.into());
                if let Some(sender) = queue.sender.as_ref() {
                    sender.ring_doorbell();
                }
            }
        });
    }

    #[inline]
    fn select(&self, hash: u32) -> u32 {
        self.connection
            .with(|connection| self.table.queue(hash, connection.used()))
            .unwrap_or(0)
    }

    /// The stack names the first queue only that was stopped for long; another one may be stuck.
    fn timed_out(this: ArcBorrow<'_, Self>, queue: u32) {
        let stuck = this.connection.with(|connection| connection.is_stuck());

        // It moves, if slowly, or frames are not sent for another reason.
        if stuck != Some(true) {
            return;
        }
        this.counters.tx_timeout.count();
        if this.event_lines.allow(&this.dev) {
            dev_warn!(
                this.dev,
                "the host does nothing with what was sent (queue {} was stopped for long)\n",
                queue
            );
        }
        Arc::from(this).recover_soon();
    }

    fn recover(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>) -> Result {
        recover(&this.into(), rtnl)
    }

    fn mode_changed(this: ArcBorrow<'_, Self>) {
        let this: Arc<Self> = this.into();

        this.renew_mode();
    }

    fn set_address(this: ArcBorrow<'_, Self>, address: [u8; 6]) -> Result {
        let connection = this.connection()?;

        query::address(&address).ok_or(EADDRNOTAVAIL)?;
        connection.control.set_address(&connection, address)
    }

    fn set_coalesce(this: ArcBorrow<'_, Self>, on: bool) -> Result {
        let connection = this.connection()?;
        let agreed = connection.agreed.as_ref().ok_or(ENODEV)?;
        let offloads = Offloads {
            coalesce: on,
            ..agreed.offloads
        };

        // Who does not coalesce anyway is not told to stop.
        if connection.coalesces() != on {
            connection
                .control
                .set_offloads(&connection, agreed.version, offloads)?;
            connection.set_coalesces(on);
        }
        // The next connection starts with that.
        this.settings.lock().coalesce = on;
        Ok(())
    }

    fn change_mtu(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, mtu: u32) -> Result<u32> {
        let settings = *this.settings.lock();
        let this: Arc<Self> = this.into();

        reconfigure(&this, rtnl, Settings { mtu, ..settings })?;
        let connection = this.connection()?;
        let agreed = connection.agreed.as_ref().ok_or(ENODEV)?;

        Ok(agreed.mtu.min(mtu))
    }

    fn channels(&self) -> Limits {
        let connection = self.connection();
        let agreed = connection.as_ref().ok().and_then(|c| c.agreed.as_ref());
        let host = agreed.and_then(|agreed| agreed.rss);

        Limits {
            now: connection.as_ref().map_or(1, |c| c.used()),
            most: host.map_or(1, |rss| rss.channels).min(self.most_channels()),
        }
    }

    fn set_channels(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, channels: u32) -> Result {
        let settings = *this.settings.lock();
        let Limits { now, most } = this.channels();

        if channels == 0 || channels > most {
            return Err(EINVAL);
        }
        let new = Settings {
            channels,
            ..settings
        };

        // As many were wanted before: they are on their way, or did not come.
        if new == settings && now != channels {
            let connection = this.connection()?;

            if connection.age_ms() >= COMING_MS {
                return renew(&this.into(), rtnl, new);
            }
            channels::await_all(&connection, rtnl);
            return Ok(());
        }
        reconfigure(&this.into(), rtnl, new)
    }

    fn sections(&self) -> Sections {
        let connection = self.connection();
        let Some(agreed) = connection.as_ref().ok().and_then(|c| c.agreed.as_ref()) else {
            return Sections::default();
        };
        let most = |bytes: u32, section: u32| bytes.checked_div(section).unwrap_or(0);
        let (receive, send) = (agreed.receive, agreed.send);

        Sections {
            receive: receive.count,
            receive_most: most(receive_bytes(agreed.version, u32::MAX), receive.section),
            send: send.count,
            send_most: most(send_bytes(u32::MAX), send.section),
        }
    }

    fn set_sections(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, receive: u32, send: u32) -> Result {
        let settings = *this.settings.lock();
        let connection = this.connection()?;
        let agreed = connection.agreed.as_ref().ok_or(ENODEV)?;
        let bytes = |sections: u32, now: u32, section: u32, before: u32| match sections {
            same if same == now => before,
            sections => sections.max(MIN_SECTIONS).saturating_mul(section),
        };
        let new = Settings {
            receive_bytes: bytes(
                receive,
                agreed.receive.count,
                agreed.receive.section,
                settings.receive_bytes,
            ),
            send_bytes: bytes(
                send,
                agreed.send.count,
                agreed.send.section,
                settings.send_bytes,
            ),
            ..settings
        };

        drop(connection);
        reconfigure(&this.into(), rtnl, new)
    }

    fn table_len(&self) -> u32 {
        self.spread_len() as u32
    }

    fn spread(&self, table: &mut [u32], key: &mut [u8; KEY_LEN]) {
        let row = self.channels().now;
        let spread = self.spread.lock();

        for (slot, entry) in table.iter_mut().enumerate() {
            *entry = spread.entry(slot, row).into();
        }
        *key = spread.key;
    }

    fn set_spread(
        this: ArcBorrow<'_, Self>,
        _rtnl: &Rtnl<'_>,
        table: Option<&[u32]>,
        key: Option<&[u8; KEY_LEN]>,
    ) -> Result {
        let connection = this.connection()?;
        let row = connection.used();
        let mut new = KVec::new();

        for entry in table.unwrap_or(&[]) {
            if *entry >= row {
                return Err(EINVAL);
            }
            new.push(u16::try_from(*entry)?, GFP_KERNEL)?;
        }
        {
            let mut spread = this.spread.lock();

            if table.is_some() {
                spread.set_table(new, row);
            }
            if let Some(key) = key {
                spread.key = *key;
            }
        }
        channels::spread_over(&connection, Wait::Brief, row, || true).inspect_err(|error| {
            // What is shown is what was wanted: the host is to have it too.
            if is_silence(*error) {
                Arc::from(this).ask_again(Question::Spread);
            }
        })
    }

    fn stats(&self) -> Stats {
        numbers::stats(self)
    }

    fn on_card(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, card: &Card<'_>, event: CardEvent) {
        let this: Arc<Self> = this.into();

        this.card_event(rtnl, card, event);
    }

    fn on_moved(this: ArcBorrow<'_, Self>) {
        let this: Arc<Self> = this.into();

        this.take_up_soon();
    }

    fn cpu_stats(&self, cpu: u32) -> Stats {
        numbers::cpu_stats(self, cpu)
    }

    fn queue_stats(&self, queue: u32) -> Stats {
        numbers::queue_stats(self, queue)
    }

    fn speed(&self) -> Option<u32> {
        self.link_speed()
    }

    fn number_count(&self) -> u32 {
        numbers::number_count(self)
    }

    fn number_name(&self, index: u32, to: &mut [u8]) {
        numbers::number_name(index, to);
    }

    fn number(&self, index: u32) -> u64 {
        numbers::number(self, index)
    }
}
