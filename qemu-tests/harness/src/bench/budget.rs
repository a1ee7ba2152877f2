// SPDX-License-Identifier: GPL-2.0

//! `make budget`: what the Rust drivers cost must not grow.
//!
//! One guest measures the floors, the disk, the network and the balloon by itself. With the same binaries the
//! work is the same to the instruction, so that it is compared with `qemu-tests/budget.txt` without statistics.
//! What the kernel does beside it, a tick or its counters of free pages, falls into a window or not: so each
//! window is repeated, and the one with least in it counts.

mod file;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use anyhow::{bail, Context, Result};
use clap::Args;

use self::file::Budget;
use super::balloon::{self, PAGES};
use super::measure::{self, Known};
use super::net::network::{self, Way};
use super::net::variant as net;
use super::script::Script;
use super::symbols::Symbols;
use super::variant::{Backend, BACKENDS, FLOOR, VMBUS};
use crate::counter::Window;
use crate::drivers::Core;
use crate::lane::Lane;
use crate::machine::{Initramfs, Machine};
use crate::vm::Vm;

/// What to do with the figures.
#[derive(Args)]
pub(crate) struct Options {
    /// Make them the budget, instead of comparing.
    #[arg(long)]
    write: bool,
}

/// How much what the drivers' own functions take may grow, as a share of it. It is the same each time.
const GROWTH: f64 = 0.01;
/// The same of what all of the kernel takes. With other sizes of its modules and other addresses it does
/// other things beside it, which make up to 1 % of a frame or a page.
const GROWTH_OF_ALL: f64 = 0.02;
/// A function is told of from this difference on, in instructions for each read, frame or page.
const TOLD: f64 = 0.5;
/// At most so many.
const MOST_TOLD: usize = 12;

/// Most of what a driver makes the kernel do is not in its hands: so what is in its own functions, and
/// those of the bus, is a figure of its own.
const DRIVERS: [&str; 4] = [
    "hv_vmbus_rust",
    "hv_storvsc_rust",
    "hv_netvsc_rust",
    "hv_balloon_rust",
];

/// What the name of such a figure ends with.
const OF_DRIVERS: &str = "-driver";

/// How the kernel puts free pages together depends on where they happen to be.
const NOISY: &str = "balloon-deflate";

/// Functions of the kernel whose cost depends on a number that it draws at each boot, here where the
/// search for a free tag begins (`lib/sbitmap.c`): they are left out.
const DRAWN: [&str; 1] = ["sbitmap_find_bit"];

/// How often each window of reads and of frames is measured.
const TIMES: usize = 5;

/// Reads by depth.
const READS: [(usize, usize); 2] = [(1, 1000), (32, 6000)];

/// Frames of 64 bytes, their check sequence included: sent, less those that an interface without a
/// device drops, and received, less the same that nobody receives.
const FRAMES: usize = 10_000;
const FRAME: usize = 60;
const WAYS: [(&str, Way, Way); 2] = [
    ("net-tx-64", Way::Send, Way::Drop),
    ("net-rx-64", Way::Receive, Way::Feed),
];

/// A bench's disks and adapters, and a balloon.
const MACHINE: Machine = Machine {
    name: "budget",
    initramfs: Initramfs::MeasureNet,
    devices: &[
        "-blockdev null-co,node-name=null,size=1073741824,read-zeroes=on",
        "-blockdev raw,node-name=raw,file.driver=file,file.filename=@/raw",
        "-device vmbus-bridge",
        "-device hv-scsi,id=s,num-queues=1,instanceid=839cae23-237d-4d10-82a4-d701961dcf7e",
        "-device scsi-hd,bus=s.0,drive=null,scsi-id=0,lun=0",
        "-device scsi-hd,bus=s.0,drive=raw,scsi-id=0,lun=1",
        net::PLACES,
        net::ADAPTERS,
        balloon::DEVICE,
    ],
    ..VMBUS
};

/// What something costs, and in which functions; instructions for each read, frame or page.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cost {
    /// In all.
    pub(super) own: f64,
    /// By the functions' names.
    pub(super) functions: BTreeMap<String, f64>,
}

/// Measure, and compare with the budget or make it; gives whether it is kept.
pub(crate) fn run(lane: &mut Lane<'_>, options: &Options) -> Result<bool> {
    let start = Instant::now();
    let script = script();
    let found = lane.with_script(&MACHINE, Core::Rust, script.requests(), |vm| {
        measured(vm, &script)
    })?;
    println!("measured in {:.1} s", start.elapsed().as_secs_f64());
    let path = &lane.paths().budget;
    if options.write {
        fs::write(path, found.text()).with_context(|| path.display().to_string())?;
        println!("{} is the budget now", path.display());
        return Ok(true);
    }
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let budget = Budget::parse(&text)
        .with_context(|| format!("{}; 'make budget WRITE=1' makes it", path.display()))?;
    if budget.kernel != found.kernel {
        println!(
            "SKIPPED: the budget is for kernel {}, this is {}; what they have in common costs \
             differently. Measure it on the commit that made the budget, with 'make budget WRITE=1'.",
            budget.kernel, found.kernel
        );
        return Ok(true);
    }
    let (kept, report) = compare(&budget, &found);
    print!("{report}");
    Ok(kept)
}

fn script() -> Script {
    let mut script = Script::default();
    measure::disks(&mut script, "hv_storvsc_rust", &BACKENDS);
    for (backend, depth, reads) in loads() {
        script.load(backend.mib, depth, reads / 4);
        for _ in 0..TIMES {
            script.load(backend.mib, depth, reads);
        }
    }
    network::set_up(&mut script, "hv_netvsc_rust");
    for way in WAYS.into_iter().flat_map(|(_, way, floor)| [way, floor]) {
        script.packets(network::frames(way, FRAME, FRAMES / 4));
        network::ask_received(&mut script);
        for _ in 0..TIMES {
            script.packets(network::frames(way, FRAME, FRAMES));
            network::ask_received(&mut script);
        }
    }
    // nothing, up, down
    balloon::windows(&mut script, Core::Rust, 3);
    script
}

fn loads() -> impl Iterator<Item = (Backend, usize, usize)> {
    let backends = [FLOOR, BACKENDS[0]];
    READS
        .into_iter()
        .flat_map(move |(depth, reads)| backends.map(|backend| (backend, depth, reads)))
}

fn measured(vm: &Vm, script: &Script) -> Result<Budget> {
    let mut results = script.results(vm)?;
    for _ in 0..measure::DISK_STEPS {
        results.text()?;
    }
    let loads = loads()
        .map(|_| {
            results.load()?;
            least((0..TIMES).map(|_| Ok(results.load()?.1)))
        })
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..network::STEPS {
        results.text()?;
    }
    let frames = WAYS
        .iter()
        .flat_map(|(_, way, floor)| [way, floor])
        .map(|way| {
            results.window()?;
            let mut before = network::received(&mut results)?;
            least((0..TIMES).map(|_| {
                let window = results.window()?;
                let after = network::received(&mut results)?;
                network::expect_received(*way, FRAMES, before, after)?;
                before = after;
                Ok(window)
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    let pages = i64::try_from(PAGES)?;
    let [idle, up, down] = &balloon::watched(&mut results, &[-pages, pages])?[..] else {
        bail!("a window for nothing, up and down");
    };
    let kernel = vm.exec(&["uname", "-r"])?.trim().to_owned();
    let symbols = Known::default().symbols(vm)?;

    let mut costs = BTreeMap::new();
    let mut add = |name: &str, window: &Window, floor: &Window, count: f64| {
        let drivers = |module: &str| DRIVERS.contains(&module);
        let all = above(window, floor, count, &symbols, |_| true);
        costs.insert(name.to_owned(), all);
        let of_drivers = above(window, floor, count, &symbols, drivers);
        costs.insert(format!("{name}{OF_DRIVERS}"), of_drivers);
    };
    for ((depth, reads), pair) in READS.into_iter().zip(loads.chunks(2)) {
        if let [floor, disk] = pair {
            add(&format!("storage-depth-{depth}"), disk, floor, reads as f64);
        }
    }
    for ((name, ..), pair) in WAYS.iter().zip(frames.chunks(2)) {
        if let [window, floor] = pair {
            add(name, window, floor, FRAMES as f64);
        }
    }
    for (name, watched) in [("balloon-inflate", up), ("balloon-deflate", down)] {
        add(name, &watched.window, &idle.window, PAGES as f64);
    }
    costs.retain(|name, _| name != NOISY);
    Ok(Budget { kernel, costs })
}

/// The window with least in it, of several with the same work: all that differs is what came in between.
fn least(windows: impl Iterator<Item = Result<Window>>) -> Result<Window> {
    let windows = windows.collect::<Result<Vec<_>>>()?;
    let least = windows.into_iter().min_by_key(|window| window.kernel);
    least.context("a figure has at least one window")
}

/// What one window took more than another, of `count` things, in functions of the modules that count.
fn above(
    window: &Window,
    floor: &Window,
    count: f64,
    symbols: &Symbols,
    counts: impl Fn(&str) -> bool,
) -> Cost {
    let mut cost = Cost::default();
    for (window, sign) in [(window, 1.0), (floor, -1.0)] {
        for function in symbols.functions(&window.blocks) {
            let name = function.symbol.to_string();
            if counts(&function.symbol.module) && !DRAWN.contains(&name.as_str()) {
                let instructions = sign * function.instructions as f64 / count;
                cost.own += instructions;
                *cost.functions.entry(name).or_default() += instructions;
            }
        }
    }
    cost
}

/// Whether the budget is kept, and what there is to say about it.
fn compare(budget: &Budget, found: &Budget) -> (bool, String) {
    let mut kept = true;
    let mut report = String::new();
    for name in found
        .costs
        .keys()
        .filter(|name| !budget.costs.contains_key(*name))
    {
        kept = false;
        let _ = writeln!(report, "  {name:24} has no budget");
    }
    for (name, old) in &budget.costs {
        let Some(new) = found.costs.get(name).filter(|new| new.own > 0.0) else {
            kept = false;
            let _ = writeln!(report, "  {name:24} was not measured");
            continue;
        };
        let percent = (new.own / old.own - 1.0) * 100.0;
        let grew = new.own > old.own * (1.0 + allowed(name));
        kept &= !grew;
        // a string takes whatever is written
        let _ = writeln!(
            report,
            "  {name:24} {:10.2} instructions, budget {:10.2} ({percent:+.2} %){}",
            new.own,
            old.own,
            if grew { "  TOO MANY" } else { "" }
        );
        if grew {
            for (function, before, now) in grown(old, new) {
                let _ = writeln!(
                    report,
                    "    {:+9.2}  {function}: {before:.2}, now {now:.2}",
                    now - before
                );
            }
        }
    }
    if !kept {
        report += &format!(
            "expected each figure of drivers at most {} % above its budget, of the whole kernel {} %; found what \
             is marked above, with the functions that grew. Make them cheaper, or, if it must be, \
             'make budget WRITE=1' and say why in the commit.\n",
            GROWTH * 100.0,
            GROWTH_OF_ALL * 100.0
        );
    }
    (kept, report)
}

/// By which share the figure with this name may grow.
fn allowed(name: &str) -> f64 {
    if name.ends_with(OF_DRIVERS) {
        GROWTH
    } else {
        GROWTH_OF_ALL
    }
}

/// The functions that grew, those that grew most first, with what they took before and take now.
fn grown<'a>(old: &'a Cost, new: &'a Cost) -> Vec<(&'a str, f64, f64)> {
    let mut grown: Vec<_> = new
        .functions
        .iter()
        .map(|(name, now)| {
            let before = old.functions.get(name).copied().unwrap_or_default();
            (name.as_str(), before, *now)
        })
        .filter(|(_, before, now)| now - before >= TOLD)
        .collect();
    grown.sort_by(|a, b| (b.2 - b.1).total_cmp(&(a.2 - a.1)));
    grown.truncate(MOST_TOLD);
    grown
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{allowed, compare, least, Budget, Cost};
    use crate::counter::{Blocks, Window};

    fn budget(functions: &[(&str, f64)]) -> Budget {
        let functions: BTreeMap<_, _> = functions
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect();
        let own = functions.values().sum();
        Budget {
            kernel: "7.3".into(),
            costs: BTreeMap::from([("storage-driver".into(), Cost { own, functions })]),
        }
    }

    #[test]
    fn what_grew_is_named() {
        let old = budget(&[("queue", 900.0), ("done", 100.0)]);
        assert!(compare(&old, &budget(&[("queue", 910.0), ("done", 100.0)])).0);
        assert!(compare(&old, &budget(&[("queue", 500.0)])).0);
        let (kept, report) = compare(&old, &budget(&[("queue", 860.0), ("done", 151.0)]));
        assert!(!kept);
        assert!(report.contains("done: 100.00, now 151.00"));
        assert!(!report.contains("queue:"));
    }

    #[test]
    fn the_whole_kernel_may_grow_by_more() {
        assert!(allowed("net-tx-64") > allowed("net-tx-64-driver"));
    }

    #[test]
    fn what_came_in_between_does_not_count() {
        let window = |kernel| {
            Ok(Window {
                kernel,
                user: 0,
                blocks: Blocks::new(),
            })
        };
        let found = least([1000, 990, 1020].into_iter().map(window)).unwrap();
        assert_eq!(found.kernel, 990);
        assert!(least([].into_iter().map(window)).is_err());
    }

    #[test]
    fn a_figure_is_measured_and_has_a_budget() {
        let old = budget(&[("queue", 900.0)]);
        let none = Budget {
            costs: BTreeMap::new(),
            ..budget(&[])
        };
        assert!(!compare(&none, &old).0);
        let (kept, report) = compare(&old, &none);
        assert!(!kept && report.contains("was not measured"));
        assert!(!compare(&old, &budget(&[("queue", 0.0)])).0);
    }
}
