// SPDX-License-Identifier: GPL-2.0

//! `make bench BENCH=balloon`: what a page costs the guest that goes to the host, comes back, or is added, by the Rust and
//! the C drivers. All that the kernel does for it counts: taking pages from their free lists, and the figures of `free`.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{json, Value};

use super::cases::{Case, Cases, Figure, Goal, Sampled};
use super::measure::{shares, Known, Share};
use super::script::{Results, Script};
use super::symbols::Symbol;
use super::variant::{BACKENDS, OWN_C};
use super::{rounds, Options, Written};
use crate::counter::Window;
use crate::devices::BUS;
use crate::drivers::Core;
use crate::failure::expect;
use crate::guest_files::field_kib;
use crate::lane::Lane;
use crate::machine::{disk, Initramfs, Machine, Qemu};
use crate::vm::Vm;

/// Pages that go, come back, and are added.
pub(super) const PAGES: u64 = 32_768;
/// For how long each is watched. The host begins with a request within that time.
const WATCH_MS: u64 = 5000;

/// It is ready 2 s after the driver has said what it can; 6 s later it is to take [`PAGES`] of 1 GiB, and 5 s later to give
/// them back.
pub(super) const DEVICE: &str =
    "-device hv-balloon,id=balloon,status-report=on,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11,\
     post-init-wait-ms=2000,targets=6000:896M/5000:1024M";

/// The Rust driver shall need at most this share of the C driver's instructions for a page that goes or comes back.
const GOAL: f64 = 0.2;
/// What the goal is about.
const GOAL_PLACES: [&str; 2] = ["inflate", "deflate"];

/// What is done with the pages, in the order of the windows.
const PLACES: [&str; 3] = ["inflate", "deflate", "hot-add"];

const MACHINE: Machine = Machine {
    name: "bench-balloon",
    qemu: Qemu::Patched,
    cpus: 1,
    initramfs: Initramfs::Measure,
    kernel_arguments: "nokaslr randomize_kstack_offset=off",
    module_parameters: "",
    files: &[disk("raw", BACKENDS[1].mib)],
    devices: &[
        "-m slots=1,maxmem=67G",
        "-object memory-backend-ram,id=added,size=1G",
        "-blockdev raw,node-name=raw,file.driver=file,file.filename=@/raw",
        "-device vmbus-bridge",
        "-device hv-scsi,id=s,num-queues=1,instanceid=839cae23-237d-4d10-82a4-d701961dcf7e",
        "-device scsi-hd,bus=s.0,drive=raw,scsi-id=0,lun=1",
        "-device hv-balloon,id=balloon,status-report=on,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11,\
         memdev=added,post-init-wait-ms=2000,targets=6000:896M/5000:1024M/5000:1152M",
    ],
};

/// Whose drivers.
struct Variant {
    name: &'static str,
    core: Core,
    /// Whether a function is the driver's own, its bus included.
    owns: fn(&Symbol) -> bool,
}

const VARIANTS: [Variant; 3] = [
    Variant {
        name: "rust",
        core: Core::Rust,
        owns: |s| matches!(&*s.module, "hv_balloon_rust" | "hv_vmbus_rust"),
    },
    Variant {
        name: "c",
        core: Core::C,
        owns: |s| s.module == "hv_balloon" || OWN_C(s),
    },
    Variant {
        name: "rust-on-c",
        core: Core::RustOnC,
        owns: |s| matches!(&*s.module, "hv_balloon_rust_on_c" | "hv_vmbus_rust_on_c") || OWN_C(s),
    },
];

/// Measure, and write the results.
pub(super) fn run(lane: &mut Lane<'_>, options: &Options) -> Result<bool> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut known = Known::default();
    rounds(
        lane,
        options,
        "balloon",
        &VARIANTS,
        |v| v.name,
        |lane, variant, progress| {
            let script = script(variant.core);
            samples.extend(
                lane.with_script(&MACHINE, variant.core, script.requests(), |vm| {
                    progress("measures by itself");
                    boot(vm, variant, &script, &mut known)
                })?,
            );
            Report::new(&samples).written()
        },
    )
}

/// The disk for the symbols, and what the windows need.
fn script(core: Core) -> Script {
    let mut script = Script::default();
    script.exec(&["modprobe", "-a", core.storage_module(), "sd_mod"]);
    script.shell("echo online > /sys/devices/system/memory/auto_online_blocks; sleep 3");
    windows(&mut script, core, 1 + PLACES.len());
    script
}

/// Bring the driver in, and watch so often: nothing, up, down. Messages are counted before and after each.
pub(super) fn windows(script: &mut Script, core: Core, count: usize) {
    script.exec(&["modprobe", core.balloon_module()]);
    script.shell("sleep 2");
    for _ in 0..count {
        script.shell(&messages());
        script.watch(WATCH_MS);
        script.shell(&messages());
        script.exec(&["cat", "/proc/meminfo"]);
    }
}

/// What both sides have signalled on the channel of the balloon.
fn messages() -> String {
    format!(
        "for class in {BUS}/devices/*/class_id; do
             ! grep -q 525074dc-8985-46e2-8057-a307dc18a502 $class ||
                 cat ${{class%/*}}/channels/*/events ${{class%/*}}/channels/*/interrupts
         done"
    )
}

/// What was done with pages.
pub(super) struct Watched {
    pub(super) window: Window,
    /// Signals of both sides.
    signals: u64,
}

/// The windows of [`windows`], if the pages in all are so many less or more after each as are given.
pub(super) fn watched(results: &mut Results, changes: &[i64]) -> Result<Vec<Watched>> {
    results.text()?;
    results.text()?;
    let mut watched = Vec::new();
    let mut pages = Vec::new();
    for _ in 0..=changes.len() {
        let before = sum(&results.text()?)?;
        let window = results.window()?;
        let signals = sum(&results.text()?)? - before;
        let total = field_kib(&results.text()?, "MemTotal").context("MemTotal")?;
        pages.push(i64::try_from(total / 4)?);
        watched.push(Watched { window, signals });
    }
    let found: Vec<_> = pages.windows(2).map(|pair| pair[1] - pair[0]).collect();
    expect(
        found == changes,
        format!("after each window of {WATCH_MS} ms so many pages more: {changes:?}"),
        format!("{found:?}, of {pages:?}"),
    )?;
    Ok(watched)
}

fn sum(numbers: &str) -> Result<u64> {
    numbers
        .split_ascii_whitespace()
        .map(|number| number.parse::<u64>().context("a count of signals"))
        .sum()
}

fn boot(vm: &Vm, variant: &Variant, script: &Script, known: &mut Known) -> Result<Vec<Sample>> {
    let mut results = script.results(vm)?;
    results.text()?;
    results.text()?;
    let pages = i64::try_from(PAGES)?;
    let watched = watched(&mut results, &[-pages, pages, pages])?;
    let symbols = known.symbols(vm)?;
    let (idle, rest) = watched.split_first().context("the first window is idle")?;
    let per_page = |more: u64, idle: u64| (more as f64 - idle as f64) / PAGES as f64;
    let samples = PLACES.into_iter().zip(rest).map(|(place, watched)| {
        let own = |window: &Window| -> u64 {
            let functions = symbols.functions(&window.blocks);
            let own = functions.iter().filter(|f| (variant.owns)(f.symbol));
            own.map(|f| f.instructions).sum()
        };
        Sample {
            variant: variant.name,
            place,
            pages: PAGES,
            instructions: watched.window.kernel,
            idle_instructions: idle.window.kernel,
            kernel: per_page(watched.window.kernel, idle.window.kernel),
            driver: per_page(own(&watched.window), own(&idle.window)),
            signals: per_page(watched.signals, idle.signals) * PAGES as f64 * 8.0,
            functions: shares(
                symbols
                    .functions(&watched.window.blocks)
                    .iter()
                    .map(|f| Share {
                        name: f.symbol.to_string(),
                        instructions: f.instructions as f64 / PAGES as f64,
                        calls: f.calls as f64 / PAGES as f64,
                    })
                    .collect(),
            ),
        }
    });
    Ok(samples.collect())
}

/// What one boot showed of one place; per page, where nothing else is said.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    variant: &'static str,
    place: &'static str,
    pages: u64,
    /// Instructions of the guest's kernel in the whole window.
    instructions: u64,
    /// The same of as long a window in which nothing is asked for.
    idle_instructions: u64,
    /// The difference.
    kernel: f64,
    /// What of it is in functions of the driver and its bus.
    driver: f64,
    /// Signals of both sides for 1 GiB.
    signals: f64,
    /// The functions with most instructions.
    functions: Vec<Share>,
}

impl Sampled for Sample {
    type Place = &'static str;

    const FIGURES: &'static [(&'static str, Figure<Self>)] = &[
        ("kernel_instructions", |s| s.kernel),
        ("driver_instructions", |s| s.driver),
        ("signals_per_gib", |s| s.signals),
    ];

    const PANELS: &'static [(&'static str, Figure<Self>)] = &[
        ("instructions of the guest's kernel per page", |s| s.kernel),
        ("of these in the driver and its bus", |s| s.driver),
        ("signals per GiB", |s| s.signals),
    ];

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn place(&self) -> Self::Place {
        self.place
    }

    fn place_name(place: Self::Place) -> String {
        place.to_owned()
    }

    fn place_fields(place: Self::Place) -> Value {
        json!({ "place": place })
    }
}

/// What is known at the end.
struct Report<'a>(Cases<'a, Sample>);

impl<'a> Report<'a> {
    fn new(samples: &'a [Sample]) -> Self {
        let variants = VARIANTS.iter().map(|v| v.name).collect();
        Self(Cases::new(samples, PLACES, variants))
    }

    fn written(&self) -> Result<Written> {
        Ok(Written::new(
            self.table(),
            self.0.json(&self.goals())?,
            &self.0.panels(),
        ))
    }

    fn goals(&self) -> Vec<Goal> {
        let rust = |c: &&Case<'_, Sample>| c.variant == "rust" && GOAL_PLACES.contains(&c.place);
        let goal = |case: &Case<'_, Sample>| {
            let found = self.0.ratio(case, "c", |s| s.kernel)?;
            let what = format!("{}: kernel instructions per page, Rust / C", case.place);
            Some(Goal::at_most(what, GOAL, found))
        };
        self.0.all.iter().filter(rust).filter_map(goal).collect()
    }

    /// For people.
    fn table(&self) -> String {
        let mut text = String::new();
        // a string takes whatever is written
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let mut place = None;
        for case in &self.0.all {
            if place.replace(case.place) != Some(case.place) {
                writeln!(
                    out,
                    "\n{}\n  {:10}{:>12}{:>8}{:>8}{:>9}{:>14}",
                    case.place, "", "instr/page", "spread", "/ C", "driver", "signals/GiB",
                )?;
            }
            let kernel = case.figure(|s| s.kernel);
            let ratio = self.0.ratio(case, "c", |s| s.kernel);
            writeln!(
                out,
                "  {:10}{:12.2}{:>8}{:>8}{:9.2}{:14.0}",
                case.variant,
                kernel.median,
                kernel.told(),
                ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")),
                case.figure(|s| s.driver).median,
                case.figure(|s| s.signals).median,
            )?;
        }
        Goal::write(&self.goals(), out)?;
        writeln!(
            out,
            "\n{} MiB go to the host, come back, and are added; medians of {} boots.\ninstr/page: of the guest's kernel, \
             less those of as many seconds in which nothing is asked for; driver: in functions of\nthe driver and its bus; \
             signals: of both sides, reports of the guest's memory included.",
            PAGES / 256,
            self.0.boots(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{sum, Report, Sample};

    #[test]
    fn the_goal_is_told() {
        let samples = [("rust", 100.0), ("c", 1000.0)].map(|(variant, kernel)| Sample {
            variant,
            place: "inflate",
            pages: 1,
            instructions: 1,
            idle_instructions: 0,
            kernel,
            driver: 10.0,
            signals: 5.0,
            functions: Vec::new(),
        });
        let table = Report::new(&samples).table();
        assert!(table.contains("met      inflate: kernel instructions per page, Rust / C: 0.100"));
    }

    #[test]
    fn counts_are_added() {
        assert_eq!(sum("1\n20\n").unwrap(), 21);
        assert!(sum("no").is_err());
    }
}
