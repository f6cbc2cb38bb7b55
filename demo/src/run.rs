//! Runs the demo as its arguments ask.

use crate::{
    arguments::{Arguments, SchedulerKind},
    drain,
    failure::Failure,
    input::{self, OnBadLine, Reading},
    live, logging,
    screen::Screen,
    session::Session,
    shutdown::Stop,
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
    // Before anything else begins: a bad line ends the demo with nothing raised.
    let reading = tokio::select! {
        reading = check_input(&arguments) => reading?,
        cause = stop.requested() => {
            let left = "the input was not read to its end, and nothing was raised".to_owned();
            return if arguments.drain { Err(Failure::Stopped { cause, left }) } else { Ok(()) };
        }
    };
    let session = Session::start(&arguments).await?;
    match reading {
        Some(reading) if arguments.drain => {
            drain::run(session, reading, arguments.format, &screen, &stop).await
        }
        reading => {
            let greeting = greeting(&arguments, &session);
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

fn greeting(arguments: &Arguments, session: &Session) -> String {
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
        "tidings demo: in memory, {scheduler} scheduler, {workers} workers, {telemetry}. Ctrl-C stops."
    )
}
