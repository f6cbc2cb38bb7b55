//! For how long what has ended is kept.

use std::time::Duration;

use crate::{id::EventId, store::Prune};

/// For how long a scheduler keeps what has ended: the setting
/// [`retention`](crate::SchedulerBuilder::retention).
///
/// An event goes together with all its requests, once every one of them has ended and been kept for
/// the time of its end, and the event has been kept for [`keep_events_for`](Self::keep_events_for).
/// `None` keeps for ever. The default keeps what completed or was canceled for seven days, and what is
/// dead for ever.
///
/// ```
/// use std::time::Duration;
/// use tidings::Retention;
///
/// let month = Duration::from_secs(30 * 24 * 3600);
/// let retention = Retention::default().keep_events_for(month).dead_for(Some(3 * month));
/// assert_eq!(retention.every, Duration::from_secs(3600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How long completed requests are kept, and events that nobody wanted.
    pub completed_for: Option<Duration>,
    /// How long canceled requests are kept.
    pub canceled_for: Option<Duration>,
    /// How long dead requests are kept.
    pub dead_for: Option<Duration>,
    /// How long every event is kept after its processing, whatever became of its requests: for so
    /// long it can be replayed.
    pub keep_events_for: Duration,
    /// About how often each process looks for what may go, from 1 s to 30 days. The first time comes
    /// at random within this time after the start, and each pause is up to a fifth shorter or longer,
    /// so that processes which start together do not go on together.
    pub every: Duration,
    /// How many events one call to the store looks at, from 1 to 10,000.
    pub batch: usize,
}

impl Retention {
    /// Rare enough to cost nothing, and often enough that a day's events do not come all at once.
    const DEFAULT_EVERY: Duration = Duration::from_secs(3600);
    /// So few that their locks and their row versions disturb nobody.
    const DEFAULT_BATCH: usize = 500;

    /// Keeps everything for ever.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            completed_for: None,
            canceled_for: None,
            dead_for: None,
            keep_events_for: Duration::ZERO,
            every: Self::DEFAULT_EVERY,
            batch: Self::DEFAULT_BATCH,
        }
    }

    /// Keeps completed requests, and events that nobody wanted, for so long.
    #[must_use]
    pub const fn completed_for(mut self, time: Option<Duration>) -> Self {
        self.completed_for = time;
        self
    }

    /// Keeps canceled requests for so long.
    #[must_use]
    pub const fn canceled_for(mut self, time: Option<Duration>) -> Self {
        self.canceled_for = time;
        self
    }

    /// Keeps dead requests for so long.
    #[must_use]
    pub const fn dead_for(mut self, time: Option<Duration>) -> Self {
        self.dead_for = time;
        self
    }

    /// Keeps all events for so long after their processing.
    #[must_use]
    pub const fn keep_events_for(mut self, time: Duration) -> Self {
        self.keep_events_for = time;
        self
    }

    /// Looks for what may go about so often.
    #[must_use]
    pub const fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// Looks at so many events in one call to the store.
    #[must_use]
    pub const fn batch(mut self, events: usize) -> Self {
        self.batch = events;
        self
    }

    /// Whether nothing is ever deleted.
    pub(crate) const fn keeps_everything(&self) -> bool {
        self.completed_for.is_none() && self.canceled_for.is_none() && self.dead_for.is_none()
    }

    /// What one call asks for.
    pub(crate) const fn prune(&self, after: Option<EventId>, limit: usize) -> Prune {
        let mut prune = Prune::new(limit)
            .completed_for(self.completed_for)
            .canceled_for(self.canceled_for)
            .dead_for(self.dead_for)
            .keep_events_for(self.keep_events_for);
        prune.after = after;
        prune
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            completed_for: Some(Prune::DEFAULT_COMPLETED_FOR),
            canceled_for: Some(Prune::DEFAULT_CANCELED_FOR),
            ..Self::never()
        }
    }
}
