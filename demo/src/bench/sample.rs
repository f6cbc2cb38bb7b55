//! What several rounds of one measurement come to.

/// Figures of several rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(Vec<f64>);

impl Sample {
    pub(super) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Takes in those of another sample.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        Self(figures.into_iter().collect())
    }

    /// Each in that of the other sample in its place; none if one has more, or there is one of nothing.
    pub(super) fn ratios(&self, other: &Self) -> Option<Self> {
        let ratios = self.0.iter().zip(&other.0).map(|(one, other)| one / other);
        let ratios: Vec<_> = ratios.filter(|ratio| ratio.is_finite()).collect();
        let all = [self.len(), other.len()];
        (all == [ratios.len(); 2]).then_some(Self(ratios))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the lower of the two in the middle.
    pub(super) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest and the greatest.
    pub(super) fn range(&self) -> (f64, f64) {
        (self.quantile(0.0), self.quantile(1.0))
    }

    /// The figure below which this share of all others lies (nearest rank); 0 if there are none.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        self.quantiles([share]).next().unwrap_or(0.0)
    }

    /// The same for several shares.
    pub(super) fn quantiles(
        &self,
        shares: impl IntoIterator<Item = f64>,
    ) -> impl Iterator<Item = f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        shares.into_iter().map(move |share| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_figures_that_were_measured() {
        let sample = Sample::of([5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(sample.median(), 3.0);
        assert_eq!(sample.range(), (1.0, 5.0));
        assert_eq!(sample.quantile(0.99), 5.0);
        assert_eq!(sample.quantile(0.2), 1.0);
    }

    #[test]
    fn nothing_was_measured() {
        assert_eq!(Sample::default().median(), 0.0);
    }
}
