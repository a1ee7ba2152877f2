// SPDX-License-Identifier: GPL-2.0

//! A global that callbacks without a context pointer can reach.

use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        rcu, Arc, ArcBorrow,
    },
};

/// A slot for one [`Arc`], published to interrupt handlers and taken back with a grace period.
///
/// # Invariants
///
/// The pointer is null or came from [`Arc::into_raw`]; the slot owns that reference. Whoever
/// takes the pointer out waits for an RCU grace period before it gives the reference up.
pub struct RcuArc<T: 'static>(Atomic<*mut T>);

impl<T: Send + Sync + 'static> RcuArc<T> {
    /// An empty slot.
    pub const fn empty() -> Self {
        Self(Atomic::new(ptr::null_mut()))
    }

    /// Publishes `value`; fails with `EBUSY` when the slot is taken.
    pub fn publish(&self, value: Arc<T>) -> Result {
        let raw = Arc::into_raw(value).cast_mut();

        // INVARIANT: `raw` comes from `Arc::into_raw`, and on success the slot owns it.
        match self.0.cmpxchg(ptr::null_mut(), raw, Full) {
            Ok(_) => Ok(()),
            Err(_) => {
                // SAFETY: `raw` comes from `into_raw` above and was not stored.
                drop(unsafe { Arc::from_raw(raw) });
                Err(EBUSY)
            }
        }
    }

    /// Publishes `value` in place of what is there, and returns that once no [`Self::with`] can
    /// still see it. May sleep.
    pub fn replace(&self, value: Arc<T>) -> Option<Arc<T>> {
        // INVARIANT: The pointer comes from `Arc::into_raw`, and the slot owns it.
        let raw = self.0.xchg(Arc::into_raw(value).cast_mut(), Full);

        // SAFETY: The slot owned the reference; the exchange made it ours.
        unsafe { Self::retire(raw) }
    }

    /// Runs `f` on the published value, if there is one.
    ///
    /// Any context but NMI; `f` runs in an RCU read-side section and must not sleep.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(ArcBorrow<'_, T>) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        let raw = self.0.load(Acquire);

        if raw.is_null() {
            return None;
        }
        // SAFETY: By the invariant `raw` came from `Arc::into_raw`, and the slot's reference is
        // dropped only after a grace period, that is after `_guard` is gone.
        Some(f(unsafe { ArcBorrow::from_raw(raw.cast_const()) }))
    }

    /// A reference to the published value, if there is one. Any context but NMI.
    pub fn get(&self) -> Option<Arc<T>> {
        self.with(|value| Arc::from(value))
    }

    /// Takes the value out and waits until no [`Self::with`] can still see it. May sleep.
    pub fn unpublish(&self) -> Option<Arc<T>> {
        // SAFETY: The slot owned the reference; the exchange made it ours.
        unsafe { Self::retire(self.0.xchg(ptr::null_mut(), Full)) }
    }

    /// Takes the value out of a slot that nobody else sees. Any context.
    pub fn take_mut(&mut self) -> Option<Arc<T>> {
        let raw = self.0.xchg(ptr::null_mut(), Full);

        // SAFETY: The slot owned the reference; the exchange made it ours. The exclusive reference
        // says that no `with` can see it.
        (!raw.is_null()).then(|| unsafe { Arc::from_raw(raw.cast_const()) })
    }

    /// Waits until nobody sees any longer what was taken out of the slot.
    ///
    /// # Safety
    ///
    /// `raw` is null or comes from [`Arc::into_raw`], and the reference is the caller's.
    unsafe fn retire(raw: *mut T) -> Option<Arc<T>> {
        if raw.is_null() {
            return None;
        }
        rcu::synchronize_rcu();
        // SAFETY: By the requirements of this function.
        Some(unsafe { Arc::from_raw(raw.cast_const()) })
    }
}

#[kunit_tests(vmbus_rcu_arc)]
mod tests {
    use super::*;

    #[test]
    fn empty_has_nothing() {
        let slot = RcuArc::<u32>::empty();

        assert!(slot.get().is_none());
        assert!(slot.with(|_| ()).is_none());
        assert!(slot.unpublish().is_none());
    }

    #[test]
    fn one_value_at_a_time() -> Result {
        let slot = RcuArc::empty();

        slot.publish(Arc::new(1u32, GFP_KERNEL)?)?;
        assert_eq!(slot.publish(Arc::new(2u32, GFP_KERNEL)?), Err(EBUSY));
        assert_eq!(slot.get().map(|value| *value), Some(1));
        assert_eq!(slot.unpublish().map(|value| *value), Some(1));
        slot.publish(Arc::new(3u32, GFP_KERNEL)?)?;
        assert_eq!(slot.unpublish().map(|value| *value), Some(3));
        Ok(())
    }

    #[test]
    fn references_balance() -> Result {
        let slot = RcuArc::empty();
        let first = Arc::new(1u32, GFP_KERNEL)?;

        slot.publish(first.clone())?;
        let seen = slot.get();
        let old = slot.replace(Arc::new(2u32, GFP_KERNEL)?);

        assert!(old.is_some_and(|old| Arc::ptr_eq(&old, &first)));
        drop(seen);
        // The slot gave its reference up: this is the last one.
        assert!(Arc::into_unique_or_drop(first).is_some());
        assert_eq!(slot.unpublish().map(|value| *value), Some(2));
        Ok(())
    }

    #[test]
    fn a_slot_of_ones_own() -> Result {
        let mut slot = RcuArc::empty();

        slot.publish(Arc::new(1u32, GFP_KERNEL)?)?;
        assert_eq!(slot.take_mut().map(|value| *value), Some(1));
        assert!(slot.take_mut().is_none());
        Ok(())
    }
}
