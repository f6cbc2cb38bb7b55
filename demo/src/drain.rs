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
    loop {
        let start = Instant::now();
        let is_all_handled = session
            .patience
            .retry("counting what is left", async || {
                if status::is_all_handled(&*session.store).await? {
                    return Ok(true);
                }
                if progress.is_due() {
                    progress.handled(&Status::read(&*session.store).await?);
                }
                Ok(false)
            })
            .await?;
        if is_all_handled {
            return Ok(imported);
        }
        sleep(status::pause(start.elapsed(), LOOK_INTERVAL)).await;
    }
}

/// What is left when a stop was asked for.
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
