//! When the store was away, as far as calls tell.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Watches the results of calls for outages.
///
/// After an outage that was long enough to keep live owners from renewing their leases, those
/// leases have run out although nobody is lost: they must be given the chance to renew first. A
/// short failure is none of that, so that calls which fail now and then do not put off rescues for
/// ever.
#[derive(Debug, Default)]
pub(crate) struct OutageWatch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    failing_since: Option<Instant>,
    /// The last outage: how long it was, and when it ended.
    last: Option<(Duration, Instant)>,
}

impl OutageWatch {
    /// A call ended, at `now`.
    pub(crate) fn note(&self, succeeded: bool, now: Instant) {
        let mut seen = self.0.lock();
        if !succeeded {
            seen.failing_since.get_or_insert(now);
        } else if let Some(since) = seen.failing_since.take() {
            let lasted = now - since;
            // A short failure soon after an outage does not hide it.
            if seen
                .last
                .is_none_or(|(longest, ended)| lasted >= longest || now - ended > longest)
            {
                seen.last = Some((lasted, now));
            }
        }
    }

    /// Whether live owners have had the chance to renew at `now`: no outage of `interval` or more
    /// is under way, or ended less than `interval` ago.
    pub(crate) fn is_over(&self, interval: Duration, now: Instant) -> bool {
        let seen = self.0.lock();
        let under_way = seen
            .failing_since
            .is_some_and(|since| now - since >= interval);
        let just_ended = seen
            .last
            .is_some_and(|(lasted, ended)| lasted >= interval && now - ended < interval);
        !under_way && !just_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(second: u64, start: Instant) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn rescue_waits_one_interval_after_a_long_outage() {
        let (watch, start) = (OutageWatch::default(), Instant::now());
        watch.note(false, at(0, start));
        watch.note(false, at(60, start));
        assert!(!watch.is_over(INTERVAL, at(60, start)));
        watch.note(true, at(61, start));
        assert!(!watch.is_over(INTERVAL, at(70, start)));
        assert!(watch.is_over(INTERVAL, at(71, start)));
    }

    #[test]
    fn calls_that_fail_now_and_then_do_not_put_off_rescues() {
        let (watch, start) = (OutageWatch::default(), Instant::now());
        for second in (0..1000).step_by(2) {
            watch.note(false, at(second, start));
            assert!(watch.is_over(INTERVAL, at(second, start)));
            watch.note(true, at(second + 1, start));
            assert!(watch.is_over(INTERVAL, at(second + 1, start)));
        }
    }

    #[test]
    fn a_short_failure_after_a_long_outage_does_not_hide_it() {
        let (watch, start) = (OutageWatch::default(), Instant::now());
        watch.note(false, at(0, start));
        watch.note(true, at(60, start));
        watch.note(false, at(61, start));
        watch.note(true, at(62, start));
        assert!(!watch.is_over(INTERVAL, at(63, start)));
        assert!(watch.is_over(INTERVAL, at(70, start)));
    }
}
