//! What can be wrong with a history.

use std::{fmt, time::Duration};

/// Which promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// A committed event or one of its requests is gone, or has not ended although all is well.
    Lost,
    /// What was rolled back, or never raised, is there.
    RolledBackYetSeen,
    /// A request ran, or an event was fanned out, again although nothing had asked for it.
    Duplicated,
    /// A request was given to somebody although another one had its lease, or it had ended.
    GivenTwice,
    /// A settlement took effect although its fence did not hold.
    StaleSettlement,
    /// A settlement was refused although its fence held.
    RefusedSettlement,
    /// An attempt was not higher than the one before, or a claim took not the best.
    Reordered,
    /// What is due was not begun in time although a healthy process had nothing else to do.
    Stuck,
    /// An outcome was settled that is not what came of the execution.
    OtherOutcome,
    /// A process that lived and whose renewals worked lost a lease.
    Stolen,
    /// What a lost process held was rescued later than its lease and 5 s.
    LateRescue,
    /// The lease had run out by the monotonic clock, and the context was not canceled.
    NotCanceled,
    /// The store holds something else than what it answered.
    RowDiffers,
    /// A process did not end in time when it was to.
    LateShutdown,
}

#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) wrong: Wrong,
    pub(crate) at: Duration,
    pub(crate) detail: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        write!(f, "{:?} at {at:.6}: {}", self.wrong, self.detail)
    }
}
