//! Where randomness comes from: the jitter of waits, and the random part of ids.
//!
//! It is drawn from the thread's generator, except on a thread that a simulation has
//! [seeded](SeededThread), where the same seed draws the same.

use uuid::Uuid;

/// From 0 to 1, without 1.
pub(crate) fn fraction() -> f64 {
    #[cfg(feature = "test-util")]
    if let Some(drawn) = seeded::fraction() {
        return drawn;
    }
    rand::random()
}

/// A UUIDv7 that is higher than those that were drawn before.
pub(crate) fn uuid_v7() -> Uuid {
    #[cfg(feature = "test-util")]
    if let Some(drawn) = seeded::uuid_v7() {
        return drawn;
    }
    Uuid::now_v7()
}

#[cfg(feature = "test-util")]
pub use seeded::SeededThread;

#[cfg(feature = "test-util")]
mod seeded {
    use std::{cell::RefCell, marker::PhantomData};

    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use uuid::{Builder, Uuid};

    thread_local! {
        static CHANCE: RefCell<Option<Chance>> = const { RefCell::new(None) };
    }

    struct Chance {
        generator: SmallRng,
        /// How many ids were drawn, in place of the time.
        ids: u64,
    }

    /// Until this is dropped, all that the library draws on this thread follows from a seed: jitter,
    /// the ids of events and those of processes. With it a simulation on a runtime of one thread,
    /// whose time is paused and whose schedulers
    /// [renew on it](crate::SchedulerBuilder::renew_on_runtime), does the same again.
    ///
    /// ```
    /// use tidings::{EventId, SeededThread};
    ///
    /// let draw = |seed| {
    ///     let _seeded = SeededThread::new(seed);
    ///     [EventId::new(), EventId::new()]
    /// };
    /// assert_eq!(draw(1), draw(1));
    /// assert_ne!(draw(1), draw(2));
    /// assert!(draw(1).is_sorted());
    /// ```
    #[derive(Debug)]
    #[must_use = "what is drawn follows from the seed until this is dropped"]
    pub struct SeededThread {
        /// It ends on the thread where it began.
        _of_one_thread: PhantomData<*const ()>,
    }

    impl SeededThread {
        /// Begins, in place of a seed that this thread may have.
        pub fn new(seed: u64) -> Self {
            CHANCE.set(Some(Chance {
                generator: SmallRng::seed_from_u64(seed),
                ids: 0,
            }));
            Self {
                _of_one_thread: PhantomData,
            }
        }
    }

    impl Drop for SeededThread {
        fn drop(&mut self) {
            CHANCE.set(None);
        }
    }

    pub(super) fn fraction() -> Option<f64> {
        CHANCE.with_borrow_mut(|chance| Some(chance.as_mut()?.generator.random()))
    }

    pub(super) fn uuid_v7() -> Option<Uuid> {
        CHANCE.with_borrow_mut(|chance| {
            let chance = chance.as_mut()?;
            chance.ids += 1;
            let random = chance.generator.random();
            Some(Builder::from_unix_timestamp_millis(chance.ids, &random).into_uuid())
        })
    }
}
