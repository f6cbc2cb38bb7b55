//! What was measured.

use super::{
    costs::{Costs, Measured},
    sample::Sample,
    unit::Unit,
    workloads::Workload,
};

/// What the library is called among contenders.
pub(super) const OURS: &str = "tidings";
/// What it is called with handlers that share transactions.
pub(super) const SHARED: &str = "tidings, shared";
/// So many bytes.
pub(super) const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// One figure of all rounds.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) workload: Workload,
    pub(super) contender: &'static str,
    /// How many events it was about, where one contender is measured with several.
    pub(super) events: Option<u64>,
    pub(super) unit: Unit,
    pub(super) rounds: Sample,
}

impl Figure {
    /// Whether it is about the same thing as another one, in another unit maybe.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (self.workload, self.contender, self.events)
            == (other.workload, other.contender, other.events)
    }
}

/// All figures, in the order in which they were first taken.
#[derive(Debug, Default)]
pub(super) struct Figures {
    all: Vec<Figure>,
    /// All latencies of a contender in a workload.
    latencies: Vec<(Workload, &'static str, Sample)>,
    /// Whether round trips are counted, which makes all other figures worthless.
    counts_trips: bool,
}

impl Figures {
    /// From now on only round trips and statements are noted, or everything.
    pub(super) const fn count_trips(&mut self, counts: bool) {
        self.counts_trips = counts;
    }

    pub(super) const fn counts_trips(&self) -> bool {
        self.counts_trips
    }

    pub(super) fn all(&self) -> &[Figure] {
        &self.all
    }

    pub(super) fn note(
        &mut self,
        workload: Workload,
        contender: &'static str,
        unit: Unit,
        figure: f64,
    ) {
        self.note_of(workload, contender, None, unit, figure);
    }

    /// Notes a figure of a contender that is measured with several numbers of events.
    pub(super) fn note_of(
        &mut self,
        workload: Workload,
        contender: &'static str,
        events: Option<u64>,
        unit: Unit,
        figure: f64,
    ) {
        if self.counts_trips && !unit.is_counted() {
            return;
        }
        let new = Figure {
            workload,
            contender,
            events,
            unit,
            rounds: Sample::of([figure]),
        };
        let mut all = self.all.iter_mut();
        match all.find(|one| one.is_beside(&new) && one.unit == unit) {
            Some(one) => one.rounds.push(figure),
            None => self.all.push(new),
        }
    }

    /// Notes how fast so many requests were worked off, and what each has cost.
    pub(super) fn note_work(
        &mut self,
        workload: Workload,
        contender: &'static str,
        events: Option<u64>,
        requests: u64,
        measured: &Measured,
    ) {
        let rate = requests as f64 / measured.took.as_secs_f64();
        self.note_of(workload, contender, events, Unit::PerSecond, rate);
        self.note_costs(workload, contender, events, requests, measured);
    }

    /// Notes what each of so many requests has cost.
    pub(super) fn note_costs(
        &mut self,
        workload: Workload,
        contender: &'static str,
        events: Option<u64>,
        requests: u64,
        measured: &Measured,
    ) {
        const MICROS: f64 = 1e6;
        let count = requests as f64;
        let Costs {
            written,
            transactions,
            trips,
            statements,
            cpu,
            server_cpu,
            peak_memory,
        } = measured.costs;
        for (unit, figure) in [
            (Unit::WrittenBytesPerRequest, written.map(|all| all / count)),
            (
                Unit::TransactionsPerRequest,
                transactions.map(|all| all / count),
            ),
            (Unit::RoundTripsPerRequest, trips.map(|all| all / count)),
            (
                Unit::StatementsPerRequest,
                statements.map(|all| all / count),
            ),
            (
                Unit::CpuMicrosecondsPerRequest,
                cpu.map(|all| all * MICROS / count),
            ),
            (
                Unit::ServerCpuMicrosecondsPerRequest,
                server_cpu.map(|all| all * MICROS / count),
            ),
            (Unit::PeakMebibytes, peak_memory.map(|all| all / MEBIBYTE)),
        ] {
            if let Some(figure) = figure {
                self.note_of(workload, contender, events, unit, figure);
            }
        }
    }

    pub(super) fn note_latency(
        &mut self,
        workload: Workload,
        contender: &'static str,
        latencies: &Sample,
    ) {
        for (unit, share) in [
            (Unit::P50Milliseconds, 0.5),
            (Unit::P99Milliseconds, 0.99),
            (Unit::P999Milliseconds, 0.999),
        ] {
            self.note(workload, contender, unit, latencies.quantile(share));
        }
        if self.counts_trips {
            return;
        }
        let mut all = self.latencies.iter_mut();
        match all.find(|(one, other, _)| (*one, *other) == (workload, contender)) {
            Some((.., sample)) => sample.add(latencies),
            None => self
                .latencies
                .push((workload, contender, latencies.clone())),
        }
    }

    /// The latencies of each contender in a workload, those of all rounds.
    pub(super) fn distributions(
        &self,
        workload: Workload,
    ) -> impl Iterator<Item = (&'static str, &Sample)> {
        let all = self.latencies.iter();
        all.filter_map(move |(one, contender, sample)| {
            (*one == workload).then_some((*contender, sample))
        })
    }

    /// The median of a contender, if it was measured.
    pub(super) fn median(
        &self,
        workload: Workload,
        contender: &str,
        events: Option<u64>,
        unit: Unit,
    ) -> Option<f64> {
        let found = self.find(workload, contender, events, unit)?;
        Some(found.rounds.median())
    }

    fn find(
        &self,
        workload: Workload,
        contender: &str,
        events: Option<u64>,
        unit: Unit,
    ) -> Option<&Figure> {
        let is_it = |one: &&Figure| {
            (one.workload, one.contender, one.events, one.unit)
                == (workload, contender, events, unit)
        };
        self.all.iter().find(is_it)
    }

    /// The library's figure in what another contender has, by medians.
    pub(super) fn ratio(&self, figure: &Figure) -> Option<f64> {
        let ratio = self.ours(figure)?.rounds.median() / figure.rounds.median();
        ratio.is_finite().then_some(ratio)
    }

    /// The lowest and the highest of the ratios that each round has for itself, if all rounds have one.
    pub(super) fn ratio_range(&self, figure: &Figure) -> Option<(f64, f64)> {
        let ratios = self.ours(figure)?.rounds.ratios(&figure.rounds)?;
        Some(ratios.range())
    }

    /// The library's figure to which that of another contender is held.
    fn ours(&self, figure: &Figure) -> Option<&Figure> {
        if figure.contender.starts_with(OURS) || !figure.unit.has_ratio() {
            return None;
        }
        // What has as many requests in a transaction.
        let ours = match figure.contender {
            "R5 by 50" => SHARED,
            _ => OURS,
        };
        self.find(figure.workload, ours, figure.events, figure.unit)
    }

    /// Whether it is the first that is told of its contender, beside which the costs are.
    pub(super) fn is_first(&self, figure: &Figure) -> bool {
        let mut told = self.all.iter().filter(|one| !one.unit.is_cost());
        told.find(|one| one.is_beside(figure))
            .is_some_and(|first| first.unit == figure.unit)
    }

    /// What stands beside the first figure of a contender.
    pub(super) fn costs<'f>(
        &'f self,
        figure: &'f Figure,
    ) -> impl Iterator<Item = (Unit, Option<f64>)> {
        Unit::COSTS.into_iter().map(|(unit, _)| {
            let mut all = self.all.iter();
            let cost = all.find(|one| one.is_beside(figure) && one.unit == unit);
            (unit, cost.map(|one| one.rounds.median()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(costs: Costs) -> Measured {
        let took = Duration::from_secs(2);
        Measured { took, costs }
    }

    #[test]
    fn costs_are_those_of_one_request_and_what_is_unknown_is_not_zero() {
        let mut figures = Figures::default();
        let costs = Costs {
            cpu: Some(0.5),
            ..Costs::default()
        };
        figures.note_work(Workload::Drain, OURS, None, 1000, &measured(costs));
        let rate = figures.median(Workload::Drain, OURS, None, Unit::PerSecond);
        assert_eq!(rate, Some(500.0));
        let [throughput, _] = figures.all() else {
            panic!("{:?}", figures.all());
        };
        let costs: Vec<_> = figures.costs(throughput).collect();
        assert!(costs.contains(&(Unit::CpuMicrosecondsPerRequest, Some(500.0))));
        assert!(costs.contains(&(Unit::TransactionsPerRequest, None)));
    }

    #[test]
    fn nothing_that_ran_through_the_proxy_is_timed() {
        let mut figures = Figures::default();
        figures.count_trips(true);
        let costs = Costs {
            trips: Some(10.0),
            cpu: Some(0.5),
            ..Costs::default()
        };
        figures.note_work(Workload::Drain, OURS, None, 1000, &measured(costs));
        figures.note_latency(Workload::Latency, OURS, &Sample::of([1.0]));
        let units: Vec<_> = figures.all().iter().map(|one| one.unit).collect();
        assert_eq!(units, [Unit::RoundTripsPerRequest]);
    }

    #[test]
    fn ratios_are_those_of_medians_and_only_to_others() {
        let mut figures = Figures::default();
        for (contender, rate) in [(OURS, 1.0), (OURS, 3.0), (OURS, 9.0), ("R3", 4.0)] {
            figures.note(Workload::Drain, contender, Unit::PerSecond, rate);
        }
        figures.note(
            Workload::Drain,
            "tidings, cooperative",
            Unit::PerSecond,
            1.0,
        );
        let ratios: Vec<_> = figures.all().iter().map(|one| figures.ratio(one)).collect();
        assert_eq!(ratios, [None, Some(0.75), None]);
    }

    #[test]
    fn ratios_of_rounds_are_those_of_what_ran_in_the_same_one() {
        let mut figures = Figures::default();
        for (ours, bare) in [(8.0, 10.0), (1.0, 2.0), (9.0, 10.0)] {
            figures.note(Workload::Drain, OURS, Unit::PerSecond, ours);
            figures.note(Workload::Drain, "R3", Unit::PerSecond, bare);
        }
        let range = figures.ratio_range(&figures.all()[1]);
        assert_eq!(range, Some((0.5, 0.9)));
        // A round that only one of them has, nobody knows which.
        figures.note(Workload::Drain, OURS, Unit::PerSecond, 1.0);
        assert_eq!(figures.ratio_range(&figures.all()[1]), None);
    }
}
