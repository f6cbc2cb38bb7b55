//! How many requests of each batch that was leased together are not settled yet: the settlement of
//! the last one takes the note of their leases along, so that no rescue has to look whether it is
//! needed any more. It is no more than that: what this process does not know, a rescue finds out.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

/// The most batches that are remembered, far more than are ever under way at once. Of batches with
/// requests that were lost the count never comes to its end.
const MAX_BATCHES: usize = 10_000;

/// Batches, and how many requests of each are not settled.
#[derive(Debug, Default)]
pub(super) struct LeasedBatches(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<u64, usize>,
    /// Batches that have come to their end, whose notes a later settlement takes along.
    ended: BTreeSet<u64>,
}

impl LeasedBatches {
    /// So many requests were leased together.
    pub(super) fn leased(&self, batch: u64, requests: usize) {
        let mut inner = self.0.lock();
        if inner.open.len() >= MAX_BATCHES {
            inner.open.pop_first();
        }
        inner.open.insert(batch, requests);
    }

    /// The batches that come to their end if so many requests of each are settled, and those that
    /// have.
    pub(super) fn ending(&self, settled: &[(u64, usize)]) -> Vec<u64> {
        let inner = self.0.lock();
        let mut ending: Vec<_> = inner.ended.iter().copied().collect();
        let ends = |&&(batch, count): &&(u64, usize)| {
            inner.open.get(&batch).is_some_and(|left| *left <= count)
        };
        ending.extend(settled.iter().filter(ends).map(|(batch, _)| *batch));
        ending
    }

    /// So many requests of each batch were settled, for good, and the notes of these batches are gone.
    pub(super) fn settled(&self, settled: &[(u64, usize)], forgotten: &[u64]) {
        let mut inner = self.0.lock();
        for &(batch, count) in settled {
            let Some(left) = inner.open.get_mut(&batch) else {
                continue;
            };
            *left = left.saturating_sub(count);
            if *left == 0 {
                inner.open.remove(&batch);
                if inner.ended.len() < MAX_BATCHES {
                    inner.ended.insert(batch);
                }
            }
        }
        for batch in forgotten {
            inner.ended.remove(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_with_its_last_request_and_not_before() {
        let batches = LeasedBatches::default();
        batches.leased(7, 3);
        batches.leased(8, 1);
        assert_eq!(batches.ending(&[(7, 2), (8, 1), (9, 1)]), [8]);
        batches.settled(&[(7, 2)], &[]);
        assert_eq!(batches.ending(&[(7, 1)]), [7]);
        batches.settled(&[(7, 1)], &[7]);
        assert!(batches.ending(&[(7, 1)]).is_empty(), "it has ended before");
    }

    #[test]
    fn batches_that_never_end_are_forgotten() {
        let batches = LeasedBatches::default();
        for batch in 0..=MAX_BATCHES as u64 {
            batches.leased(batch, 1);
        }
        assert!(batches.ending(&[(0, 1)]).is_empty());
        assert_eq!(batches.ending(&[(1, 1)]), [1]);
    }

    #[test]
    fn a_note_that_was_not_taken_along_is_until_it_was() {
        let batches = LeasedBatches::default();
        batches.leased(7, 2);
        batches.leased(8, 1);
        batches.settled(&[(7, 2)], &[]);
        assert_eq!(batches.ending(&[]), [7]);
        assert_eq!(batches.ending(&[(8, 1)]), [7, 8], "that one failed");
        batches.settled(&[(8, 1)], &[7]);
        assert_eq!(batches.ending(&[]), [8]);
        batches.settled(&[], &[8]);
        assert!(batches.ending(&[]).is_empty());
    }
}
