//! The demo of tidings: events raised, handled and counted before your eyes.
#![forbid(unsafe_code)]

mod arguments;
#[cfg(unix)]
mod attack;
mod bench;
mod cloud_events;
mod drain;
mod failure;
mod handlers;
mod happenings;
mod import;
mod input;
mod live;
mod logging;
mod payloads;
mod place;
mod run;
mod screen;
mod session;
mod shutdown;
mod status;
mod store;
mod summary;
mod tallies;
mod telemetry;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::{
    arguments::{Arguments, Command},
    failure::Failure,
    store::redact,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A standard error that nobody reads leaves the exit code.
            drop(writeln!(io::stderr(), "demo: {}", failure.report()));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Tells what is wrong with the command line, or what was asked for, as `clap` does; but it would
/// repeat a URL that stands in the wrong place, with its password.
fn refuse(error: &clap::Error) -> ExitCode {
    let styled = error.render();
    let text = |is_terminal| {
        let text = if is_terminal {
            styled.ansi().to_string()
        } else {
            styled.to_string()
        };
        redact(&text)
    };
    // What nobody reads leaves the exit code.
    if error.use_stderr() {
        drop(write!(io::stderr(), "{}", text(io::stderr().is_terminal())));
        ExitCode::from(2)
    } else {
        drop(write!(io::stdout(), "{}", text(io::stdout().is_terminal())));
        ExitCode::SUCCESS
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::System)?;
    let ended = runtime.block_on(async {
        match &arguments.command {
            Some(Command::Bench(options)) => bench::run(options).await,
            Some(Command::BenchPart(options)) => bench::run_part(options).await,
            #[cfg(unix)]
            Some(Command::Attack(options)) => attack::run(options).await,
            #[cfg(unix)]
            Some(Command::AttackWorker(options)) => attack::run_worker(options).await,
            None => run::run(arguments).await,
        }
    });
    // A handler that blocks its thread must not keep the process.
    runtime.shutdown_background();
    ended
}
