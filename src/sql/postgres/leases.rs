//! How many requests of each batch that was leased together are not settled yet: the settlement of
//! the last one takes the note of their leases along, so that no rescue has to look whether it is
//! needed any more. It is no more than that: what this process does not know, a rescue finds out.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The most batches that are remembered, far more than are ever under way at once. Of batches with
/// requests that were lost the count never comes to its end.
const MAX_BATCHES: usize = 10_000;

/// Batches, and how many requests of each are not settled.
#[derive(Debug, Default)]
pub(super) struct LeasedBatches(Mutex<BTreeMap<u64, usize>>);

impl LeasedBatches {
    /// So many requests were leased together.
    pub(super) fn leased(&self, batch: u64, requests: usize) {
        let mut batches = self.0.lock();
        if batches.len() >= MAX_BATCHES {
            batches.pop_first();
        }
        batches.insert(batch, requests);
    }

    /// The batches that come to their end if so many requests of each are settled.
    pub(super) fn ending(&self, settled: &[(u64, usize)]) -> Vec<u64> {
        let batches = self.0.lock();
        let ends = |&&(batch, count): &&(u64, usize)| {
            batches.get(&batch).is_some_and(|left| *left <= count)
        };
        settled
            .iter()
            .filter(ends)
            .map(|(batch, _)| *batch)
            .collect()
    }

    /// So many requests of each batch were settled, for good.
    pub(super) fn settled(&self, settled: &[(u64, usize)]) {
        let mut batches = self.0.lock();
        for &(batch, count) in settled {
            let Some(left) = batches.get_mut(&batch) else {
                continue;
            };
            *left = left.saturating_sub(count);
            if *left == 0 {
                batches.remove(&batch);
            }
        }
    }
}

/// How many of these batches each is, which come in runs.
pub(super) fn count(batches: impl Iterator<Item = u64>) -> Vec<(u64, usize)> {
    let mut counts: Vec<(u64, usize)> = Vec::new();
    for batch in batches {
        match counts.iter_mut().rev().find(|(one, _)| *one == batch) {
            Some((_, count)) => *count += 1,
            None => counts.push((batch, 1)),
        }
    }
    counts
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
        batches.settled(&[(7, 2)]);
        assert_eq!(batches.ending(&[(7, 1)]), [7]);
        batches.settled(&[(7, 1)]);
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
    fn batches_are_counted_in_any_order() {
        assert_eq!(count([5, 5, 6, 5].into_iter()), [(5, 3), (6, 1)]);
    }
}
