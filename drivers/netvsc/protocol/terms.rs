// SPDX-License-Identifier: GPL-2.0

//! What the stack is told of what was agreed on, and how another connection
//! with the same host differs.

use crate::{
    offload::{Family, Offloads},
    setup::Agreed,
};
use core::fmt;

/// What the stack is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What the host can do, whether or not it is on.
    pub offloads: Offloads,
    /// Longest frame that goes, without its header, in bytes.
    pub mtu: u32,
    /// Longest that can be asked for, in bytes.
    pub max_mtu: u32,
}

impl Terms {
    /// Those of a connection, for which frames of `asked` bytes were asked for,
    /// by a stack that sends frames of `used` bytes at most.
    ///
    /// A host that gives what it was asked for has no say in what is used.
    #[must_use]
    pub fn of(agreed: &Agreed, asked: u32, used: u32) -> Self {
        let limit = if agreed.mtu < asked { agreed.mtu } else { used };
        Self {
            offloads: Offloads {
                coalesce: agreed.coalesces,
                ..agreed.offloads
            },
            mtu: used.min(limit),
            max_mtu: agreed.max_mtu,
        }
    }

    /// What these have and others do not; `None` if that is nothing.
    #[must_use]
    pub fn beyond(&self, others: &Self) -> Option<Beyond> {
        let (ours, theirs) = (self.offloads, others.offloads);
        let shorter = |ours: u32, theirs: u32| (theirs < ours).then_some(theirs);
        let beyond = Beyond {
            ipv4: ours.ipv4.beyond(theirs.ipv4),
            ipv6: ours.ipv6.beyond(theirs.ipv6),
            coalesce: ours.coalesce && !theirs.coalesce,
            segmented: if ours.segments() && theirs.segments() {
                shorter(ours.max_segmented, theirs.max_segmented)
            } else {
                None
            },
            mtu: shorter(self.mtu, others.mtu),
        };
        (beyond != Beyond::NOTHING).then_some(beyond)
    }
}

impl Offloads {
    fn segments(&self) -> bool {
        self.ipv4.segments || self.ipv6.segments
    }
}

impl Family {
    fn beyond(self, other: Self) -> Self {
        Self {
            tcp: self.tcp && !other.tcp,
            udp: self.udp && !other.udp,
            segments: self.segments && !other.segments,
        }
    }
}

/// What one connection has and another one does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    ipv4: Family,
    ipv6: Family,
    coalesce: bool,
    /// Longest packet that the other one segments, and longest frame there.
    segmented: Option<u32>,
    mtu: Option<u32>,
}

impl Beyond {
    const NOTHING: Self = Self {
        ipv4: Family::NONE,
        ipv6: Family::NONE,
        coalesce: false,
        segmented: None,
        mtu: None,
    };
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ipv4, ipv6, .. } = self;
        let mut separator = "";
        let mut item = |there: bool, text: fmt::Arguments<'_>| {
            if there {
                f.write_str(separator)?;
                f.write_fmt(text)?;
                separator = ", ";
            }
            Ok(())
        };
        item(ipv4.tcp, format_args!("checksums of TCP (IPv4)"))?;
        item(ipv4.udp, format_args!("checksums of UDP (IPv4)"))?;
        item(ipv4.segments, format_args!("segmentation (IPv4)"))?;
        item(ipv6.tcp, format_args!("checksums of TCP (IPv6)"))?;
        item(ipv6.udp, format_args!("checksums of UDP (IPv6)"))?;
        item(ipv6.segments, format_args!("segmentation (IPv6)"))?;
        item(self.coalesce, format_args!("coalesced packets"))?;
        if let Some(most) = self.segmented {
            item(true, format_args!("segmentation of more than {most} bytes"))?;
        }
        if let Some(most) = self.mtu {
            item(true, format_args!("frames of more than {most} bytes"))?;
        }
        Ok(())
    }
}
