// SPDX-License-Identifier: GPL-2.0

//! Logical units that come, go, change, or are replaced.
//!
//! The host says that something changed, or a command finds it out; `storvsc_protocol::luns` keeps
//! what was heard, and says which commands may go out meanwhile. What has to be done then sleeps,
//! in two work items:
//!
//!  * the first one compares identities. It waits for nobody but the host, so that commands which
//!    wait for it go on;
//!  * the second one ([`units`](crate::units)) has the midlayer remove, rescan and find units.
//!    Drivers of units send commands then, and those may wait for the first one. A unit whose
//!    commands the host still has is not removed: that would wait for them, and with it the units
//!    that come or go.
//!
//! The items exist before the channel is open, so a notice at any time is kept; before the midlayer
//! knows the host it only waits there.

use crate::{
    scsi,
    shared::{Shared, IDENTIFY, UNITS},
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{delay::fsleep, Delta, Instant, Monotonic},
    workqueue::WorkItem,
};
use storvsc_protocol::{
    identity::{compare, Found, Identity, Interview},
    luns::{Verdict, SUSPECT_MS},
    outcome::Followup,
    packet::Address,
};
use vmbus::abstractions::{workqueue, NoIo};

/// How often a new unit is asked who it is, of which a page cannot be read, and the pause before
/// that, in milliseconds.
const LOOKS: u32 = 3;
const LOOK_PAUSE_MS: i64 = 200;

/// How long to leave a unit alone that does not say who it is, in milliseconds.
const PAUSE_MS: i64 = 100;

impl From<scsi::Address> for Address {
    #[inline]
    fn from(unit: scsi::Address) -> Self {
        Self {
            channel: unit.channel,
            target: unit.target,
            lun: unit.lun,
        }
    }
}

impl From<Address> for scsi::Address {
    fn from(unit: Address) -> Self {
        Self {
            channel: unit.channel,
            target: unit.target,
            lun: unit.lun,
        }
    }
}

/// Who the units are that the midlayer has.
pub(crate) struct Identities(KVec<Known>);

/// What is known of a unit.
struct Known {
    unit: Address,
    identity: Identity,
    /// It is being looked at for the first time, and nobody uses it: what it says is what is known
    /// of it.
    is_new: bool,
}

impl Identities {
    /// Of no units.
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    fn entry(&mut self, unit: Address) -> Option<&mut Known> {
        self.0.iter_mut().find(|known| known.unit == unit)
    }

    pub(crate) fn get(&mut self, unit: Address) -> Option<&mut Identity> {
        self.entry(unit).map(|known| &mut known.identity)
    }

    pub(crate) fn forget(&mut self, unit: Address) {
        self.0.retain(|known| known.unit != unit);
    }

    /// Takes what a new unit says; whether it has said all.
    fn learn(&mut self, unit: Address, identity: Identity) -> Result<bool> {
        if let Some(known) = self.entry(unit) {
            if known.is_new {
                // Another one is found out to be.
                let _ = known.identity.learn(&identity);
            }
            return Ok(!known.identity.is_incomplete());
        }
        let is_complete = !identity.is_incomplete();

        self.0.push(
            Known {
                unit,
                identity,
                is_new: true,
            },
            GFP_KERNEL,
        )?;
        Ok(is_complete)
    }

    /// The unit is used from now on.
    fn settle(&mut self, unit: Address) {
        if let Some(known) = self.entry(unit) {
            known.is_new = false;
        }
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

/// A unit has answered that may have been taken for mute. Any context but NMI.
pub(crate) fn on_voice(shared: &Arc<Shared>, unit: Address) {
    shared.with_luns(|luns| luns.on_voice(unit));
    wake(shared);
}

/// Listens for all mute units that are not listened for, as far as there are buffers. May sleep.
fn listen(shared: &Arc<Shared>) {
    let mut last = None;

    while let Some(unit) = shared.with_luns(|luns| luns.next_mute(last)) {
        // Nothing can be sent, or it was asked already: later.
        let _ = shared.internal.listen(shared, unit);
        last = Some(unit);
    }
}

/// Has all that was heard dealt with. Any context but NMI.
pub(crate) fn wake(shared: &Arc<Shared>) {
    // An error means that it is about to run anyway, or that the device is unbound.
    let _ = workqueue::reclaim().enqueue::<_, IDENTIFY>(shared.clone());
}

/// The midlayer makes a new unit. May sleep.
pub(crate) fn on_new_unit(shared: &Arc<Shared>, unit: Address) {
    // Writes to a suspect wait for who compares identities, and memory may be waiting for writes.
    let _noio = NoIo::new();

    let mut is_complete = {
        let mut identities = shared.identities.lock();

        shared.with_luns(|luns| luns.add(unit));
        // A unit without a known identity is another one as soon as there is a doubt.
        identities.forget(unit);
        get_to_know(shared, &mut identities, unit)
    };

    // One that cannot be read may be about to start.
    for _ in 1..LOOKS {
        if is_complete != Some(false) {
            break;
        }
        fsleep(Delta::from_millis(LOOK_PAUSE_MS));
        is_complete = get_to_know(shared, &mut shared.identities.lock(), unit);
    }
    shared.identities.lock().settle(unit);
}

/// Asks a unit that is not used yet who it is; whether it has said all, if it has said anything.
/// May sleep.
fn get_to_know(shared: &Arc<Shared>, identities: &mut Identities, unit: Address) -> Option<bool> {
    match interview(shared, unit) {
        Ok(Found::Unit { identity, .. }) => identities.learn(unit, identity).ok(),
        _ => None,
    }
}

/// Asks a unit who it is. May sleep. `ENODEV` when the device is dead.
pub(crate) fn interview(shared: &Arc<Shared>, unit: Address) -> Result<Found> {
    let mut interview = Interview::new();

    while let Some(question) = interview.next() {
        ask(shared, unit, question, &mut interview)?;
    }
    Ok(interview.found())
}

/// Whether there is a unit. May sleep.
pub(crate) fn is_present(shared: &Arc<Shared>, unit: Address) -> Result<bool> {
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
        Err(error) if error == ETIMEDOUT => interview.on_silence(),
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
    let learned = match (identities.entry(unit), &found) {
        (Some(known), Found::Unit { identity, .. }) if known.is_new => {
            known.identity.learn(identity)
        }
        _ => false,
    };
    let verdict = match identities.get(unit) {
        Some(_) if learned => Some(Verdict::Same),
        Some(known) => {
            let verdict = compare(known, &found);

            if let (Some(Verdict::Same | Verdict::Resized), Found::Unit { identity, .. }) =
                (verdict, found)
            {
                known.adopt(&identity);
            }
            verdict
        }
        None => match found {
            Found::Busy | Found::Unknown => None,
            Found::Nothing | Found::Unit { .. } => Some(Verdict::Gone),
            Found::Mute => Some(Verdict::Mute),
        },
    };

    if verdict == Some(Verdict::Mute) {
        say_given_up(shared, unit, "does not answer");
    }
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
        listen(&this);
        wake_units(&this);
    }
}

fn is_primary_broken(shared: &Shared) -> bool {
    let sender = shared.channels.lock().primary_sender();

    sender.is_some_and(|sender| !sender.is_alive())
}

/// Suspects that for long have neither said who they are nor that they are busy are gone: their
/// commands do not wait for ever.
fn end_silent(shared: &Shared) {
    while let Some(unit) = shared.with_luns(|luns| luns.take_silent()) {
        say_given_up(shared, unit, "does not say who it is");
    }
    shared.with_luns(|luns| luns.wait_for_suspects());
}

fn say_given_up(shared: &Shared, unit: Address, why: &str) {
    dev_err!(
        shared.dev,
        "unit {}:{}:{} {}, it is given up\n",
        unit.channel,
        unit.target,
        unit.lun,
        why
    );
}

pub(crate) fn wake_units(shared: &Arc<Shared>) {
    if shared.host.is_added() {
        let _ = workqueue::system_dfl_long().enqueue::<_, UNITS>(shared.clone());
    }
}
