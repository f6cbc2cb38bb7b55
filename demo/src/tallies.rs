//! What the handlers count.
//!
//! The tallies live beside the in-memory store and end with the process, as the store does. With a
//! store that outlives the process they belong into it, written by transactional handlers.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// One of the things that handlers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// Commits that were pushed.
    Commits,
    /// Stars that were given, less those that were taken back.
    Stars,
    /// Events in issues and pull requests.
    Activity,
    /// Notifications of maintainers.
    Notifications,
    /// Issues that were opened without labels.
    UntriagedIssues,
}

/// All tallies. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tallies(Arc<[AtomicI64; 5]>);

/// The tallies at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) commits: i64,
    pub(crate) stars: i64,
    pub(crate) activity: i64,
    pub(crate) notifications: i64,
    pub(crate) untriaged_issues: i64,
}

impl Tallies {
    /// Counts `amount` more; a negative amount counts back.
    pub(crate) fn add(&self, tally: Tally, amount: i64) {
        self.cell(tally).fetch_add(amount, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub(crate) fn read(&self) -> Counts {
        let value = |tally| self.cell(tally).load(Ordering::Relaxed);
        Counts {
            commits: value(Tally::Commits),
            stars: value(Tally::Stars),
            activity: value(Tally::Activity),
            notifications: value(Tally::Notifications),
            untriaged_issues: value(Tally::UntriagedIssues),
        }
    }

    fn cell(&self, tally: Tally) -> &AtomicI64 {
        let [commits, stars, activity, notifications, untriaged_issues] = &*self.0;
        match tally {
            Tally::Commits => commits,
            Tally::Stars => stars,
            Tally::Activity => activity,
            Tally::Notifications => notifications,
            Tally::UntriagedIssues => untriaged_issues,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            commits,
            stars,
            activity,
            notifications,
            untriaged_issues,
        } = self;
        write!(f, "commits {commits}, stars {stars}, activity {activity}, ")?;
        write!(
            f,
            "notifications {notifications}, untriaged issues {untriaged_issues}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tally_is_a_count_of_its_own() {
        let tallies = Tallies::default();
        for (tally, amount) in [
            (Tally::Commits, 1),
            (Tally::Stars, -2),
            (Tally::Activity, 3),
            (Tally::Notifications, 4),
            (Tally::UntriagedIssues, 5),
        ] {
            tallies.clone().add(tally, amount);
        }
        let expected = Counts {
            commits: 1,
            stars: -2,
            activity: 3,
            notifications: 4,
            untriaged_issues: 5,
        };
        assert_eq!(tallies.read(), expected);
    }
}
