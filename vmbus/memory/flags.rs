// SPDX-License-Identifier: GPL-2.0

//! Pages of flags that both sides set and clear.

use super::{SharedPage, PAGE_BYTES};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};

/// One page of flags that both sides set and clear: SynIC event flags, or the old interrupt page.
pub(crate) struct FlagPage(SharedPage);

/// Flags in one word of a [`FlagPage`].
const WORD_BITS: usize = 64;

impl FlagPage {
    /// Offset of the half of the interrupt page that signals the host (protocols before 5.0).
    pub(crate) const SEND_OFFSET: usize = PAGE_BYTES / 2;

    /// A page with all flags clear.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(SharedPage::new()?))
    }

    /// The page itself.
    pub(crate) fn page(&self) -> &SharedPage {
        &self.0
    }

    fn word(&self, byte: usize) -> Option<&Atomic<u64>> {
        if byte % 8 != 0 || byte >= PAGE_BYTES {
            return None;
        }
        // SAFETY: `byte` is an aligned offset inside the page, and the page lives as long as
        // `self`. The host accesses the same word, with atomic operations only.
        Some(unsafe { Atomic::from_ptr(self.0.as_ptr().add(byte).cast::<u64>()) })
    }

    /// Sets flag `flag` of the area that starts at `byte`; flags beyond the page are ignored.
    pub(crate) fn set(&self, byte: usize, flag: usize) {
        let Some(word) = self.word(byte + flag / WORD_BITS * 8) else {
            return;
        };
        let bit = 1u64 << (flag % WORD_BITS);
        let mut old = word.load(Relaxed);

        while let Err(now) = word.cmpxchg(old, old | bit, Full) {
            old = now;
        }
    }

    /// Whether one of the 64 flags that start at flag `word * 64` of the area at `byte` is set.
    pub(crate) fn is_set(&self, byte: usize, word: usize) -> bool {
        self.word(byte + word * 8)
            .is_some_and(|word| word.load(Relaxed) != 0)
    }

    /// Takes all flags of the 64 that start at flag `word * 64` of the area at `byte`.
    ///
    /// Costs one load when none is set, which is the common case.
    #[inline]
    pub(crate) fn take(&self, byte: usize, word: usize) -> u64 {
        let Some(word) = self.word(byte + word * 8) else {
            return 0;
        };

        if word.load(Relaxed) == 0 {
            return 0;
        }
        word.xchg(0, Full)
    }
}

#[kunit_tests(vmbus_flags)]
mod tests {
    use super::*;

    #[test]
    fn flags() -> Result {
        let page = FlagPage::new()?;

        page.set(0, 0);
        page.set(0, 65);
        page.set(FlagPage::SEND_OFFSET, 3);
        // Beyond the page: ignored.
        page.set(FlagPage::SEND_OFFSET, PAGE_BYTES * 8);
        assert!(page.is_set(0, 0));
        assert_eq!(page.take(0, 0), 1);
        assert_eq!(page.take(0, 0), 0);
        assert_eq!(page.take(0, 1), 2);
        assert_eq!(page.take(FlagPage::SEND_OFFSET, 0), 8);
        assert_eq!(page.take(0, PAGE_BYTES), 0);
        Ok(())
    }
}
