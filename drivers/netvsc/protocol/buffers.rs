// SPDX-License-Identifier: GPL-2.0

//! The two buffers: how large they are, and what the host makes of them.

use crate::nvsp::{Version, STATUS_SUCCESS};
use core::fmt;

/// Smallest section that an RNDIS message with a frame fits into, in bytes.
pub const MIN_SECTION: u32 = 68;
/// Bytes of the receive buffer, unless somebody asks for more or less.
pub const RECEIVE_BYTES: u32 = 16 << 20;
/// Bytes of the send buffer, unless somebody asks for more or less.
pub const SEND_BYTES: u32 = 1 << 20;
/// Most sections of the send buffer that are used, with any section size.
pub const MAX_SEND_SECTIONS: u32 = 1 << 18;

const MB: u32 = 1 << 20;
/// The host is given whole pages, and divides all of them.
const PAGE: u32 = 4096;

/// Bytes of the receive buffer: whole pages for `wanted` bytes, as far as a host of `version` takes
/// them.
#[must_use]
pub fn receive_bytes(version: Version, wanted: u32) -> u32 {
    let most = if version <= Version::V2 {
        15 * MB
    } else {
        31 * MB
    };
    pages(wanted.min(most))
}

/// Bytes of the send buffer: whole pages for `wanted` bytes, as far as hosts take them.
#[must_use]
pub fn send_bytes(wanted: u32) -> u32 {
    pages(wanted.min(15 * MB))
}

const fn pages(bytes: u32) -> u32 {
    bytes.div_ceil(PAGE).saturating_mul(PAGE)
}

/// Why the host's description of a buffer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The host refused the buffer.
    Status(u32),
    /// Not one part that starts at 0.
    Parts {
        /// Number of parts.
        parts: u32,
        /// Start of the first one.
        offset: u32,
    },
    /// A section that nothing fits into, or that does not fit.
    Section {
        /// Bytes of a section.
        section: u32,
        /// Sections.
        count: u32,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the host refuses the buffer: status {status}"),
            Self::Parts { parts, offset } => {
                write!(f, "{parts} parts of which the first starts at {offset}")
            }
            Self::Section { section, count } => {
                write!(f, "{count} sections of {section} bytes")
            }
        }
    }
}

/// A buffer, as the host divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a section; at least [`MIN_SECTION`].
    pub section: u32,
    /// Sections; all of them lie inside of the buffer.
    pub count: u32,
}

/// What the host says of the receive buffer, which has `bytes` bytes.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveClaim {
    /// NVSP status of the answer.
    pub status: u32,
    /// Number of parts.
    pub parts: u32,
    /// Start of the first part.
    pub offset: u32,
    /// Bytes of a section.
    pub section: u32,
    /// Sections.
    pub count: u32,
}

impl ReceiveClaim {
    /// Checks it against a buffer of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// See [`LayoutError`].
    pub fn check(&self, bytes: u32) -> Result<Layout, LayoutError> {
        let Self {
            status,
            parts,
            offset,
            section,
            count,
        } = *self;
        if status != STATUS_SUCCESS {
            return Err(LayoutError::Status(status));
        }
        if parts != 1 || offset != 0 {
            return Err(LayoutError::Parts { parts, offset });
        }
        let fits = section
            .checked_mul(count)
            .is_some_and(|total| total <= bytes);
        if section < MIN_SECTION || count == 0 || !fits {
            return Err(LayoutError::Section { section, count });
        }
        Ok(Layout { section, count })
    }
}

/// Checks what the host says of the send buffer, which has `bytes` bytes.
///
/// # Errors
///
/// See [`LayoutError`].
pub fn send_layout(status: u32, section: u32, bytes: u32) -> Result<Layout, LayoutError> {
    if status != STATUS_SUCCESS {
        return Err(LayoutError::Status(status));
    }
    match bytes.checked_div(section) {
        Some(count) if section >= MIN_SECTION && count > 0 => Ok(Layout {
            section,
            count: count.min(MAX_SEND_SECTIONS),
        }),
        _ => Err(LayoutError::Section { section, count: 0 }),
    }
}
