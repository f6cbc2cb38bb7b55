//! The demo of tidings: events raised, handled and counted before your eyes.

mod arguments;
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
mod run;
mod screen;
mod session;
mod shutdown;
mod status;
mod summary;
mod tallies;
mod telemetry;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::{arguments::Arguments, failure::Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A standard error that nobody reads leaves the exit code.
            drop(writeln!(io::stderr(), "demo: {}", failure.report()));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::System)?;
    let ended = runtime.block_on(run::run(arguments));
    // A handler that blocks its thread must not keep the process.
    runtime.shutdown_background();
    ended
}
