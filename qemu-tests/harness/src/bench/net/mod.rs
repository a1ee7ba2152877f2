// SPDX-License-Identifier: GPL-2.0

//! `make bench BENCH=net`: what a frame costs the guest, by the Rust and the C drivers, by emulated
//! e1000e and by virtio.

mod measure;
pub(super) mod network;
mod report;
pub(super) mod variant;

use anyhow::Result;

use self::measure::Sample;
use self::report::Report;
use self::variant::VARIANTS;
use super::measure::Known;
use super::{rounds, Options};
use crate::lane::Lane;

const FRAMES: usize = 4000;
const FEW_FRAMES: usize = 1000;

/// Measure, and write the results.
pub(super) fn run(lane: &mut Lane<'_>, options: &Options) -> Result<bool> {
    let frames = if options.quick { FEW_FRAMES } else { FRAMES };
    let mut samples: Vec<Sample> = Vec::new();
    let mut known = Known::default();
    rounds(
        lane,
        options,
        "net",
        &VARIANTS,
        |v| v.name,
        |lane, variant, progress| {
            let script = measure::script(variant, frames);
            samples.extend(lane.with_script(
                variant.machine,
                variant.core,
                script.requests(),
                |vm| measure::boot(vm, variant, &script, frames, &mut known, progress),
            )?);
            Report::new(&samples).written()
        },
    )
}
