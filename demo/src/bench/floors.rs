//! What must hold on PostgreSQL with default settings: ratios, and few numbers, which ought to hold on any
//! machine that has nothing else to do.

use serde::Serialize;

use super::{
    figures::{Figure, Figures, OURS, SHARED},
    unit::Unit,
    workloads::Workload,
};
use crate::place::System;

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    workload: Workload,
    contender: &'static str,
    events: Option<u64>,
    unit: Unit,
}

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// So many times another figure.
    TimesAtLeast(f64, Place),
    TimesAtMost(f64, Place),
}

/// What is asked of a figure on which system.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Floor {
    /// Only there, if it says so.
    system: Option<System>,
    ours: Place,
    bound: Bound,
}

/// What came of a floor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// What is asked.
    pub(super) asked: String,
    /// What there is, in the same terms.
    pub(super) found: f64,
    pub(super) holds: bool,
}

impl Verdict {
    pub(super) fn text(&self) -> String {
        let holds = if self.holds { "ok" } else { "below" };
        format!("{} {holds}", self.asked)
    }
}

const fn ours(workload: Workload, unit: Unit) -> Place {
    Place {
        workload,
        contender: OURS,
        events: None,
        unit,
    }
}

/// The library's throughput in that of another contender.
const fn ratio(workload: Workload, times: f64, other: &'static str) -> Floor {
    let ours = ours(workload, Unit::PerSecond);
    let other = Place {
        contender: other,
        ..ours
    };
    on_postgres(ours, Bound::TimesAtLeast(times, other))
}

const fn on_postgres(ours: Place, bound: Bound) -> Floor {
    Floor {
        system: Some(System::Postgres),
        ours,
        bound,
    }
}

const fn everywhere(ours: Place, bound: Bound) -> Floor {
    Floor {
        system: None,
        ours,
        bound,
    }
}

const fn memory(events: u64) -> Floor {
    let ours = Place {
        events: Some(events),
        ..ours(Workload::Memory, Unit::Mebibytes)
    };
    everywhere(ours, Bound::AtMost(64.0))
}

/// All floors; what they are about is told where the workloads are.
fn floors() -> Vec<Floor> {
    use Unit::{P50Milliseconds, P99Milliseconds, PerSecond};
    use Workload::{
        Claim, Drain, EndToEnd, FanOut, HeldSnapshot, Idle, Latency, Processes, Raise,
        RaiseBatches, Scale, Transactional,
    };

    let place = |workload, contender, unit| Place {
        contender,
        ..ours(workload, unit)
    };
    vec![
        ratio(Drain, 0.7, "R3"),
        ratio(Drain, 0.65, "R0u"),
        ratio(Claim, 0.7, "R3c"),
        ratio(FanOut, 0.7, "R3"),
        on_postgres(
            ours(FanOut, PerSecond),
            Bound::TimesAtLeast(1.0, ours(Drain, PerSecond)),
        ),
        ratio(Raise, 0.85, "R1"),
        ratio(RaiseBatches, 0.7, "R2"),
        on_postgres(ours(Latency, P50Milliseconds), Bound::AtMost(1.0)),
        on_postgres(ours(Latency, P99Milliseconds), Bound::AtMost(3.0)),
        on_postgres(
            ours(Latency, P50Milliseconds),
            Bound::TimesAtMost(3.0, place(Latency, "bare NOTIFY", P50Milliseconds)),
        ),
        ratio(EndToEnd, 0.6, "R4"),
        on_postgres(ours(EndToEnd, P50Milliseconds), Bound::AtMost(1000.0)),
        ratio(Transactional, 0.7, "R5"),
        on_postgres(
            place(Transactional, SHARED, PerSecond),
            Bound::TimesAtLeast(0.5, place(Transactional, "R5 by 50", PerSecond)),
        ),
        ratio(Scale, 0.8, "empty tables"),
        ratio(HeldSnapshot, 1.0 / 1.3, "first minute"),
        on_postgres(
            ours(HeldSnapshot, P99Milliseconds),
            Bound::TimesAtMost(1.3, place(HeldSnapshot, "first minute", P99Milliseconds)),
        ),
        ratio(Processes, 0.9, "one process"),
        // Starved is who gets less than a fifth of its share, a quarter.
        on_postgres(
            ours(Processes, Unit::SmallestSharePercent),
            Bound::AtLeast(5.0),
        ),
        // One statement in five seconds.
        on_postgres(ours(Idle, Unit::StatementsPerSecond), Bound::AtMost(0.2)),
        everywhere(ours(Idle, Unit::CpuPercent), Bound::AtMost(0.1)),
        memory(50_000),
        memory(500_000),
    ]
}

impl Place {
    fn is_of(&self, figure: &Figure) -> bool {
        let Self {
            workload,
            contender,
            events,
            unit,
        } = *self;
        (
            figure.workload,
            figure.contender,
            figure.events,
            figure.unit,
        ) == (workload, contender, events, unit)
    }

    fn median(&self, figures: &Figures) -> Option<f64> {
        figures.median(self.workload, self.contender, self.events, self.unit)
    }
}

impl Floor {
    /// Whether it is told beside a figure: that of the other contender, which has the ratio, or ours.
    fn is_beside(&self, figure: &Figure) -> bool {
        match self.bound {
            Bound::TimesAtLeast(_, other) | Bound::TimesAtMost(_, other)
                if other.workload == self.ours.workload =>
            {
                other.is_of(figure)
            }
            _ => self.ours.is_of(figure),
        }
    }

    /// What came of it, if what it needs was measured.
    fn verdict(&self, figures: &Figures) -> Option<Verdict> {
        let ours = self.ours.median(figures)?;
        let relation = |other: &Place| {
            let to = match other.workload == self.ours.workload {
                true => String::new(),
                false => format!(" × {}", other.workload),
            };
            Some((ours / other.median(figures)?, to))
        };
        let (found, limit, to) = match &self.bound {
            Bound::AtLeast(limit) | Bound::AtMost(limit) => (ours, *limit, String::new()),
            Bound::TimesAtLeast(limit, other) | Bound::TimesAtMost(limit, other) => {
                let (found, to) = relation(other)?;
                (found, *limit, to)
            }
        };
        let is_least = matches!(self.bound, Bound::AtLeast(_) | Bound::TimesAtLeast(..));
        let (sign, holds) = match is_least {
            true => ('≥', found >= limit),
            false => ('≤', found <= limit),
        };
        Some(Verdict {
            asked: format!("{sign} {}{to}", (limit * 100.0).round() / 100.0),
            found,
            holds,
        })
    }
}

/// What came of the floors that are told beside a figure.
pub(super) fn verdicts(system: System, figures: &Figures, figure: &Figure) -> Vec<Verdict> {
    let all = of(system);
    let beside = all.iter().filter(|floor| floor.is_beside(figure));
    beside.filter_map(|floor| floor.verdict(figures)).collect()
}

/// What was missed, and what nothing can be said about although its workload ran, in words for people.
pub(super) fn missed(system: System, figures: &Figures, ran: &[Workload]) -> Vec<String> {
    let all = of(system);
    let due = all.iter().filter(|floor| match floor.bound {
        Bound::TimesAtLeast(_, other) | Bound::TimesAtMost(_, other) => {
            ran.contains(&floor.ours.workload) && ran.contains(&other.workload)
        }
        _ => ran.contains(&floor.ours.workload),
    });
    let missed = due.filter_map(|floor| {
        let Place {
            workload,
            contender,
            unit,
            ..
        } = floor.ours;
        let what = format!("{workload}: {contender} ({})", unit.text());
        match floor.verdict(figures) {
            Some(verdict) if verdict.holds => None,
            Some(Verdict { asked, found, .. }) => {
                Some(format!("{what}: {found:.2}, and ought to be {asked}"))
            }
            None => Some(format!("{what}: not measured")),
        }
    });
    missed.collect()
}

fn of(system: System) -> Vec<Floor> {
    let holds_there = |floor: &Floor| floor.system.is_none_or(|only| only == system);
    floors().into_iter().filter(holds_there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[(Workload, &'static str, Unit, f64)]) -> Figures {
        let mut figures = Figures::default();
        for &(workload, contender, unit, figure) in all {
            figures.note(workload, contender, unit, figure);
        }
        figures
    }

    fn beside(figures: &Figures, contender: &str) -> Vec<String> {
        let mut all = figures.all().iter();
        let figure = all.find(|one| one.contender == contender).unwrap();
        let verdicts = verdicts(System::Postgres, figures, figure);
        verdicts.iter().map(Verdict::text).collect()
    }

    #[test]
    fn a_ratio_is_told_beside_the_other_contender() {
        let figures = figures(&[
            (Workload::Raise, OURS, Unit::PerSecond, 84.0),
            (Workload::Raise, "R1", Unit::PerSecond, 100.0),
        ]);
        assert_eq!(beside(&figures, "R1"), ["≥ 0.85 below"]);
        assert!(beside(&figures, OURS).is_empty());
    }

    #[test]
    fn what_is_asked_of_two_workloads_needs_both() {
        let fan_out = (Workload::FanOut, OURS, Unit::PerSecond, 90.0);
        let drain = (Workload::Drain, OURS, Unit::PerSecond, 100.0);
        assert!(beside(&figures(&[fan_out]), OURS).is_empty());
        let both = figures(&[fan_out, drain]);
        assert_eq!(beside(&both, OURS), ["≥ 1 × drain below"]);
    }

    #[test]
    fn what_was_not_measured_is_missed_if_its_workload_ran() {
        let figures = figures(&[
            (Workload::Transactional, OURS, Unit::PerSecond, 80.0),
            (Workload::Transactional, "R5", Unit::PerSecond, 100.0),
        ]);
        let missed = |ran: &[Workload]| missed(System::Postgres, &figures, ran);
        assert_eq!(
            missed(&[Workload::Transactional]),
            ["transactional: tidings, shared (/s): not measured"]
        );
        assert!(missed(&[]).is_empty());
    }

    #[test]
    fn times_must_not_be_exceeded() {
        let figures = figures(&[
            (Workload::Latency, OURS, Unit::P50Milliseconds, 0.9),
            (Workload::Latency, "bare NOTIFY", Unit::P50Milliseconds, 0.2),
        ]);
        assert_eq!(beside(&figures, OURS), ["≤ 1 ok"]);
        assert_eq!(beside(&figures, "bare NOTIFY"), ["≤ 3 below"]);
        let missed = missed(System::Postgres, &figures, &[Workload::Latency]);
        assert_eq!(
            missed,
            [
                "latency: tidings (ms p99): not measured",
                "latency: tidings (ms p50): 4.50, and ought to be ≤ 3",
            ]
        );
    }

    #[test]
    fn other_systems_have_floors_of_their_own() {
        let figures = figures(&[(Workload::Idle, OURS, Unit::StatementsPerSecond, 1.0)]);
        let missed = missed(System::Sqlite, &figures, &[Workload::Idle, Workload::Raise]);
        assert_eq!(missed, ["idle: tidings (% CPU): not measured"]);
    }
}
