// SPDX-License-Identifier: GPL-2.0

//! `make bench BENCH=net`: what a frame costs the guest, by the Rust and the C drivers, by emulated
//! e1000e and by virtio.

mod measure;
pub(super) mod network;
mod report;
pub(super) mod variant;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use self::measure::Sample;
use self::report::Report;
use self::variant::{Variant, VARIANTS};
use super::measure::Known;
use super::{chosen, forth_or_back, plot, progress_bar, Options};
use crate::lane::Lane;

const FRAMES: usize = 4000;
const FEW_FRAMES: usize = 1000;

/// Measure, and write the results.
pub(super) fn run(lane: &mut Lane<'_>, options: &Options) -> Result<bool> {
    let chosen = chosen(&VARIANTS, |v| v.name, &options.only)?;
    let (boots, frames) = if options.quick {
        (1, FEW_FRAMES)
    } else {
        (options.boots.max(1), FRAMES)
    };
    let order: Vec<&Variant> = (0..boots).flat_map(|n| forth_or_back(&chosen, n)).collect();

    let folder = lane.paths().bench.join("net");
    fs::create_dir_all(&folder)?;
    let bar = progress_bar(order.len())?;
    let mut samples: Vec<Sample> = Vec::new();
    let mut known = Known::default();
    for (n, variant) in order.iter().enumerate() {
        let label = format!("boot {} of {}, {}", n + 1, order.len(), variant.name);
        bar.set_message(format!("{label}: starting"));
        let start = Instant::now();
        let script = measure::script(variant, frames);
        let progress = |what: &str| bar.set_message(format!("{label}: {what}"));
        samples.extend(lane.with_script(
            variant.machine,
            variant.core,
            script.requests(),
            |vm| measure::boot(vm, variant, &script, frames, &mut known, progress),
        )?);
        write(&folder, &Report::new(&samples))?;
        bar.inc(1);
        bar.suspend(|| println!("  {label:30} {:6.1} s", start.elapsed().as_secs_f64()));
    }
    bar.finish_and_clear();
    print!("{}", Report::new(&samples).table());
    println!(
        "table.txt, results.json and plot.svg are in {}",
        folder.display()
    );
    Ok(true)
}

/// What is known so far, so that a run that is interrupted has not been for nothing.
fn write(folder: &Path, report: &Report<'_>) -> Result<()> {
    fs::write(folder.join("table.txt"), report.table())?;
    fs::write(folder.join("results.json"), report.json()?)?;
    fs::write(folder.join("plot.svg"), plot::svg(&report.panels()))?;
    Ok(())
}
