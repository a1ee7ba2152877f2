// SPDX-License-Identifier: GPL-2.0

//! Virtual functions: when a card is joined, and when the host is asked to send by it.
//!
//! What is decided is in [`netvsc_protocol::vf`]. Here the host is asked: by who changes something
//! under RTNL, who waits for one answer at most and for a host that has just answered, so that a
//! card that is brought down loses nothing; and else by a work item.

use crate::{
    adapter::Adapter,
    control::Wait,
    net::{Card, CardEvent, Joined, Rtnl},
    work::{PATH, TAKE_UP},
};
use kernel::{
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{Arc, Mutex, SpinLockIrq},
    workqueue::WorkItem,
};
use netvsc_protocol::{
    nvsp::Message,
    silence::Question,
    vf::{claim, Failover, Path},
};
use vmbus::abstractions::{workqueue, Counter, Shown};

/// For how long a card is left alone that has appeared, in milliseconds: one that is up cannot be
/// given another name. As the C driver.
const TAKE_UP_MS: u32 = 100;
/// Times in a row that the host is asked for a path at most; then somebody else goes on.
const MOST_ASKED: u32 = 4;

/// The virtual function of an adapter.
#[pin_data]
pub(crate) struct Function {
    #[pin]
    state: SpinLockIrq<Failover>,
    /// Under RTNL.
    #[pin]
    joined: Mutex<Option<Joined>>,
    /// Held by who asks the host.
    #[pin]
    turn: Mutex<()>,
    /// Times that the host has confirmed a path, and that it did not.
    pub(crate) switched: Counter,
    pub(crate) not_switched: Counter,
}

impl Function {
    /// There is none.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_spinlock_irq!(Failover::new()),
            joined <- new_mutex!(None),
            turn <- new_mutex!(()),
            switched: Counter::new(),
            not_switched: Counter::new(),
        })
    }

    /// As it is now.
    pub(crate) fn state(&self) -> Failover {
        *self.state.lock()
    }
}

impl Adapter {
    /// The host says that there is a virtual function, or none any more. Softirq context.
    pub(crate) fn on_association(self: &Arc<Self>, present: bool, serial: u32) {
        if !self.function.state.lock().associate(present, serial) {
            return;
        }
        if self.event_lines.allow(&self.dev) {
            dev_info!(
                self.dev,
                "virtual function {} {}\n",
                serial,
                if present { "appears" } else { "goes" }
            );
        }
        self.settle_soon();
    }

    /// There is another connection; the host sends by the adapter.
    pub(crate) fn path_connected(self: &Arc<Self>) {
        self.function.state.lock().connected();
        self.settle_soon();
    }

    /// There is no connection any more.
    pub(crate) fn path_disconnected(&self) {
        self.function.state.lock().disconnected();
        self.netdev.leave_path();
    }

    /// Has a work item ask the host for the path that is wanted. Any context but NMI.
    pub(crate) fn settle_soon(self: &Arc<Self>) {
        // An error means that it is about to run anyway, or that the device is unbound.
        let _ = workqueue::system_dfl_long().enqueue::<_, PATH>(self.clone());
    }

    /// Has a card taken up that was joined, or taken to where the interface is. Any context but
    /// NMI.
    pub(crate) fn take_up_soon(self: &Arc<Self>) {
        // The same.
        let _ = workqueue::enqueue_delayed::<_, TAKE_UP>(
            workqueue::system_long(),
            self.clone(),
            TAKE_UP_MS,
        );
    }

    /// Something becomes of a card.
    pub(crate) fn card_event(self: &Arc<Self>, rtnl: &Rtnl<'_>, card: &Card<'_>, event: CardEvent) {
        match event {
            CardEvent::Begins if self.takes(card) => card.mark(rtnl),
            CardEvent::Appears if self.takes(card) => self.join(rtnl, card),
            CardEvent::Changes if card.is_joined() => self.set_usable(rtnl, card.is_usable()),
            CardEvent::Closes if card.is_joined() => self.set_usable(rtnl, false),
            CardEvent::Goes if card.is_joined() => self.leave(rtnl),
            _ => {}
        }
    }

    /// Whether a card is the virtual function, and there is none yet.
    fn takes(&self, card: &Card<'_>) -> bool {
        let state = self.function.state();

        !state.is_joined() && claim(card.ours(), state.named(), &card.identity()).is_some()
    }

    fn join(self: &Arc<Self>, rtnl: &Rtnl<'_>, card: &Card<'_>) {
        if !card.is_near() {
            card.follow(rtnl, &self.netdev);
            return self.take_up_soon();
        }
        match Joined::new(rtnl, card, &self.netdev) {
            Ok(joined) => {
                *self.function.joined.lock() = Some(joined);
                self.function.state.lock().join();
                self.take_up_soon();
            }
            Err(error) => dev_warn!(self.dev, "virtual function not joined: {:?}\n", error),
        }
    }

    fn leave(self: &Arc<Self>, rtnl: &Rtnl<'_>) {
        self.function.state.lock().leave();
        self.settle_under(rtnl);
        let joined = self.function.joined.lock().take();

        if let Some(joined) = joined {
            joined.leave(rtnl);
        }
    }

    fn set_usable(self: &Arc<Self>, rtnl: &Rtnl<'_>, usable: bool) {
        self.function.state.lock().set_usable(usable);
        self.settle_under(rtnl);
    }

    /// Asks the host for the path that is wanted, if it has answered the last time and nobody else
    /// is asking; else a work item does.
    fn settle_under(self: &Arc<Self>, rtnl: &Rtnl<'_>) {
        let turn = self.function.turn.try_lock();

        if turn.is_none() || self.function.state().is_unanswered() || self.is_silent() {
            self.leave_path_unless_wanted();
            return self.settle_soon();
        }
        self.ask_for_path(Wait::Brief);
        self.netdev
            .set_path(rtnl, self.function.state().sends_by_card());
        drop(turn);
    }

    /// Asks the host for the path that is wanted, if it is to be asked for one; false if it did not
    /// answer. For who has the turn.
    fn ask_for_path(self: &Arc<Self>, wait: Wait) -> bool {
        self.leave_path_unless_wanted();
        let asked = self.function.state.lock().ask();
        let Some(asked) = asked else {
            return true;
        };
        let path = asked.path;
        let result = self.connection().and_then(|connection| {
            connection
                .control
                .switch(&connection, wait, &Message::switch_data_path(path))
        });

        self.function.state.lock().answered(asked, result.is_ok());
        match result {
            Ok(()) => {
                self.function.switched.count();
                if self.event_lines.allow(&self.dev) {
                    dev_info!(self.dev, "frames go by: {}\n", Shown(&path));
                }
                return true;
            }
            // There is no connection, or not for long.
            Err(ENODEV) => {}
            Err(error) => {
                self.function.not_switched.count();
                if self.event_lines.allow(&self.dev) {
                    dev_warn!(
                        self.dev,
                        "the host does not say that frames go by: {} ({:?})\n",
                        Shown(&path),
                        error
                    );
                }
                self.ask_again(Question::Path);
            }
        }
        false
    }

    /// What is not wanted any more ends at once, whatever the host says.
    fn leave_path_unless_wanted(&self) {
        if self.function.state().wanted() == Path::Synthetic {
            self.netdev.leave_path();
        }
    }

    /// Whether nobody under RTNL waits for the host.
    fn is_silent(&self) -> bool {
        self.connection
            .with(|connection| connection.control.is_silent() || connection.control.is_hurried())
            .unwrap_or(true)
    }
}

impl WorkItem<PATH> for Adapter {
    type Pointer = Arc<Adapter>;

    /// Asks the host for the path that is wanted, without RTNL, and has frames go by it.
    fn run(this: Arc<Adapter>) {
        for _ in 0..MOST_ASKED {
            let answered = {
                let _turn = this.function.turn.lock();

                this.ask_for_path(Wait::Patient)
            };

            this.netdev
                .set_path_with_rtnl(|| this.function.state().sends_by_card());
            let state = this.function.state();

            if !answered || state.confirmed().is_none_or(|path| path == state.wanted()) {
                return;
            }
        }
        this.settle_soon();
    }
}

impl WorkItem<TAKE_UP> for Adapter {
    type Pointer = Arc<Adapter>;

    fn run(this: Arc<Adapter>) {
        this.netdev.take_up();
    }
}
