// SPDX-License-Identifier: GPL-2.0

//! The emulated host survives a guest that breaks the rules of hypercalls and of the SynIC, and answers
//! as KVM does. Whose drivers there are does not matter: the guest has none.

use anyhow::Result;

use super::AloneContext;
use crate::fuzz_guest;

/// Seconds of random operations, of all machines together.
const SECONDS: u64 = 60;

/// The first machine's seed, unless `VMBUS_TEST_FUZZ_SEED` is another one.
const SEED: u64 = 1;

pub(super) fn run(cx: &mut AloneContext<'_>) -> Result<()> {
    let seed = match std::env::var("VMBUS_TEST_FUZZ_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => SEED,
    };
    *cx.figures = fuzz_guest::run(&cx.common.paths, SECONDS, seed)?;
    Ok(())
}
