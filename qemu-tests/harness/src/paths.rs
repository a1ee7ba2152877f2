// SPDX-License-Identifier: GPL-2.0

//! Where things are. The set-up scripts decide that and say it by environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run_folder::RunFolder;

/// The folders and programs of one checkout.
pub(crate) struct Paths {
    /// The prepared stock kernel in the cache.
    pub(crate) kernel: PathBuf,
    /// The kernel of the guests under test: this one, or one of `qemu-tests/kernels`.
    pub(crate) guest_kernel: PathBuf,
    /// The folder with the QEMU that has this project's patches; there only when a command needs it.
    pub(crate) qemu: PathBuf,
    /// The folder with firmware, and what makes its disk and its variables.
    pub(crate) firmware: PathBuf,
    /// The folder with programs that only guests run.
    pub(crate) guest_tools: PathBuf,
    /// The folder with the kernel's own tests of network drivers; there only when a scenario needs it.
    pub(crate) selftests: PathBuf,
    /// What belongs to this checkout in the cache.
    pub(crate) build: PathBuf,
    /// What belongs to this run.
    run: RunFolder,
    /// Where the compiled modules are.
    pub(crate) modules: PathBuf,
    /// Where the Debian packages are, for a run that tests them.
    pub(crate) packages: PathBuf,
    /// Where the kernels with the drivers built in are, for a run that tests them.
    pub(crate) built_in: PathBuf,
    /// The set-up's scripts.
    pub(crate) setup: PathBuf,
    /// The program that runs inside the machines.
    pub(crate) guest_program: PathBuf,
    /// The guest without a kernel, of `qemu-tests/fuzz-guest`.
    pub(crate) fuzz_guest: PathBuf,
    /// The XDP programs, compiled.
    pub(crate) xdp: PathBuf,
    /// Where the logs of this run go.
    pub(crate) logs: PathBuf,
    /// Where the results of benchmarks go.
    pub(crate) bench: PathBuf,
    /// What the drivers may cost.
    pub(crate) budget: PathBuf,
    /// What the C drivers have passed before.
    pub(crate) known: PathBuf,
}

impl Paths {
    /// From the environment that `qemu-tests/setup/harness` gives, with a new folder for this run.
    pub(crate) fn from_environment() -> Result<Self> {
        let get = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).with_context(|| {
                format!("{name} is not set: start this by qemu-tests/setup/harness")
            })
        };
        let build = get("VMBUS_BUILD")?;
        Ok(Self {
            run: RunFolder::new(&build)?,
            kernel: std::fs::canonicalize(get("VMBUS_KERNEL")?)?,
            guest_kernel: std::fs::canonicalize(get("VMBUS_TEST_KERNEL")?)?,
            qemu: get("VMBUS_QEMU")?,
            firmware: get("VMBUS_FIRMWARE")?,
            guest_tools: get("VMBUS_GUEST_TOOLS")?,
            selftests: get("VMBUS_SELFTESTS")?,
            build,
            modules: get("VMBUS_TEST_MODULES")?,
            packages: get("VMBUS_TEST_PACKAGES")?,
            built_in: get("VMBUS_TEST_BUILT_IN")?,
            setup: get("VMBUS_TEST_SETUP")?,
            guest_program: get("VMBUS_TEST_GUEST")?,
            fuzz_guest: get("VMBUS_TEST_FUZZ_GUEST")?,
            xdp: get("VMBUS_TEST_XDP")?,
            logs: get("VMBUS_TEST_LOGS")?,
            bench: get("VMBUS_TEST_BENCH")?,
            budget: get("VMBUS_TEST_BUDGET")?,
            known: get("VMBUS_TEST_KNOWN")?,
        })
    }

    /// Whether guests run the stock kernel.
    pub(crate) fn tests_stock_kernel(&self) -> bool {
        self.guest_kernel == self.kernel
    }

    /// The key that opens the guest of `make run` and `make shell`.
    pub(crate) fn guest_key(&self) -> PathBuf {
        self.build.join("guest-key")
    }

    /// The folder of this run in the cache: images, states. It goes with the run.
    pub(crate) fn run(&self) -> &Path {
        self.run.path()
    }

    /// Holds the port at which the guest of `make shell` is reached.
    pub(crate) fn guest_port(&self) -> PathBuf {
        self.run().join("guest-port")
    }

    /// The environment for a harness that uses the same, but writes to this folder only.
    pub(crate) fn environment(&self, folder: &Path) -> Vec<String> {
        [
            ("VMBUS_KERNEL", &self.kernel),
            ("VMBUS_TEST_KERNEL", &self.guest_kernel),
            ("VMBUS_QEMU", &self.qemu),
            ("VMBUS_FIRMWARE", &self.firmware),
            ("VMBUS_GUEST_TOOLS", &self.guest_tools),
            ("VMBUS_SELFTESTS", &self.selftests),
            ("VMBUS_BUILD", &folder.join("build")),
            ("VMBUS_TEST_MODULES", &self.modules),
            ("VMBUS_TEST_PACKAGES", &self.packages),
            ("VMBUS_TEST_BUILT_IN", &self.built_in),
            ("VMBUS_TEST_SETUP", &self.setup),
            ("VMBUS_TEST_GUEST", &self.guest_program),
            ("VMBUS_TEST_FUZZ_GUEST", &self.fuzz_guest),
            ("VMBUS_TEST_XDP", &self.xdp),
            ("VMBUS_TEST_LOGS", &folder.join("logs")),
            ("VMBUS_TEST_BENCH", &folder.join("bench")),
            ("VMBUS_TEST_BUDGET", &self.budget),
            ("VMBUS_TEST_KNOWN", &folder.join("c-results.json")),
        ]
        .map(|(name, path)| format!("{name}={}", path.display()))
        .into()
    }
}
