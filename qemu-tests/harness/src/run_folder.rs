// SPDX-License-Identifier: GPL-2.0

//! What one run of the harness has for itself, so that another run of the same checkout beside it neither
//! changes nor removes it: a folder for its images and states, and one for its logs.
//!
//! A lock shows that a run goes on. The kernel lets go of it when the harness ends, however it ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// In each folder; `qemu-tests/setup/ssh` and `qemu-tests/setup/test` look at it, too.
const LOCK: &str = "lock";
/// What the names of the folders for images begin with.
const PREFIX: &str = "run-";
/// Taken while one comes or goes.
const ALL: &str = "runs.lock";
/// Folders for logs that are tried.
const MOST: u32 = 20;

/// A folder that is there as long as this is. What killed runs left, the next one removes.
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl RunFolder {
    /// Make it, in this folder.
    pub(crate) fn new(within: &Path) -> Result<Self> {
        fs::create_dir_all(within)?;
        let _all = lock(&within.join(ALL), FlockArg::LockExclusive)?;
        for entry in fs::read_dir(within)? {
            let entry = entry?;
            let of_a_run = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if of_a_run && !is_taken(&entry.path())? {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let path = (1..)
            .map(|n: u32| within.join(format!("{PREFIX}{n}")))
            .find(|path| !path.exists())
            .context("a name for a folder")?;
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let lock = take(&path)?.context("the lock of a new folder")?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // nobody may think meanwhile that it was left
        let _all = self
            .path
            .parent()
            .map(|within| lock(&within.join(ALL), FlockArg::LockExclusive));
        // What stays, the next run removes.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A folder for logs, which no other run writes to meanwhile; those of the last run are gone.
pub(crate) struct Logs {
    /// Where it is.
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
}

impl Logs {
    /// Take this folder and no other one: somebody looks for results there.
    pub(crate) fn here(path: &Path) -> Result<Self> {
        Self::take(path)?.with_context(|| {
            format!(
                "another run writes its logs to {}: wait for its end",
                path.display()
            )
        })
    }

    /// Take this folder, or the first that is free of those with a number behind its name.
    pub(crate) fn beside(path: &Path) -> Result<Self> {
        let others = (2..=MOST).map(|n| PathBuf::from(format!("{}-{n}", path.display())));
        for path in std::iter::once(path.to_owned()).chain(others) {
            if let Some(logs) = Self::take(&path)? {
                return Ok(logs);
            }
        }
        bail!("{MOST} other runs write logs beside {}", path.display())
    }

    fn take(path: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(path)?;
        let Some(lock) = take(path)? else {
            return Ok(None);
        };
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name() != LOCK {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Some(Self {
            path: path.to_owned(),
            _lock: lock,
        }))
    }
}

/// The lock of a folder, if no other run has it.
fn take(folder: &Path) -> Result<Option<Flock<File>>> {
    lock(&folder.join(LOCK), FlockArg::LockExclusiveNonblock)
}

fn is_taken(folder: &Path) -> Result<bool> {
    Ok(take(folder)?.is_none())
}

fn lock(path: &Path, how: FlockArg) -> Result<Option<Flock<File>>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e).with_context(|| format!("lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{Logs, RunFolder};

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_run_leaves_the_folders_of_others_alone() {
        let build = place("runs");
        let left_over = build.join("run-killed");
        fs::create_dir_all(&left_over).unwrap();
        let first = RunFolder::new(&build).unwrap();
        fs::write(first.path().join("image"), "1").unwrap();
        let second = RunFolder::new(&build).unwrap();
        assert!(first.path().join("image").exists() && first.path() != second.path());
        assert!(!left_over.exists());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().exists());
        fs::remove_dir_all(build).unwrap();
    }

    #[test]
    fn logs_of_a_run_that_goes_on_stay() {
        let path = place("logs");
        let first = Logs::here(&path).unwrap();
        fs::write(path.join("console"), "1").unwrap();
        assert!(Logs::here(&path).is_err());
        let second = Logs::beside(&path).unwrap();
        assert!(path.join("console").exists() && second.path != path);
        drop(first);
        assert_eq!(Logs::beside(&path).unwrap().path, path);
        assert!(!path.join("console").exists());
        fs::remove_dir_all(&path).unwrap();
        fs::remove_dir_all(&second.path).unwrap();
    }
}
