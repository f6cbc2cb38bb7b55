//! How what was measured is told.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    Result,
    figures::{Figure, Figures},
    floors::{self, Verdict},
    library::Conditions,
    unit::Unit,
};
use crate::arguments::Format;
use crate::place::System;

/// A figure as a line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    workload: String,
    contender: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    unit: Unit,
    median: f64,
    lowest: f64,
    highest: f64,
    rounds: usize,
    /// The library's median in those of this contender.
    ratio: Option<f64>,
    /// The lowest of the ratios of single rounds.
    ratio_lowest: Option<f64>,
    ratio_highest: Option<f64>,
    floors: Vec<Verdict>,
}

/// First under which conditions it was measured, then the figures.
pub(super) fn print(
    figures: &Figures,
    conditions: &Conditions,
    system: System,
    format: Format,
) -> Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            writeln!(out, "{}", serde_json::to_string(conditions)?)?;
            print_lines(figures, system, out)
        }
        Format::Text => {
            writeln!(out, "{conditions}")?;
            print_table(figures, system, out)
        }
    }
}

fn print_lines(figures: &Figures, system: System, mut out: impl Write) -> Result<()> {
    for figure in figures.all() {
        let (lowest, highest) = figure.rounds.range();
        let ratios = figures.ratio_range(figure);
        let line = Line {
            workload: figure.workload.to_string(),
            contender: figure.contender,
            events: figure.events,
            unit: figure.unit,
            median: figure.rounds.median(),
            lowest,
            highest,
            rounds: figure.rounds.len(),
            ratio: figures.ratio(figure),
            ratio_lowest: ratios.map(|(lowest, _)| lowest),
            ratio_highest: ratios.map(|(_, highest)| highest),
            floors: floors::verdicts(system, figures, figure),
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(())
}

fn print_table(figures: &Figures, system: System, mut out: impl Write) -> Result<()> {
    write!(
        out,
        "{:<14}{:<22}{:>10}{:>10}{:>10} {:<11}{:>6} {:<12} {:<16}",
        "workload", "contender", "median", "lowest", "highest", "", "ratio", "of rounds", "floor"
    )?;
    for (_, heading) in Unit::COSTS {
        write!(out, "{heading:>10}")?;
    }
    writeln!(out)?;
    for figure in figures.all().iter().filter(|one| !one.unit.is_cost()) {
        write_row(figures, system, figure, &mut out)?;
    }
    Ok(())
}

fn write_row(
    figures: &Figures,
    system: System,
    figure: &Figure,
    out: &mut impl Write,
) -> Result<()> {
    let digits = figure.unit.digits();
    let median = figure.rounds.median();
    let (lowest, highest) = figure.rounds.range();
    let ratio = figures
        .ratio(figure)
        .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    let ratios = figures
        .ratio_range(figure)
        .map_or_else(String::new, |(lowest, highest)| {
            format!("{lowest:.2}–{highest:.2}")
        });
    let verdicts = floors::verdicts(system, figures, figure);
    let verdicts: Vec<_> = verdicts.iter().map(Verdict::text).collect();
    let contender = match figure.events {
        Some(events) => format!("{}, {events}", figure.contender),
        None => figure.contender.to_owned(),
    };
    let row = format!(
        "{:<14}{contender:<22}{median:>10.digits$}{lowest:>10.digits$}{highest:>10.digits$} {:<11}{ratio:>6} {ratios:<12} {:<16}",
        figure.workload.to_string(),
        figure.unit.text(),
        verdicts.join(", "),
    );
    write!(out, "{row}")?;
    if figures.is_first(figure) {
        for (unit, cost) in figures.costs(figure) {
            let digits = unit.digits();
            match cost {
                Some(cost) => write!(out, "{cost:>10.digits$}")?,
                None => write!(out, "{:>10}", "none")?,
            }
        }
    }
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workloads::Workload;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for (contender, unit, figure) in [
            ("tidings", Unit::PerSecond, 84.0),
            ("tidings", Unit::WrittenBytesPerRequest, 700.0),
            ("R1", Unit::PerSecond, 100.0),
        ] {
            figures.note(Workload::Raise, contender, unit, figure);
        }
        figures
    }

    #[test]
    fn costs_stand_beside_the_throughput_and_what_is_unknown_is_none() {
        let mut out = Vec::new();
        print_table(&figures(), System::Postgres, &mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|row| row.split_whitespace().collect())
            .collect();
        let [_, ours, bare] = &rows[..] else {
            panic!("{table}");
        };
        assert_eq!(
            ours[..],
            [
                "raise", "tidings", "84", "84", "84", "/s", "700", "none", "none", "none", "none",
                "none", "none"
            ]
        );
        assert_eq!(bare[6..11], ["0.84", "0.84–0.84", "≥", "0.85", "below"]);
    }

    #[test]
    fn each_figure_is_a_line_of_json_also_those_of_costs() {
        let mut out = Vec::new();
        print_lines(&figures(), System::Postgres, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let units: Vec<_> = lines
            .iter()
            .map(|line| line["unit"].as_str().unwrap())
            .collect();
        assert_eq!(
            units,
            ["per_second", "written_bytes_per_request", "per_second"]
        );
        assert_eq!(lines[2]["floors"][0]["holds"], false);
        assert_eq!(lines[2]["ratio_lowest"], 0.84);
    }
}
