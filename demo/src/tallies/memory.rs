//! Tallies that end with the process.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::{Counts, Tally};

/// All tallies. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryTallies(Arc<[AtomicI64; Tally::ALL.len()]>);

impl MemoryTallies {
    /// Counts `amount` more; a negative amount counts back.
    pub(super) fn add(&self, tally: Tally, amount: i64) {
        for (cell, _) in self.cells().filter(|(_, of)| *of == tally) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// What has been counted so far.
    pub(super) fn read(&self) -> Counts {
        let mut counts = Counts::default();
        for (cell, tally) in self.cells() {
            *counts.of_mut(tally) = cell.load(Ordering::Relaxed);
        }
        counts
    }

    fn cells(&self) -> impl Iterator<Item = (&AtomicI64, Tally)> {
        self.0.iter().zip(Tally::ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tally_is_a_count_of_its_own() {
        let tallies = MemoryTallies::default();
        for (tally, amount) in Tally::ALL.into_iter().zip([1, -2, 3, 4, 5]) {
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
