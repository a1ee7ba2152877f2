// SPDX-License-Identifier: GPL-2.0

//! A writer for the kernel's initramfs format (`newc`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// An archive that grows in memory.
#[derive(Default)]
pub(crate) struct Archive {
    data: Vec<u8>,
    folders: BTreeSet<String>,
    copied: BTreeSet<String>,
    inode: u32,
}

impl Archive {
    /// A folder, and those above it.
    pub(crate) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.folders.contains(path) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.folders.insert(path.to_owned());
        self.entry(path, S_IFDIR | 0o755, &[]);
    }

    /// A file with these contents.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.above(path);
        self.entry(path.trim_matches('/'), S_IFREG | mode, data);
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.above(path);
        self.entry(path.trim_matches('/'), S_IFLNK | 0o777, target.as_bytes());
    }

    /// A file of this machine; once, however often it is needed.
    pub(crate) fn copy(&mut self, from: &Path, path: &str) -> Result<()> {
        if !self.copied.insert(path.to_owned()) {
            return Ok(());
        }
        let data = fs::read(from).with_context(|| from.display().to_string())?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o777;
        self.file(path, mode, &data);
        Ok(())
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.data
    }

    fn above(&mut self, path: &str) {
        if let Some((above, _)) = path.trim_matches('/').rsplit_once('/') {
            self.folder(above);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.inode += 1;
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let size = u32::try_from(data.len()).expect("an initramfs file is under 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a path is short");
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0,
        ];
        self.data.extend_from_slice(b"070701");
        for field in fields {
            self.data
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.data.extend_from_slice(name.as_bytes());
        self.data.push(0);
        self.pad();
        self.data.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        while self.data.len() % 4 != 0 {
            self.data.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn folders_come_before_their_files() {
        let mut archive = Archive::default();
        archive.file("/a/b/c", 0o644, b"xyz");
        archive.file("/a/b/d", 0o644, b"");
        let data = archive.finish();
        assert_eq!(data.len() % 4, 0);
        let text = String::from_utf8_lossy(&data);
        let at = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/c"));
        assert_eq!(text.matches("070701").count(), 5);
        assert!(text.contains("TRAILER!!!"));
    }
}
