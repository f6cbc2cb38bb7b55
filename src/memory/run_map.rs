//! An ordered map from what rows are sorted by to their keys, for what comes in ascending order
//! almost always: ids that grow with time, leases that are all equally long.
//!
//! Such entries are a plain run, to whose end new ones are appended and in which removed ones leave
//! a gap; a few nanoseconds each, where a tree would take a hundred. All others are in a tree.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use super::merge::merge;

/// The run is swept when it has more gaps than entries and than this, so sweeping costs a constant
/// for each removal.
const MIN_GAPS_SWEPT: usize = 1024;

pub(super) struct RunMap<K> {
    /// In ascending order of the keys; neither the first nor the last is a gap.
    run: VecDeque<Entry<K>>,
    gaps: usize,
    /// What did not come in order.
    tree: BTreeMap<K, usize>,
}

#[derive(Clone, Copy)]
struct Entry<K> {
    key: K,
    /// `None` marks a gap.
    row: Option<usize>,
}

impl<K: Ord + Copy> RunMap<K> {
    pub(super) const fn new() -> Self {
        Self {
            run: VecDeque::new(),
            gaps: 0,
            tree: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.run.len() - self.gaps + self.tree.len()
    }

    pub(super) fn get(&self, key: &K) -> Option<usize> {
        match self.position(key) {
            Ok(position) => self.run.get(position)?.row,
            Err(_) => self.tree.get(key).copied(),
        }
    }

    /// Adds an entry; `false` when the key has one, which then stays as it is.
    pub(super) fn insert(&mut self, key: K, row: usize) -> bool {
        if self.run.back().is_none_or(|last| last.key < key) {
            if !self.tree.is_empty() && self.tree.contains_key(&key) {
                return false;
            }
            self.run.push_back(Entry {
                key,
                row: Some(row),
            });
            return true;
        }
        match self.position(&key) {
            Ok(position) => match self.run.get_mut(position) {
                Some(entry) if entry.row.is_none() => {
                    entry.row = Some(row);
                    self.gaps -= 1;
                    true
                }
                _ => false,
            },
            Err(_) => match self.tree.entry(key) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(row);
                    true
                }
                std::collections::btree_map::Entry::Occupied(_) => false,
            },
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        match self.position(key) {
            Ok(position) => {
                if let Some(entry) = self.run.get_mut(position)
                    && entry.row.take().is_some()
                {
                    self.gaps += 1;
                    self.trim();
                }
            }
            Err(_) => {
                self.tree.remove(key);
            }
        }
    }

    pub(super) fn first(&self) -> Option<(K, usize)> {
        self.iter().next()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, usize)> {
        self.after(None)
    }

    /// The entries after this key, or all, in ascending order.
    pub(super) fn after(&self, key: Option<K>) -> impl Iterator<Item = (K, usize)> {
        let begin = key.map_or(0, |key| match self.position(&key) {
            Ok(position) => position + 1,
            Err(position) => position,
        });
        let run = self
            .run
            .range(begin..)
            .filter_map(|entry| entry.row.map(|row| (entry.key, row)));
        let tree = self.tree.range((
            key.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        ));
        merge(run, tree.map(|(key, row)| (*key, *row)), |entry| entry.0)
    }

    /// Where a key is in the run, or would be. What is looked for is mostly at either end.
    fn position(&self, key: &K) -> Result<usize, usize> {
        let len = self.run.len();
        match (self.run.front(), self.run.back()) {
            (Some(first), Some(last)) => {
                if *key <= first.key {
                    return if *key == first.key { Ok(0) } else { Err(0) };
                }
                if *key > last.key {
                    return Err(len);
                }
            }
            _ => return Err(0),
        }
        // Gallop from the end: everything from `high` on is greater.
        let (mut distance, mut high) = (16, len);
        while distance < len
            && let middle = len - distance
            && self.run.get(middle).is_some_and(|entry| entry.key > *key)
        {
            high = middle;
            distance *= 4;
        }
        let mut low = len.saturating_sub(distance);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.run.get(middle).map(|entry| entry.key.cmp(key)) {
                Some(std::cmp::Ordering::Less) => low = middle + 1,
                Some(std::cmp::Ordering::Equal) => return Ok(middle),
                _ => high = middle,
            }
        }
        Err(low)
    }

    /// Takes gaps away from the ends, and from everywhere when there are many.
    fn trim(&mut self) {
        while self.run.front().is_some_and(|entry| entry.row.is_none()) {
            self.run.pop_front();
            self.gaps -= 1;
        }
        while self.run.back().is_some_and(|entry| entry.row.is_none()) {
            self.run.pop_back();
            self.gaps -= 1;
        }
        if self.gaps > MIN_GAPS_SWEPT && self.gaps > self.run.len() / 2 {
            self.run.retain(|entry| entry.row.is_some());
            self.gaps = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// Compares with a tree, over keys that come in order, nearly in order, and at random.
    #[test]
    fn it_is_an_ordered_map() {
        for (seed, spread) in [(1, 1), (2, 50), (3, 5000)] {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut map, mut tree) = (RunMap::new(), BTreeMap::new());
            for step in 0..20_000_u64 {
                let key = step + random.random_range(0..spread);
                if random.random_bool(0.6) {
                    let is_new = !tree.contains_key(&key);
                    assert_eq!(map.insert(key, step as usize), is_new);
                    tree.entry(key).or_insert(step as usize);
                } else {
                    let key = step.saturating_sub(random.random_range(0..3000));
                    assert_eq!(map.get(&key), tree.get(&key).copied());
                    map.remove(&key);
                    tree.remove(&key);
                }
                if step % 500 == 0 {
                    assert!(map.iter().eq(tree.iter().map(|(key, row)| (*key, *row))));
                    let from = step / 2;
                    let expected = tree.range(from + 1..).map(|(key, row)| (*key, *row));
                    assert!(map.after(Some(from)).eq(expected));
                    assert_eq!(
                        map.first(),
                        tree.first_key_value().map(|(key, row)| (*key, *row))
                    );
                    assert_eq!(map.len(), tree.len());
                }
            }
        }
    }

    #[test]
    fn an_entry_that_stays_does_not_keep_the_gaps_behind_it() {
        let mut map = RunMap::new();
        for key in 0..100_000_u64 {
            map.insert(key, 0);
            if key > 1 {
                map.remove(&(key - 1));
            }
        }
        assert_eq!(map.len(), 2);
        assert!(map.run.len() < 4 * MIN_GAPS_SWEPT, "{}", map.run.len());
    }
}
