//! Seeds of random drives: the same in every run, unless the environment says otherwise.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Runs a drive for each seed; a failure names its own.
pub(super) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let first = setting("MODEL_SEED");
    let count = setting("MODEL_TRACES").unwrap_or(if first.is_some() { 1 } else { count });
    let first = first.unwrap_or(0);
    first..first + count
}

/// Whether single drives are run again, which need not meet everything.
pub(super) fn is_rerun() -> bool {
    std::env::var_os("MODEL_SEED").is_some()
}

/// What a failure begins with.
pub(super) fn failed(seed: u64, what: impl Display) -> ! {
    panic!("MODEL_SEED={seed} runs this one again: {what}")
}

/// Random choices of one drive.
pub(super) struct Chance(StdRng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    /// Happens in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn one_of<T: Clone>(&mut self, things: &[T]) -> Option<T> {
        let index = self.below(things.len().max(1));
        things.get(index).cloned()
    }
}

/// A number from the environment; one that is no number must not go unseen.
fn setting<T: FromStr>(name: &str) -> Option<T>
where
    T::Err: Debug,
{
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}
