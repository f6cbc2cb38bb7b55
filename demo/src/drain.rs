//! Raises the events of an input, handles all of them and ends.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

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
        cause = stop.requested() => Err(match Status::read(&*session.store).await {
            Ok(status) => Failure::Stopped { cause, left: status.to_string() },
            Err(error) => Failure::store("counting what is left")(error),
        }),
    };
    let seconds = start.elapsed().as_secs_f64();
    progress.bar.finish_and_clear();
    let stopped = session.stop().await;
    let imported = handled?;
    let summary = Summary::read(&*session.store, session.tallies.read(), seconds)
        .await
        .map_err(Failure::store("counting what was done"))?;
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
    let asking = Failure::store("counting what is left");
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if status::is_all_handled(&*session.store)
            .await
            .map_err(&asking)?
        {
            return Ok(imported);
        }
        if progress.is_due() {
            progress.handled(&Status::read(&*session.store).await.map_err(&asking)?);
        }
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
