//! Raises the events of an input, handles all of them and ends.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{sleep, timeout};

use crate::{
    arguments::Format,
    failure::Failure,
    import::{Imported, import},
    input::Reading,
    screen::Screen,
    session::Session,
    shutdown::Stop,
    status::{self, Status},
    summary::Summary,
};

/// How often to look whether everything is handled: seldom enough to cost nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// How often the bar moves meanwhile: its numbers cost more than that look.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);

/// How long to ask what is left when a stop was asked for.
const LEFT_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs until everything is handled, or until it is told to stop.
pub(crate) async fn run(
    mut session: Session,
    reading: Reading,
    format: Format,
    screen: &Screen,
    stop: &Stop,
) -> Result<(), Failure> {
    let start = Instant::now();
    let progress = Progress::new(screen, reading.events());
    let handled = tokio::select! {
        handled = handle(&session, reading, screen, &progress) => handled,
        cause = stop.requested() => Err(Failure::Stopped { cause, left: left(&session).await }),
    };
    let seconds = start.elapsed().as_secs_f64();
    progress.bar.finish_and_clear();
    let stopped = session.stop().await;
    let imported = handled?;
    let summary = session
        .patience
        .retry("counting what was done", async || {
            let tallies = session.tallies.read(&*session.store).await?;
            Summary::read(&*session.store, tallies, seconds).await
        })
        .await?;
    session.close().await;
    // Telemetry that is not complete is no reason to keep the numbers back.
    summary.print(format, &imported, screen).and(stopped)
}

async fn handle(
    session: &Session,
    reading: Reading,
    screen: &Screen,
    progress: &Progress,
) -> Result<Imported, Failure> {
    let imported = import(session, reading, screen, |imported| {
        progress.raised(imported)
    })
    .await?;
    let mut standstill = Standstill::new(Instant::now());
    loop {
        let start = Instant::now();
        let open = session
            .patience
            .retry("counting what is left", async || {
                let open = status::count_open(&*session.store).await?;
                if open > 0 && progress.is_due() {
                    progress.handled(&Status::read(&*session.store).await?);
                }
                Ok(open)
            })
            .await?;
        if open == 0 {
            return Ok(imported);
        }
        if standstill.is_to_be_told(open, Instant::now()) {
            let left = left(session).await;
            let others = if session.is_in_memory() {
                ""
            } else {
                "; others may be raising events in this database, and --drain waits for theirs, too"
            };
            screen.complain(&format!(
                "demo: not everything is handled yet: {left}{others}"
            ));
        }
        sleep(status::pause(start.elapsed(), LOOK_INTERVAL)).await;
    }
}

/// Whether less and less is left, as it should be.
struct Standstill {
    /// The least that was left so far.
    least: u64,
    /// When to tell that it does not get less.
    tell_at: Instant,
}

impl Standstill {
    /// Longer than anything of the demo backs off between the first errors.
    const TELL_AFTER: Duration = Duration::from_secs(5);
    /// Told for whoever comes back to the terminal, not to fill it.
    const TELL_AGAIN_AFTER: Duration = Duration::from_secs(60);

    fn new(now: Instant) -> Self {
        Self {
            least: u64::MAX,
            tell_at: now + Self::TELL_AFTER,
        }
    }

    /// Whether it is time to tell that what is `open` has not become less for long.
    fn is_to_be_told(&mut self, open: u64, now: Instant) -> bool {
        if open < self.least {
            self.least = open;
            self.tell_at = now + Self::TELL_AFTER;
        }
        let is_due = now >= self.tell_at;
        if is_due {
            self.tell_at = now + Self::TELL_AGAIN_AFTER;
        }
        is_due
    }
}

/// What is left, as far as the store tells in time.
async fn left(session: &Session) -> String {
    match timeout(LEFT_TIMEOUT, Status::read(&*session.store)).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(_)) | Err(_) => "how much is left, the store does not tell".to_owned(),
    }
}

/// The bar: events as they are raised, then handler requests as they end.
struct Progress {
    bar: ProgressBar,
    shown_at: Cell<Instant>,
}

impl Progress {
    fn new(screen: &Screen, events: Option<u64>) -> Self {
        let bar = events.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let style =
            ProgressStyle::with_template("{msg:>10} {wide_bar} {human_pos}/{human_len}  {elapsed}");
        let bar = screen
            .bars()
            .add(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        bar.set_message("raising");
        Self {
            bar,
            shown_at: Cell::new(Instant::now()),
        }
    }

    fn raised(&self, imported: &Imported) {
        self.bar.set_position(imported.raised + imported.repeated);
    }

    /// Whether it is time to ask for numbers that somebody can see.
    fn is_due(&self) -> bool {
        !self.bar.is_hidden() && self.shown_at.get().elapsed() >= SHOW_INTERVAL
    }

    fn handled(&self, status: &Status) {
        self.shown_at.set(Instant::now());
        let ended = status.completed + status.dead;
        self.bar.set_message("handling");
        self.bar.set_length(ended + status.unexecuted);
        self.bar.set_position(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_told_after_a_while_and_rarely_again() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut standstill = Standstill::new(begin);
        let told: Vec<u64> = (0..200)
            .filter(|second| {
                // Less and less for 10 s, then somebody else raises as much as is handled.
                let open = 20_u64.saturating_sub(*second).max(10) + second % 2;
                standstill.is_to_be_told(open, at(*second))
            })
            .collect();
        assert_eq!(told, [15, 75, 135, 195]);
    }
}
