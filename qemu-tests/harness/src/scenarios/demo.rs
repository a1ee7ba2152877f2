// SPDX-License-Identifier: GPL-2.0

//! What `make run` shows, so that it is not found broken by whoever tries it first.

use anyhow::Result;
use indicatif::ProgressBar;

use crate::demo;
use crate::kernel_log;
use crate::scenarios::Context;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    demo::run(&|_| (), ProgressBar::hidden, cx.vm, cx.paths)?;
    kernel_log::expect_no_complaint(cx.vm)
}
