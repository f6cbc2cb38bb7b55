//! Logs: to standard error, and only what needs somebody's attention unless RUST_LOG asks for more.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::screen::Screen;

/// What is logged by default. That an event has no handler is no news here: GitHub sends more
/// kinds of events than the demo has handlers for, and the summary counts them. That a statement was
/// slow is news for those who look for it. Errors of handlers are part of what the demo shows.
const DEFAULT_FILTER: &str = "warn,tidings::processor=error,tidings::handler_errors=off,sqlx=error";

/// The environment variable says something that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable RUST_LOG is no filter; try RUST_LOG=tidings=debug, or unset it")]
pub(crate) struct BadFilter(#[source] ParseError);

/// Logs from now on.
pub(crate) fn start(screen: &Screen) -> Result<(), BadFilter> {
    let filter = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter).map_err(BadFilter)?)
        .with_writer(screen.clone())
        .with_ansi(io::stderr().is_terminal())
        // A standard error that nobody reads is no reason to end.
        .log_internal_errors(false)
        .init();
    Ok(())
}
