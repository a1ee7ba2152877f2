// SPDX-License-Identifier: GPL-2.0

//! `make bench BENCH=tcp`: what a TCP stream costs the guest that goes from one adapter to another of the same kind, and
//! what a round trip of one byte does, by the Rust and the C drivers, by emulated e1000e and by virtio. All that the
//! kernel does for it at both ends counts.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;
use serde_json::{json, Value};
use vmbus_guest::protocol::{Listener, RoundTrips, Stream};

use super::cases::{Case, Cases, Figure, Goal, Sampled};
use super::measure::{events, shares, Events, Known, Share};
use super::net::variant::{Variant, VARIANTS};
use super::script::{Results, Script};
use super::symbols::Symbols;
use super::variant::{Doorbell, BACKENDS};
use super::{rounds, Options, Written};
use crate::counter::Window;
use crate::failure::expect;
use crate::lane::Lane;
use crate::machine::{disk, Initramfs, Machine, Qemu};
use crate::net::{IP, PEER};
use crate::vm::Vm;

/// One kind of traffic.
#[derive(Debug)]
struct Traffic {
    name: &'static str,
    /// What is counted.
    unit: &'static str,
    /// How many come first, for what happens only once.
    first: usize,
    few: usize,
    many: usize,
}

impl Traffic {
    fn count(&self, options: &Options) -> usize {
        if options.quick {
            self.few
        } else {
            self.many
        }
    }
}

const STREAM: Traffic = Traffic {
    name: "stream",
    unit: "MiB",
    first: 4,
    few: 16,
    many: 64,
};

const ROUND_TRIPS: Traffic = Traffic {
    name: "round trips",
    unit: "trip",
    first: 100,
    few: 500,
    many: 2000,
};

/// In the order in which they are measured.
const PLACES: [&Traffic; 2] = [&STREAM, &ROUND_TRIPS];

/// The Rust driver shall need at most this share of the C driver's instructions for a stream.
const GOAL: f64 = 0.85;

/// Ethernet addresses of the two adapters.
const SENDER_MAC: &str = "52:54:00:00:20:01";
const RECEIVER_MAC: &str = "52:54:00:00:20:02";

const VMBUS: Machine = Machine {
    name: "bench-tcp-vmbus",
    qemu: Qemu::Patched,
    cpus: 1,
    initramfs: Initramfs::MeasureNet,
    kernel_arguments: "nokaslr randomize_kstack_offset=off",
    module_parameters: "",
    files: &[disk("raw", BACKENDS[1].mib)],
    devices: &[
        DISK,
        WIRE,
        "-device hv-net,netdev=one,num-queues=1,mac=52:54:00:00:20:01,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f2001 \
         -device hv-net,netdev=other,num-queues=1,mac=52:54:00:00:20:02,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f2002",
    ],
};

const E1000E: Machine = Machine {
    name: "bench-tcp-e1000e",
    devices: &[
        DISK,
        WIRE,
        "-device e1000e,netdev=one,romfile=,mac=52:54:00:00:20:01",
        "-device e1000e,netdev=other,romfile=,mac=52:54:00:00:20:02",
    ],
    ..VMBUS
};

const VIRTIO: Machine = Machine {
    name: "bench-tcp-virtio",
    devices: &[
        DISK,
        WIRE,
        "-device virtio-net-pci,netdev=one,romfile=,mac=52:54:00:00:20:01",
        "-device virtio-net-pci,netdev=other,romfile=,mac=52:54:00:00:20:02",
    ],
    ..VMBUS
};

/// For the symbols.
const DISK: &str =
    "-blockdev raw,node-name=raw,file.driver=file,file.filename=@/raw -device vmbus-bridge \
     -device hv-scsi,id=s,num-queues=1,instanceid=839cae23-237d-4d10-82a4-d701961dcf7e \
     -device scsi-hd,bus=s.0,drive=raw,scsi-id=0,lun=1";

/// Between the two. It takes no offloads: an adapter that has them splits what it sends by itself.
const WIRE: &str = "-netdev hubport,id=one,hubid=1 -netdev hubport,id=other,hubid=1";

fn machine(variant: &Variant) -> &'static Machine {
    match variant.name {
        "e1000e" => &E1000E,
        "virtio" => &VIRTIO,
        _ => &VMBUS,
    }
}

/// Measure, and write the results.
pub(super) fn run(lane: &mut Lane<'_>, options: &Options) -> Result<bool> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut known = Known::default();
    rounds(
        lane,
        options,
        "tcp",
        &VARIANTS,
        |v| v.name,
        |lane, variant, progress| {
            let script = script(variant, options);
            samples.extend(lane.with_script(
                machine(variant),
                variant.core,
                script.requests(),
                |vm| {
                    progress("measures by itself");
                    boot(vm, variant, &script, options, &mut known)
                },
            )?);
            Report::new(&samples).written()
        },
    )
}

fn script(variant: &Variant, options: &Options) -> Script {
    let mut script = Script::default();
    let disks = variant.core.storage_module();
    script.exec(&["modprobe", "-a", disks, "sd_mod", variant.module]);
    script.shell(&format!(
        "{IP} netns add {PEER}
         echo 1 | tee /proc/sys/net/ipv6/conf/*/disable_ipv6 > /dev/null
         {IP} netns exec {PEER} sh -c 'echo 1 | tee /proc/sys/net/ipv6/conf/*/disable_ipv6' > /dev/null
         cd /sys/class/net
         for end in {SENDER_MAC}:nut-tx {RECEIVER_MAC}:nut-rx; do
             mac=${{end%:*}} name=${{end##*:}} tries=600
             until old=$(grep -l \"^$mac$\" */address) && old=${{old%%/*}}; do
                 tries=$((tries - 1))
                 [ $tries -gt 0 ] || {{ echo no interface $mac >&2; exit 1; }}
                 sleep 0.1
             done
             {IP} link set $old name $name
         done
         {IP} addr add 192.168.11.1/24 dev nut-tx
         {IP} link set nut-tx up
         {IP} link set nut-rx netns {PEER}
         {IP} -n {PEER} addr add 192.168.11.2/24 dev nut-rx
         {IP} -n {PEER} link set nut-rx up
         sleep 8"
    ));
    for mib in [STREAM.first, STREAM.count(options)] {
        events(&mut script, variant.doorbell);
        script.stream(Stream {
            to: listener(5201),
            mib,
        });
        events(&mut script, variant.doorbell);
    }
    for count in [ROUND_TRIPS.first, ROUND_TRIPS.count(options)] {
        events(&mut script, variant.doorbell);
        script.round_trips(RoundTrips {
            to: listener(5202),
            count,
        });
        events(&mut script, variant.doorbell);
    }
    script
}

/// At the other end.
fn listener(port: u16) -> Listener {
    Listener {
        namespace: PEER.into(),
        address: "192.168.11.2".into(),
        port,
    }
}

fn boot(
    vm: &Vm,
    variant: &Variant,
    script: &Script,
    options: &Options,
    known: &mut Known,
) -> Result<Vec<Sample>> {
    let mut results = script.results(vm)?;
    results.text()?;
    results.text()?;
    let mut samples = Vec::new();
    for traffic in PLACES {
        Step::take(variant, traffic, &mut results)?;
        let step = Step::take(variant, traffic, &mut results)?;
        let count = traffic.count(options);
        let symbols = known.symbols(vm)?;
        samples.push(step.sample(variant, traffic, count, &symbols)?);
    }
    Ok(samples)
}

/// What came of one load.
struct Step {
    window: Window,
    nanoseconds: f64,
    doorbells: u64,
    interrupts: u64,
}

impl Step {
    /// The script's next.
    fn take(variant: &Variant, traffic: &Traffic, results: &mut Results) -> Result<Self> {
        let before = Events::take(variant.interrupts, results)?;
        let (nanoseconds, window) = if traffic.name == ROUND_TRIPS.name {
            let (report, window) = results.load()?;
            (report.nanoseconds as f64, window)
        } else {
            (f64::NAN, results.window()?)
        };
        let after = Events::take(variant.interrupts, results)?;
        Ok(Self {
            window,
            nanoseconds,
            doorbells: after.doorbells - before.doorbells,
            interrupts: after.interrupts - before.interrupts,
        })
    }

    fn sample(
        &self,
        variant: &Variant,
        traffic: &Traffic,
        count: usize,
        symbols: &Symbols,
    ) -> Result<Sample> {
        let functions = symbols.functions(&self.window.blocks);
        let own = functions.iter().filter(|f| (variant.owns)(f.symbol));
        let driver: u64 = own.map(|f| f.instructions).sum();
        expect(driver > 0, "a driver that has done something", driver)?;
        let doorbells = match variant.doorbell {
            None => f64::NAN,
            Some(Doorbell::Channels) => self.doorbells as f64,
            Some(Doorbell::Function(name)) => {
                let found = functions.iter().filter(|f| f.symbol.name == name);
                found.map(|f| f.calls).sum::<u64>() as f64
            }
        };
        let times = count as f64;
        Ok(Sample {
            variant: variant.name,
            place: traffic.name,
            count,
            kernel: self.window.kernel as f64 / times,
            driver: driver as f64 / times,
            doorbells: doorbells / times,
            interrupts: self.interrupts as f64 / times,
            nanoseconds: self.nanoseconds / times,
            functions: shares(
                functions
                    .iter()
                    .map(|f| Share {
                        name: f.symbol.to_string(),
                        instructions: f.instructions as f64 / times,
                        calls: f.calls as f64 / times,
                    })
                    .collect(),
            ),
        })
    }
}

/// What one boot showed of one kind of traffic; for each of its units, where nothing else is said.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    variant: &'static str,
    place: &'static str,
    /// How many.
    count: usize,
    /// Instructions of the guest's kernel, at both ends.
    kernel: f64,
    /// What of them is in functions of the driver and its bus.
    driver: f64,
    /// NaN where it is not known.
    doorbells: f64,
    interrupts: f64,
    /// The guest's time; NaN where it is not taken.
    nanoseconds: f64,
    /// The functions with most instructions.
    functions: Vec<Share>,
}

impl Sampled for Sample {
    type Place = &'static str;

    const FIGURES: &'static [(&'static str, Figure<Self>)] = &[
        ("kernel_instructions", |s| s.kernel),
        ("driver_instructions", |s| s.driver),
        ("doorbells", |s| s.doorbells),
        ("interrupts", |s| s.interrupts),
        ("nanoseconds", |s| s.nanoseconds),
    ];

    const PANELS: &'static [(&'static str, Figure<Self>)] = &[
        ("instructions of the guest's kernel", |s| s.kernel),
        ("of these in the driver and its bus", |s| s.driver),
        ("interrupts", |s| s.interrupts),
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
        let places = PLACES.iter().map(|place| place.name);
        Self(Cases::new(samples, places, variants))
    }

    fn written(&self) -> Result<Written> {
        Ok(Written::new(
            self.table(),
            self.0.json(&self.goals())?,
            &self.0.panels(),
        ))
    }

    fn goals(&self) -> Vec<Goal> {
        let rust = |c: &&Case<'_, Sample>| c.variant == "rust" && c.place == STREAM.name;
        let goal = |case: &Case<'_, Sample>| {
            let found = self.0.ratio(case, "c", |s| s.kernel)?;
            let what = "kernel instructions per MiB of a stream, Rust / C".to_owned();
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
        for place in PLACES {
            let mut cases = self.0.all.iter().filter(|case| case.place == place.name);
            writeln!(
                out,
                "\n{}, for each {}\n  {:10}{:>12}{:>8}{:>8}{:>10}{:>8}{:>11}{:>12}{:>8}",
                place.name,
                place.unit,
                "",
                "instr",
                "spread",
                "/ C",
                "driver",
                "/ C",
                "doorbells",
                "interrupts",
                "us",
            )?;
            cases.try_for_each(|case| self.write_row(out, case))?;
        }
        Goal::write(&self.goals(), out)?;
        writeln!(
            out,
            "\nTCP from an adapter to another one of the same kind, in another network namespace; medians of {} boots.\n\
             instr: of the guest's kernel, for both ends; driver: in functions of the driver and its bus; us: of the guest's\n\
             time, in which an instruction takes 2 ns, and the host 10 us whenever it is asked.",
            self.0.boots(),
        )
    }

    fn write_row(&self, out: &mut String, case: &Case<'_, Sample>) -> std::fmt::Result {
        let median = |figure: Figure<Sample>| case.figure(figure).median;
        let kernel = case.figure(|s| s.kernel);
        let ratio = |figure: Figure<Sample>| {
            let ratio = self.0.ratio(case, "c", figure);
            ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"))
        };
        let time = median(|s| s.nanoseconds) / 1000.0;
        writeln!(
            out,
            "  {:10}{:12.0}{:>8}{:>8}{:10.0}{:>8}{:11.1}{:12.1}{:>8}",
            case.variant,
            kernel.median,
            kernel.told(),
            ratio(|s| s.kernel),
            median(|s| s.driver),
            ratio(|s| s.driver),
            median(|s| s.doorbells),
            median(|s| s.interrupts),
            match time.is_nan() {
                true => "-".into(),
                false => format!("{time:.1}"),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Sample, STREAM};

    #[test]
    fn the_goal_is_told() {
        let samples = [("rust", 900.0), ("c", 1000.0)].map(|(variant, kernel)| Sample {
            variant,
            place: STREAM.name,
            count: 1,
            kernel,
            driver: 10.0,
            doorbells: f64::NAN,
            interrupts: 5.0,
            nanoseconds: f64::NAN,
            functions: Vec::new(),
        });
        let table = Report::new(&samples).table();
        assert!(table.contains("NOT MET  kernel instructions per MiB of a stream, Rust / C: 0.900"));
    }
}
