// SPDX-License-Identifier: GPL-2.0

//! Races that repeat: something happens under I/O in a guest whose instructions are counted, under
//! many seeds. A seed decides how many instructions a CPU runs before it is the other one's turn, how
//! long the host takes, and when what is to happen, happens. A run with the same seed is the same run,
//! but for an exception that docs/testing.md tells of.
//!
//! A guest boots once for each core and machine, up to the point where it stops itself; each seed goes on from there.

mod disk;
mod guest;
mod memory;
mod net;
mod reload;
mod script;
mod snapshot;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bed::{Bed, Pace};
use crate::drivers::Core;
use crate::failure::{expect, unmet};
use crate::lane::{slower, Common};
use crate::level::Level;
use crate::machine::{Machine, FOLDER};
use crate::qemu;

pub(crate) use disk::Event as DiskEvent;
use guest::{Host, BOOT, RESUME};
pub(crate) use net::Event as NetEvent;
use script::{Random, Script};
pub(crate) use snapshot::Snapshots;

/// Which seeds a race runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seeds {
    /// This one, which makes a run that was seen before.
    One(u64),
    /// As many as there is time for in a run of everything.
    Few,
    /// As many as it takes to meet a race.
    All,
}

impl Seeds {
    /// From 1 on. The C drivers are there to show that the scenario is fair.
    fn numbers(self, core: Core) -> Vec<u64> {
        let last = match (self, core) {
            (Self::One(seed), _) => return vec![seed],
            (Self::Few, Core::Rust | Core::RustOnC) => 2,
            (Self::Few, Core::C) => 1,
            (Self::All, Core::Rust | Core::RustOnC) => 20,
            (Self::All, Core::C) => 5,
        };
        (1..=last).collect()
    }
}

/// The lines of the console that a failure shows.
const TAIL: usize = 25;

/// How long a run takes that is about hours, if nobody says so with ROUNDS.
const USUAL_HOURS: u32 = 1;

/// What a run may take by this machine's clock, and what an hour of the guest's time adds.
const RUN: Duration = Duration::from_secs(240);
const HOUR: Duration = Duration::from_secs(180);

/// What all machines have: a kernel that ends where a CPU spins for 4 s of the guest's time, not when this machine's clock
/// says so, and whose first process is told what to do by files of the firmware.
const KERNEL_ARGUMENTS: &str = "quiet scripted=1 watchdog_thresh=2 softlockup_panic=1";
const DEVICES: &str = "-device pvpanic -action panic=pause -fw_cfg name=opt/vmbus/modprobe,file=@/modprobe \
                       -fw_cfg name=opt/vmbus/prepare,file=@/prepare -fw_cfg name=opt/vmbus/script,file=@/script \
                       -device vmbus-bridge,id=bus";

/// What happens under which load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Under the I/O of disks.
    Disk(DiskEvent),
    /// Under the traffic of network adapters.
    Net(NetEvent),
    /// While core and driver of disks go and come.
    Reload,
    /// A host that changes its mind about memory for hours.
    Memory,
}

impl Kind {
    /// Where it happens.
    pub(crate) const fn machine(self) -> &'static Machine {
        match self {
            Self::Disk(_) | Self::Reload => &disk::MACHINE,
            Self::Net(_) => &net::MACHINE,
            Self::Memory => &memory::MACHINE,
        }
    }

    /// What the guest does before its state is saved.
    fn prepare(self, core: Core) -> String {
        match self {
            Self::Disk(_) | Self::Reload => disk::prepare(core),
            Self::Net(_) => net::prepare(core),
            Self::Memory => memory::prepare(core),
        }
    }

    /// Which seeds; one of hours is run once, if it is not said otherwise.
    fn seeds(self, asked: Seeds, core: Core) -> Vec<u64> {
        match (self, asked) {
            (Self::Memory | Self::Net(NetEvent::Late), Seeds::Few | Seeds::All) => vec![1],
            _ => asked.numbers(core),
        }
    }

    /// How long a run may take by this machine's clock; in the guest, nothing waits longer than the script allows.
    fn longest(self, hours: u32) -> Duration {
        match self {
            Self::Memory => RUN + HOUR * hours,
            _ => RUN,
        }
    }

    /// Whether the guest's state is saved and gone on from: not with a device that QEMU cannot save.
    fn is_saved(self) -> bool {
        self != Self::Memory
    }

    /// What happens under a seed, for so many hours where it is about hours.
    fn script(self, core: Core, seed: u64, hours: u32) -> Script {
        let mut random = Random(seed);
        match self {
            Self::Disk(event) => event.script(core, &mut random),
            Self::Net(event) => event.script(core, &mut random),
            Self::Reload => reload::script(core, &mut random),
            Self::Memory => memory::script(core, &mut random, hours.into()),
        }
    }
}

/// Run a race under its seeds, or under the one that was asked for; the first is run twice, to see that
/// it repeats, but not in a run of everything: see docs/testing.md for when it does not.
pub(crate) fn run(
    common: &Common,
    name: &str,
    kind: Kind,
    core: Core,
    figures: &mut String,
) -> Result<()> {
    let machine = kind.machine();
    let number = common
        .beds
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        + 1;
    let race = {
        let mut images = common.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.add(machine.initramfs, &common.paths)?;
        let bed = Bed::start(
            Level::Emulated,
            Pace::Repeatable,
            number,
            &common.paths,
            &images,
        )?;
        let initrd = images.initramfs(machine.initramfs, core);
        let argv = qemu::arguments(common, &images, &initrd, machine, core, &bed);
        let hours = common.rounds.unwrap_or(USUAL_HOURS);
        Race {
            name,
            kind,
            core,
            files: machine.new_files(&images),
            argv,
            bed,
            hours,
            longest: kind.longest(hours) * slower(&common.paths),
            logs: &common.paths.logs,
        }
    };
    let saved = kind.is_saved();
    let snapshot = saved.then(|| common.snapshots.get(&common.paths, &race));
    let snapshot = snapshot.transpose()?;
    let start = Instant::now();
    let seeds = kind.seeds(common.seeds, core);
    let twice = common.seeds != Seeds::Few && saved;
    let mut all = Fingerprint::default();
    for (at, seed) in seeds.iter().enumerate() {
        let console = race.run(snapshot.as_deref(), *seed, "")?;
        let print = Fingerprint::of(&console);
        if at == 0 && twice {
            let again = Fingerprint::of(&race.run(snapshot.as_deref(), *seed, "-again")?);
            expect(
                print == again,
                format!("seed {seed} to repeat: {print}"),
                again,
            )?;
        }
        all.add(&console);
    }
    write!(
        figures,
        "{} seeds, {:.1} s each; {}; consoles {all}",
        seeds.len(),
        start.elapsed().as_secs_f64() / (seeds.len() + usize::from(twice)) as f64,
        if twice { "repeats" } else { "not run twice" },
    )?;
    Ok(())
}

/// A race on its machine.
struct Race<'a> {
    name: &'a str,
    kind: Kind,
    core: Core,
    argv: Vec<String>,
    files: Vec<vmbus_guest::protocol::NewFile>,
    bed: Bed,
    hours: u32,
    /// For a run, by this machine's clock.
    longest: Duration,
    logs: &'a Path,
}

impl Race<'_> {
    /// Go on from the saved state, or from the boot, under a seed; gives what the guest printed. The suffix is for its
    /// logs.
    fn run(&self, state: Option<&Path>, seed: u64, suffix: &str) -> Result<Vec<String>> {
        let script = self.kind.script(self.core, seed, self.hours);
        let mut more = Vec::new();
        if let Some(state) = state {
            more.push(format!("-icount perturb={seed}"));
            more.push(format!("-incoming file:{}", state.display()));
            // of its network adapters, which QEMU makes by this machine's clock
            more.push("-global migration.announce-rounds=0".to_owned());
        }
        more.extend(script.host.iter().cloned());
        let argv = self.argv.iter().cloned();
        let more = more
            .iter()
            .flat_map(|m| m.split(' '))
            .map(|word| word.replace(FOLDER, &self.bed.folder));
        let files = self.files.iter().cloned();
        let prepare = self.kind.prepare(self.core);
        let files = files
            .chain(script::files(self.core, &prepare, &script))
            .collect();
        let log = format!("{}-{}-seed{seed}{suffix}", self.name, self.core).to_lowercase();
        let host = Host::start(
            &self.bed,
            argv.chain(more).collect(),
            files,
            self.logs,
            &log,
        )?;
        let ended = host
            .go_on(if state.is_some() { RESUME } else { BOOT })
            .and_then(|()| host.wait_for_end(self.longest));
        let console = host.console();
        ended
            .and_then(|()| judge(&console))
            .map_err(|e| self.explain(e, seed, &console))?;
        Ok(console)
    }

    /// What a person needs to see the failure again.
    fn explain(&self, error: anyhow::Error, seed: u64, console: &[String]) -> anyhow::Error {
        if crate::failure::is_bed(&error) {
            return error;
        }
        let core = self.core.to_string().to_lowercase();
        let tail = &console[console.len().saturating_sub(TAIL)..];
        error.context(format!(
            "seed {seed} (again: make test SCENARIO={} CORE={core} SEED={seed}; consoles {})\n      {}\n   ",
            self.name,
            Fingerprint::of(console),
            tail.join("\n      "),
        ))
    }
}

/// Whether a guest that has ended was content, and its kernel too.
fn judge(console: &[String]) -> Result<()> {
    if let Some(line) = console.iter().find(|l| crate::console::is_trouble(l)) {
        return Err(unmet("a quiet kernel log", line));
    }
    let verdict = console.iter().find(|l| l.contains(script::VERDICT));
    match verdict {
        Some(line) if line.contains(script::GOOD) => Ok(()),
        Some(line) => Err(unmet("a script without complaints", line)),
        None => Err(unmet("the script's verdict", "the guest ended before")),
    }
}

/// Of what a guest prints, with its times in microseconds, and the end in nanoseconds of virtual time: two
/// runs that differ by an instruction differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn of(console: &[String]) -> Self {
        let mut it = Self::default();
        it.add(console);
        it
    }

    /// FNV-1a.
    fn add(&mut self, console: &[String]) {
        for byte in console.iter().flat_map(|l| l.bytes().chain([b'\n'])) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::script::{files, SIZES};
    use super::{judge, DiskEvent, Fingerprint, Kind, NetEvent};
    use crate::drivers::Core;

    const KINDS: [Kind; 11] = [
        Kind::Disk(DiskEvent::Rescind),
        Kind::Disk(DiskEvent::Offline),
        Kind::Disk(DiskEvent::Unbind),
        Kind::Disk(DiskEvent::Reset),
        Kind::Net(NetEvent::Rescind),
        Kind::Net(NetEvent::Offline),
        Kind::Net(NetEvent::Unbind),
        Kind::Net(NetEvent::Change),
        Kind::Net(NetEvent::Late),
        Kind::Reload,
        Kind::Memory,
    ];

    #[test]
    fn a_seed_means_one_script() {
        for kind in KINDS {
            let script = |seed| kind.script(Core::Rust, seed, 2);
            assert_eq!(script(7), script(7));
            assert_ne!(script(7), script(8), "{kind:?}");
        }
    }

    #[test]
    fn texts_fit_their_files() {
        for kind in KINDS {
            for core in Core::ALL {
                for file in files(core, &kind.prepare(core), &kind.script(core, 1, 24)) {
                    let size = SIZES.iter().find(|(name, _)| *name == file.name);
                    assert!(size.is_none_or(|(_, size)| file.text.len() as u64 <= *size));
                }
            }
        }
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_line_counts() {
        let print = |text| Fingerprint::of(&lines(text));
        assert_eq!(print("a\nb"), print("a\nb"));
        assert_ne!(print("a\nb"), print("ab"));
        assert_ne!(
            print("script at 1.000000001"),
            print("script at 1.000000002")
        );
    }

    #[test]
    fn only_a_good_end_is_good() {
        assert!(judge(&lines("x\nscript ended with status 0 at 1.2")).is_ok());
        assert!(judge(&lines("x\nscript ended with status 1 at 1.2")).is_err());
        assert!(judge(&lines("x")).is_err());
        assert!(judge(&lines("WARNING: x\nscript ended with status 0 at 1.2")).is_err());
    }
}
