//! What a person sees: on a terminal a few lines that update in place, elsewhere a line now and
//! then.

use std::{
    io,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{happenings::KEPT, screen::Screen, status::Status, tallies::Counts};

/// How fast the spinner turns, which shows that the demo lives.
const SPIN_INTERVAL: Duration = Duration::from_millis(120);

/// Shows what happens.
pub(super) struct View {
    screen: Screen,
    since: Instant,
    /// Whether there is something to tally: an input, or a store in which others count.
    has_tallies: bool,
    /// The line of counts, then those of the last things that happened; none without a terminal.
    lines: Vec<ProgressBar>,
}

/// What is shown.
pub(super) struct Shown {
    pub(super) status: Status,
    pub(super) tallies: Counts,
    pub(super) happenings: Vec<String>,
}

impl View {
    /// Shows nothing yet.
    pub(super) fn new(screen: Screen, has_tallies: bool) -> Self {
        let line = |template| {
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            screen
                .bars()
                .add(ProgressBar::no_length().with_style(style))
        };
        let mut lines = Vec::new();
        if screen.is_terminal() {
            let counts = line("{spinner:.green} {wide_msg}");
            counts.enable_steady_tick(SPIN_INTERVAL);
            lines.push(counts);
            lines.extend((0..KEPT).map(|_| line("{wide_msg:.dim}")));
        }
        Self {
            screen,
            since: Instant::now(),
            has_tallies,
            lines,
        }
    }

    /// Whether it updates in place.
    pub(super) fn is_terminal(&self) -> bool {
        self.screen.is_terminal()
    }

    /// Says once what runs.
    pub(super) fn greet(&self, greeting: &str) -> io::Result<()> {
        self.screen.print(greeting)
    }

    /// Shows how it is now.
    pub(super) fn show(&self, shown: &Shown) -> io::Result<()> {
        let counts = self.counts(shown);
        if self.is_terminal() {
            let texts = [counts].into_iter().chain(shown.happenings.iter().cloned());
            self.lines
                .iter()
                .zip(texts)
                .for_each(|(line, text)| line.set_message(text));
            return Ok(());
        }
        match shown.happenings.last() {
            Some(last) => self
                .screen
                .print(&format!("{counts} · last: {}", last.trim_start())),
            None => self.screen.print(&counts),
        }
    }

    /// Says that the end has begun, where that does not stay.
    pub(super) fn stopping(&self) -> io::Result<()> {
        let text = "stopping: running handlers may end, within seconds; Ctrl-C again stops at once";
        self.lines
            .iter()
            .take(1)
            .for_each(|counts| counts.set_message(text));
        Ok(())
    }

    /// Shows how it is at the end, which stays.
    pub(super) fn last(&self, shown: &Shown) -> io::Result<()> {
        self.lines.iter().for_each(ProgressBar::finish_and_clear);
        self.screen.clear();
        self.screen
            .print(&format!("Stopped: {}", self.counts(shown)))
    }

    /// Says that it ends, when nobody knows how it is.
    pub(super) fn last_unknown(&self) -> io::Result<()> {
        self.lines.iter().for_each(ProgressBar::finish_and_clear);
        self.screen.clear();
        self.screen
            .print("Stopped; the store does not tell its counts")
    }

    fn counts(&self, shown: &Shown) -> String {
        let seconds = self.since.elapsed().as_secs();
        let tallies = if self.has_tallies {
            format!(" · {}", shown.tallies)
        } else {
            String::new()
        };
        format!("{seconds} s · {}{tallies}", shown.status)
    }
}
