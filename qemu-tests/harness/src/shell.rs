// SPDX-License-Identifier: GPL-2.0

//! `make shell`: a shell on the guest's console.

use std::io::{stdin, IsTerminal, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use nix::poll::{poll, PollFd, PollFlags};
use nix::sys::termios::{cfmakeraw, tcgetattr, tcsetattr, SetArg, Termios};

use crate::demo;
use crate::paths::Paths;
use crate::vm::Vm;

/// The terminal in raw mode, until dropped.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn new() -> Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Self(None));
        }
        let old = tcgetattr(stdin().as_fd())?;
        let mut raw = old.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self(Some(old)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(old) = &self.0 {
            // Nothing better can be done where the terminal is gone.
            let _ = tcsetattr(stdin().as_fd(), SetArg::TCSANOW, old);
        }
    }
}

/// Until the person leaves the shell.
pub(crate) fn run(vm: &Vm, paths: &Paths) -> Result<()> {
    demo::start_shell(&demo::print, vm, paths)?;
    println!(
        "{} drivers loaded; 'exit' ends the shell and the guest",
        vm.core
    );
    let _raw = RawTerminal::new()?;
    let done = AtomicBool::new(false);
    vm.console.set_echo(true);
    thread::scope(|scope| {
        scope.spawn(|| forward_typing(vm, &done));
        let result = vm.shell();
        done.store(true, Ordering::Relaxed);
        vm.console.set_echo(false);
        // where there is no way in, there is no such file
        let _ = std::fs::remove_file(paths.guest_port());
        result
    })
}

/// Looks up every now and then to see whether the shell has ended.
fn forward_typing(vm: &Vm, done: &AtomicBool) {
    let mut buffer = [0; 256];
    while !done.load(Ordering::Relaxed) {
        let terminal = stdin();
        let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, 200u16), Ok(1)) {
            continue;
        }
        match terminal.lock().read(&mut buffer) {
            Ok(len) if len > 0 && vm.console_input(&buffer[..len]).is_ok() => {}
            _ => return,
        }
    }
}
