// SPDX-License-Identifier: GPL-2.0

//! The beginning of the connection: the version of the protocol, and the first offers.

use super::{
    control::{post_on, Waiter},
    Connection, CONNECT_CPU,
};
use crate::hv;
use kernel::{cpu::CpuId, prelude::*, sync::atomic::Relaxed, time::delay};
use vmbus_protocol::{
    link::LinkEvent,
    message::{ContactParams, InitiateContact, RequestOffers, VersionResponse},
    post::Purpose,
    version::{Attempt, Negotiation, Step},
    VpIndex,
};
use zerocopy::IntoBytes;

/// How long the host may take to accept a connection at least: it ends a former one first, of a
/// kernel that has crashed, and flushes the caches of that one's disks (as for UNLOAD).
/// `drivers/hv` waits without end.
const CONTACT_TIMEOUT_MS: u32 = 150_000;

/// How long it may take to send all boot-time offers.
const OFFERS_TIMEOUT_MS: u32 = 60_000;

impl Connection {
    /// Negotiates the protocol version. May sleep.
    pub(crate) fn connect(&self) -> Result {
        let mut negotiation = Negotiation::new(Some(hv::max_version())).map_err(|_| {
            pr_err!(
                "max_version {:#x} excludes every version this driver speaks\n",
                hv::max_version()
            );
            EINVAL
        })?;

        if !self.happens(LinkEvent::Propose) {
            return Err(EBUSY);
        }
        // What is said when no version is left.
        let mut reason = ECONNREFUSED;
        let result = loop {
            let Some(attempt) = negotiation.current() else {
                break Err(reason);
            };

            negotiation.posted();
            let step = match self.propose(attempt) {
                Ok(response) => negotiation.on_response(&response),
                Err(error) if error == ETIMEDOUT => {
                    negotiation.on_timeout();
                    break Err(error);
                }
                Err(error) if error == ENXIO => negotiation.on_invalid_connection(),
                // Nothing was posted, so nothing can be answered: on with the next version.
                Err(error) if error == EAGAIN || error == EIO => {
                    reason = error;
                    negotiation.on_not_posted()
                }
                Err(error) => break Err(error),
            };

            match step {
                Step::Accepted {
                    version,
                    msg_conn_id,
                    ..
                } => {
                    self.version.store(version.0, Relaxed);
                    self.message_connection.store(msg_conn_id, Relaxed);
                    break Ok(version);
                }
                Step::TryNext(_) => {}
                Step::Refused => break Err(reason),
                Step::Unexpected => break Err(EPROTO),
            }
        };

        match result {
            Ok(version) => {
                self.happens(LinkEvent::Accepted);
                pr_info!("Vmbus version:{}.{}\n", version.major(), version.minor());
                Ok(())
            }
            Err(error) => {
                if error == ECONNREFUSED {
                    pr_err!("the host has none of this driver's versions (4.0 and newer: Windows Server 2016)\n");
                }
                if error == ETIMEDOUT {
                    // The host may still take the proposal, and the pages with it.
                    self.happens(LinkEvent::NoAnswer);
                    self.leak_everything("no answer to the version proposed");
                } else {
                    self.happens(LinkEvent::Refused);
                }
                pr_err!("unable to connect to the host: {:?}\n", error);
                Err(error)
            }
        }
    }

    fn propose(&self, attempt: Attempt) -> Result<VersionResponse> {
        let message = InitiateContact::new(
            attempt.version,
            &ContactParams {
                target_vp: CpuId::from_u32(CONNECT_CPU).map_or(VpIndex(0), hv::vp_index),
                interrupt_page: self.doorbells.interrupt_page.page().phys(),
                monitor_page1: self.doorbells.monitor_in.page().phys(),
                monitor_page2: self.doorbells.monitor_out.page().phys(),
                ..Default::default()
            },
        );

        let asked = self.begin_request(Waiter::new()?, message, &|| true, |message| {
            post_on(
                attempt.connection_id,
                message.as_bytes(),
                Purpose::Contact,
                delay::fsleep,
                || true,
            )
        })?;

        self.finish_request_within(asked, CONTACT_TIMEOUT_MS)
    }

    /// Asks for the offers and waits until the devices of all of them are there. May sleep.
    pub(crate) fn request_offers(&self) -> Result {
        self.post(RequestOffers::new().as_bytes(), &|| true)?;
        if !self.offers_done.wait_timeout(OFFERS_TIMEOUT_MS) {
            pr_warn!(
                "the host did not finish its offers in {} s; going on with what is there\n",
                OFFERS_TIMEOUT_MS / 1000
            );
        }
        self.queues.devices.flush();
        Ok(())
    }
}
