// SPDX-License-Identifier: GPL-2.0

//! fio without the libraries of what it is not used for. Debian's fio is linked with those of Ceph, Gluster,
//! NFS, RDMA and persistent memory: 60 MiB that each guest would unpack, and 100000 relocations that an
//! emulated CPU would do at each start of fio. In their place come libraries of the same names that have
//! the symbols that fio wants, which lead to an instruction that ends the program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::cpio::Archive;
use crate::programs::{self, LIBRARIES};

/// The program.
const FIO: &str = "/usr/bin/fio";

/// Those that no engine of the scenarios uses.
const UNUSED: [&str; 8] = [
    "libgfapi.so.0",
    "libibverbs.so.1",
    "libnbd.so.0",
    "libnfs.so.14",
    "libpmem.so.1",
    "librados.so.2",
    "librbd.so.1",
    "librdmacm.so.1",
];

/// Add fio and the libraries it gets; the stand-ins are kept in a folder, and made in a new one.
pub(crate) fn add(archive: &mut Archive, kept_in: &Path, made_in: &Path) -> Result<()> {
    for file in programs::with_libraries(&stand_ins(kept_in, made_in)?, FIO)? {
        archive.copy(&file.from, &file.to.to_string_lossy())?;
    }
    Ok(())
}

/// The folder below which Debian's places have the stand-ins, made if there is none for this fio.
fn stand_ins(kept_in: &Path, made_in: &Path) -> Result<PathBuf> {
    let fio = fs::metadata(FIO).context(FIO)?;
    let folder = kept_in.join(format!("fio-libraries-{}-{}", fio.len(), fio.mtime()));
    if folder.exists() {
        return Ok(folder);
    }
    let new = made_in.join("fio-libraries");
    let place = new.join(LIBRARIES);
    fs::create_dir_all(&place)?;
    let wanted = run("nm", &["-D", "--undefined-only", FIO])?;
    let wanted = symbols(&wanted);
    for name in UNUSED {
        let path = format!("/{LIBRARIES}/{name}");
        // a fio that is not linked with it needs none
        if Path::new(&path).exists() {
            let there = run("nm", &["-D", "--defined-only", &path])?;
            make(&place, name, &texts(&wanted, &symbols(&there)))?;
        }
    }
    match fs::rename(&new, &folder) {
        // another run has made the same meanwhile
        Err(_) if folder.exists() => Ok(folder),
        made => made.map(|()| folder).context("libraries for fio"),
    }
}

/// Names of symbols, and the version of each, from the output of `nm`.
fn symbols(listed: &str) -> BTreeMap<&str, &str> {
    listed
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|symbol| symbol.split_once('@').unwrap_or((symbol, "")))
        .collect()
}

/// Assembly, and what the linker has to be told of versions, for those symbols that are wanted and there.
fn texts(wanted: &BTreeMap<&str, &str>, there: &BTreeMap<&str, &str>) -> (String, String) {
    let mut assembly = ".text\n".to_owned();
    let mut versions: BTreeMap<&str, String> = BTreeMap::new();
    for (name, version) in wanted {
        if there.contains_key(name) {
            let _ = writeln!(assembly, ".globl {name}\n.type {name}, @function\n{name}:");
            let _ = write!(versions.entry(version).or_default(), " {name};");
        }
    }
    assembly += "ud2\n.section .note.GNU-stack,\"\",@progbits\n";
    versions.remove("");
    let mut script = String::new();
    for (version, names) in versions {
        let _ = writeln!(script, "{version} {{ global:{names} }};");
    }
    (assembly, script)
}

fn make(folder: &Path, name: &str, (assembly, script): &(String, String)) -> Result<()> {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let (source, versions) = (file("s"), file("versions"));
    fs::write(&source, assembly)?;
    fs::write(&versions, script)?;
    let mut arguments = vec![
        "-shared".to_owned(),
        "-nostdlib".to_owned(),
        format!("-Wl,-soname={name}"),
        "-o".to_owned(),
        folder.join(name).display().to_string(),
        source.display().to_string(),
    ];
    if !script.is_empty() {
        arguments.push(format!("-Wl,--version-script={}", versions.display()));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run("cc", &arguments).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let out = Command::new(program)
        .args(arguments)
        .output()
        .context(program.to_owned())?;
    if !out.status.success() {
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{symbols, texts};

    #[test]
    fn what_is_wanted_and_there_is_made() {
        let wanted = symbols("  U a\n  U b@V_1\n  U c@V_1\n  U malloc@GLIBC_2.2.5\n");
        let there = symbols("0010 T a\n0020 T b@@V_1\n0030 T c@V_1\n0040 T d@@V_2\n");
        let (assembly, versions) = texts(&wanted, &there);
        for name in ["a:", "b:", "c:"] {
            assert!(assembly.lines().any(|l| l == name), "{name}");
        }
        assert!(!assembly.contains("malloc") && !assembly.contains("d:"));
        assert_eq!(versions, "V_1 { global: b; c; };\n");
    }
}
