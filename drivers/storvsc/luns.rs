// SPDX-License-Identifier: GPL-2.0

//! Logical units that come, go, change, or are replaced.
//!
//! The host says that something changed, or a command finds it out; `storvsc_protocol::luns` keeps
//! what was heard, and says which commands may go out meanwhile. What has to be done then sleeps, in
//! two work items:
//!
//!  * the first one compares identities. It waits for nobody but the host, so that commands which
//!    wait for it go on;
//!  * the second one has the midlayer remove, rescan and find units. Drivers of units send commands
//!    then, and those may wait for the first one.
//!
//! The items exist before the channel is open, so a notice at any time is kept; before the midlayer
//! knows the host it only waits there.

use crate::shared::{Shared, IDENTIFY, UNITS};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{delay::fsleep, Delta, Instant, Monotonic},
    workqueue::WorkItem,
};
use storvsc_protocol::{
    identity::{compare, Found, Identity, Interview},
    luns::{Task, Verdict, SUSPECT_MS},
    outcome::Followup,
    packet::Address,
};
use vmbus::abstractions::workqueue;

/// How long to leave a unit alone that does not say who it is, in milliseconds.
const PAUSE_MS: i64 = 100;

/// Who the units are that the midlayer has.
pub(crate) struct Identities(KVec<(Address, Identity)>);

impl Identities {
    /// Of no units.
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    fn get(&mut self, unit: Address) -> Option<&mut Identity> {
        let of_unit = |(address, _): &&mut (Address, Identity)| *address == unit;

        self.0
            .iter_mut()
            .find(of_unit)
            .map(|(_, identity)| identity)
    }

    fn forget(&mut self, unit: Address) {
        self.0.retain(|(address, _)| *address != unit);
    }

    fn set(&mut self, unit: Address, identity: Identity) -> Result {
        self.forget(unit);
        Ok(self.0.push((unit, identity), GFP_KERNEL)?)
    }
}

/// The host changed the set of logical units. Any context but NMI.
pub(crate) fn on_notice(shared: &Arc<Shared>) {
    shared.with_luns(|luns| luns.on_notice());
    wake(shared);
}

/// A command found out something about its logical unit. Any context but NMI.
///
/// Before the command is ended: it may be sent again at once.
pub(crate) fn on_followup(shared: &Arc<Shared>, unit: Address, followup: Followup) {
    shared.with_luns(|luns| match followup {
        Followup::Identify => luns.on_doubt(unit),
        Followup::Notice => luns.on_notice(),
        Followup::Rescan => luns.on_change(unit),
        Followup::LookAtAll => luns.on_no_list(unit),
    });
    wake(shared);
}

/// Has all that was heard dealt with. Any context but NMI.
pub(crate) fn wake(shared: &Arc<Shared>) {
    // An error means that it is about to run anyway, or that the device is unbound.
    let _ = workqueue::system_dfl_long().enqueue::<_, IDENTIFY>(shared.clone());
}

/// The midlayer makes a new unit. May sleep.
pub(crate) fn on_new_unit(shared: &Arc<Shared>, unit: Address) {
    let mut identities = shared.identities.lock();

    shared.with_luns(|luns| luns.add(unit));
    // A unit without a known identity is another one as soon as there is a doubt.
    identities.forget(unit);
    if let Ok(Found::Unit { identity, .. }) = interview(shared, unit) {
        let _ = identities.set(unit, identity);
    }
}

/// Asks a unit who it is. May sleep. `ENODEV` when the device is dead.
fn interview(shared: &Arc<Shared>, unit: Address) -> Result<Found> {
    let mut interview = Interview::new();

    while let Some(question) = interview.next() {
        ask(shared, unit, question, &mut interview)?;
    }
    Ok(interview.found())
}

/// Whether there is a unit. May sleep.
fn is_present(shared: &Arc<Shared>, unit: Address) -> Result<bool> {
    let mut interview = Interview::new();

    loop {
        if let Some(is_present) = interview.is_present() {
            return Ok(is_present);
        }
        let question = interview.next().ok_or(EIO)?;

        ask(shared, unit, question, &mut interview)?;
    }
}

fn ask(
    shared: &Arc<Shared>,
    unit: Address,
    question: (storvsc_protocol::packet::Cdb, u8),
    interview: &mut Interview,
) -> Result {
    match shared.internal.execute(shared, unit, question) {
        Ok((status, data)) => {
            let len = usize::from(question.1).min(status.transferred as usize);

            interview.on_answer(&status, data.get(..len).unwrap_or(&data));
        }
        Err(_) if shared.is_dead() => return Err(ENODEV),
        // Nothing more can be sent there, and nobody else may have noticed.
        Err(_) if is_primary_broken(shared) => {
            shared.give_up();
            return Err(ENODEV);
        }
        // There is no channel: the device is ended, or begins again, and asks when it has.
        Err(error) if error == ENODEV => return Err(ENODEV),
        Err(_) => interview.on_no_answer(),
    }
    Ok(())
}

/// Finds out what became of a unit; `None` when it does not say who it is. May sleep.
fn identify(shared: &Arc<Shared>, unit: Address) -> Result<Option<Verdict>> {
    let mut identities = shared.identities.lock();
    let mut found = interview(shared, unit)?;

    if matches!(found, Found::Busy) {
        shared.with_luns(|luns| luns.on_busy(unit));
    }
    let is_changed = shared.with_luns(|luns| luns.is_changed(unit));

    if let (Found::Unit { resized, .. }, true) = (&mut found, is_changed) {
        *resized = true;
    }
    let verdict = match identities.get(unit) {
        Some(known) => {
            let verdict = compare(known, &found);

            if let (Some(Verdict::Resized), Found::Unit { identity, .. }) = (verdict, found) {
                *known = identity;
            }
            verdict
        }
        None => match found {
            Found::Busy | Found::Unknown => None,
            Found::Nothing | Found::Unit { .. } => Some(Verdict::Gone),
        },
    };

    if let Some(verdict) = verdict {
        shared.with_luns(|luns| luns.settle(unit, verdict));
    }
    Ok(verdict)
}

/// Compares the identities of all suspects, and returns whether each of them said who it is.
fn identify_all(shared: &Arc<Shared>) -> Result<bool> {
    let mut all = true;
    let mut last = None;

    while let Some(unit) = shared.with_luns(|luns| luns.next_suspect(last)) {
        all &= identify(shared, unit)?.is_some();
        last = Some(unit);
    }
    Ok(all)
}

impl WorkItem<IDENTIFY> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        let mut start = Instant::<Monotonic>::now();

        this.with_luns(|luns| luns.wait_for_suspects());
        while !this.is_dead() && this.with_luns(|luns| luns.has_suspects()) {
            if start.elapsed().as_millis() >= i64::from(SUSPECT_MS) {
                end_silent(&this);
                start = Instant::now();
            }
            match identify_all(&this) {
                Ok(true) => {}
                Ok(false) => fsleep(Delta::from_millis(PAUSE_MS)),
                Err(_) => break,
            }
            wake_units(&this);
        }
        wake_units(&this);
    }
}

fn is_primary_broken(shared: &Shared) -> bool {
    let sender = shared.channels.lock().primary_sender();

    sender.is_some_and(|sender| !sender.is_alive())
}

/// Suspects that for long have neither said who they are nor that they are busy are gone: their commands do not wait for ever.
fn end_silent(shared: &Shared) {
    while let Some(unit) = shared.with_luns(|luns| luns.take_silent()) {
        dev_err!(
            shared.dev,
            "unit {}:{}:{} does not say who it is, it is given up\n",
            unit.channel,
            unit.target,
            unit.lun
        );
    }
    shared.with_luns(|luns| luns.wait_for_suspects());
}

fn wake_units(shared: &Arc<Shared>) {
    if shared.is_added() {
        let _ = workqueue::system_dfl_long().enqueue::<_, UNITS>(shared.clone());
    }
}

impl WorkItem<UNITS> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        while !this.is_dead() {
            match this.with_luns(|luns| luns.take()) {
                Some(Task::Remove(unit)) => remove(&this, unit),
                Some(Task::Rescan(unit)) => rescan(&this, unit),
                Some(Task::LookAtAll { channel, target }) => look_at_all(&this, channel, target),
                Some(Task::ScanBus) => this.host.scan(),
                None => return,
            }
        }
    }
}

/// Has the midlayer forget a unit, and looks what is there now.
fn remove(shared: &Arc<Shared>, unit: Address) {
    if shared.host.remove_unit(unit) {
        shared.counters.units_gone.count();
        dev_info!(
            shared.dev,
            "unit {}:{}:{} is gone\n",
            unit.channel,
            unit.target,
            unit.lun
        );
    }
    let mut identities = shared.identities.lock();

    identities.forget(unit);
    shared.with_luns(|luns| luns.forget(unit));
    drop(identities);
    // There is no unit, or it was found already: either is as good.
    let _ = shared.host.add_unit(unit);
}

/// Has the midlayer read a unit's properties again.
fn rescan(shared: &Arc<Shared>, unit: Address) {
    let mut identities = shared.identities.lock();

    shared.with_luns(|luns| luns.on_rescan(unit));
    if let (Some(known), Ok(found)) = (identities.get(unit), interview(shared, unit)) {
        match found {
            Found::Unit { identity, .. } if known.is_same_but_size(&identity) => *known = identity,
            _ => shared.with_luns(|luns| luns.on_doubt(unit)),
        }
    }
    drop(identities);
    wake(shared);
    shared.host.rescan_unit(unit);
}

/// Looks at each unit of a target.
fn look_at_all(shared: &Arc<Shared>, channel: u8, target: u8) {
    for lun in 0..=u8::MAX {
        let unit = Address {
            channel,
            target,
            lun,
        };

        if shared.with_luns(|luns| luns.is_known(unit)) {
            continue;
        }
        match is_present(shared, unit) {
            Ok(true) => drop(shared.host.add_unit(unit)),
            Ok(false) => {}
            Err(_) => return,
        }
    }
}
