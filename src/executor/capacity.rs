//! How many requests of one handler a process may hold, from how long its runs take.

use std::time::Duration;

/// The room of one handler.
///
/// A process holds, beside the runs under way, about as many requests as it can run in a short
/// while: of a handler that takes microseconds a few whole batches, of one that takes half a minute none.
/// So a slow handler never keeps requests from other processes, and a fast one never waits for a
/// round trip.
#[derive(Debug)]
pub(super) struct Capacity {
    limit: usize,
    /// A moving average of the run time in seconds; `None` until the first run has ended.
    average: Option<f64>,
}

impl Capacity {
    /// What waits in the buffer should start within this time.
    const WINDOW: Duration = Duration::from_millis(250);
    /// The weight of the latest run in the average.
    const WEIGHT: f64 = 0.1;

    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            average: None,
        }
    }

    /// How many runs there may be at the same time.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a run into account. A slow one counts at once, so that a handler which turns slow
    /// stops hoarding immediately.
    pub(super) fn observe(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.average = Some(match self.average {
            Some(average) if took < average * 10.0 => average + (took - average) * Self::WEIGHT,
            _ => took,
        });
    }

    /// No more than so many runs were begun in this time: they take longer than those which have ended
    /// say.
    pub(super) fn observe_pace(&mut self, begun: usize, time: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "limits are small")]
        let pace = time.as_secs_f64() * self.limit as f64 / begun.max(1) as f64;
        let average = self.average.unwrap_or_default();
        self.average = Some(average.max(pace));
    }

    /// How many more requests may be held beside `held`; at most `max` at all.
    pub(super) fn room(&self, held: usize, max: usize) -> usize {
        self.most(max).saturating_sub(held)
    }

    /// Whether the room that there is beside `held` is worth a claim: any for a slow handler, half
    /// of what may wait for a fast one.
    pub(super) fn is_worth_a_claim(&self, held: usize, max: usize) -> bool {
        let waiting = self.most(max) - self.limit;
        self.room(held, max) > waiting / 2
    }

    /// The same for a fan-out, which gets half of the room only, and a second one of which is to be under
    /// way: a quarter of what may wait.
    pub(super) fn is_worth_a_fan_out(&self, held: usize, max: usize) -> bool {
        let waiting = self.most(max) - self.limit;
        self.room(held, max) > waiting / 4
    }

    fn most(&self, max: usize) -> usize {
        let waiting = match self.average {
            None => 0.0,
            Some(average) => {
                #[expect(clippy::cast_precision_loss, reason = "limits are small")]
                let slots = self.limit as f64;
                slots * Self::WINDOW.as_secs_f64() / average.max(1e-9)
            }
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and capped by max"
        )]
        let waiting = (waiting as usize).min(max);
        self.limit + waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_takes_half_a_minute_holds_no_waiting_requests() {
        let mut capacity = Capacity::new(12);
        assert_eq!(
            capacity.room(0, 1000),
            12,
            "before the first run, no more than can run"
        );
        capacity.observe(Duration::from_secs(30));
        assert_eq!(capacity.room(0, 1000), 12);
        assert_eq!(capacity.room(12, 1000), 0);
        assert!(
            capacity.is_worth_a_claim(11, 1000),
            "one free slot is refilled at once"
        );
    }

    #[test]
    fn a_fast_handler_holds_a_whole_batch_and_claims_half_batches() {
        let mut capacity = Capacity::new(12);
        capacity.observe(Duration::from_micros(5));
        assert_eq!(capacity.room(0, 1000), 1012);
        assert!(!capacity.is_worth_a_claim(900, 1000));
        assert!(capacity.is_worth_a_claim(400, 1000));
    }

    #[test]
    fn a_handler_that_turns_slow_stops_hoarding_after_one_run() {
        let mut capacity = Capacity::new(4);
        for _ in 0..100 {
            capacity.observe(Duration::from_micros(5));
        }
        capacity.observe(Duration::from_secs(30));
        assert_eq!(capacity.room(0, 1000), 4);
    }
}
