// SPDX-License-Identifier: GPL-2.0

//! One boot: the floor and every backend at every depth.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use vmbus_guest::protocol::LoadReport;

use super::script::{Results, Script};
use super::symbols::Symbols;
use super::variant::{Backend, Doorbell, Variant, BACKENDS, FLOOR};
use super::Reads;
use crate::counter::Window;
use crate::devices::BUS;
use crate::storage::Job;
use crate::vm::Vm;

/// How many functions a sample names.
const FUNCTIONS: usize = 60;
/// How long the guest may take to write down its symbols.
const SYMBOLS: Duration = Duration::from_secs(300);

/// What one boot showed of one backend at one depth; per read, where nothing else is said.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) variant: &'static str,
    pub(super) backend: &'static str,
    pub(super) depth: usize,
    /// How many there were.
    pub(super) reads: usize,
    /// Instructions of the guest's kernel, of all reads.
    pub(super) instructions: u64,
    /// The same of the floor, in the same boot.
    pub(super) floor_instructions: u64,
    /// Instructions of the guest's kernel.
    pub(super) kernel: f64,
    /// What of them the block layer and the midlayer take with any driver.
    pub(super) floor: f64,
    /// The rest.
    pub(super) own: f64,
    /// Instructions of the load itself.
    pub(super) user: f64,
    /// Instructions in functions of the driver and its bus.
    pub(super) driver: f64,
    /// Reads in a second of the guest.
    pub(super) iops: f64,
    /// Microseconds of the guest.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) doorbells: f64,
    pub(super) interrupts: f64,
    /// The functions with most instructions.
    pub(super) functions: Vec<Share>,
}

/// What a function has of a sample.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Share {
    pub(super) name: String,
    pub(super) instructions: f64,
    pub(super) calls: f64,
}

/// What is done in a boot.
pub(super) fn script(variant: &Variant, reads: &Reads) -> Script {
    let mut script = Script::default();
    disks(&mut script, variant.module, &BACKENDS);
    for (backend, depth, reads) in places(variant, reads) {
        script.load(backend.mib, depth, reads / 4);
        events(&mut script, Some(variant.doorbell));
        script.load(backend.mib, depth, reads);
        events(&mut script, Some(variant.doorbell));
    }
    script
}

/// The floor and the backends at each depth, with the number of reads.
fn places(variant: &Variant, reads: &Reads) -> Vec<(Backend, usize, usize)> {
    let all = [FLOOR].into_iter().chain(BACKENDS);
    all.flat_map(|backend| reads.map(|(depth, count)| (backend, depth, count / variant.one_in)))
        .collect()
}

/// Bring in a driver and the floor, wait for their disks, let them have no scheduler and merge
/// nothing, and rest. Takes [`DISK_STEPS`] steps.
pub(super) fn disks(script: &mut Script, module: &str, backends: &[Backend]) {
    script.exec(&["modprobe", "-a", module, "sd_mod", "vmbus_floor"]);
    let sizes = [FLOOR].iter().chain(backends).map(|b| b.mib << 11);
    let sizes: Vec<_> = sizes.map(|sectors| sectors.to_string()).collect();
    script.shell(&format!(
        "for size in {}; do
             tries=600
             until grep -qx $size /sys/block/sd*/size; do
                 tries=$((tries - 1))
                 [ $tries -gt 0 ] || {{ echo no disk of $size sectors >&2; exit 1; }}
                 sleep 0.1
             done
         done",
        sizes.join(" ")
    ));
    script.shell(
        "for queue in /sys/block/sd*/queue; do
             echo none > $queue/scheduler; echo 2 > $queue/nomerges; echo 0 > $queue/add_random
         done
         sleep 5",
    );
}

/// See [`disks`].
pub(super) const DISK_STEPS: usize = 3;

/// What counts interrupts and doorbells.
pub(super) fn events(script: &mut Script, doorbell: Option<Doorbell>) {
    script.exec(&["cat", "/proc/interrupts"]);
    script.shell(&match doorbell {
        Some(Doorbell::Channels) => format!("cat {BUS}/devices/*/channels/*/events"),
        Some(Doorbell::Function(_)) | None => "true".into(),
    });
}

/// What a boot showed, after its script; `progress` hears what is next.
pub(super) fn boot(
    vm: &Vm,
    variant: &Variant,
    script: &Script,
    reads: &Reads,
    known: &mut Known,
    progress: impl Fn(&str),
) -> Result<Vec<Sample>> {
    progress("measures by itself");
    let mut results = script.results(vm)?;
    for _ in 0..DISK_STEPS {
        results.text()?;
    }
    let measured = places(variant, reads)
        .into_iter()
        .map(|place| Measured::take(variant, place, &mut results))
        .collect::<Result<Vec<_>>>()?;
    progress("the kernel's symbols");
    let symbols = known.symbols(vm)?;
    let (floors, measured): (Vec<_>, Vec<_>) = measured.iter().partition(|it| it.backend == FLOOR);
    measured
        .iter()
        .map(|it| {
            let floor = floors.iter().find(|f| f.depth == it.depth);
            let floor = floor.context("the floor is measured at each depth")?;
            Ok(it.sample(variant, floor, &symbols))
        })
        .collect()
}

/// The symbols of earlier guests, by where their modules were. The kernel itself is always in the
/// same place.
#[derive(Default)]
pub(super) struct Known(BTreeMap<String, Rc<Symbols>>);

impl Known {
    pub(super) fn symbols(&mut self, vm: &Vm) -> Result<Rc<Symbols>> {
        let places = vm.exec(&["sh", "-c", "grep '' /sys/module/*/sections/.text"])?;
        if let Some(symbols) = self.0.get(&places) {
            return Ok(Rc::clone(symbols));
        }
        let symbols = Rc::new(read_symbols(vm)?);
        self.0.insert(places, Rc::clone(&symbols));
        Ok(symbols)
    }
}

/// The table is long. The serial lines would take minutes to carry it, so that it goes over the disk
/// that is a file.
fn read_symbols(vm: &Vm) -> Result<Symbols> {
    let [.., file] = BACKENDS;
    let script = format!(
        "for disk in /sys/block/sd*; do
             if grep -qx {} $disk/size; then
                 (grep -i ' [tw] ' /proc/kallsyms; head -c 4096 /dev/zero) > /dev/${{disk##*/}}
             fi
         done; sync",
        file.mib << 11
    );
    Job::start(vm, "symbols", &script)?.expect_success(SYMBOLS)?;
    Ok(Symbols::parse(&vm.text_of_file(file.name)?))
}

/// The figures of one load, as they come.
struct Measured {
    backend: Backend,
    depth: usize,
    reads: usize,
    report: LoadReport,
    window: Window,
    interrupts: u64,
    doorbells: u64,
}

impl Measured {
    fn take(
        variant: &Variant,
        (backend, depth, reads): (Backend, usize, usize),
        results: &mut Results,
    ) -> Result<Self> {
        results.load()?;
        let before = Events::take(variant.interrupts, results)?;
        let (report, window) = results.load()?;
        let after = Events::take(variant.interrupts, results)?;
        Ok(Self {
            backend,
            depth,
            reads,
            report,
            window,
            interrupts: after.interrupts - before.interrupts,
            doorbells: after.doorbells - before.doorbells,
        })
    }

    fn kernel(&self) -> f64 {
        self.window.kernel as f64 / self.reads as f64
    }

    fn sample(&self, variant: &Variant, floor: &Self, symbols: &Symbols) -> Sample {
        let functions = symbols.functions(&self.window.blocks);
        let of_driver = functions.iter().filter(|f| (variant.owns)(f.symbol));
        let driver: u64 = of_driver.map(|f| f.instructions).sum();
        let doorbells = match variant.doorbell {
            Doorbell::Channels => self.doorbells,
            Doorbell::Function(name) => functions
                .iter()
                .filter(|f| f.symbol.name == name)
                .map(|f| f.calls)
                .sum(),
        };
        let reads = self.reads as f64;
        Sample {
            variant: variant.name,
            backend: self.backend.name,
            depth: self.depth,
            reads: self.reads,
            instructions: self.window.kernel,
            floor_instructions: floor.window.kernel,
            kernel: self.kernel(),
            floor: floor.kernel(),
            own: self.kernel() - floor.kernel(),
            user: self.window.user as f64 / reads,
            driver: driver as f64 / reads,
            iops: reads * 1e9 / self.report.nanoseconds as f64,
            p50: self.report.p50 as f64 / 1e3,
            p99: self.report.p99 as f64 / 1e3,
            doorbells: doorbells as f64 / reads,
            interrupts: self.interrupts as f64 / reads,
            functions: shares(
                functions
                    .iter()
                    .map(|f| Share {
                        name: f.symbol.to_string(),
                        instructions: f.instructions as f64 / reads,
                        calls: f.calls as f64 / reads,
                    })
                    .collect(),
            ),
        }
    }
}

/// Those with most instructions.
pub(super) fn shares(mut shares: Vec<Share>) -> Vec<Share> {
    shares.sort_by(|a, b| b.instructions.total_cmp(&a.instructions));
    shares.truncate(FUNCTIONS);
    shares
}

/// What has happened so far.
pub(super) struct Events {
    /// Of the device, on all CPUs.
    pub(super) interrupts: u64,
    /// What channels have told the host; 0 without channels.
    pub(super) doorbells: u64,
}

impl Events {
    /// From what [`events`] asked for; the interrupts are those on lines with one of these words.
    pub(super) fn take(words: &[&str], results: &mut Results) -> Result<Self> {
        let interrupts = interrupts(&results.text()?, words);
        let counts: Result<Vec<u64>, _> = results.text()?.lines().map(str::parse).collect();
        Ok(Self {
            interrupts,
            doorbells: counts.context("a channel's events")?.iter().sum(),
        })
    }
}

/// The sum over the lines of `/proc/interrupts` that have one of these words.
fn interrupts(text: &str, words: &[&str]) -> u64 {
    text.lines()
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .flat_map(|line| {
            let words = line.split_whitespace().skip(1);
            words.map_while(|word| word.parse::<u64>().ok())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::interrupts;

    #[test]
    fn interrupts_of_all_cpus_are_added() {
        let text = "        CPU0  CPU1\n 24:   5   6  IO-APIC  ahci\nHYP:  1  2  Hypervisor\n";
        assert_eq!(interrupts(text, &["HYP:"]), 3);
        assert_eq!(interrupts(text, &["ahci"]), 11);
    }
}
