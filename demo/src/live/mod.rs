//! The demo that runs until it is stopped: raises its own events and shows what happens.

mod shop;
mod view;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use self::view::{Shown, View};
use crate::{
    failure::Failure, import::import, input::Reading, screen::Screen, session::Session,
    shutdown::Stop, status::Status,
};

/// How often the status is shown where it updates in place.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(500);
/// How often a line of status is written elsewhere.
const PIPE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the end waits for somebody to read what is shown.
const SHOW_TIMEOUT: Duration = Duration::from_millis(500);
/// When it is shown first: when there is something to see.
const FIRST_STATUS: Duration = Duration::from_millis(500);

/// Runs until it is told to stop.
pub(crate) async fn run(
    mut session: Session,
    reading: Option<Reading>,
    greeting: String,
    screen: &Screen,
    stop: &Stop,
) -> Result<(), Failure> {
    let view = Arc::new(View::new(screen.clone(), reading.is_some()));
    let ended = tokio::select! {
        never = shop::raise_for_ever(&session) => match never {},
        failure = import_beside(&session, reading, screen) => Err(failure),
        failure = watch(&session, greeting, &view) => Err(failure),
        cause = stop.requested() => Ok(cause),
    };
    drop(timeout(SHOW_TIMEOUT, write(&view, View::stopping)).await);
    let stopped = session.stop().await;
    let shown = timeout(SHOW_TIMEOUT, show(&session, &view, View::last))
        .await
        .unwrap_or(Ok(()));
    ended.map(|_| ()).and(stopped).and(shown)
}

/// Raises the events of an input, if there is one, beside the demo's own; ends only if it fails.
async fn import_beside(session: &Session, reading: Option<Reading>, screen: &Screen) -> Failure {
    if let Some(reading) = reading {
        let name = reading.name().to_owned();
        match import(session, reading, screen, |_| {}).await {
            Ok(imported) => session
                .happenings
                .tell(format!("{name} is read: {imported}")),
            Err(failure) => return failure,
        }
    }
    std::future::pending().await
}

/// Shows the status again and again; ends only if that fails.
async fn watch(session: &Session, greeting: String, view: &Arc<View>) -> Failure {
    let failed: Result<Infallible, Failure> = async {
        write(view, move |view| view.greet(&greeting)).await?;
        let period = if view.is_terminal() {
            TERMINAL_INTERVAL
        } else {
            PIPE_INTERVAL
        };
        let mut ticks = interval_at(Instant::now() + FIRST_STATUS, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            show(session, view, View::show).await?;
        }
    }
    .await;
    match failed {
        Err(failure) => failure,
        Ok(never) => match never {},
    }
}

/// Shows the status once, in one of the view's ways.
async fn show(
    session: &Session,
    view: &Arc<View>,
    how: impl FnOnce(&View, &Shown) -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let status = Status::read(&*session.store)
        .await
        .map_err(Failure::store("asking for the status"))?;
    let shown = Shown {
        status,
        tallies: session.tallies.read(),
        happenings: session.happenings.last(),
    };
    write(view, move |view| how(view, &shown)).await
}

/// Writes beside the runtime's threads: a terminal or a pipe that takes no more holds up nothing
/// else, not even the end.
async fn write(
    view: &Arc<View>,
    how: impl FnOnce(&View) -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let view = Arc::clone(view);
    let written = spawn_blocking(move || how(&view)).await;
    written
        .unwrap_or_else(|error| Err(error.into()))
        .map_err(Failure::Output)
}
