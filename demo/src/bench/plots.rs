//! Pictures of what was measured, as SVG.

use std::{fs, ops::Range, path::Path};

use plotters::prelude::*;

use super::{Result, figures::Figures, sample::Sample, unit::Unit, workloads::Workload};

const SIZE: (u32, u32) = (880, 520);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(90, 90, 90),
];
/// Into how many parts a distribution is cut, so that its end shows.
const STEPS: u32 = 1000;

/// A line with its name.
type Line = (String, Vec<(f64, f64)>);

/// A picture.
struct Plot<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
}

/// Writes what there is to be seen into a directory, which is made if it is not there.
pub(super) fn write(figures: &Figures, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for workload in [Workload::Latency, Workload::EndToEnd] {
        let all = figures.distributions(workload);
        let lines: Vec<_> = all
            .map(|(contender, sample)| (contender.to_owned(), distribution(sample)))
            .collect();
        let title = format!("{workload}: share of events whose handler has started");
        let plot = Plot {
            title: &title,
            x: "milliseconds since the event",
            y: "percent",
        };
        plot.write(&lines, &directory.join(format!("{workload}.svg")))?;
    }
    let plot = Plot {
        title: "drain: throughput over the backlog",
        x: "events that wait at the start",
        y: "requests per second",
    };
    plot.write(&throughputs(figures), &directory.join("backlog.svg"))
}

/// Which share of the samples, in percent, lies below which of them.
fn distribution(sample: &Sample) -> Vec<(f64, f64)> {
    let shares = (1..=STEPS).map(|step| f64::from(step) / f64::from(STEPS));
    let quantiles = sample.quantiles(shares.clone());
    quantiles.zip(shares.map(|share| share * 100.0)).collect()
}

/// Throughput over the number of events, a line for each contender.
fn throughputs(figures: &Figures) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for figure in figures.all() {
        let is_throughput = figure.workload == Workload::Backlog && figure.unit == Unit::PerSecond;
        let Some(events) = figure.events.filter(|_| is_throughput) else {
            continue;
        };
        let point = (events as f64, figure.rounds.median());
        match lines.iter_mut().find(|(name, _)| name == figure.contender) {
            Some((_, points)) => points.push(point),
            None => lines.push((figure.contender.to_owned(), vec![point])),
        }
    }
    lines
}

/// From the least to the greatest, for a logarithmic scale.
fn range(points: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let above_zero = points.filter(|point| *point > 0.0);
    let (least, most) = above_zero.fold((f64::MAX, f64::MIN), |(least, most), point| {
        (least.min(point), most.max(point))
    });
    (least <= most).then_some(least * 0.9..most * 1.1)
}

impl Plot<'_> {
    /// Writes it, if there is anything to be seen.
    fn write(&self, lines: &[Line], file: &Path) -> Result<()> {
        let points = || lines.iter().flat_map(|(_, points)| points);
        let (Some(x), Some(y)) = (
            range(points().map(|(x, _)| *x)),
            range(points().map(|(_, y)| *y)),
        ) else {
            return Ok(());
        };
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        self.draw(lines, x, 0.0..y.end, &area)
            .map_err(|error| format!("{} cannot be drawn: {error}", file.display()).into())
    }

    fn draw<'f>(
        &self,
        lines: &[Line],
        x: Range<f64>,
        y: Range<f64>,
        area: &DrawingArea<SVGBackend<'f>, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'f> as DrawingBackend>::ErrorType>> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(72)
            .build_cartesian_2d(x.log_scale(), y)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .label_style(("sans-serif", 14))
            .light_line_style(WHITE)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        for ((name, points), colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .label_font(("sans-serif", 14))
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        area.present()
    }
}

/// A number as people write it.
fn short(number: f64) -> String {
    match number {
        _ if number >= 1e6 => format!("{} M", number / 1e6),
        _ if number >= 1e3 => format!("{} k", number / 1e3),
        _ => format!("{}", (number * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::OURS;

    #[test]
    fn a_picture_shows_each_contender_and_one_of_nothing_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let mut figures = Figures::default();
        for (events, rate) in [(1000, 50.0), (10_000, 70.0)] {
            let (workload, unit) = (Workload::Backlog, Unit::PerSecond);
            figures.note_of(workload, OURS, Some(events), unit, rate);
            figures.note_of(workload, "R3", Some(events), unit, 2.0 * rate);
        }
        let sample = Sample::of([0.5, 0.6, 2.0]);
        figures.note_latency(Workload::Latency, OURS, &sample);
        write(&figures, directory.path()).unwrap();
        let read = |name| fs::read_to_string(directory.path().join(name));
        let (backlog, latency) = (read("backlog.svg").unwrap(), read("latency.svg").unwrap());
        assert!(backlog.contains(OURS) && backlog.contains("R3"));
        // A line, and its mark in the legend.
        for colour in ["#1F77B4", "#D62728"] {
            assert_eq!(backlog.matches(colour).count(), 2, "{colour}");
        }
        assert!(latency.contains(OURS) && latency.contains("#1F77B4"));
        assert!(read("end-to-end.svg").is_err());
    }

    #[test]
    fn the_end_of_a_distribution_is_its_greatest() {
        let points = distribution(&Sample::of([3.0, 1.0, 2.0]));
        assert_eq!(points.last(), Some(&(3.0, 100.0)));
        assert_eq!(points.first(), Some(&(1.0, 0.1)));
    }

    #[test]
    fn what_is_zero_has_no_place_on_a_logarithmic_scale() {
        assert_eq!(range([0.0, 10.0].into_iter()), Some(9.0..11.0));
        assert_eq!(range([0.0].into_iter()), None);
    }
}
