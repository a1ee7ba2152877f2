// SPDX-License-Identifier: GPL-2.0

//! Where things are. The set-up scripts decide that and say it by environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders and programs of one checkout.
pub(crate) struct Paths {
    /// The prepared stock kernel in the cache.
    pub(crate) kernel: PathBuf,
    /// The kernel of the guests under test: this one, or one of `qemu-tests/kernels`.
    pub(crate) guest_kernel: PathBuf,
    /// The folder with the QEMU that has this project's patches; there only when a command needs it.
    pub(crate) qemu: PathBuf,
    /// The folder with programs that only guests run.
    pub(crate) guest_tools: PathBuf,
    /// What belongs to this checkout in the cache.
    pub(crate) build: PathBuf,
    /// Where the compiled modules are.
    pub(crate) modules: PathBuf,
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
}

impl Paths {
    /// From the environment that `qemu-tests/setup/harness` gives.
    pub(crate) fn from_environment() -> Result<Self> {
        let get = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).with_context(|| {
                format!("{name} is not set: start this by qemu-tests/setup/harness")
            })
        };
        Ok(Self {
            kernel: std::fs::canonicalize(get("VMBUS_KERNEL")?)?,
            guest_kernel: std::fs::canonicalize(get("VMBUS_TEST_KERNEL")?)?,
            qemu: get("VMBUS_QEMU")?,
            guest_tools: get("VMBUS_GUEST_TOOLS")?,
            build: get("VMBUS_BUILD")?,
            modules: get("VMBUS_TEST_MODULES")?,
            guest_program: get("VMBUS_TEST_GUEST")?,
            fuzz_guest: get("VMBUS_TEST_FUZZ_GUEST")?,
            xdp: get("VMBUS_TEST_XDP")?,
            logs: get("VMBUS_TEST_LOGS")?,
            bench: get("VMBUS_TEST_BENCH")?,
            budget: get("VMBUS_TEST_BUDGET")?,
        })
    }

    /// The key that opens the guest of `make run` and `make shell`.
    pub(crate) fn guest_key(&self) -> PathBuf {
        self.build.join("guest-key")
    }

    /// Holds the port at which the guest of `make shell` is reached.
    pub(crate) fn guest_port(&self) -> PathBuf {
        self.build.join("guest-port")
    }

    /// The environment for a harness that uses the same, but writes to this folder only.
    pub(crate) fn environment(&self, folder: &Path) -> Vec<String> {
        [
            ("VMBUS_KERNEL", &self.kernel),
            ("VMBUS_TEST_KERNEL", &self.guest_kernel),
            ("VMBUS_QEMU", &self.qemu),
            ("VMBUS_GUEST_TOOLS", &self.guest_tools),
            ("VMBUS_BUILD", &folder.join("build")),
            ("VMBUS_TEST_MODULES", &self.modules),
            ("VMBUS_TEST_GUEST", &self.guest_program),
            ("VMBUS_TEST_FUZZ_GUEST", &self.fuzz_guest),
            ("VMBUS_TEST_XDP", &self.xdp),
            ("VMBUS_TEST_LOGS", &folder.join("logs")),
            ("VMBUS_TEST_BENCH", &folder.join("bench")),
            ("VMBUS_TEST_BUDGET", &self.budget),
        ]
        .map(|(name, path)| format!("{name}={}", path.display()))
        .into()
    }
}
