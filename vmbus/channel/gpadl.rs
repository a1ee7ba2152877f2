// SPDX-License-Identifier: GPL-2.0

//! Guest memory that the host was told about (GPADL), and its end.

use crate::{connection::Connection, memory::SharedPages};
use kernel::prelude::*;
use vmbus_protocol::{
    gpadl::{split, GpadlLife, MemoryFate},
    link::HostMemory,
    message::{GpadlTeardown, MAX_MESSAGE},
    pending::{Reply, ReplyKey},
};
use zerocopy::IntoBytes;

/// A GPADL that the host has accepted.
///
/// It has to be ended with [`Self::tear_down`]; only that says whether the memory may be freed.
#[must_use = "the memory stays with the host until the GPADL is torn down"]
pub(super) struct Gpadl {
    handle: u32,
    relid: u32,
    life: GpadlLife,
}

impl Gpadl {
    /// Tells the host about `pages` on behalf of a channel and waits for its answer. May sleep.
    ///
    /// `alive` is whether the channel is not rescinded. On failure the memory is free again, or
    /// counted as leaked when the host may know it.
    pub(super) fn create(
        connection: &Connection,
        relid: u32,
        pages: &SharedPages,
        alive: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let handle = connection.next_handle();
        let bytes = u32::try_from(pages.count() * crate::memory::PAGE_BYTES)?;
        let mut messages = split(handle, relid, bytes, pages.pfns()).map_err(|_| EINVAL)?;
        let mut life = GpadlLife::new();
        let mut header_posted = false;

        life.posting().map_err(|_| EINVAL)?;
        let reply = connection.request(
            ReplyKey::GpadlCreated {
                relid,
                gpadl: handle,
            },
            alive,
            || {
                let mut buffer = [0; MAX_MESSAGE];

                while let Some(message) = messages.next_message(&mut buffer) {
                    connection.post(message, alive)?;
                    header_posted = true;
                }
                Ok(())
            },
        );
        let result = match reply {
            Ok(Reply::Status(status)) => {
                let _ = life.created(status);
                if status == 0 {
                    return Ok(Self {
                        handle,
                        relid,
                        life,
                    });
                }
                pr_err!(
                    "GPADL {:#x} of relid {} refused: {:#x}\n",
                    handle,
                    relid,
                    status
                );
                Err(EIO)
            }
            Ok(_) => {
                life.gave_up();
                Err(EPROTO)
            }
            // `ENODEV` alone does not say that: posting ends with it when an UNLOAD begins, too.
            Err(error) if has_let_go(connection, alive) => {
                life.revoked();
                Err(error)
            }
            Err(error) if error == ETIMEDOUT => {
                life.gave_up();
                Err(error)
            }
            Err(error) => {
                let _ = life.post_failed(header_posted);
                Err(error)
            }
        };

        if life.memory() != MemoryFate::Free {
            pages.leak();
        }
        result
    }

    /// The handle that the host knows it by.
    pub(super) fn handle(&self) -> u32 {
        self.handle
    }

    /// Takes the memory back and waits until the host has let go of it. May sleep.
    ///
    /// `memory` is what the connection, or a rescind, says of it; `alive` is whether the channel is
    /// not rescinded, asked again when a rescind that comes later would end the wait. If the host
    /// does not answer, `pages` are leaked.
    pub(super) fn tear_down(
        mut self,
        connection: &Connection,
        pages: &SharedPages,
        memory: HostMemory,
        alive: &dyn Fn() -> bool,
    ) {
        match memory {
            HostMemory::LetGo => self.life.revoked(),
            HostMemory::Keep | HostMemory::Wait => self.life.gave_up(),
            HostMemory::Ask => self.ask_back(connection, pages, alive),
        }
        if self.life.memory() != MemoryFate::Free {
            pages.leak();
        }
    }

    fn ask_back(&mut self, connection: &Connection, pages: &SharedPages, alive: &dyn Fn() -> bool) {
        if self.life.tearing_down().is_err() {
            return;
        }
        let (relid, gpadl) = (self.relid, self.handle);
        let reply = connection.request(ReplyKey::GpadlTorndown { relid, gpadl }, alive, || {
            connection.post(GpadlTeardown::new(relid, gpadl).as_bytes(), alive)
        });

        match reply {
            Ok(_) => {
                let _ = self.life.torndown();
            }
            Err(_) if has_let_go(connection, alive) => self.life.revoked(),
            Err(error) => {
                pr_err!(
                    "GPADL {:#x} of relid {} not torn down: {:?}; {} pages are not freed\n",
                    gpadl,
                    relid,
                    error,
                    pages.count()
                );
                self.life.gave_up();
            }
        }
    }
}

/// Whether a rescind or an UNLOAD that came meanwhile has taken all memory from the host. May sleep:
/// waits for the end of an UNLOAD.
fn has_let_go(connection: &Connection, alive: &dyn Fn() -> bool) -> bool {
    !alive() || connection.host_memory() == HostMemory::LetGo
}
