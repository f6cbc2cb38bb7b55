//! Work of a known amount that is handed out in portions, to one who does it or to several.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How much is left. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Left(Arc<AtomicU64>);

impl Left {
    pub(super) fn new(all: u64) -> Self {
        Self(Arc::new(AtomicU64::new(all)))
    }

    /// So many at most, fewer at the end, so that all portions together are exactly what there was; none
    /// when nothing is left.
    pub(super) fn take(&self, most: usize) -> Option<usize> {
        let less = |left: u64| Some(left.saturating_sub(most as u64));
        let update = (self.0).try_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let left = update.unwrap_or_else(|left| left);
        let portion = usize::try_from(left).map_or(most, |left| left.min(most));
        (portion > 0).then_some(portion)
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_portion_is_what_is_left() {
        let left = Left::new(1500);
        let portions: Vec<_> = std::iter::from_fn(|| left.take(1000)).collect();
        assert_eq!(portions, [1000, 500]);
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn nothing_is_handed_out_of_nothing() {
        assert_eq!(Left::new(0).take(1000), None);
    }
}
