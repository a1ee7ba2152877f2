// SPDX-License-Identifier: GPL-2.0

//! Taking memory that the host adds.

use crate::{
    memory::{self, withheld, Claim, MemInfo, Memory, Stop, WhyNot},
    session::{Shared, HOT_ADD},
};
use balloon_protocol::{
    hot_add::{Answer, End, Step},
    message::{HotAdd, HotAddResponse},
    policy::{hot_add_result, Patience},
};
use kernel::{
    device,
    prelude::*,
    sync::{atomic::Relaxed, Arc},
    time::{delay::fsleep, Delta, Instant, Monotonic},
    workqueue::WorkItem,
};
use vmbus::{
    abstractions::{workqueue, Shown},
    ratelimited, Sender,
};

/// How long user space has to bring a block online, where the kernel does not do it. Descriptors of
/// blocks take memory that is in use already, a 64th of what they describe, so blocks are not added
/// faster than they come into use: once nobody does that, the request ends, and the host hears how
/// much was added.
const ONLINE_MS: i64 = 5_000;

/// Between two looks at a block.
const LOOK_AGAIN: Delta = Delta::from_millis(20);

/// What the host has added and may add; says why not, if memory cannot be added.
pub(crate) fn memory_of(dev: &device::Device) -> Option<Claim> {
    if memory::hibernation_possible() {
        // Said when the device is bound, see `Shared::new`.
        return None;
    }
    match memory::watch() {
        Ok(memory) => Some(memory),
        Err(WhyNot::SwitchedOff) => {
            dev_info!(
                dev,
                "the host cannot add memory: {}\n",
                WhyNot::SwitchedOff.text()
            );
            None
        }
        Err(why) => {
            dev_warn!(dev, "the host cannot add memory: {}\n", why.text());
            None
        }
    }
}

/// Starts to serve a request. The session lets one through at a time, and has the next one.
pub(crate) fn request(shared: &Arc<Shared>, request: HotAdd) {
    *shared.hot_add_request.lock() = Some(request);

    // An error means that the device goes away.
    let _ = workqueue::system_dfl_long().enqueue::<_, HOT_ADD>(shared.clone());
}

/// Answers a request. An error means that there is no host any more that waits for it.
pub(crate) fn answer(shared: &Shared, sender: &Sender, answer: Answer) -> Result {
    let message = HotAddResponse::new(shared.next_id(), answer.pages, answer.result);

    shared.send(sender, message.as_bytes(), Patience::Answer)
}

impl WorkItem<HOT_ADD> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        let request = this.hot_add_request.lock().take();

        if let (Some(request), Some(sender)) = (request, this.sender()) {
            let reply = serve(&this, &sender, &request);

            // Before the answer: the next request may be here before `send` returns.
            let next = this.session.lock().hot_add_done();
            let answered = answer(&this, &sender, reply);
            if let (Some(next), Ok(())) = (next, answered) {
                this.counters.hot_add_requests.fetch_add(1, Relaxed);
                self::request(&this, next);
            }
        }
    }
}

/// Adds what a request asks for, as far as it goes. Also when the driver is being unbound: where a
/// guest adds less than it was asked to, hosts do not ask it again
/// (`drivers/hv/hv_balloon.c:dm_hot_add_response`).
fn serve(shared: &Shared, sender: &Sender, request: &HotAdd) -> Answer {
    let never = Answer {
        pages: 0,
        result: hot_add_result(0, false),
    };
    let Some(memory) = &shared.added else {
        return never;
    };
    if !may_add(shared, request, memory) {
        // Later, perhaps: the limit can be changed.
        return Answer {
            pages: 0,
            result: hot_add_result(0, true),
        };
    }
    let mut plan = match memory.plan(request) {
        Ok(plan) => plan,
        Err(end) => {
            report(shared, request, 0, &end.into());
            return Answer {
                pages: 0,
                result: hot_add_result(0, memory.is_possible()),
            };
        }
    };
    let stop: Stop = loop {
        if !sender.is_alive() {
            break End::Closing.into();
        }
        match memory.step(&mut plan) {
            Ok(Step::Add { block, .. }) if !comes_online(shared, sender, block.start) => {
                break End::NotInUse.into();
            }
            Ok(_) => (),
            Err(stop) => break stop,
        }
    };

    report(shared, request, plan.pages(), &stop);
    plan.answer(memory.is_possible())
}

/// Whether the administrator allows this request; says so, if not.
fn may_add(shared: &Shared, request: &HotAdd, memory: &Memory) -> bool {
    let (added, onlined) = memory.added_and_onlined();
    let total = MemInfo::now()
        .total
        .saturating_add(shared.counters.ballooned.load(Relaxed))
        .saturating_add(withheld::frames())
        .saturating_add(added.saturating_sub(onlined));
    let pages = request.range.count().into();
    let may = memory::limits().may_add(pages, total);

    if !may {
        ratelimited!(dev_info!(
            shared.dev,
            "{} pages are not added: the limit never_above is reached ({} pages now)\n",
            pages,
            total
        ));
    }
    may
}

/// Waits until a block that was just added is online. Returns whether it is.
fn comes_online(shared: &Shared, sender: &Sender, frame: u64) -> bool {
    let Some(memory) = &shared.added else {
        return false;
    };
    let start = Instant::<Monotonic>::now();

    while !memory.is_online(frame) {
        if !sender.is_alive() {
            return false;
        }
        if start.elapsed().as_millis() >= ONLINE_MS {
            ratelimited!(dev_warn!(
                shared.dev,
                "added memory is not in use: {}\n",
                if memory::onlines_itself() {
                    "the kernel could not bring it online"
                } else {
                    "/sys/devices/system/memory/auto_online_blocks is offline, and user space does not bring it online"
                }
            ));
            return false;
        }
        fsleep(LOOK_AGAIN);
    }
    true
}

/// Says what came of a request, where it is not what was asked for.
fn report(shared: &Shared, request: &HotAdd, pages: u32, stop: &Stop) {
    let range = request.range;
    let (start, count) = (range.start(), range.count());

    match stop {
        Stop { end: End::Done, .. } => {
            dev_dbg!(shared.dev, "{} pages added at frame {:#x}\n", pages, start);
        }
        Stop {
            end: End::Closing, ..
        } => (),
        Stop { end, error: None } => ratelimited!(dev_warn!(
            shared.dev,
            "{} of {} pages added at frame {:#x}: {}\n",
            pages,
            count,
            start,
            Shown(end)
        )),
        Stop {
            end,
            error: Some(error),
        } => ratelimited!(dev_warn!(
            shared.dev,
            "{} of {} pages added at frame {:#x}: {} ({:?})\n",
            pages,
            count,
            start,
            Shown(end),
            error
        )),
    }
}
