// SPDX-License-Identifier: GPL-2.0

//! GUIDs in wire order.
//!
//! VMBus names device classes and instances by GUID. The wire carries the
//! mixed-endian form (the first three groups little endian), which is also
//! what the kernel's `guid_t` holds; text is always the canonical form.

use core::fmt;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A GUID as 16 bytes in wire order (the kernel's `guid_t`).
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Guid(pub [u8; 16]);

/// Length of the canonical text form.
pub const GUID_TEXT_LEN: usize = 36;

impl Guid {
    /// The all-zero GUID.
    pub const NULL: Guid = Guid([0; 16]);

    /// Parses the canonical text form. Meant for constants.
    ///
    /// # Panics
    ///
    /// When `text` is not a GUID; in a `const` this is a compile error. Use
    /// [`Guid::try_parse`] for text that is not a literal.
    // Inline, so that the crate's object has no panicking function in it.
    #[inline]
    #[must_use]
    pub const fn parse(text: &str) -> Guid {
        match Guid::try_parse(text.as_bytes()) {
            Some(guid) => guid,
            None => panic!("not a GUID"),
        }
    }

    /// Parses the 36 characters of the canonical text form, either case, no
    /// braces. Returns `None` for anything else, a longer text included.
    #[must_use]
    pub const fn try_parse(text: &[u8]) -> Option<Guid> {
        if text.len() != GUID_TEXT_LEN {
            return None;
        }
        let mut value: u128 = 0;
        let mut rest = text;
        let mut position = 0u32;
        while let [first, tail @ ..] = rest {
            rest = tail;
            let dash = matches!(position, 8 | 13 | 18 | 23);
            position = position.wrapping_add(1);
            if dash {
                if *first != b'-' {
                    return None;
                }
                continue;
            }
            match (*first as char).to_digit(16) {
                Some(digit) => value = (value << 4) | digit as u128,
                None => return None,
            }
        }
        Some(Guid(reorder(value.to_be_bytes())))
    }

    /// The 16 bytes in wire order.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Displays as 32 lower-case digits of the raw bytes: the `vmbus:` module
    /// alias and the device name (`drivers/hv/vmbus_drv.c:modalias_show`).
    #[must_use]
    pub const fn modalias(&self) -> Modalias<'_> {
        Modalias(self)
    }
}

/// Swaps between text order and wire order (its own inverse).
const fn reorder(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

impl fmt::Display for Guid {
    /// The kernel's `%pUl` form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in reorder(self.0).iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// See [`Guid::modalias`].
#[derive(Clone, Copy, Debug)]
pub struct Modalias<'a>(&'a Guid);

impl fmt::Display for Modalias<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 .0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
