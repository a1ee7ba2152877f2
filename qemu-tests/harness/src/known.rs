// SPDX-License-Identifier: GPL-2.0

//! What the C drivers have passed before. They come with the kernel: while that, QEMU and this harness are
//! the same, they need not show again what they have shown.

use std::collections::hash_map::DefaultHasher;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::drivers::Core;
use crate::lane::{Common, Outcome};
use crate::qemu;
use crate::races::Seeds;
use crate::scenarios::{Notes, Scenario};

/// What has passed, with whatever this is about.
pub(crate) struct Known {
    path: PathBuf,
    /// Whether this run is one to learn from.
    usual: bool,
    file: KnownFile,
}

#[derive(Default, Serialize, Deserialize)]
struct KnownFile {
    /// Of all that a result depends on but the scenario.
    key: u64,
    /// By scenario, with what it noted for the other drivers.
    passed: BTreeMap<String, Option<String>>,
}

impl Known {
    /// What is known of this run's kernel, QEMU, programs and harness.
    pub(crate) fn read(common: &Common) -> Result<Self> {
        let paths = &common.paths;
        let files = [
            std::env::current_exe().context("the harness's own file")?,
            paths.guest_program.clone(),
            paths.fuzz_guest.clone(),
            paths.guest_kernel.join("vmlinuz"),
            paths.kernel.join("vmlinuz"),
            paths.qemu.join(qemu::PROGRAM),
            // of the root, whose programs guests get, too
            PathBuf::from("/var/lib/dpkg/status"),
        ];
        let folders = [&paths.guest_tools, &paths.xdp];
        // whose name says what is in it, where it is made at all
        let tests = paths.selftests.file_name();
        let settings = format!("{} {:?} {tests:?}", common.level, common.bus_version);
        let mut hasher = DefaultHasher::new();
        settings.hash(&mut hasher);
        for path in files.iter().chain(folders) {
            hash(path, &mut hasher)?;
        }
        // what was repeated otherwise than usual says nothing about the usual
        let usual = common.rounds.is_none() && !matches!(common.seeds, Seeds::One(_));
        Ok(Self {
            usual,
            ..Self::of_file(paths.known.clone(), hasher.finish())
        })
    }

    fn of_file(path: PathBuf, key: u64) -> Self {
        let file: KnownFile = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let file = if file.key == key {
            file
        } else {
            KnownFile {
                key,
                ..KnownFile::default()
            }
        };
        Self {
            path,
            usual: true,
            file,
        }
    }

    /// Whether the C drivers have passed it. What it noted then is noted now.
    pub(crate) fn passed(&self, scenario: &'static Scenario, common: &Common) -> bool {
        let Some(note) = self.file.passed.get(scenario.name) else {
            return false;
        };
        if let Some(note) = note {
            lock(&common.notes).insert((Core::C, scenario.name), note.clone());
        }
        true
    }

    /// Keep in mind what has passed, and forget at once what has not.
    pub(crate) fn learn(&mut self, outcome: &Outcome, common: &Common) -> Result<()> {
        if outcome.core != Core::C {
            return Ok(());
        }
        let name = outcome.scenario;
        if !outcome.passed {
            self.file.passed.remove(name);
        } else if self.usual {
            let note = lock(&common.notes).get(&(Core::C, name)).cloned();
            self.file.passed.insert(name.to_owned(), note);
        }
        self.write()
    }

    fn write(&self) -> Result<()> {
        fs::write(&self.path, serde_json::to_vec_pretty(&self.file)?)
            .with_context(|| self.path.display().to_string())
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in a file, or in those of a folder with their names.
fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    let context = || path.display().to_string();
    if !path.is_dir() {
        fs::read(path).with_context(context)?.hash(hasher);
        return Ok(());
    }
    let entries: std::io::Result<Vec<_>> = fs::read_dir(path).with_context(context)?.collect();
    let mut entries: Vec<_> = entries?.iter().map(fs::DirEntry::path).collect();
    entries.sort_unstable();
    for entry in entries {
        entry.file_name().hash(hasher);
        hash(&entry, hasher)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use std::collections::hash_map::DefaultHasher;
    use std::hash::Hasher;

    use super::{hash, Known};

    #[test]
    fn what_another_harness_has_seen_is_not_known() {
        let folder = std::env::temp_dir().join(format!("vmbus-known-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (program, file) = (folder.join("program"), folder.join("known"));
        let key_of = |text: &str| {
            fs::write(&program, text).unwrap();
            let mut hasher = DefaultHasher::new();
            hash(&folder, &mut hasher).unwrap();
            hasher.finish()
        };
        let first = key_of("a");
        assert_ne!(first, key_of("b"));
        assert_eq!(first, key_of("a"));

        let mut known = Known::of_file(file.clone(), first);
        assert!(known.file.passed.is_empty());
        known.file.passed.insert("balloon".into(), None);
        known.write().unwrap();
        assert_eq!(Known::of_file(file.clone(), first).file.passed.len(), 1);
        assert!(Known::of_file(file.clone(), first + 1)
            .file
            .passed
            .is_empty());
        fs::write(&file, "no JSON").unwrap();
        assert!(Known::of_file(file, first).file.passed.is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
