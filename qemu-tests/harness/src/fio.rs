// SPDX-License-Identifier: GPL-2.0

//! fio, which compares what it reads with what it wrote.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::storage::{script, Job, JOB};
use crate::vm::Vm;

/// A run of fio that checks what it wrote.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verify {
    /// `--rw`.
    pub(crate) pattern: &'static str,
    /// Block size, `4k`, or a range, `512-1m`.
    pub(crate) block: &'static str,
    /// Requests at a time.
    pub(crate) depth: u32,
    /// Processes, each with a part of the disk of its own.
    pub(crate) jobs: u32,
    /// MiB that each writes and reads.
    pub(crate) mib: u32,
}

/// Some seconds of several queues.
pub(crate) const LOAD: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 32,
    jobs: 2,
    mib: 8,
};

impl Verify {
    /// The command, on a block device.
    pub(crate) fn command(&self, disk: &str) -> String {
        let Self {
            pattern,
            block,
            depth,
            jobs,
            mib,
        } = self;
        format!(
            "fio --name=verify --filename=/dev/{disk} --rw={pattern} --bsrange={range} \
             --ioengine=libaio --direct=1 --iodepth={depth} --numjobs={jobs} --size={mib}m \
             --offset_increment={mib}m --verify=crc32c --verify_fatal=1 --group_reporting --minimal",
            range = if block.contains('-') { (*block).to_owned() } else { format!("{block}-{block}") },
        )
    }

    /// As [`Self::run`], each job on a CPU of its own.
    pub(crate) fn run_on_each_cpu(&self, vm: &Vm, disk: &str) -> Result<()> {
        let last = self.jobs.saturating_sub(1);
        let command = format!(
            "{} --cpus_allowed=0-{last} --cpus_allowed_policy=split",
            self.command(disk)
        );
        Job::start(vm, "verify", &command)?.expect_success(JOB)
    }

    /// Run it to its end.
    pub(crate) fn run(&self, vm: &Vm, disk: &str) -> Result<()> {
        Job::start(vm, "verify", &self.command(disk))?.expect_success(JOB)
    }
}

/// What makes a pass differ from all others: its order, and the data, which is its number and the
/// offset. A checksum in each block would hold for what an earlier pass left there, too.
const OF_ITS_OWN: &str =
    "--randseed=$pass --verify=pattern --verify_pattern=0x$(printf %016x $pass)%o";

/// fio, pass after pass until it is told to stop: a load for as long as something takes.
pub(crate) struct Passes<'a> {
    vm: &'a Vm,
    job: Job<'a>,
}

/// What [`Passes`] did.
pub(crate) struct Compared {
    /// Runs of fio.
    pub(crate) passes: usize,
    /// MiB that were read and compared.
    pub(crate) mib: u64,
}

impl<'a> Passes<'a> {
    /// Start with the first of these; after the last one it is the first one's turn again.
    pub(crate) fn start(vm: &'a Vm, disk: &str, passes: &[Verify]) -> Result<Self> {
        Self::start_with(vm, disk, passes, "")
    }

    /// The same, with so few requests a second that it does not matter how long it goes on.
    pub(crate) fn start_slowly(vm: &'a Vm, disk: &str, passes: &[Verify]) -> Result<Self> {
        Self::start_with(vm, disk, passes, "--rate_iops=40")
    }

    fn start_with(vm: &'a Vm, disk: &str, passes: &[Verify], options: &str) -> Result<Self> {
        let mut cases = String::new();
        for (n, pass) in passes.iter().enumerate() {
            write!(
                cases,
                "{n}) {} {OF_ITS_OWN} {options} ;; ",
                pass.command(disk)
            )?;
        }
        let text = format!(
            "rm -f /tmp/passes.stop
             pass=0
             until [ -e /tmp/passes.stop ]; do
                 case $((pass % {})) in {cases} esac || exit 1
                 pass=$((pass + 1))
             done",
            passes.len()
        );
        let job = Job::start(vm, "passes", &text)?;
        Ok(Self { vm, job })
    }

    /// It must still be at it: what happens next is to happen under its load.
    pub(crate) fn expect_running(&self) -> Result<()> {
        self.job.expect_running()
    }

    /// Let the pass that runs be the last; all must have been good.
    pub(crate) fn stop(self) -> Result<Compared> {
        // If one was not, they ended there, and the job says why.
        self.vm.write("/tmp/passes.stop", "")?;
        self.job.expect_success(JOB)?;
        // The sixth field of a terse line is what was read, in KiB.
        let read = script(self.vm, "grep '^3;' /tmp/passes.out | cut -d ';' -f 6")?;
        let mut compared = Compared { passes: 0, mib: 0 };
        for line in read.lines() {
            compared.passes += 1;
            compared.mib += line.parse::<u64>().context("fio's count of KiB")? >> 10;
        }
        Ok(compared)
    }
}
