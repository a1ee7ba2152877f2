// SPDX-License-Identifier: GPL-2.0

//! Guests that do not boot: they go on from a state that the first guest of their kind in this run has
//! left behind, after its boot and before any driver under test was loaded.
//!
//! A boot takes an emulated guest more of this machine than most scenarios do. What differs from machine
//! to machine, the devices of the bus, is plugged afterwards: a guest with the Rust core has not looked
//! at the bus by then, to one with the C core its host offers what comes. Boots with devices that are
//! there from the start are shown by the machines that have no [`kind`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::drivers::Core;
use crate::machine::{Initramfs, Machine, Qemu};

/// Devices of the bus, and disks, by the beginnings of their names. They can be plugged.
const PLUGGED: [&str; 2] = ["hv-", "scsi-"];
/// The bus itself cannot.
const BRIDGE: &str = "vmbus-bridge";

/// Guests of one kind are the same when they have booted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    core: Core,
    cpus: u32,
    /// The bus as its device is given, where the guest has talked to it.
    bus: String,
}

/// How a guest comes about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// It boots, with all its devices.
    Boot,
    /// It boots, leaves its state in this file for others, and gets its devices.
    Leave(PathBuf),
    /// It goes on from a state, and gets its devices.
    GoOn(PathBuf),
}

/// The kind of a machine's guests; none if they must boot for themselves. A bus with a fault script is
/// neither saved nor gone on with by its QEMU, and the state of a user network is for one that has it.
pub(crate) fn kind(machine: &Machine, core: Core) -> Option<Kind> {
    let devices = machine.device_arguments("");
    let has_network = devices.iter().any(|word| word == "-netdev");
    let devices = || devices_of(&devices);
    let alike = !has_network
        && machine.initramfs == Initramfs::Tools
        && machine.kernel_arguments.is_empty()
        && machine.qemu == Qemu::Patched
        && devices().all(|d| is_plugged(d) || d.starts_with(BRIDGE))
        && !devices().any(|d| d.starts_with(BRIDGE) && d.contains("fault-script="));
    let bus = match core {
        Core::C | Core::RustOnC => devices().find(|d| d.starts_with(BRIDGE)),
        Core::Rust => None,
    };
    alike.then(|| Kind {
        core,
        cpus: machine.cpus,
        bus: bus.unwrap_or_default().to_owned(),
    })
}

fn is_plugged(device: &str) -> bool {
    PLUGGED.iter().any(|name| device.starts_with(name))
}

fn devices_of(words: &[String]) -> impl Iterator<Item = &str> {
    words
        .windows(2)
        .filter(|pair| pair[0] == "-device")
        .map(|pair| pair[1].as_str())
}

/// A device among QEMU's arguments, by its id.
pub(crate) fn device<'a>(argv: &'a [String], id: &str) -> Option<&'a str> {
    let id = format!("id={id}");
    devices_of(argv).find(|device| device.split(',').any(|word| word == id))
}

/// QEMU's arguments without the devices that can be plugged, and these.
pub(crate) fn split(argv: &[String]) -> (Vec<String>, Vec<String>) {
    let plugged: Vec<String> = devices_of(argv)
        .filter(|d| is_plugged(d))
        .map(str::to_owned)
        .collect();
    let mut rest = Vec::new();
    for word in argv {
        if plugged.contains(word) {
            // with the option in front of it
            rest.pop();
        } else {
            rest.push(word.clone());
        }
    }
    (rest, plugged)
}

/// The states of this run.
#[derive(Default)]
pub(crate) struct States(Mutex<Known>);

#[derive(Default)]
struct Known {
    states: BTreeMap<Kind, State>,
    /// How many were begun, for their names: what failed may still be written to.
    begun: u32,
}

enum State {
    /// By a guest that boots now; others of this kind do not wait for it.
    BeingMade,
    Made(PathBuf),
}

impl States {
    /// How the next guest of a kind comes about. One that leaves its state says later whether it has.
    pub(crate) fn next(&self, kind: &Kind, folder: &Path) -> Start {
        let mut known = self.lock();
        match known.states.get(kind) {
            Some(State::Made(path)) => Start::GoOn(path.clone()),
            Some(State::BeingMade) => Start::Boot,
            None => {
                known.begun += 1;
                let name = format!("guest-{}-{}.state", kind.core, known.begun);
                known.states.insert(kind.clone(), State::BeingMade);
                Start::Leave(folder.join(name.to_lowercase()))
            }
        }
    }

    /// How a start went: the state that was to be made is there or not, or one is of no use.
    pub(crate) fn went(&self, kind: &Kind, start: &Start, well: bool) {
        let mut known = self.lock();
        match (start, well) {
            (Start::Boot, _) | (Start::GoOn(_), true) => {}
            (Start::Leave(path), true) => {
                let made = State::Made(path.clone());
                known.states.insert(kind.clone(), made);
            }
            (Start::Leave(_), false) => {
                known.states.remove(kind);
            }
            // another one may have been made meanwhile
            (Start::GoOn(path), false) => {
                let of_no_use = |state: &State| matches!(state, State::Made(made) if made == path);
                if known.states.get(kind).is_some_and(of_no_use) {
                    known.states.remove(kind);
                    println!(
                        "  no guest goes on from {} any more: the next one boots",
                        path.display()
                    );
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{kind, split, Kind, Start, States};
    use crate::drivers::Core;
    use crate::machine::Machine;
    use crate::storage::{BOUNCING, CRASH, FEW_QUEUES, MACHINE, ROOT};
    use crate::{net, races};

    const SCRIPTED: Machine = Machine {
        devices: &["-device vmbus-bridge,fault-script=@/bus"],
        ..MACHINE
    };

    const NETWORKED: Machine = Machine {
        devices: &["-device vmbus-bridge -netdev user,id=n -device hv-net,netdev=n"],
        ..MACHINE
    };

    #[test]
    fn kinds_are_what_a_guest_cannot_tell_from_its_own_boot() {
        let storage = kind(&MACHINE, Core::Rust);
        assert!(storage.is_some());
        assert_eq!(storage, kind(&FEW_QUEUES, Core::Rust));
        assert_ne!(storage, kind(&MACHINE, Core::C));
        // other command lines, another initramfs, an adapter on PCI, an untouched host
        for machine in [
            &BOUNCING,
            &CRASH,
            &ROOT,
            &net::MACHINE,
            &Machine::PACKAGED,
            races::Kind::Disk(races::DiskEvent::Reset).machine(),
            races::Kind::Net(races::NetEvent::Change).machine(),
            &SCRIPTED,
            &NETWORKED,
        ] {
            assert_eq!(kind(machine, Core::Rust), None, "{}", machine.name);
        }
    }

    #[test]
    fn only_what_can_be_plugged_is() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let argv = words("qemu -device vmbus-bridge -device hv-scsi,id=a -blockdev b -device scsi-hd,bus=a.0 -m 1");
        let (rest, plugged) = split(&argv);
        assert_eq!(rest, words("qemu -device vmbus-bridge -blockdev b -m 1"));
        assert_eq!(plugged, words("hv-scsi,id=a scsi-hd,bus=a.0"));
    }

    fn leave(states: &States, kind: &Kind) -> Start {
        let start = states.next(kind, Path::new("/build"));
        assert!(matches!(start, Start::Leave(_)), "{start:?}");
        start
    }

    fn of(start: &Start) -> Start {
        match start {
            Start::Leave(path) => Start::GoOn(path.clone()),
            _ => Start::Boot,
        }
    }

    #[test]
    fn the_first_of_a_kind_leaves_its_state() {
        let states = States::default();
        let folder = Path::new("/build");
        let kind = kind(&MACHINE, Core::C).unwrap();
        let first = leave(&states, &kind);
        assert_eq!(states.next(&kind, folder), Start::Boot);
        states.went(&kind, &first, true);
        assert_eq!(states.next(&kind, folder), of(&first));
        states.went(&kind, &of(&first), true);
        assert_eq!(states.next(&kind, folder), of(&first));
    }

    #[test]
    fn no_two_states_have_a_name() {
        let states = States::default();
        let rust = kind(&MACHINE, Core::Rust).unwrap();
        let two_cpus = Kind {
            cpus: 2,
            ..rust.clone()
        };
        let first = leave(&states, &rust);
        let second = leave(&states, &two_cpus);
        // the first one is not saved, and tried again
        states.went(&rust, &first, false);
        let third = leave(&states, &rust);
        assert!(first != second && second != third && first != third);
    }

    #[test]
    fn a_state_that_does_not_go_on_is_left() {
        let states = States::default();
        let folder = Path::new("/build");
        let kind = kind(&MACHINE, Core::C).unwrap();
        let bad = leave(&states, &kind);
        states.went(&kind, &bad, true);
        states.went(&kind, &of(&bad), false);
        let good = leave(&states, &kind);
        // a second guest that tried the bad one says so late
        states.went(&kind, &of(&bad), false);
        states.went(&kind, &good, true);
        states.went(&kind, &of(&bad), false);
        assert_eq!(states.next(&kind, folder), of(&good));
    }
}
