//! Where time comes from. Beside this, only telemetry reads the wall clock.

use std::{fmt, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

/// A source of wall-clock time, with microseconds as the finest unit, because that is what the
/// databases keep.
///
/// A store's clock decides what is due, leased or expired; the clock of a process only stamps the
/// timestamps of events.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        to_microseconds(Utc::now())
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }
}

/// Cuts an instant to whole microseconds, a leap second to the second after it, as the databases do;
/// any instant, also those that have no number of nanoseconds.
pub(crate) fn to_microseconds(instant: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(instant.timestamp_micros()).unwrap_or(instant)
}

/// `instant + duration`, or the latest instant there is.
pub(crate) fn later(instant: DateTime<Utc>, duration: std::time::Duration) -> DateTime<Utc> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|delta| instant.checked_add_signed(delta))
        .map_or(DateTime::<Utc>::MAX_UTC, to_microseconds)
}

/// A point so long after `now`, or so far ahead that it never comes: adding to an instant panics
/// when it overflows, and durations are the user's.
pub(crate) fn instant_after(
    now: tokio::time::Instant,
    duration: std::time::Duration,
) -> tokio::time::Instant {
    /// Thirty years.
    const NEVER: std::time::Duration = std::time::Duration::from_secs(30 * 365 * 24 * 3600);
    now + duration.min(NEVER)
}

/// How long it is from `from` to `until`; zero when that is past.
pub(crate) fn between(from: DateTime<Utc>, until: DateTime<Utc>) -> std::time::Duration {
    (until - from).to_std().unwrap_or_default()
}

#[cfg(feature = "test-util")]
pub use manual::ManualClock;
#[cfg(feature = "test-util")]
pub use runtime::RuntimeClock;

#[cfg(feature = "test-util")]
mod runtime {
    use chrono::{DateTime, Utc};
    use tokio::time::Instant;

    use super::{Clock, SystemClock, later};

    /// A clock that goes with the timers of the tokio runtime: in a test whose time is paused,
    /// backoffs, leases and polls all pass without waiting.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidings::{Clock, RuntimeClock};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let clock = RuntimeClock::default();
    /// let start = clock.now();
    /// tokio::time::sleep(Duration::from_secs(3600)).await;
    /// assert_eq!((clock.now() - start).num_hours(), 1);
    /// # }
    /// ```
    #[derive(Clone, Copy, Debug)]
    pub struct RuntimeClock {
        origin: Instant,
        start: DateTime<Utc>,
    }

    impl Default for RuntimeClock {
        fn default() -> Self {
            Self {
                origin: Instant::now(),
                start: SystemClock.now(),
            }
        }
    }

    impl Clock for RuntimeClock {
        fn now(&self) -> DateTime<Utc> {
            later(self.start, self.origin.elapsed())
        }
    }
}

#[cfg(feature = "test-util")]
mod manual {
    use std::{sync::Arc, time::Duration};

    use chrono::{DateTime, Utc};
    use parking_lot::Mutex;

    use super::{Clock, later, to_microseconds};

    /// A clock that stands still until a test moves it. Clones share their time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidings::{Clock, ManualClock};
    ///
    /// let clock = ManualClock::default();
    /// let start = clock.now();
    /// clock.advance(Duration::from_secs(30));
    /// assert_eq!((clock.now() - start).num_seconds(), 30);
    /// ```
    #[derive(Clone, Debug)]
    pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

    impl ManualClock {
        /// A clock that shows `start`.
        #[must_use]
        pub fn new(start: DateTime<Utc>) -> Self {
            Self(Arc::new(Mutex::new(to_microseconds(start))))
        }

        /// Moves the clock on.
        pub fn advance(&self, by: Duration) {
            let mut now = self.0.lock();
            *now = later(*now, by);
        }

        /// Sets the clock, backwards too.
        pub fn set(&self, to: DateTime<Utc>) {
            *self.0.lock() = to_microseconds(to);
        }
    }

    impl Default for ManualClock {
        fn default() -> Self {
            Self::new(DateTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600))
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock()
        }
    }
}
