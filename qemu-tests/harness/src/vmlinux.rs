// SPDX-License-Identifier: GPL-2.0

//! The kernel without its compression. An emulated CPU unpacks a stock kernel for seconds at each
//! boot; QEMU can also start what comes out (PVH boot), which need be unpacked once.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{bail, ensure, Context, Result};

/// What begins a payload, and the program that unpacks it. Documentation/arch/x86/boot.rst has the
/// formats.
const PACKERS: [(&[u8], &[&str]); 3] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], &["zstd", "-dcq"]),
    (
        &[0xfd, b'7', b'z', b'X', b'Z'],
        &["xz", "-dc", "--single-stream"],
    ),
    (&[0x1f, 0x8b], &["gzip", "-dcq"]),
];

/// Whether a kernel of this configuration can be started without its compressed form.
pub(crate) fn can_start_unpacked(config: &str) -> bool {
    config.lines().any(|line| line == "CONFIG_PVH=y")
}

/// Unpack a kernel image.
pub(crate) fn unpack(image: &Path, to: &Path) -> Result<()> {
    let image_data = fs::read(image).with_context(|| image.display().to_string())?;
    let payload = payload(&image_data).with_context(|| image.display().to_string())?;
    let Some((_, program)) = PACKERS.iter().find(|(magic, _)| payload.starts_with(magic)) else {
        bail!(
            "{} is packed in a way that is not known here",
            image.display()
        );
    };
    let kernel = filter(program, payload)?;
    ensure!(
        kernel.starts_with(b"\x7fELF"),
        "what is packed in {} is no ELF file",
        image.display()
    );
    fs::write(to, kernel).with_context(|| to.display().to_string())
}

/// The packed kernel in an image, without the size that is appended to it.
fn payload(image: &[u8]) -> Result<&[u8]> {
    const SECTOR: usize = 512;
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    ensure!(
        image.get(0x202..0x206).is_some() && image[0x202..].starts_with(b"HdrS"),
        "no Linux kernel image"
    );
    let sectors = usize::from(image[0x1f1]);
    let protected = (sectors.max(1) + 1) * SECTOR;
    let (offset, length) = word(0x248)
        .zip(word(0x24c))
        .context("no payload in the header")?;
    image
        .get(protected + offset..)
        .and_then(|rest| rest.get(..length.checked_sub(4)?))
        .context("the payload is longer than the image")
}

/// Data through a program. It may complain of what follows the data: only what it gives counts.
fn filter(program: &[&str], data: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| program[0].to_owned())?;
    let mut input = child.stdin.take().context("standard input")?;
    let output = thread::scope(|scope| {
        // a program that has all it wants closes its end
        scope.spawn(move || input.write_all(data));
        child.wait_with_output()
    })?;
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::{can_start_unpacked, payload};

    fn image(offset: u32, length: u32) -> Vec<u8> {
        let mut image = vec![0; 0x800];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image[0x410..0x418].copy_from_slice(b"packed\0\0");
        image
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        assert_eq!(payload(&image(0x10, 10)).unwrap(), b"packed");
    }

    #[test]
    fn a_header_that_lies_is_an_error() {
        for (offset, length) in [(0, 3), (0x1000, 8), (0, 0x1000), (u32::MAX, u32::MAX)] {
            assert!(payload(&image(offset, length)).is_err());
        }
        assert!(payload(&[0; 0x800]).is_err());
        assert!(payload(&[]).is_err());
    }

    #[test]
    fn the_configuration_tells() {
        assert!(can_start_unpacked("CONFIG_X=y\nCONFIG_PVH=y\n"));
        assert!(!can_start_unpacked("# CONFIG_PVH is not set\n"));
    }
}
