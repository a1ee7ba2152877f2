// SPDX-License-Identifier: GPL-2.0

//! The states that runs go on from, one for each core. A state is the same each time it is made, since
//! the guest stops itself.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::drivers::Core;
use crate::paths::Paths;

use super::guest::Host;
use super::{script, Race};

/// Those that this run has made.
#[derive(Default)]
pub(crate) struct Snapshots {
    c: Mutex<Option<PathBuf>>,
    rust: Mutex<Option<PathBuf>>,
    rust_on_c: Mutex<Option<PathBuf>>,
}

impl Snapshots {
    /// The state for these drivers, made if it is not there; others who want it wait meanwhile.
    pub(super) fn get(&self, core: Core, paths: &Paths, race: &Race<'_>) -> Result<PathBuf> {
        let made = match core {
            Core::C => &self.c,
            Core::Rust => &self.rust,
            Core::RustOnC => &self.rust_on_c,
        };
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &*made {
            return Ok(path.clone());
        }
        let name = format!("races-{core}.state").to_lowercase();
        let path = paths.run().join(name);
        make(race, core, &path)?;
        *made = Some(path.clone());
        Ok(path)
    }
}

fn make(race: &Race<'_>, core: Core, path: &Path) -> Result<()> {
    let files = race.files.iter().cloned();
    let files = files.chain(script::files(core, &script::Script::default()));
    let log = format!("races-{core}-boot").to_lowercase();
    let host = Host::start(
        &race.bed,
        race.argv.clone(),
        files.collect(),
        race.logs,
        &log,
    )?;
    host.save(path)
}
