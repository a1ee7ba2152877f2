// SPDX-License-Identifier: GPL-2.0

//! Counters, and the file that shows them: `hv-storvsc-rust-<device>/status` in debugfs.
//!
//! Its lines are `name: value`. Nothing that belongs to an ordinary command is counted: the state
//! of those is in their slots, and counters that CPUs share would cost every command time.

use crate::shared::Shared;
use kernel::{debugfs, device, fmt, prelude::*, str::CString, sync::Arc};
use vmbus::abstractions::Counter;

/// What went wrong, or was unusual, since the device was bound.
pub(crate) struct Counters {
    /// Packets of the host that had no effect because of what is in them.
    pub(crate) refused: Counter,
    /// Commands that were sent again because their channel went away.
    pub(crate) requeued: Counter,
    /// Commands that ended without an answer of the host.
    pub(crate) abandoned: Counter,
    /// Commands that the host ended with another status than good.
    pub(crate) failed: Counter,
    /// Times that a command was late.
    pub(crate) late: Counter,
    /// Bus resets.
    pub(crate) resets: Counter,
    /// Times that the host answered again after it was given up.
    pub(crate) revived: Counter,
    /// Commands of the driver itself that the host did not answer.
    pub(crate) left: Counter,
    /// Logical units that went, or were replaced by others.
    pub(crate) units_gone: Counter,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            refused: Counter::new(),
            requeued: Counter::new(),
            abandoned: Counter::new(),
            failed: Counter::new(),
            late: Counter::new(),
            resets: Counter::new(),
            revived: Counter::new(),
            left: Counter::new(),
            units_gone: Counter::new(),
        }
    }
}

/// Creates the folder of a device. It goes away when it is dropped.
pub(crate) fn directory(dev: &device::Device) -> Result<debugfs::Dir> {
    let name = CString::try_from_fmt(fmt!("hv-storvsc-rust-{}", dev.name()))?;

    Ok(debugfs::Dir::new(&name))
}

/// Creates the file. It goes away when it is dropped.
pub(crate) fn file<'a>(
    directory: &'a debugfs::Dir,
    shared: Arc<Shared>,
) -> impl PinInit<debugfs::File<Arc<Shared>>> + 'a {
    directory.read_callback_file(c"status", shared, &show)
}

fn show(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (version, host) = {
        let init = shared.init.lock();

        (init.version(), init.host())
    };
    let settings = &shared.settings;
    let counters = &shared.counters;
    let state = if shared.is_dead() { "gone" } else { "in use" };

    writeln!(f, "state: {}", state)?;
    writeln!(f, "protocol: {}.{}", version.major(), version.minor())?;
    writeln!(f, "max_transfer_bytes: {}", host.max_transfer_bytes)?;
    writeln!(f, "channels: {}", shared.channels.lock().count())?;
    writeln!(f, "hardware_queues: {}", settings.queues)?;
    writeln!(f, "queue_depth: {}", settings.depth)?;
    writeln!(f, "commands_in_flight: {}", shared.host.slots().in_flight())?;
    writeln!(f, "commands_withheld: {}", shared.withheld())?;
    line(f, "commands_failed", &counters.failed)?;
    line(f, "commands_late", &counters.late)?;
    line(f, "commands_requeued", &counters.requeued)?;
    line(f, "commands_abandoned", &counters.abandoned)?;
    line(f, "bus_resets", &counters.resets)?;
    line(f, "revivals", &counters.revived)?;
    line(f, "own_commands_unanswered", &counters.left)?;
    line(f, "units_gone", &counters.units_gone)?;
    line(f, "packets_refused", &counters.refused)?;
    writeln!(
        f,
        "lines_suppressed: {}",
        shared
            .command_lines
            .suppressed()
            .saturating_add(shared.packet_lines.suppressed())
    )
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, counter: &Counter) -> fmt::Result {
    writeln!(f, "{}: {}", name, counter.get())
}
