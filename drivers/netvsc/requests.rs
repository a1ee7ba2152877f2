// SPDX-License-Identifier: GPL-2.0

//! What a host is asked for that is connected to.

use crate::{
    connection::Connection,
    control::{Control, Wait},
};
use kernel::prelude::*;
use netvsc_protocol::{
    nvsp::Version,
    offload::Offloads,
    query::{self, Filter},
    rndis::{self, Kind},
    rss,
};

impl Control {
    /// Has the host deliver nothing. May sleep.
    pub(crate) fn deliver_nothing(&self, connection: &Connection) -> Result {
        self.set_filter(connection, Wait::Brief, || Filter::NONE)
    }

    /// Has the host deliver the frames that are wanted when the request is made. May sleep.
    pub(crate) fn apply_mode(&self, connection: &Connection, wait: Wait) -> Result {
        self.set_filter(connection, wait, || connection.adapter.wanted())
    }

    /// Sets which frames the host delivers: what `filter` says when no other request is under way
    /// any more.
    fn set_filter(
        &self,
        connection: &Connection,
        wait: Wait,
        filter: impl FnOnce() -> Filter,
    ) -> Result {
        self.set(connection, wait, |buffer, id| {
            query::set_filter(buffer, id, filter())
        })
    }

    /// Sets the interface's address. May sleep.
    pub(crate) fn set_address(&self, connection: &Connection, address: [u8; 6]) -> Result {
        self.set(connection, Wait::Brief, |buffer, id| {
            query::set_address(buffer, id, address)
        })
    }

    /// Sets which offloads are in use. May sleep.
    pub(crate) fn set_offloads(
        &self,
        connection: &Connection,
        version: Version,
        offloads: Offloads,
    ) -> Result {
        self.set(connection, Wait::Brief, |buffer, id| {
            offloads.set(buffer, id, version)
        })
    }

    /// Sets how the host spreads frames over channels, or that it does not; table and key are what
    /// `spread` says when no other request is under way any more. May sleep.
    pub(crate) fn set_rss(
        &self,
        connection: &Connection,
        wait: Wait,
        spread: impl FnOnce() -> Result<(KVec<u16>, [u8; rss::KEY_LEN])>,
        off: bool,
    ) -> Result {
        let mut failed = Ok(());
        let set = self.set(connection, wait, |buffer, id| match spread() {
            Ok((table, key)) => rss::set(buffer, id, &table, &key, off),
            Err(error) => {
                failed = Err(error);
                None
            }
        });

        failed.and(set)
    }

    /// Sets something. `EIO` when the host refuses, otherwise as [`Self::request`].
    fn set(
        &self,
        connection: &Connection,
        wait: Wait,
        build: impl FnOnce(&mut [u8], u32) -> Option<usize>,
    ) -> Result {
        self.request(connection, wait, Kind::SET, build, rndis::was_set)?
            .map_err(|_| EIO)
    }
}
