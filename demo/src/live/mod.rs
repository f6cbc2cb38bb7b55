//! The demo that runs until it is stopped: raises its own events and shows what happens.

mod shop;
mod view;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use tidings::{ErrorChain, StoreError};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use self::view::{Shown, View};
use crate::{
    failure::Failure,
    import::import,
    input::Reading,
    screen::Screen,
    session::Session,
    shutdown::Stop,
    status::{self, Status},
    store::Impatience,
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
    let has_tallies = reading.is_some() || !session.is_in_memory();
    let view = Arc::new(View::new(screen.clone(), has_tallies));
    let ended = tokio::select! {
        never = shop::raise_for_ever(&session) => match never {},
        failure = import_beside(&session, reading, screen) => Err(failure),
        failure = watch(&session, greeting, &view) => Err(failure),
        cause = stop.requested() => Ok(cause),
    };
    drop(timeout(SHOW_TIMEOUT, write(&view, View::stopping)).await);
    let stopped = session.stop().await;
    let shown = timeout(SHOW_TIMEOUT, show_last(&session, &view))
        .await
        .unwrap_or(Ok(()));
    session.close().await;
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
        sleep(FIRST_STATUS).await;
        let mut is_away = false;
        loop {
            let start = Instant::now();
            match look(session).await {
                Ok(shown) => {
                    is_away = false;
                    write(view, move |view| view.show(&shown)).await?;
                }
                // The store comes back, and everything goes on; a view has nothing else to do.
                Err(error) if error.is_transient() => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(error = %ErrorChain(&error), "the store does not tell the status");
                    }
                }
                Err(error) => return Err(asking(error)),
            }
            sleep(status::pause(start.elapsed(), period)).await;
        }
    }
    .await;
    match failed {
        Err(failure) => failure,
        Ok(never) => match never {},
    }
}

/// Asks for what is shown.
async fn look(session: &Session) -> tidings::Result<Shown> {
    Ok(Shown {
        status: Status::read(&*session.store).await?,
        tallies: session.tallies.read(&*session.store).await?,
        happenings: session.happenings.last(),
    })
}

fn asking(error: StoreError) -> Failure {
    Impatience::at_once("asking for the status", error).into()
}

/// Shows how it is at the end.
async fn show_last(session: &Session, view: &Arc<View>) -> Result<(), Failure> {
    match look(session).await {
        Ok(shown) => write(view, move |view| view.last(&shown)).await,
        // It was stopped as asked; that nobody knows the counts is no failure.
        Err(error) if error.is_transient() => write(view, View::last_unknown).await,
        Err(error) => Err(asking(error)),
    }
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
