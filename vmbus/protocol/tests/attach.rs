// SPDX-License-Identifier: GPL-2.0

//! When devices are probed: in their turns, and again after the host was late.

use proptest::prelude::*;
use std::cell::Cell;
use vmbus_protocol::{
    attach::{
        AttachEvent as Event, AttachLife, Next, FIRST_PAUSE_MS, MOST_PAUSE_MS, MOST_WITH_MEMORY,
    },
    shared::{happen, StateWord},
};

#[derive(Default)]
struct Device {
    word: Cell<u32>,
}

impl StateWord for Device {
    fn load(&self) -> u32 {
        self.word.get()
    }

    fn exchange(&self, old: u32, new: u32) -> Result<(), u32> {
        if self.word.get() != old {
            return Err(self.word.get());
        }
        self.word.set(new);
        Ok(())
    }
}

impl Device {
    fn happen(&self, event: Event) -> Option<AttachLife> {
        happen(self, event)
    }

    fn life(&self) -> AttachLife {
        <AttachLife as vmbus_protocol::shared::SharedState>::from_raw(self.word.get())
    }

    /// The time for another `probe` has come.
    fn again(&self, memory: bool) -> Next {
        self.happen(Event::Again { memory })
            .map_or(Next::Nothing, |before| before.next(memory))
    }

    /// The host was late; how long until the next time.
    fn late(&self, in_order: bool) -> u32 {
        self.happen(Event::Late { in_order }).unwrap().pause_ms()
    }
}

const DUE: Event = Event::Due { registering: false };
const DUE_EARLY: Event = Event::Due { registering: true };

#[test]
fn nobody_waits_for_the_probe_of_a_device_that_is_being_added() {
    let device = Device::default();
    assert!(device.happen(DUE).is_none(), "there and then");
    device.happen(Event::Add);
    // two drivers come for it
    assert!(device.happen(DUE).is_some());
    assert!(device.happen(DUE_EARLY).is_some());
    assert!(!device.life().is_queued(), "it is not complete yet");
    assert!(device.happen(Event::Turn).is_none());
    assert!(device.happen(Event::Added).unwrap().is_postponed());
    assert!(device.life().is_queued());
    assert!(device.happen(Event::Turn).is_some());
    assert!(device.happen(Event::Turn).is_none());
    assert!(device.happen(DUE).is_none());
}

#[test]
fn a_device_that_is_being_added_while_its_driver_is_registered_is_waited_for() {
    let device = Device::default();
    device.happen(Event::Add);
    assert!(device.happen(DUE_EARLY).is_some());
    assert!(!device.life().is_awaited(), "it cannot have its turn yet");
    device.happen(Event::Added);
    assert!(device.life().is_awaited());
    // it had been queued before, and that turn comes meanwhile
    let device = Device::default();
    device.late(true);
    assert_eq!(device.again(false), Next::InTurn);
    device.happen(Event::Add);
    assert!(device.happen(DUE_EARLY).is_some());
    assert!(device.happen(Event::Turn).is_some());
    device.happen(Event::Begin { in_order: true });
    device.happen(Event::Added);
    assert!(device.life().is_awaited());
}

#[test]
fn a_device_with_a_driver_waits_for_nothing() {
    let device = Device::default();
    assert!(device.happen(DUE_EARLY).is_some());
    device.late(true);
    device.happen(Event::Bound);
    assert_eq!(device.life(), AttachLife::new());
    // but for what was due while it is being added
    device.happen(Event::Add);
    device.happen(DUE_EARLY);
    device.happen(Event::Bound);
    device.happen(Event::Added);
    assert!(device.life().is_awaited());
}

#[test]
fn who_is_probed_in_any_order_waits_for_no_turn() {
    let device = Device::default();
    device.late(false);
    assert_eq!(device.again(false), Next::Now);
    assert!(!device.life().is_queued());
    // another driver takes it then, and is late, too
    device.late(true);
    assert_eq!(device.again(false), Next::InTurn);
}

#[test]
fn who_registers_a_driver_waits_for_the_turn_of_its_devices() {
    let device = Device::default();
    assert!(device.happen(DUE_EARLY).is_some());
    assert!(device.life().is_awaited() && device.life().is_queued());
    device.happen(Event::Begin { in_order: false });
    assert!(device.life().is_awaited(), "another driver's probe");
    device.happen(Event::Begin { in_order: true });
    assert!(!device.life().is_awaited() && !device.life().is_queued());
    // and not for the one after that
    device.late(true);
    assert_eq!(device.again(false), Next::InTurn);
    assert!(device.life().is_queued() && !device.life().is_awaited());
}

#[test]
fn pauses_grow_until_it_has_a_driver() {
    let device = Device::default();
    let pauses: Vec<u32> = (0..7).map(|_| device.late(true)).collect();
    let seconds = [10, 20, 40, 80, 160, 160, 160];
    assert_eq!(pauses, seconds.map(|s| s * 1_000));
    device.happen(Event::Bound);
    assert_eq!(device.again(false), Next::Nothing);
    assert_eq!(device.late(true), FIRST_PAUSE_MS);
}

#[test]
fn a_host_that_keeps_memory_gets_some_more_three_times() {
    let device = Device::default();
    device.late(true);
    for _ in 0..MOST_WITH_MEMORY {
        assert_eq!(device.again(true), Next::InTurn);
        assert_eq!(device.again(true), Next::Nothing, "once is enough");
        device.happen(Event::Turn);
        device.late(true);
    }
    assert_eq!(device.again(true), Next::Wait { says: true });
    for _ in 0..20 {
        assert_eq!(device.again(true), Next::Wait { says: false });
    }
    assert_eq!(device.life().pause_ms(), MOST_PAUSE_MS);
    assert_eq!(device.again(false), Next::InTurn, "it has let go");
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::Add),
        Just(Event::Added),
        any::<bool>().prop_map(|registering| Event::Due { registering }),
        Just(Event::Turn),
        any::<bool>().prop_map(|in_order| Event::Begin { in_order }),
        Just(Event::Bound),
        any::<bool>().prop_map(|in_order| Event::Late { in_order }),
        any::<bool>().prop_map(|memory| Event::Again { memory }),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    /// Whatever happens in which order: pauses stay within their bounds, a host that keeps memory gets only so much,
    /// and who waits for a turn has one to come.
    #[test]
    fn what_is_wanted_comes(events in events()) {
        let device = Device::default();
        let (mut adding, mut wanted, mut in_order) = (false, false, false);
        let (mut with_memory, mut said) = (0, 0);
        for event in events {
            let before = device.life();
            let happened = device.happen(event);
            let life = device.life();
            match event {
                Event::Add => adding = true,
                Event::Added => adding = false,
                Event::Due { registering } => {
                    prop_assert_eq!(happened.is_some(), adding || registering);
                    prop_assert!(happened.is_none() || life.is_postponed() || life.is_queued());
                }
                Event::Turn => prop_assert_eq!(happened.is_some(), before.is_queued()),
                Event::Begin { in_order } => prop_assert!(!in_order || !life.is_queued()),
                Event::Bound => {
                    prop_assert!(!life.is_queued());
                    (wanted, with_memory, said) = (false, 0, 0);
                }
                Event::Late { in_order: kind } => {
                    prop_assert!((FIRST_PAUSE_MS..=MOST_PAUSE_MS).contains(&before.pause_ms()));
                    (wanted, in_order) = (true, kind);
                }
                Event::Again { memory } => {
                    let next = happened.map_or(Next::Nothing, |before| before.next(memory));
                    let is_one_too_many = memory && with_memory == MOST_WITH_MEMORY;
                    let expected = match (wanted, is_one_too_many, in_order) {
                        (false, ..) => Next::Nothing,
                        (true, true, _) => Next::Wait { says: said == 0 },
                        (true, false, true) => Next::InTurn,
                        (true, false, false) => Next::Now,
                    };
                    prop_assert_eq!(next, expected);
                    said += i32::from(is_one_too_many && wanted);
                    if wanted && !is_one_too_many {
                        wanted = false;
                        with_memory += u32::from(memory);
                        prop_assert_eq!(life.is_queued(), before.is_queued() || in_order);
                    }
                }
            }
            prop_assert!(!life.is_postponed() || adding);
            prop_assert!(!life.is_awaited() || life.is_queued());
        }
    }
}

/// What the kernel does with devices that are probed in order: one thread registers the driver, another one adds the
/// devices, a third one gives turns. Each step of one of them may come between any two of the others.
struct Kernel {
    devices: Vec<Device>,
    /// The hosts of these are late, so many times.
    late: Vec<u32>,
    registering: bool,
    /// The item that gives turns is enqueued.
    kicked: bool,
    /// The devices in the order in which they were probed.
    probed: Vec<usize>,
}

impl Kernel {
    fn probe(&mut self, at: usize) {
        let registering = self.registering;
        if self.devices[at]
            .happen(Event::Due { registering })
            .is_some()
        {
            self.kicked = true;
            return;
        }
        self.devices[at].happen(Event::Begin { in_order: true });
        self.probed.push(at);
        if self.late[at] > 0 {
            self.late[at] -= 1;
            self.devices[at].late(true);
        } else {
            self.devices[at].happen(Event::Bound);
        }
    }

    fn find(&self, which: fn(AttachLife) -> bool) -> Option<usize> {
        self.devices.iter().position(|device| which(device.life()))
    }

    /// The item that gives turns runs.
    fn turn(&mut self) {
        if let Some(next) = self.begin_turn() {
            self.probe(next);
        }
    }

    /// It begins to, and goes on with this device.
    fn begin_turn(&mut self) -> Option<usize> {
        if !std::mem::take(&mut self.kicked) || self.registering {
            return None;
        }
        let next = self.find(AttachLife::is_awaited);
        let next = next.or_else(|| self.find(AttachLife::is_queued))?;
        self.kicked = true;
        let its_turn = self.devices[next].happen(Event::Turn);
        its_turn.map(|_| next)
    }

    /// The time for another probe comes for all for which the host was late.
    fn again(&mut self) {
        for device in &self.devices {
            self.kicked |= device.again(false) == Next::InTurn;
        }
    }

    fn added(&mut self, at: usize) {
        let before = self.devices[at].happen(Event::Added);
        self.kicked |= before.is_some_and(AttachLife::is_postponed);
    }

    fn give_turn(&mut self) {
        self.kicked = true;
        self.turn();
    }

    /// The registration is over when it has waited for these. Turns go on by themselves meanwhile, and one may have
    /// begun when they are counted.
    fn registered(&mut self, begun: bool) {
        self.registering = false;
        let begun = begun.then(|| self.begin_turn()).flatten();
        let waiting = self
            .devices
            .iter()
            .filter(|device| device.life().is_awaited())
            .count();
        // to flush the queue is to wait for what has begun, first of all
        let mut begun = begun;
        for _ in 0..=waiting {
            if let Some(at) = begun.take() {
                self.probe(at);
            }
            self.again();
            self.give_turn();
        }
    }
}

proptest! {
    /// Devices are added while their driver is registered, and for some the host is late. No device waits for a turn that
    /// nobody gives, each is probed, those that the registration has found are so before it is over, and in the order
    /// of their offers.
    #[test]
    fn a_registration_misses_no_device(
        late in prop::collection::vec(0..3u32, 1..6),
        before in 0..4usize,
        steps in prop::collection::vec(0..4u8, 0..60),
        begun in any::<bool>(),
    ) {
        let count = late.len();
        let mut kernel = Kernel {
            devices: (0..count).map(|_| Device::default()).collect(),
            late,
            registering: true,
            kicked: false,
            probed: Vec::new(),
        };
        // some are there before there is a driver
        let (mut added, mut adding) = (before.min(count), false);
        let mut visited = 0;
        for step in steps {
            match step {
                // the registration goes to the next device that it knows
                0 if visited < added + usize::from(adding) => {
                    kernel.probe(visited);
                    visited += 1;
                }
                // a device is being added and offered to the driver, and then has been
                1 if !adding && added < count => {
                    kernel.devices[added].happen(Event::Add);
                    adding = true;
                    kernel.probe(added);
                }
                1 if adding => {
                    kernel.added(added);
                    (added, adding) = (added + 1, false);
                }
                2 => kernel.turn(),
                3 => kernel.again(),
                _ => {}
            }
        }
        prop_assert!(kernel.probed.is_empty(), "not before all are known");
        while visited < added {
            kernel.probe(visited);
            visited += 1;
        }
        kernel.registered(begun);
        let mut first: Vec<usize> = Vec::new();
        for at in &kernel.probed {
            if !first.contains(at) {
                first.push(*at);
            }
        }
        prop_assert_eq!(first, (0..added).collect::<Vec<_>>());
        if adding {
            kernel.added(added);
            added += 1;
        }
        // the rest comes by itself
        for _ in 0..100 {
            kernel.turn();
            kernel.again();
        }
        for at in 0..added {
            prop_assert!(kernel.probed.contains(&at), "{} of {:?}", at, kernel.probed);
            prop_assert!(!kernel.devices[at].life().is_queued());
        }
    }
}
