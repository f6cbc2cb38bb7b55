//! What was measured, and how it is told.

use std::io::{self, Write as _};

use serde::Serialize;

use super::{Result, sample::Sample, workloads::Workload};
use crate::arguments::Format;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Requests, or events, per second.
    PerSecond,
    /// The time which half of the samples kept, in milliseconds.
    P50Milliseconds,
    /// The time which 99 of 100 samples kept, in milliseconds.
    P99Milliseconds,
    /// The time which 999 of 1000 samples kept, in milliseconds.
    P999Milliseconds,
}

impl Unit {
    const fn text(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::P50Milliseconds => "ms p50",
            Self::P99Milliseconds => "ms p99",
            Self::P999Milliseconds => "ms p99.9",
        }
    }
}

/// One figure of all rounds.
#[derive(Debug)]
struct Figure {
    workload: Workload,
    contender: &'static str,
    unit: Unit,
    rounds: Sample,
}

/// A figure as a line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    workload: String,
    contender: &'a str,
    unit: Unit,
    median: f64,
    lowest: f64,
    highest: f64,
    rounds: u32,
    /// The library's median in those of this contender.
    ratio: Option<f64>,
}

/// All figures, in the order in which they were first taken.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<Figure>);

impl Figures {
    pub(super) fn note(
        &mut self,
        workload: Workload,
        contender: &'static str,
        unit: Unit,
        figure: f64,
    ) {
        let is_same = |one: &&mut Figure| {
            (one.workload, one.contender, one.unit) == (workload, contender, unit)
        };
        match self.0.iter_mut().find(is_same) {
            Some(one) => one.rounds.push(figure),
            None => self.0.push(Figure {
                workload,
                contender,
                unit,
                rounds: Sample::of([figure]),
            }),
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
    }

    /// The library's figure in what another contender has.
    fn ratio(&self, figure: &Figure) -> Option<f64> {
        // What does as many in a transaction.
        let ours = match figure.contender {
            "R5 by 50" => "tidings, shared",
            _ => "tidings",
        };
        let is_ours = |one: &&Figure| {
            (one.workload, one.unit, one.contender) == (figure.workload, figure.unit, ours)
        };
        let ours = self.0.iter().find(is_ours)?;
        let is_other = !figure.contender.starts_with("tidings");
        is_other.then(|| ours.rounds.median() / figure.rounds.median())
    }

    pub(super) fn print(&self, format: Format, rounds: u32) -> Result<()> {
        let mut out = io::stdout().lock();
        if format == Format::Text {
            writeln!(
                out,
                "{:<16}{:<24}{:>12}{:>12}{:>12}  {:<10}{:>8}",
                "workload", "contender", "median", "lowest", "highest", "", "ratio"
            )?;
        }
        for figure in &self.0 {
            let (lowest, highest) = figure.rounds.range();
            let line = Line {
                workload: figure.workload.to_string(),
                contender: figure.contender,
                unit: figure.unit,
                median: figure.rounds.median(),
                lowest,
                highest,
                rounds,
                ratio: self.ratio(figure),
            };
            match format {
                Format::Json => writeln!(out, "{}", serde_json::to_string(&line)?)?,
                Format::Text => {
                    let ratio = line
                        .ratio
                        .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
                    let digits = if figure.unit == Unit::PerSecond { 0 } else { 2 };
                    let Line {
                        workload,
                        contender,
                        median,
                        ..
                    } = line;
                    writeln!(
                        out,
                        "{workload:<16}{contender:<24}{median:>12.digits$}{lowest:>12.digits$}{highest:>12.digits$}  {:<10}{ratio:>8}",
                        figure.unit.text()
                    )?;
                }
            }
        }
        Ok(())
    }
}
