// SPDX-License-Identifier: GPL-2.0

//! The states that runs go on from, one for each core and machine. A state is the same each time it is made, since
//! the guest stops itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::drivers::Core;
use crate::paths::Paths;

use super::guest::Host;
use super::{script, Race};

/// One, once it is made; who makes it holds the lock.
type State = Arc<Mutex<Option<PathBuf>>>;

/// Those that this run has made, by machine and core.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<BTreeMap<(&'static str, Core), State>>);

impl Snapshots {
    /// The state for these drivers, made if it is not there; others who want it wait meanwhile.
    pub(super) fn get(&self, paths: &Paths, race: &Race<'_>) -> Result<PathBuf> {
        let machine = race.kind.machine().name;
        let state = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry((machine, race.core)).or_default())
        };
        let mut made = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &*made {
            return Ok(path.clone());
        }
        let name = format!("{machine}-{}", race.core).to_lowercase();
        let path = paths.run().join(format!("{name}.state"));
        make(race, &name, &path)?;
        *made = Some(path.clone());
        Ok(path)
    }
}

fn make(race: &Race<'_>, name: &str, path: &Path) -> Result<()> {
    let prepare = race.kind.prepare(race.core);
    let files = race.files.iter().cloned();
    let files = files.chain(script::files(
        race.core,
        &prepare,
        &script::Script::default(),
    ));
    let host = Host::start(
        &race.bed,
        race.argv.clone(),
        files.collect(),
        race.logs,
        &format!("{name}-boot"),
    )?;
    host.save(path)
}
