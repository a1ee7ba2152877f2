// SPDX-License-Identifier: GPL-2.0

//! Numbers that are not for arithmetic, and not for each other's places.

use core::fmt;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $form:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The number, as it is on the wire.
            #[inline]
            #[must_use]
            pub const fn raw(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $form, self.0)
            }
        }
    };
}

id! {
    /// A channel's number in messages and event flags (its "relative id"). What
    /// the host says need not be that of a channel.
    Relid, "{}"
}

id! {
    /// The guest's number of memory that the host was told about (a GPADL).
    GpadlHandle, "{:#x}"
}

id! {
    /// The hypervisor's number of a virtual processor, which need not be that
    /// of Linux.
    VpIndex, "{}"
}
