//! How long to wait after an error.

use std::time::Duration;

use crate::chance;

/// Exponential backoff with jitter, capped.
///
/// The wait after error number *n* (from 1) is `base · factor^(n-1)`, at most `cap`, times a random
/// factor from `1 - jitter` to 1. With the default (1 s, 2, 1 h, 0.5) the first waits are up to 1,
/// 2, 4, 8 s. It is a duration, which the store adds to its own time. Jitter keeps requests that
/// failed together from coming back together (Marc Brooker, *Exponential Backoff And Jitter*,
/// AWS Architecture Blog, 2015).
///
/// ```
/// use std::time::Duration;
/// use tidings::Backoff;
///
/// let backoff = Backoff::exponential(Duration::from_secs(5), Duration::from_secs(60)).factor(3.0);
/// let longest = [1, 2, 3, 4].map(|errors| backoff.after_with(errors, 0.0).as_secs());
/// assert_eq!(longest, [5, 15, 45, 60]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    factor: f64,
    cap: Duration,
    jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(3600),
            jitter: 0.5,
        }
    }
}

impl Backoff {
    /// Begins with `base` and never exceeds `cap`; doubles, with a jitter of one half.
    ///
    /// Any two durations are accepted. With a `base` of zero there is no wait at all, whatever the
    /// cap and the factor: a handler that fails goes through all its errors at once. A `cap` below
    /// the base is the wait after each error, less the jitter.
    #[must_use]
    pub fn exponential(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            ..Self::default()
        }
    }

    /// Always waits the same time, with no jitter.
    #[must_use]
    pub fn constant(wait: Duration) -> Self {
        Self {
            base: wait,
            factor: 1.0,
            cap: wait,
            jitter: 0.0,
        }
    }

    /// By what the wait grows at each error; below 1 counts as 1.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = if factor.is_finite() {
            factor.max(1.0)
        } else {
            1.0
        };
        self
    }

    /// How much of the wait is random, from 0 (none) to 1 (all).
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = if jitter.is_finite() {
            jitter.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self
    }

    /// The wait after error number `errors` (from 1), with jitter from the thread's generator.
    #[must_use]
    pub fn after(&self, errors: u32) -> Duration {
        self.after_with(errors, chance::fraction())
    }

    /// The wait after error number `errors` (from 1), with `random` from 0 to 1 as the jitter: 0
    /// gives the longest wait.
    #[must_use]
    pub fn after_with(&self, errors: u32, random: f64) -> Duration {
        let exponent = f64::from(errors.saturating_sub(1));
        let cap = self.cap.as_secs_f64();
        let grown = self.base.as_secs_f64() * self.factor.powf(exponent);
        let wait = if self.base.is_zero() {
            // Times infinity it would be no number.
            0.0
        } else if grown.is_finite() {
            grown.min(cap)
        } else {
            cap
        };
        Duration::try_from_secs_f64(wait * (1.0 - self.jitter * random.clamp(0.0, 1.0)))
            .unwrap_or(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_cap() {
        let backoff =
            Backoff::exponential(Duration::from_secs(1), Duration::from_secs(10)).jitter(0.0);
        let waits: Vec<_> = (1..=6)
            .map(|errors| backoff.after(errors).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn nothing_grows_from_a_base_of_zero_or_above_a_low_cap() {
        let hour = Duration::from_secs(3600);
        let none = Backoff::exponential(Duration::ZERO, hour);
        let low = Backoff::exponential(hour, Duration::from_secs(1)).jitter(0.0);
        for errors in [1, 2, 5000, u32::MAX] {
            assert_eq!(none.after(errors), Duration::ZERO);
            assert_eq!(low.after(errors), Duration::from_secs(1));
        }
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        let backoff = Backoff::default();
        assert_eq!(backoff.after_with(3, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.after_with(3, 1.0), Duration::from_secs(2));
        let waits: Vec<_> = (0..1000).map(|_| backoff.after(3)).collect();
        assert!(
            waits
                .iter()
                .all(|wait| (2.0..=4.0).contains(&wait.as_secs_f64()))
        );
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn absurd_numbers_stay_at_the_cap() {
        let backoff = Backoff::default().factor(f64::INFINITY).jitter(f64::NAN);
        assert_eq!(backoff.after(u32::MAX), Duration::from_secs(1));
        let backoff = Backoff::default().jitter(0.0);
        assert_eq!(backoff.after(u32::MAX), Duration::from_secs(3600));
        assert_eq!(backoff.after(0), Duration::from_secs(1));
        assert_eq!(
            Backoff::exponential(Duration::MAX, Duration::MAX)
                .jitter(0.0)
                .after(9),
            Duration::MAX
        );
    }
}
