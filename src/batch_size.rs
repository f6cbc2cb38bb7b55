//! How many events one call brings, so that large ones exceed neither its time nor the memory of
//! this process.

/// A number of events that is halved when a call takes too long, becomes as small as large events
/// demand, and doubles as long as they are small.
#[derive(Debug)]
pub(crate) struct BatchSize {
    most: usize,
    now: usize,
}

impl BatchSize {
    /// The most data that is to come with one call, in bytes: some tenths of a second on a network
    /// of a gigabit, and far below every limit on the time of a call.
    const MAX_LEN: usize = 32 * 1024 * 1024;
    /// Before it is known how large events are: with the largest that are allowed by default, 1 MiB,
    /// the first call brings 128 MiB; with small ones the third call brings a thousand.
    const FIRST: usize = 128;

    /// At most so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            now: most.clamp(1, Self::FIRST),
        }
    }

    /// How many the next call may bring; at least 1.
    pub(crate) const fn limit(&self) -> usize {
        self.now
    }

    /// A call has brought so many, with so much data in bytes.
    pub(crate) fn brought(&mut self, count: usize, len: usize) {
        if len > Self::MAX_LEN {
            let each = len.div_ceil(count.max(1));
            self.now = self.now.min(Self::MAX_LEN / each).max(1);
        } else if count > 0 && count >= self.now / 2 && len <= Self::MAX_LEN / 2 {
            // Others may have had a share of the room, so half of it is taken for a full call.
            self.now = self.now.saturating_mul(2).min(self.most);
        }
    }

    /// A call has taken too long.
    pub(crate) fn timed_out(&mut self) {
        self.now = (self.now / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn small_events_soon_come_by_the_thousand() {
        let mut size = BatchSize::new(1000);
        let mut limits = Vec::new();
        for _ in 0..5 {
            limits.push(size.limit());
            size.brought(size.limit(), size.limit() * 200);
        }
        assert_eq!(limits, [128, 256, 512, 1000, 1000]);
    }

    #[test]
    fn large_events_come_in_batches_that_fit() {
        let mut size = BatchSize::new(1000);
        for _ in 0..5 {
            size.brought(size.limit(), size.limit() * MIB);
        }
        assert_eq!(size.limit(), 32);
        // One that is larger than all is brought all the same.
        size.brought(1, 100 * MIB);
        assert_eq!(size.limit(), 1);
        // And they grow again when events are small.
        for _ in 0..10 {
            size.brought(size.limit(), size.limit() * 200);
        }
        assert_eq!(size.limit(), 1000);
    }

    #[test]
    fn calls_that_take_too_long_bring_less_but_always_something() {
        let mut size = BatchSize::new(20);
        let mut limits = Vec::new();
        for _ in 0..6 {
            limits.push(size.limit());
            size.timed_out();
        }
        assert_eq!(limits, [20, 10, 5, 2, 1, 1]);
        // A call that finds nothing says nothing.
        size.brought(0, 0);
        assert_eq!(size.limit(), 1);
        size.brought(1, 1);
        assert_eq!(size.limit(), 2);
        assert_eq!(BatchSize::new(0).limit(), 1);
    }
}
