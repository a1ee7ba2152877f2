// SPDX-License-Identifier: GPL-2.0

//! A host that changes over, refuses, or does not say.

use proptest::prelude::*;
use vmbus_protocol::{
    affinity::{Affinity, ChangeEnd, NoChange},
    channel::{ChannelLife, Leave},
    GpadlHandle,
};

#[test]
fn after_a_time_out_both_cpus_are_in_use() {
    let mut affinity = Affinity::new(1);
    let change = affinity.ask(2).unwrap();
    affinity.ended(change, ChangeEnd::Unknown);
    assert!(affinity.may_be(1) && affinity.may_be(2));
    assert_eq!(affinity.ask(3), Err(NoChange::InDoubt));
    assert_eq!(affinity.other_than(1), Some(2));
    assert_eq!(affinity.other_than(2), Some(1));
    // also back to where it was: the host has to say so
    let change = affinity.ask(1).unwrap();
    affinity.ended(change, ChangeEnd::Done);
    assert_eq!(affinity, Affinity::new(1));
    assert_eq!(affinity.ask(1), Err(NoChange::Already));
    assert_eq!(affinity.other_than(1), None);
}

#[test]
fn a_cpu_waits_for_channels_that_are_being_opened_or_closed() {
    let mut life = ChannelLife::new();
    assert_eq!(life.leave(), Leave::Free);
    life.open_begin().unwrap();
    assert_eq!(life.leave(), Leave::Wait);
    life.open_posting(GpadlHandle(1), 1).unwrap();
    life.open_end(0).unwrap();
    assert_eq!(life.leave(), Leave::Ask);
    life.close_begin().unwrap();
    assert_eq!(life.leave(), Leave::Wait);
    life.close_end().unwrap();
    assert_eq!(life.leave(), Leave::Free);
    // the host does not interrupt for a channel that it has taken back
    life.open_begin().unwrap();
    life.rescind();
    assert_eq!(life.leave(), Leave::Free);
}

proptest! {
    /// Whatever the host does, the CPU that it interrupts is one of those that may be.
    #[test]
    fn the_hosts_cpu_is_never_forgotten(steps in prop::collection::vec((0..4u32, 0..4u8), 0..30)) {
        let mut affinity = Affinity::new(0);
        let mut host = 0;
        for (cpu, outcome) in steps {
            let Ok(change) = affinity.ask(cpu) else { continue };
            prop_assert!(affinity.may_be(host) && affinity.may_be(cpu));
            let end = match outcome {
                0 => { host = cpu; ChangeEnd::Done }
                1 => ChangeEnd::Undone,
                2 => { host = cpu; ChangeEnd::Unknown }
                _ => ChangeEnd::Unknown,
            };
            affinity.ended(change, end);
            prop_assert!(affinity.may_be(host));
            let cpus = (0..4).filter(|cpu| affinity.may_be(*cpu)).count();
            prop_assert!(cpus <= 2);
        }
    }
}

#[test]
fn a_refused_open_is_over_only_when_all_is_put_away() {
    let mut life = ChannelLife::new();
    life.open_begin().unwrap();
    life.open_posting(GpadlHandle(1), 1).unwrap();
    assert!(life.open_end(0xc000_0001).is_ok());
    // Nobody else opens it, and its CPU stays, until then.
    assert!(life.open_begin().is_err());
    assert_eq!(life.leave(), Leave::Wait);
    life.open_abort().unwrap();
    assert_eq!(life.leave(), Leave::Free);
    life.open_begin().unwrap();
}
