// SPDX-License-Identifier: GPL-2.0

//! Control messages to the host, and its replies.

use super::Connection;
use crate::{abstractions::Completion, channel::late, counters, hv::hypercall, module_parameters};
use core::marker::PhantomData;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{atomic::Relaxed, Arc, SpinLock},
    time::{delay, Delta, Instant, Monotonic},
};
use vmbus_protocol::{
    message::Inbound,
    pending::{Answer, Token},
    post::{self, Next, PostError, Purpose, Tries},
    reply::{ControlRequest, Reply, ReplyKey},
    Relid,
};

/// Longest patience that can be asked for, in seconds.
const MOST_SECS: u32 = 3_600;

/// How long the host may take for a reply, in milliseconds: the parameter `answer_secs`.
fn reply_timeout_ms() -> u32 {
    module_parameters::answer_secs.value().clamp(1, MOST_SECS) * 1_000
}

/// Somebody who waits for a reply.
#[pin_data]
pub(crate) struct Waiter {
    #[pin]
    done: Completion,
    #[pin]
    reply: SpinLock<Option<Reply>>,
}

impl Waiter {
    /// Somebody who will wait for one reply.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                done <- Completion::new(),
                reply <- new_spinlock!(None),
            }),
            GFP_KERNEL,
        )
    }

    /// Hands the reply over and wakes the waiter.
    pub(crate) fn wake(&self, reply: Reply) {
        *self.reply.lock() = Some(reply);
        self.done.complete_all();
    }
}

/// A request that was posted and not yet answered.
#[must_use = "whoever asked takes the waiter back by waiting"]
pub(crate) struct Asked<Q> {
    key: ReplyKey,
    token: Token,
    waiter: Arc<Waiter>,
    at: Instant<Monotonic>,
    _request: PhantomData<Q>,
}

impl Connection {
    /// Posts a message, again and again while the host has no room for it and `alive` says that it
    /// makes sense. May sleep, for minutes.
    ///
    /// `EAGAIN` when the host stayed full, `ENODEV` when it is not `alive` or the connection is not
    /// up (any more), `EIO` for anything else the hypervisor says.
    pub(crate) fn post(&self, message: &[u8], alive: &dyn Fn() -> bool) -> Result {
        let purpose = if self.full.load(Relaxed) {
            Purpose::AfterFull
        } else {
            Purpose::Request
        };
        let connection = self.message_connection.load(Relaxed);
        let alive = || self.is_up() && alive();
        let result = post_on(connection, message, purpose, delay::fsleep, alive);

        match result {
            Ok(()) => self.full.store(false, Relaxed),
            Err(error) if error == EAGAIN => self.full.store(true, Relaxed),
            Err(_) => {}
        }
        result
    }

    /// As [`Self::post`], for a second: what is tried again anyway does not keep a worker for
    /// minutes.
    pub(crate) fn post_briefly(&self, message: &[u8], alive: &dyn Fn() -> bool) -> Result {
        let connection = self.message_connection.load(Relaxed);
        let alive = || self.is_up() && alive();

        post_on(
            connection,
            message,
            Purpose::AfterFull,
            delay::fsleep,
            alive,
        )
    }

    /// Posts `request` with `post` and waits for its reply, for a bounded time. May sleep.
    ///
    /// `alive` is asked after the waiter is registered: a rescind that came earlier is seen there,
    /// one that comes later wakes the waiter. `ENODEV` for a rescinded channel, `ETIMEDOUT`.
    pub(crate) fn request<Q: ControlRequest>(
        &self,
        request: Q,
        alive: &dyn Fn() -> bool,
        post: impl FnMut(&mut Q) -> Result,
    ) -> Result<Q::Reply> {
        let asked = self.begin_request(Waiter::new()?, request, alive, post)?;

        self.finish_request(asked)
    }

    /// The first half of [`Self::request`], with a new `waiter`: registers it and posts. Allocates
    /// nothing.
    pub(crate) fn begin_request<Q: ControlRequest>(
        &self,
        waiter: Arc<Waiter>,
        mut request: Q,
        alive: &dyn Fn() -> bool,
        mut post: impl FnMut(&mut Q) -> Result,
    ) -> Result<Asked<Q>> {
        let key = request.key();
        let token = self
            .pending
            .lock()
            .register(key, waiter.clone())
            .map_err(|_| EBUSY)?;
        let mut times = 0;
        let posted = (0..token.times()).try_for_each(|_| {
            if !alive() {
                return Err(ENODEV);
            }
            post(&mut request)?;
            times += 1;
            Ok(())
        });

        if let Err(error) = posted {
            let waiter = self.pending.lock().posted(token, times);

            drop(waiter);
            // The host has it, and does it, once it was posted at all.
            if times == 0 {
                return Err(error);
            }
        }
        Ok(Asked {
            key,
            token,
            waiter,
            at: Instant::now(),
            _request: PhantomData,
        })
    }

    /// The second half: waits for the reply, for a bounded time from the first half on. What comes
    /// later is for [`late`].
    pub(crate) fn finish_request<Q: ControlRequest>(&self, asked: Asked<Q>) -> Result<Q::Reply> {
        self.finish_request_within(asked, reply_timeout_ms())
    }

    /// The same, for `timeout` milliseconds at least.
    pub(super) fn finish_request_within<Q: ControlRequest>(
        &self,
        asked: Asked<Q>,
        timeout: u32,
    ) -> Result<Q::Reply> {
        let timeout = timeout.max(reply_timeout_ms());
        let Asked {
            key,
            token,
            waiter,
            at,
            ..
        } = asked;
        let waited = u32::try_from(at.elapsed().as_millis()).unwrap_or(u32::MAX);
        let left = timeout.saturating_sub(waited);

        if !waiter.done.wait_timeout(left) {
            let gave_up = self.pending.lock().give_up(token);

            // Otherwise it was found at the last moment, and is being handed over.
            if gave_up.is_some() || !waiter.done.wait_timeout(timeout) {
                counters::TIMEOUTS.count();
                pr_err!("no reply to {:?} in {} s\n", key, timeout / 1_000);
                return Err(ETIMEDOUT);
            }
        }
        let reply = waiter.reply.lock().take();

        match reply {
            Some(Reply::Rescinded) | None => Err(ENODEV),
            // A key has only replies of its own kind.
            Some(reply) => Q::reply(reply).ok_or(EPROTO),
        }
    }

    /// Hands a reply to whoever waits for it, or to [`late`]. Waits for nothing.
    pub(crate) fn on_reply(&self, message: &Inbound) {
        let answer = self.pending.lock().resolve(message);

        match (answer, message) {
            (Some(Answer::Awaited(waiter, reply)), _) => return waiter.wake(reply),
            (Some(Answer::Late(key, reply)), _) => {
                counters::LATE_REPLIES.count();
                if late::on_reply(self, key, reply) {
                    return;
                }
            }
            // The host may let go also if the message that asked for it was not posted well, or its
            // answer is not kept in mind any more.
            (_, Inbound::GpadlTorndown(torndown)) if late::on_torndown(self, torndown.gpadl) => {
                return;
            }
            _ => counters::STRAY_REPLIES.count(),
        }
        crate::ratelimited!(pr_warn!("reply that nobody waits for: {:?}\n", message));
    }

    /// The host has let go of the channel's ring: what it was asked before about its CPU, and has
    /// not answered, it never will.
    pub(crate) fn forget_modifies(&self, relid: Relid) {
        self.pending.lock().forget_modifies(relid);
    }

    /// Wakes everybody who waits for a reply about a channel that is gone.
    pub(crate) fn abort_requests(&self, relid: Relid) {
        loop {
            // The lock is released before the waiter, which may be the last owner, is dropped.
            let Some(waiter) = self.pending.lock().rescind(relid) else {
                return;
            };

            waiter.wake(Reply::Rescinded);
        }
    }
}

/// Posts a message; `ENXIO` when the host does not know the connection id of a contact, `ENODEV`
/// once it is not `alive`.
pub(super) fn post_on(
    connection: u32,
    message: &[u8],
    purpose: Purpose,
    pause: impl Fn(Delta),
    alive: impl Fn() -> bool,
) -> Result {
    let mut tries = Tries::new(purpose);

    loop {
        if !alive() {
            return Err(ENODEV);
        }
        let status = hypercall::post_message(connection, message).map_or_else(|s| s.raw(), |()| 0);

        match tries.after(status) {
            Next::Posted => return Ok(()),
            Next::Pause(us) => {
                counters::REFUSED_POSTS.count();
                if tries.become_long(us) {
                    crate::ratelimited!(pr_warn!(
                        "the host has had no room for a message of type {} for {} s: status {:#x}; trying again\n",
                        message.first_chunk().map_or(0, |first| u32::from_le_bytes(*first)),
                        post::LONG_US / 1_000_000,
                        status
                    ));
                }
                pause(Delta::from_micros(us.into()));
            }
            Next::Failed(PostError::NoConnection) => return Err(ENXIO),
            Next::Failed(PostError::Full(status)) => {
                crate::ratelimited!(pr_err!(
                    "the host had no room for a message for too long: status {:#x}\n",
                    status
                ));
                return Err(EAGAIN);
            }
            Next::Failed(PostError::Status(status)) => {
                crate::ratelimited!(pr_err!("posting a message failed: status {:#x}\n", status));
                return Err(EIO);
            }
        }
    }
}

/// Waits without sleeping; the argument may be longer than one `udelay()` can be.
pub(crate) fn busy_wait(time: Delta) {
    let mut left = time.as_micros_ceil();

    while left > 0 {
        let step = left.min(1_000);

        delay::udelay(Delta::from_micros(step));
        left = left.saturating_sub(step);
    }
}
