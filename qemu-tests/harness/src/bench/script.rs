// SPDX-License-Identifier: GPL-2.0

//! What a guest does by itself, and what came of it.
//!
//! A request that comes over a serial line comes at a time of this machine's, and what the guest does
//! for it then meets what is measured somewhere else each time. So a guest that is measured gets all
//! its requests in advance.

use std::vec::IntoIter;

use anyhow::{anyhow, bail, ensure, Context, Result};
use vmbus_guest::protocol::{
    GuestReply, GuestRequest, Load, LoadReport, Packets, RoundTrips, Stream,
};

use crate::counter::Window;
use crate::vm::Vm;

/// The load and the interrupts of its controller have this CPU to themselves.
const CPU: usize = 0;

/// Requests for a guest, in order.
#[derive(Default)]
pub(super) struct Script(Vec<GuestRequest>);

impl Script {
    /// Run a program.
    pub(super) fn exec(&mut self, argv: &[&str]) {
        let argv = argv.iter().map(|s| (*s).to_owned()).collect();
        self.0.push(GuestRequest::Exec { argv });
    }

    /// Run some lines of shell.
    pub(super) fn shell(&mut self, text: &str) {
        self.exec(&["sh", "-c", text]);
    }

    /// Read the disk with so many MiB, in a window.
    pub(super) fn load(&mut self, mib: u64, depth: usize, reads: usize) {
        self.0.push(GuestRequest::Load(Load {
            mib,
            cpu: CPU,
            depth,
            reads,
        }));
    }

    /// Send frames, in a window.
    pub(super) fn packets(&mut self, packets: Packets) {
        self.0.push(GuestRequest::Packets(packets));
    }

    /// Send a stream, in a window.
    pub(super) fn stream(&mut self, stream: Stream) {
        self.0.push(GuestRequest::Stream(stream));
    }

    /// Have bytes sent back, in a window.
    pub(super) fn round_trips(&mut self, trips: RoundTrips) {
        self.0.push(GuestRequest::RoundTrips(trips));
    }

    /// A window in which nothing is asked for.
    pub(super) fn watch(&mut self, milliseconds: u64) {
        self.0.push(GuestRequest::Watch { milliseconds });
    }

    /// The requests, for a guest.
    pub(super) fn requests(&self) -> &[GuestRequest] {
        &self.0
    }

    /// What came of it, when the guest has done it all.
    pub(super) fn results(&self, vm: &Vm) -> Result<Results> {
        let replies = vm.script()?;
        Results::pair(&self.0, replies, vm.windows()?)
    }
}

/// What came of a [`Script`], to be taken in its order.
pub(super) struct Results(IntoIter<(GuestReply, Option<Window>)>);

impl Results {
    /// Each reply with the window that its request marked, if it did. All must have gone well.
    fn pair(
        requests: &[GuestRequest],
        replies: Vec<GuestReply>,
        windows: Vec<Window>,
    ) -> Result<Self> {
        let mut windows = windows.into_iter();
        let mut steps = Vec::new();
        for (request, reply) in requests.iter().zip(replies) {
            match &reply {
                GuestReply::Error { message, .. } => bail!("{request:?}: {message}"),
                GuestReply::Exec { status, stderr, .. } if *status != 0 => {
                    bail!("{request:?}: status {status}: {}", stderr.trim())
                }
                _ => {}
            }
            let window = match request {
                GuestRequest::Load(_)
                | GuestRequest::Packets(_)
                | GuestRequest::Stream(_)
                | GuestRequest::RoundTrips(_)
                | GuestRequest::Watch { .. } => Some(
                    windows
                        .next()
                        .with_context(|| format!("the counter has no window for {request:?}"))?,
                ),
                _ => None,
            };
            steps.push((reply, window));
        }
        ensure!(
            steps.len() == requests.len() && windows.next().is_none(),
            "a script of {} requests gave {} replies, or more windows than it has",
            requests.len(),
            steps.len()
        );
        Ok(Self(steps.into_iter()))
    }

    fn step(&mut self) -> Result<(GuestReply, Option<Window>)> {
        self.0.next().context("the script has no more steps")
    }

    /// What the next program said.
    pub(super) fn text(&mut self) -> Result<String> {
        match self.step()? {
            (GuestReply::Exec { stdout, .. }, _) => Ok(stdout),
            (other, _) => Err(anyhow!("expected what a program said; found {other:?}")),
        }
    }

    /// How the next load went.
    pub(super) fn load(&mut self) -> Result<(LoadReport, Window)> {
        match self.step()? {
            (GuestReply::Loaded(report), Some(window)) => Ok((report, window)),
            (other, _) => Err(anyhow!("expected a load's report; found {other:?}")),
        }
    }

    /// The next window of which there is nothing else to tell.
    pub(super) fn window(&mut self) -> Result<Window> {
        let (_, window) = self.step()?;
        window.context("this step has no window")
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, Script};
    use crate::counter::{Blocks, Window};
    use vmbus_guest::protocol::GuestReply;

    fn script() -> Script {
        let mut script = Script::default();
        script.shell("true");
        script.watch(1);
        script
    }

    fn said(status: i32) -> GuestReply {
        GuestReply::Exec {
            status,
            stdout: "yes".into(),
            stderr: String::new(),
        }
    }

    fn window(kernel: u64) -> Window {
        Window {
            kernel,
            user: 0,
            blocks: Blocks::new(),
        }
    }

    #[test]
    fn windows_belong_to_the_requests_that_mark_them() {
        let replies = vec![said(0), GuestReply::Done];
        let mut results = Results::pair(script().requests(), replies, vec![window(7)]).unwrap();
        assert_eq!(results.text().unwrap(), "yes");
        assert_eq!(results.window().unwrap().kernel, 7);
        assert!(results.window().is_err());
    }

    #[test]
    fn what_went_wrong_is_an_error() {
        let script = script();
        let pair = |replies, windows| Results::pair(script.requests(), replies, windows).is_ok();
        assert!(!pair(vec![said(1), GuestReply::Done], vec![window(7)]));
        assert!(!pair(vec![said(0), GuestReply::Done], vec![]));
        assert!(!pair(vec![said(0)], vec![]));
    }
}
