// SPDX-License-Identifier: GPL-2.0

//! What the stack wants of an interface.

use crate::{
    net::{Dropped, Operations, Stats, Transmit, TxFrame},
    shared::{Shared, MODE},
    status, tx,
};
use kernel::{
    prelude::*,
    sync::{Arc, ArcBorrow},
    workqueue::WorkItem,
};
use netvsc_protocol::{
    offload::Offloads,
    query::{self, Filter},
};
use vmbus::abstractions::workqueue;

impl Operations for Shared {
    fn open(this: ArcBorrow<'_, Self>) -> Result {
        if this.is_dead() {
            return Err(ENODEV);
        }
        this.set_up(true);
        if let Err(error) = this.control.apply_mode(&this, this.netdev.mode()) {
            this.set_up(false);
            return Err(error);
        }
        this.netdev.wake_all();
        Ok(())
    }

    fn stop(this: ArcBorrow<'_, Self>) {
        this.netdev.disable_transmit();
        // With a host that does not answer it is closed all the same: what still comes is dropped.
        if !this.is_dead() {
            if let Err(error) = this.control.set_filter(&this, Filter::NONE) {
                dev_warn!(this.dev, "the host may still deliver: {:?}\n", error);
            }
        }
        this.set_up(false);
    }

    #[inline]
    fn transmit(&self, frame: TxFrame<'_>) -> Transmit {
        tx::transmit(self, frame)
    }

    fn dropped(&self, queue: u32, why: Dropped) {
        match why {
            Dropped::NoMemory => self.counters.tx_no_memory.count(),
            Dropped::TooBig => self.counters.tx_too_big.count(),
            Dropped::Vlan => self.counters.vlan_error.count(),
            Dropped::Other => self.counters.tx_no_space.count(),
        }
        // It may have been the last of several whose doorbell was left to it.
        let queue = self.queues.get(queue as usize);

        if let Some(sender) = queue.and_then(|queue| queue.sender.as_ref()) {
            sender.ring_doorbell();
        }
    }

    #[inline]
    fn select(&self, hash: u32) -> u32 {
        self.table.queue(hash, self.used())
    }

    fn mode_changed(this: ArcBorrow<'_, Self>) {
        if this.is_up() {
            // An error means that it is about to run anyway, or that the device is unbound.
            let this: Arc<Self> = this.into();
            let _ = workqueue::system_dfl().enqueue::<_, MODE>(this);
        }
    }

    fn set_address(this: ArcBorrow<'_, Self>, address: [u8; 6]) -> Result {
        query::address(&address).ok_or(EADDRNOTAVAIL)?;
        this.control.set_address(&this, address)
    }

    fn set_coalesce(this: ArcBorrow<'_, Self>, on: bool) -> Result {
        let agreed = this.agreed.as_ref().ok_or(ENODEV)?;

        this.control.set_offloads(
            &this,
            agreed.version,
            Offloads {
                coalesce: on && agreed.offloads.coalesce,
                ..agreed.offloads
            },
        )
    }

    fn stats(&self) -> Stats {
        status::stats(self)
    }

    fn speed(&self) -> Option<u32> {
        self.link_speed()
    }

    fn number_count(&self) -> u32 {
        status::number_count(self)
    }

    fn number_name(&self, index: u32, to: &mut [u8]) {
        status::number_name(index, to);
    }

    fn number(&self, index: u32) -> u64 {
        status::number(self, index)
    }
}

impl WorkItem<MODE> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        if !this.is_up() {
            return;
        }
        if let Err(error) = this.control.apply_mode(&this, this.netdev.mode()) {
            dev_warn!(
                this.dev,
                "the host delivers the frames that it did: {:?}\n",
                error
            );
        }
    }
}
