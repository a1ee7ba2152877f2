// SPDX-License-Identifier: GPL-2.0

//! One boot: frames of each size, each way, and their floors.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

use super::network::{self, Way};
use super::variant::Variant;
use crate::bench::measure::{events, shares, Events, Known, Share};
use crate::bench::script::{Results, Script};
use crate::bench::symbols::Symbols;
use crate::bench::variant::Doorbell;
use crate::counter::Window;
use crate::vm::Vm;

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its name.
    pub(super) name: &'static str,
    /// Frames come in.
    receives: bool,
    /// Their bytes, without the four at the end.
    size: usize,
}

/// All of them.
pub(super) const PLACES: [Place; 4] = [
    Place {
        name: "tx-64",
        receives: false,
        size: 60,
    },
    Place {
        name: "tx-1500",
        receives: false,
        size: 1514,
    },
    Place {
        name: "rx-64",
        receives: true,
        size: 60,
    },
    Place {
        name: "rx-1500",
        receives: true,
        size: 1514,
    },
];

/// How a window counts.
struct Weight {
    /// For what the frames cost.
    cost: f64,
    /// For their floor.
    floor: f64,
}

const COST: Weight = Weight {
    cost: 1.0,
    floor: 0.0,
};
const NOT_COST: Weight = Weight {
    cost: -1.0,
    floor: 0.0,
};
const FLOOR: Weight = Weight {
    cost: 0.0,
    floor: 1.0,
};
const NOT_FLOOR: Weight = Weight {
    cost: 0.0,
    floor: -1.0,
};

impl Place {
    /// What is done, and how it counts; the adapter that is measured first.
    fn ways(self) -> &'static [(Way, Weight)] {
        if self.receives {
            &[
                (Way::Receive, COST),
                (Way::Feed, NOT_COST),
                (Way::Loop, FLOOR),
                (Way::Drop, NOT_FLOOR),
            ]
        } else {
            &[(Way::Send, COST), (Way::Drop, FLOOR)]
        }
    }
}

/// What one boot showed in one place; for each frame, where nothing else is said.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) variant: &'static str,
    pub(super) place: &'static str,
    /// How many there were.
    pub(super) frames: usize,
    /// Instructions of the guest's kernel for sending, or for receiving, them.
    pub(super) kernel: f64,
    /// What of them the kernel takes with an interface that has no device.
    pub(super) floor: f64,
    /// The rest.
    pub(super) own: f64,
    /// Instructions in functions of the driver and its bus.
    pub(super) driver: f64,
    /// NaN where it is not known.
    pub(super) doorbells: f64,
    pub(super) interrupts: f64,
    /// The functions with most of `own`.
    pub(super) functions: Vec<Share>,
}

/// What is done in a boot.
pub(super) fn script(variant: &Variant, frames: usize) -> Script {
    let mut script = Script::default();
    let disks = variant.core.storage_module();
    script.exec(&["modprobe", "-a", disks, "sd_mod"]);
    network::set_up(&mut script, variant.module);
    for place in PLACES {
        for (way, _) in place.ways() {
            script.packets(network::frames(*way, place.size, frames / 4));
            counters(&mut script, variant);
            script.packets(network::frames(*way, place.size, frames));
            counters(&mut script, variant);
        }
    }
    script
}

/// What counts interrupts and doorbells, and received frames.
fn counters(script: &mut Script, variant: &Variant) {
    events(script, variant.doorbell);
    network::ask_received(script);
}

/// What a boot showed, after its script; `progress` hears what is next.
pub(super) fn boot(
    vm: &Vm,
    variant: &Variant,
    script: &Script,
    frames: usize,
    known: &mut Known,
    progress: impl Fn(&str),
) -> Result<Vec<Sample>> {
    progress("measures by itself");
    let mut results = script.results(vm)?;
    for _ in 0..=network::STEPS {
        results.text()?;
    }
    let mut measured = Vec::new();
    for place in PLACES {
        let windows = place
            .ways()
            .iter()
            .map(|(way, _)| Measured::take(variant, *way, frames, &mut results))
            .collect::<Result<Vec<_>>>()?;
        measured.push((place, windows));
    }
    progress("the kernel's symbols");
    let symbols = known.symbols(vm)?;
    measured
        .iter()
        .map(|(place, windows)| sample(variant, *place, windows, frames, &symbols))
        .collect()
}

/// The figures of one way, as they come.
struct Measured {
    window: Window,
    interrupts: u64,
    doorbells: u64,
}

impl Measured {
    fn take(variant: &Variant, way: Way, frames: usize, results: &mut Results) -> Result<Self> {
        results.window()?;
        let before = Events::take(variant.interrupts, results)?;
        let received_before = network::received(results)?;
        let window = results.window()?;
        let after = Events::take(variant.interrupts, results)?;
        let received = network::received(results)?;
        network::expect_received(way, frames, received_before, received)?;
        Ok(Self {
            window,
            interrupts: after.interrupts - before.interrupts,
            doorbells: after.doorbells - before.doorbells,
        })
    }
}

fn sample(
    variant: &Variant,
    place: Place,
    windows: &[Measured],
    frames: usize,
    symbols: &Symbols,
) -> Result<Sample> {
    let (mut kernel, mut floor, mut driver) = (0.0, 0.0, 0.0);
    let mut own: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (measured, (_, weight)) in windows.iter().zip(place.ways()) {
        let instructions = measured.window.kernel as f64;
        kernel += weight.cost * instructions;
        floor += weight.floor * instructions;
        for function in symbols.functions(&measured.window.blocks) {
            let (instructions, calls) = (function.instructions as f64, function.calls as f64);
            if (variant.owns)(function.symbol) {
                driver += weight.cost * instructions;
            }
            let weight = weight.cost - weight.floor;
            let entry = own.entry(function.symbol.to_string()).or_default();
            entry.0 += weight * instructions;
            entry.1 += weight * calls;
        }
    }
    let first = windows.first().context("each place has an adapter")?;
    let doorbells = match variant.doorbell {
        None => f64::NAN,
        Some(Doorbell::Channels) => first.doorbells as f64,
        Some(Doorbell::Function(name)) => {
            let functions = symbols.functions(&first.window.blocks);
            let found = functions.iter().filter(|f| f.symbol.name == name);
            found.map(|f| f.calls).sum::<u64>() as f64
        }
    };
    let count = frames as f64;
    Ok(Sample {
        variant: variant.name,
        place: place.name,
        frames,
        kernel: kernel / count,
        floor: floor / count,
        own: (kernel - floor) / count,
        driver: driver / count,
        doorbells: doorbells / count,
        interrupts: first.interrupts as f64 / count,
        functions: shares(
            own.into_iter()
                .map(|(name, (instructions, calls))| Share {
                    name,
                    instructions: instructions / count,
                    calls: calls / count,
                })
                .collect(),
        ),
    })
}
