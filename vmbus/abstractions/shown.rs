// SPDX-License-Identifier: GPL-2.0

//! Printing values of types that know nothing of the kernel.

use kernel::fmt;

/// Prints a value by its [`core::fmt::Display`].
///
/// The kernel's print macros want their own `Display`, which the types of the pure crates cannot
/// implement.
pub struct Shown<'a, T: ?Sized>(pub &'a T);

impl<T: core::fmt::Display + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self.0, f)
    }
}
