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
    fn late(&self) -> u32 {
        self.happen(Event::Late { in_order: true })
            .unwrap()
            .pause_ms()
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
fn who_registers_a_driver_waits_for_the_turn_of_its_devices() {
    let device = Device::default();
    assert!(device.happen(DUE_EARLY).is_some());
    assert!(device.life().is_awaited() && device.life().is_queued());
    device.happen(Event::Begin { in_order: false });
    assert!(device.life().is_awaited(), "another driver's probe");
    device.happen(Event::Begin { in_order: true });
    assert!(!device.life().is_awaited() && !device.life().is_queued());
    // and not for the one after that
    device.late();
    assert_eq!(device.again(false), Next::InTurn);
    assert!(device.life().is_queued() && !device.life().is_awaited());
}

#[test]
fn pauses_grow_until_it_has_a_driver() {
    let device = Device::default();
    let pauses: Vec<u32> = (0..7).map(|_| device.late()).collect();
    let seconds = [10, 20, 40, 80, 160, 160, 160];
    assert_eq!(pauses, seconds.map(|s| s * 1_000));
    device.happen(Event::Bound);
    assert_eq!(device.again(false), Next::Nothing);
    assert_eq!(device.late(), FIRST_PAUSE_MS);
}

#[test]
fn a_host_that_keeps_memory_gets_some_more_three_times() {
    let device = Device::default();
    device.late();
    for _ in 0..MOST_WITH_MEMORY {
        assert_eq!(device.again(true), Next::InTurn);
        assert_eq!(device.again(true), Next::Nothing, "once is enough");
        device.happen(Event::Turn);
        device.late();
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
    /// Whatever happens in which order: a probe that was put off comes, the pauses stay within their
    /// bounds, and a host that keeps memory gets only so much.
    #[test]
    fn what_is_put_off_comes(events in events()) {
        let device = Device::default();
        let (mut adding, mut owed, mut wanted, mut with_memory, mut said) = (false, false, false, 0, 0);
        for event in events {
            let before = device.life();
            let happened = device.happen(event);
            prop_assert!(happened.is_none_or(|state| state == before));
            prop_assert!(happened.is_some() || device.life() == before);
            match event {
                Event::Add => adding = true,
                // one that was postponed by an addition before this one has been queued by then
                Event::Added => adding = false,
                Event::Due { registering } => {
                    prop_assert_eq!(happened.is_some(), adding || registering);
                    owed |= happened.is_some();
                }
                Event::Turn => {
                    prop_assert_eq!(happened.is_some(), before.is_queued());
                    owed &= !before.is_queued() || before.is_postponed();
                }
                Event::Begin { in_order } => owed &= !in_order || before.is_postponed(),
                Event::Bound => {
                    owed &= before.is_postponed();
                    (wanted, with_memory, said) = (false, 0, 0);
                }
                Event::Late { .. } => {
                    prop_assert!(happened.is_some());
                    prop_assert!((FIRST_PAUSE_MS..=MOST_PAUSE_MS).contains(&before.pause_ms()));
                    wanted = true;
                }
                Event::Again { memory } => {
                    prop_assert_eq!(happened.is_some(), wanted);
                    match before.next(memory) {
                        Next::Nothing => prop_assert!(!wanted),
                        Next::Wait { says } => {
                            prop_assert!(memory && with_memory == MOST_WITH_MEMORY);
                            said += i32::from(says);
                        }
                        next => {
                            wanted = false;
                            with_memory += u32::from(memory);
                            prop_assert_eq!(device.life().is_queued(), before.is_queued() || next == Next::InTurn);
                        }
                    }
                }
            }
            prop_assert!(said <= 1 && with_memory <= MOST_WITH_MEMORY);
            if matches!(event, Event::Add) {
                // an addition that is not over when the next begins does not exist
                owed &= before.is_queued();
            }
            let life = device.life();
            prop_assert!(!owed || life.is_queued() || life.is_postponed());
            prop_assert!(!life.is_awaited() || life.is_queued());
            prop_assert!(!life.is_postponed() || adding);
        }
    }

    /// The devices that were there have all had their turns when a driver's registration is over, in their order,
    /// however often the host is late for some of them.
    #[test]
    fn a_registration_is_over_when_all_have_been_probed(
        hosts in prop::collection::vec(any::<bool>(), 1..6),
        back in prop::collection::vec(0..6usize, 0..30),
    ) {
        let devices: Vec<Device> = hosts.iter().map(|_| Device::default()).collect();
        for device in &devices {
            prop_assert!(device.happen(DUE_EARLY).is_some());
        }
        let waiting = devices.iter().filter(|d| d.life().is_awaited()).count();
        let mut probed = Vec::new();
        let mut back = back.into_iter();
        for _ in 0..waiting {
            let next = devices
                .iter()
                .position(|d| d.life().is_awaited())
                .or_else(|| devices.iter().position(|d| d.life().is_queued()));
            let Some(next) = next else { break };
            prop_assert!(devices[next].happen(Event::Turn).is_some());
            prop_assert!(devices[next].happen(DUE).is_none());
            devices[next].happen(Event::Begin { in_order: true });
            probed.push(next);
            if hosts[next] {
                devices[next].late();
            } else {
                devices[next].happen(Event::Bound);
            }
            // the time for another probe comes for some of those that were late
            if let Some(late) = back.next().filter(|late| *late < devices.len()) {
                devices[late].again(false);
            }
        }
        prop_assert_eq!(probed, (0..devices.len()).collect::<Vec<_>>());
    }
}
