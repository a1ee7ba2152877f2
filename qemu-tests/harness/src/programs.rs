// SPDX-License-Identifier: GPL-2.0

//! Programs that guests run, and the libraries they are linked with. They come from the Debian root
//! in which the harness runs, or from the folder with packages that only guests use.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

/// Where Debian has libraries, below the root.
pub(crate) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A file for a guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Here.
    pub(crate) from: PathBuf,
    /// In the guest.
    pub(crate) to: PathBuf,
}

/// A program by its path in Debian, and its libraries. `tools` is the folder of packages that only
/// guests use.
pub(crate) fn with_libraries(tools: &Path, program: &str) -> Result<Vec<File>> {
    let place = Path::new(program);
    let own = tools.join(place.strip_prefix("/")?);
    let from = if own.exists() { &own } else { place };
    if !from.exists() {
        bail!(
            "no program {program}, neither in the root nor in {}",
            tools.display()
        );
    }
    let mut files = vec![File {
        from: from.to_owned(),
        to: place.to_owned(),
    }];
    let out = Command::new("ldd")
        .arg(from)
        .env("LD_LIBRARY_PATH", tools.join(LIBRARIES))
        .output()
        .context("ldd")?;
    files.extend(libraries(tools, &String::from_utf8_lossy(&out.stdout)));
    Ok(files)
}

/// The same program, to be run here.
pub(crate) fn command(tools: &Path, program: &str) -> Command {
    let mut command = Command::new(tools.join(program.trim_start_matches('/')));
    command.env("LD_LIBRARY_PATH", tools.join(LIBRARIES));
    command
}

/// The same, killed after so many seconds.
pub(crate) fn command_within(seconds: u32, tools: &Path, program: &str) -> Command {
    let own = command(tools, program);
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &seconds.to_string()]);
    command.arg(own.get_program());
    command.env("LD_LIBRARY_PATH", tools.join(LIBRARIES));
    command
}

/// What `ldd` printed; a library from the folder is where Debian has it.
fn libraries(tools: &Path, said: &str) -> Vec<File> {
    said.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|word| {
            let from = PathBuf::from(word);
            let to = from
                .strip_prefix(tools)
                .map_or_else(|_| from.clone(), |inside| Path::new("/").join(inside));
            File { from, to }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_the_folder_go_where_debian_has_them() {
        let said = "\tlinux-vdso.so.1 (0x1)\n\tliba.so => /tools/usr/lib/liba.so (0x2)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x3)\n";
        let found = libraries(Path::new("/tools"), said);
        let want = [
            ("/tools/usr/lib/liba.so", "/usr/lib/liba.so"),
            (
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib/x86_64-linux-gnu/libc.so.6",
            ),
        ];
        let want: Vec<_> = want
            .map(|(from, to)| File {
                from: from.into(),
                to: to.into(),
            })
            .into();
        assert_eq!(found, want);
    }

    #[test]
    fn a_program_that_nobody_has_is_an_error() {
        let error = with_libraries(Path::new("/nowhere"), "/usr/bin/no-such").unwrap_err();
        assert!(error.to_string().contains("/usr/bin/no-such"));
    }
}
