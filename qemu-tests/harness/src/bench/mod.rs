// SPDX-License-Identifier: GPL-2.0

//! `make bench BENCH=storage`: what a read costs the guest, by the Rust and the
//! C drivers, by emulated IDE, by AHCI and by virtio. For networks: [`net`] and [`tcp`], for
//! memory: [`balloon`].

mod balloon;
pub(crate) mod budget;
mod cases;
mod measure;
mod net;
mod plot;
mod report;
mod script;
mod symbols;
mod tcp;
mod variant;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{bail, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::lane::Lane;
use measure::{Known, Sample};
use plot::Panel;
use report::Report;
use variant::{Variant, VARIANTS};

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Which benchmark.
    what: Benchmark,
    /// One boot of each, and few reads: shows that it works.
    #[arg(long)]
    quick: bool,
    /// Only these, separated by commas: rust, c, rust-on-c, virtio, and ide, ahci or e1000e.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each is booted.
    #[arg(long, default_value_t = 2)]
    boots: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Random reads of 4 KiB.
    Storage,
    /// Frames.
    Net,
    /// A TCP stream.
    Tcp,
    /// Pages.
    Balloon,
}

/// How many reads there are, by depth.
type Reads = [(usize, usize); 2];

const READS: Reads = [(1, 1000), (32, 4000)];
const FEW_READS: Reads = [(1, 250), (32, 1000)];

/// Measure, and write the results; gives whether all could be measured.
pub(crate) fn run(lane: &mut Lane<'_>, options: &Options) -> Result<bool> {
    match options.what {
        Benchmark::Storage => storage(lane, options),
        Benchmark::Net => net::run(lane, options),
        Benchmark::Tcp => tcp::run(lane, options),
        Benchmark::Balloon => balloon::run(lane, options),
    }
}

fn storage(lane: &mut Lane<'_>, options: &Options) -> Result<bool> {
    let reads = if options.quick { FEW_READS } else { READS };
    let mut samples = Vec::new();
    let mut known = Known::default();
    rounds(
        lane,
        options,
        "storage",
        &VARIANTS,
        |v| v.name,
        |lane, variant, progress| {
            samples.extend(measured(lane, variant, &reads, &mut known, progress)?);
            Report::new(&samples, &reads).written()
        },
    )
}

/// What is known, as it is written.
struct Written {
    table: String,
    json: String,
    plot: String,
}

impl Written {
    fn new(table: String, json: String, panels: &[Panel]) -> Self {
        Self {
            table,
            json,
            plot: plot::svg(panels),
        }
    }

    fn to_folder(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join("table.txt"), &self.table)?;
        fs::write(folder.join("results.json"), &self.json)?;
        fs::write(folder.join("plot.svg"), &self.plot)?;
        Ok(())
    }
}

/// Boot those that are asked for as often as is asked for, and write what is known after each boot, so
/// that a run that is interrupted has not been for nothing. `boot` hears to whom to tell what is next.
fn rounds<V>(
    lane: &mut Lane<'_>,
    options: &Options,
    name: &str,
    all: &'static [V],
    name_of: impl Fn(&V) -> &'static str,
    mut boot: impl FnMut(&mut Lane<'_>, &'static V, &dyn Fn(&str)) -> Result<Written>,
) -> Result<bool> {
    let chosen = chosen(all, &name_of, &options.only)?;
    let boots = if options.quick {
        1
    } else {
        options.boots.max(1)
    };
    let order: Vec<&V> = (0..boots).flat_map(|n| forth_or_back(&chosen, n)).collect();

    let folder = lane.paths().bench.join(name);
    fs::create_dir_all(&folder)?;
    let bar = progress_bar(order.len())?;
    let mut table = String::new();
    for (n, variant) in order.iter().enumerate() {
        let label = format!("boot {} of {}, {}", n + 1, order.len(), name_of(variant));
        bar.set_message(format!("{label}: starting"));
        let start = Instant::now();
        let progress = |what: &str| bar.set_message(format!("{label}: {what}"));
        let written = boot(lane, variant, &progress)?;
        written.to_folder(&folder)?;
        table = written.table;
        bar.inc(1);
        bar.suspend(|| println!("  {label:30} {:6.1} s", start.elapsed().as_secs_f64()));
    }
    bar.finish_and_clear();
    print!("{table}");
    println!(
        "table.txt, results.json and plot.svg are in {}",
        folder.display()
    );
    Ok(true)
}

/// One boot, tried again if something went wrong.
fn measured(
    lane: &mut Lane<'_>,
    variant: &'static Variant,
    reads: &Reads,
    known: &mut Known,
    progress: &dyn Fn(&str),
) -> Result<Vec<Sample>> {
    let script = measure::script(variant, reads);
    lane.with_script(variant.machine, variant.core, script.requests(), |vm| {
        measure::boot(vm, variant, &script, reads, known, progress)
    })
}

/// Those with the names that are asked for, or all.
fn chosen<T>(
    all: &'static [T],
    name: impl Fn(&T) -> &'static str,
    only: &[String],
) -> Result<Vec<&'static T>> {
    if let Some(unknown) = only.iter().find(|o| all.iter().all(|v| name(v) != **o)) {
        let names: Vec<_> = all.iter().map(name).collect();
        bail!("no {unknown} to measure; there are: {}", names.join(", "));
    }
    let wanted = |v: &&T| only.is_empty() || only.iter().any(|o| o == name(v));
    Ok(all.iter().filter(wanted).collect())
}

/// A drift of the bed is the same for all if every second round goes back.
fn forth_or_back<T>(variants: &[&'static T], round: usize) -> Vec<&'static T> {
    let mut order = variants.to_vec();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn progress_bar(boots: usize) -> Result<ProgressBar> {
    let bar = ProgressBar::new(boots as u64);
    bar.set_style(ProgressStyle::with_template("[{bar:20}] {elapsed} {msg}")?);
    Ok(bar)
}

#[cfg(test)]
mod tests {
    use super::{chosen, forth_or_back, VARIANTS};

    #[test]
    fn rounds_go_forth_and_back() {
        let all = chosen(&VARIANTS, |v| v.name, &["c".into(), "rust".into()]).unwrap();
        let names = |round| {
            forth_or_back(&all, round)
                .iter()
                .map(|v| v.name)
                .collect::<Vec<_>>()
        };
        assert_eq!([names(0), names(1)].concat(), ["rust", "c", "c", "rust"]);
        assert!(chosen(&VARIANTS, |v| v.name, &["floppy".into()]).is_err());
    }
}
