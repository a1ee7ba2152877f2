// SPDX-License-Identifier: GPL-2.0

//! The sets of drivers, and what decides which one a guest runs.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// Whose drivers the guest runs, on whose core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Core {
    /// The stock kernel's own.
    C,
    /// This project's.
    Rust,
    /// This project's drivers on the stock kernel's own core.
    RustOnC,
}

impl Core {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::C, Self::Rust, Self::RustOnC];

    /// Whether the drivers are this project's.
    pub(crate) fn has_rust_drivers(self) -> bool {
        self != Self::C
    }

    /// The balloon driver's module.
    pub(crate) fn balloon_module(self) -> &'static str {
        match self {
            Self::C => "hv_balloon",
            Self::Rust => "hv_balloon_rust",
            Self::RustOnC => "hv_balloon_rust_on_c",
        }
    }

    /// The example's module; there is none in C.
    pub(crate) fn example_module(self) -> &'static str {
        match self {
            Self::C | Self::Rust => "hv_example_rust",
            Self::RustOnC => "hv_example_rust_on_c",
        }
    }

    /// The storage driver's module.
    pub(crate) fn storage_module(self) -> &'static str {
        match self {
            Self::C => "hv_storvsc",
            Self::Rust => "hv_storvsc_rust",
            Self::RustOnC => "hv_storvsc_rust_on_c",
        }
    }

    /// The network driver's module.
    pub(crate) fn net_module(self) -> &'static str {
        match self {
            Self::C => "hv_netvsc",
            Self::Rust => "hv_netvsc_rust",
            Self::RustOnC => "hv_netvsc_rust_on_c",
        }
    }

    /// The storage driver's name on the bus: both cores have the same one.
    pub(crate) fn storage_driver(self) -> &'static str {
        match self {
            Self::C => "hv_storvsc",
            Self::Rust | Self::RustOnC => "hv_storvsc_rust",
        }
    }

    /// The network driver's name on the bus.
    pub(crate) fn net_driver(self) -> &'static str {
        match self {
            Self::C => "hv_netvsc",
            Self::Rust | Self::RustOnC => "hv_netvsc_rust",
        }
    }

    /// The modules that a disk takes; the C core is built in.
    pub(crate) fn storage_drivers(self) -> &'static [&'static str] {
        match self {
            Self::C => &["hv_storvsc"],
            Self::Rust => &["hv_vmbus_rust", "hv_storvsc_rust"],
            Self::RustOnC => &["hv_vmbus_rust_on_c", "hv_storvsc_rust_on_c"],
        }
    }

    /// The same, as `rmmod` takes them.
    pub(crate) fn storage_drivers_last_first(self) -> Vec<&'static str> {
        self.storage_drivers().iter().rev().copied().collect()
    }

    /// The modules that a network adapter takes, as `rmmod` takes them.
    pub(crate) fn net_drivers_last_first(self) -> &'static [&'static str] {
        match self {
            Self::C => &["hv_netvsc"],
            Self::Rust => &["hv_netvsc_rust", "hv_vmbus_rust"],
            Self::RustOnC => &["hv_netvsc_rust_on_c", "hv_vmbus_rust_on_c"],
        }
    }

    /// What the kernel's command line needs.
    pub(crate) fn kernel_arguments(self) -> &'static str {
        match self {
            Self::C | Self::RustOnC => "",
            // keeps the built-in core off
            Self::Rust => "initcall_blacklist=hv_acpi_init",
        }
    }

    /// All sets of drivers match the same devices; this leaves one.
    pub(crate) fn modprobe_settings(self) -> &'static str {
        match self {
            Self::C => {
                "blacklist hv_balloon_rust\nblacklist hv_netvsc_rust\nblacklist hv_storvsc_rust\n\
                 blacklist hv_balloon_rust_on_c\nblacklist hv_netvsc_rust_on_c\n\
                 blacklist hv_storvsc_rust_on_c\n"
            }
            Self::Rust => {
                "blacklist hv_balloon\nblacklist hv_netvsc\nblacklist hv_storvsc\n\
                 blacklist hv_utils\nblacklist hyperv_keyboard\n\
                 blacklist hv_balloon_rust_on_c\nblacklist hv_netvsc_rust_on_c\n\
                 blacklist hv_storvsc_rust_on_c\n"
            }
            Self::RustOnC => {
                "blacklist hv_balloon\nblacklist hv_netvsc\nblacklist hv_storvsc\n\
                 blacklist hv_balloon_rust\nblacklist hv_netvsc_rust\nblacklist hv_storvsc_rust\n"
            }
        }
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::C => "C",
            Self::Rust => "Rust",
            Self::RustOnC => "Rust-on-C",
        })
    }
}
