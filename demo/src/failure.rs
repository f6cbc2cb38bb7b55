//! Why the demo ends without having done what it was asked, in words for people.

use std::io;

use tidings::{BuildError, ConfigError, ErrorChain, SchedulerError, StoreError};

use crate::{
    input::InputError,
    logging::BadFilter,
    shutdown::StopCause,
    store::{BadUrl, Impatience, redact},
    telemetry::TelemetryError,
};

/// Anything that ends the demo early. Its [`report`](Self::report) is for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Url(#[from] BadUrl),
    #[error(transparent)]
    Logging(#[from] BadFilter),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("the handlers are not well mapped")]
    Config(#[from] ConfigError),
    #[error("the scheduler cannot be built")]
    Build(#[from] BuildError),
    #[error("the scheduler cannot be started")]
    Scheduler(#[from] SchedulerError),
    #[error("the store {store} cannot be opened")]
    Open {
        store: String,
        #[source]
        source: StoreError,
    },
    #[error(transparent)]
    Store(#[from] Impatience),
    #[error("nothing could be measured")]
    Bench(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the attack could not be made")]
    Attack(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("guarantees were broken in {0} cases")]
    Broken(usize),
    #[error("floors were missed:\n  {0}")]
    Floors(String),
    #[error("the operating system refused what the demo needs")]
    System(#[source] io::Error),
    #[error("standard output cannot be written to")]
    Output(#[source] io::Error),
    #[error("stopped before everything was handled: {left}")]
    Stopped { cause: StopCause, left: String },
}

impl Failure {
    /// 2 for a wrong input, as for a wrong command line; that of a broken-off process; else 1.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Logging(_) | Self::Url(_) => 2,
            Self::Stopped { cause, .. } => cause.exit_code(),
            _ => 1,
        }
    }

    /// Whether standard output was closed.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The failure and all its causes in one text.
    pub(crate) fn report(&self) -> String {
        let text = ErrorChain(self).to_string();
        match self {
            // It shows the forms of URLs, and nothing that was given.
            Self::Url(_) => text,
            // A URL may have been given where a file was asked for.
            _ => redact(&text),
        }
    }
}
