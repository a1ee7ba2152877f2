// SPDX-License-Identifier: GPL-2.0

//! Counters, and the file `hv-netvsc-rust-<device>/status` in debugfs. What the stack and `ethtool`
//! show of them is in [`numbers`](crate::numbers).

use crate::{adapter::Adapter, connection::Connection, queue::Queue};
use kernel::{
    debugfs, device, fmt,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use vmbus::abstractions::Counter;

/// A number that one thread at a time counts up, and any may read: no locked instruction.
pub(crate) struct Tally(Atomic<u64>);

impl Tally {
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts `more`. One caller at a time, or some are lost.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Frames and bytes of a queue. Received ones are counted by its poll, sent ones too, when the host
/// is done with them.
pub(crate) struct QueueCounters {
    pub(crate) tx_packets: Tally,
    pub(crate) tx_bytes: Tally,
    pub(crate) rx_packets: Tally,
    pub(crate) rx_bytes: Tally,
    pub(crate) multicast: Tally,
    /// Received frames that a program dropped, sent back, or gave to somebody else.
    pub(crate) xdp_drop: Tally,
    pub(crate) xdp_tx: Tally,
    pub(crate) xdp_redirect: Tally,
    /// Frames that programs of other interfaces sent; those that a full queue dropped are not among
    /// them, but are in the C driver's number. Counted by who has the queue's lock.
    pub(crate) xdp_xmit: Tally,
}

impl QueueCounters {
    pub(crate) const fn new() -> Self {
        Self {
            tx_packets: Tally::new(),
            tx_bytes: Tally::new(),
            rx_packets: Tally::new(),
            rx_bytes: Tally::new(),
            multicast: Tally::new(),
            xdp_drop: Tally::new(),
            xdp_tx: Tally::new(),
            xdp_redirect: Tally::new(),
            xdp_xmit: Tally::new(),
        }
    }
}

/// Unusual things since the device was bound.
pub(crate) struct Counters {
    /// Frames in too many pieces, which were put together.
    pub(crate) tx_scattered: Counter,
    /// Frames that were dropped for want of memory.
    pub(crate) tx_no_memory: Counter,
    /// Frames that were dropped since nothing else could be done with them.
    pub(crate) tx_no_space: Counter,
    /// Frames that were dropped since they are too long, or in too many pieces.
    pub(crate) tx_too_big: Counter,
    /// Frames that the stack got back.
    pub(crate) tx_busy: Counter,
    /// Short frames for which there was no section.
    pub(crate) tx_send_full: Counter,
    /// Times that the ring had no room for what the host is owed.
    pub(crate) rx_comp_busy: Counter,
    /// Frames that were dropped for want of memory, received ones.
    pub(crate) rx_no_memory: Counter,
    pub(crate) stop_queue: Counter,
    pub(crate) wake_queue: Counter,
    /// Frames that were dropped since their VLAN tag is none.
    pub(crate) vlan_error: Counter,
    /// Frames that the host could not send.
    pub(crate) tx_failed: Counter,
    /// Times that the host did nothing with what a stopped queue had sent.
    pub(crate) tx_timeout: Counter,
    /// Messages in the receive buffer that had no effect because of what is in them.
    pub(crate) rx_refused: Counter,
    /// Other packets of the host that had no effect because of what is in them.
    pub(crate) refused: Counter,
    /// Frames that were left to a host that did not say that it is done with them.
    pub(crate) left_to_host: Counter,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            tx_scattered: Counter::new(),
            tx_no_memory: Counter::new(),
            tx_no_space: Counter::new(),
            tx_too_big: Counter::new(),
            tx_busy: Counter::new(),
            tx_send_full: Counter::new(),
            rx_comp_busy: Counter::new(),
            rx_no_memory: Counter::new(),
            stop_queue: Counter::new(),
            wake_queue: Counter::new(),
            vlan_error: Counter::new(),
            tx_failed: Counter::new(),
            tx_timeout: Counter::new(),
            rx_refused: Counter::new(),
            refused: Counter::new(),
            left_to_host: Counter::new(),
        }
    }

    /// Frames of the stack that were dropped.
    pub(crate) fn tx_dropped(&self) -> u64 {
        [
            &self.tx_no_memory,
            &self.tx_no_space,
            &self.tx_too_big,
            &self.vlan_error,
            &self.tx_failed,
        ]
        .iter()
        .fold(0u64, |sum, counter| sum.wrapping_add(counter.get()))
    }
}

/// Creates the folder of a device. It goes away when it is dropped.
pub(crate) fn directory(dev: &device::Device) -> Result<debugfs::Dir> {
    let name = CString::try_from_fmt(fmt!("hv-netvsc-rust-{}", dev.name()))?;

    Ok(debugfs::Dir::new(&name))
}

/// Creates the file. It goes away when it is dropped.
pub(crate) fn file<'a>(
    directory: &'a debugfs::Dir,
    adapter: Arc<Adapter>,
) -> impl PinInit<debugfs::File<Arc<Adapter>>> + 'a {
    directory.read_callback_file(c"status", adapter, &show)
}

fn show(adapter: &Arc<Adapter>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let counters = &adapter.counters;

    match adapter.connection.get() {
        Some(connection) => show_connection(&connection, f)?,
        None => writeln!(f, "state: not connected")?,
    }
    show_function(adapter, f)?;
    line(f, "frames_failed", &counters.tx_failed)?;
    line(f, "transmit_timeouts", &counters.tx_timeout)?;
    line(f, "frames_left_to_host", &counters.left_to_host)?;
    line(f, "messages_refused", &counters.rx_refused)?;
    line(f, "packets_refused", &counters.refused)?;
    let lines = [&adapter.packet_lines, &adapter.event_lines];
    let suppressed = lines
        .iter()
        .fold(0u64, |sum, lines| sum.saturating_add(lines.suppressed()));

    writeln!(f, "lines_suppressed: {}", suppressed)
}

fn show_function(adapter: &Adapter, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let function = &adapter.function;
    let state = function.state();

    match state.named() {
        Some(serial) => writeln!(f, "function_named: {}", serial)?,
        None => writeln!(f, "function_named: no")?,
    }
    writeln!(f, "function_joined: {}", u32::from(state.is_joined()))?;
    match state.confirmed() {
        Some(path) => writeln!(f, "path: {}", path)?,
        None => writeln!(f, "path: not known")?,
    }
    writeln!(f, "sends_by_function: {}", u32::from(state.sends_by_card()))?;
    line(f, "paths_confirmed", &function.switched)?;
    line(f, "paths_not_confirmed", &function.not_switched)
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, counter: &Counter) -> fmt::Result {
    writeln!(f, "{}: {}", name, counter.get())
}

fn show_connection(connection: &Connection, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let state = if connection.is_dead() {
        "gone"
    } else {
        "in use"
    };
    let sum = |of: fn(&Queue) -> usize| {
        connection
            .queues
            .iter()
            .fold(0usize, |sum, queue| sum.saturating_add(of(queue)))
    };

    let answers = if connection.control.is_silent() {
        "no"
    } else {
        "yes"
    };

    writeln!(f, "state: {}", state)?;
    writeln!(f, "host_answers: {}", answers)?;
    writeln!(f, "protocol: {:#x}", connection.version().0)?;
    if let Some(io) = connection.io.as_ref() {
        let (receive, send) = (io.receive_layout, io.send_layout);

        writeln!(f, "receive_sections: {}", receive.count)?;
        writeln!(f, "receive_section_bytes: {}", receive.section)?;
        writeln!(f, "send_sections: {}", send.count)?;
        writeln!(f, "send_section_bytes: {}", send.section)?;
    }
    writeln!(f, "channels: {}", connection.channels.lock().count())?;
    writeln!(f, "queues: {}", connection.used())?;
    writeln!(f, "frames_in_flight: {}", sum(Queue::in_flight))?;
    writeln!(f, "send_sections_free: {}", sum(Queue::free_sections))
}
