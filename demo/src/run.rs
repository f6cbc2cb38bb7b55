//! Runs the demo as its arguments ask.

use crate::{
    arguments::{Arguments, SchedulerKind},
    drain,
    failure::Failure,
    input::{self, OnBadLine, Reading},
    live, logging,
    screen::Screen,
    session::Session,
    shutdown::{Stop, StopCause},
    store::Target,
};

/// Runs until everything is done, or until it is told to stop.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let stop = Stop::on_signals().map_err(Failure::System)?;
    let screen = if arguments.drain {
        Screen::stderr()
    } else {
        Screen::stdout()
    };
    logging::start(&screen)?;
    let target = arguments.store.target()?;
    // Before anything else begins: a bad line ends the demo with nothing raised.
    let reading = tokio::select! {
        reading = check_input(&arguments) => reading?,
        cause = stop.requested() => {
            return stopped(&arguments, cause, "the input was not read to its end");
        }
    };
    let session = tokio::select! {
        session = Session::start(&arguments, target, &screen) => session?,
        cause = stop.requested() => return stopped(&arguments, cause, "the store was not open"),
    };
    match reading {
        Some(reading) if arguments.drain => {
            drain::run(session, reading, arguments.format, &screen, &stop).await
        }
        reading => {
            let greeting = greeting(&arguments, target, &session);
            live::run(session, reading, greeting, &screen, &stop).await
        }
    }
    // Whoever closes standard output has read enough.
    .or_else(|failure| {
        if failure.is_closed_output() {
            Ok(())
        } else {
            Err(failure)
        }
    })
}

/// What an early stop means: a drain was broken off.
fn stopped(arguments: &Arguments, cause: StopCause, why: &str) -> Result<(), Failure> {
    if arguments.drain {
        let left = format!("{why}, and nothing was raised");
        Err(Failure::Stopped { cause, left })
    } else {
        Ok(())
    }
}

async fn check_input(arguments: &Arguments) -> Result<Option<Reading>, Failure> {
    let Some(input) = arguments.input.clone() else {
        return Ok(None);
    };
    let on_bad_line = if arguments.skip_bad_lines {
        OnBadLine::Skip
    } else {
        OnBadLine::Stop
    };
    Ok(Some(input::check(input, on_bad_line).await?))
}

fn greeting(arguments: &Arguments, target: Target<'_>, session: &Session) -> String {
    let scheduler = match arguments.scheduler {
        SchedulerKind::Concurrent => "concurrent",
        SchedulerKind::Cooperative => "cooperative",
    };
    let telemetry = session.exports().map_or_else(
        || "no telemetry".to_owned(),
        |exports| format!("metrics and traces in {}", exports.directory().display()),
    );
    let workers = arguments.workers;
    format!(
        "tidings demo: {target}, {scheduler} scheduler, {workers} workers, {telemetry}. Ctrl-C stops."
    )
}
