//! The command line: what can be asked of the demo.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, StringValueParser, TypedValueParser},
};

#[cfg(unix)]
use crate::attack::{AttackOptions, WorkerOptions};
use crate::{
    bench::{BenchOptions, PartOptions},
    store::StoreUrl,
};

/// Shows tidings at work: raises events, handles them, and tells what happens.
///
/// Without options it raises an application event and a domain event a second, until Ctrl-C. One
/// handler always fails, so that retries and dead requests show. With --input it raises the events
/// of a file beside them, and with --drain it raises only those, handles all of them and ends.
#[derive(Debug, Parser)]
#[command(version, after_long_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Where events are kept: memory:, sqlite:FILE, postgres://…, mysql://… or mariadb://…
    ///
    /// In memory, everything ends with the demo. A database keeps it; the demo makes the tables that
    /// it needs. Demos on one database share the work, and all their counts are those of the
    /// database. What holds a password is better given in the environment.
    #[arg(long, value_name = "URL", env = "TIDINGS_STORE", hide_env_values = true, default_value = "memory:",
        value_parser = StringValueParser::new().map(StoreUrl::from))]
    pub(crate) store: StoreUrl,

    /// How long to wait for a database that is away, at the start and while an input is read and
    /// drained
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u32,

    /// How long a demo that was killed keeps its work from others, from 0.1 to 86400
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = lease)]
    pub(crate) lease: Duration,

    /// Raises the events of FILE, one CloudEvents 1.0 object in JSON a line; - is standard input
    ///
    /// `type` becomes the event's name, `entityname` and `subject` its entity, `time` its
    /// timestamp; `data` is kept as it is, and every other attribute becomes a header. Lines that
    /// repeat `source`, `id` and `time` are raised once. All lines are checked before the first
    /// event is raised; what cannot be read twice goes through a temporary file.
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().map(Input::from))]
    pub(crate) input: Option<Input>,

    /// Ends when every event of the input is handled, and prints a summary
    ///
    /// On a database it waits until nothing at all is left in it: while another demo goes on raising
    /// events there, it does not end, and says after a while what is still open.
    #[arg(long, requires = "input")]
    pub(crate) drain: bool,

    /// How the summary is printed; json: one object as the last line of standard output
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "drain")]
    pub(crate) format: Format,

    /// Skips bad lines of the input, and counts them on standard error
    ///
    /// Without it, a bad line ends the demo with exit code 2 before anything is raised.
    #[arg(long, requires = "input")]
    pub(crate) skip_bad_lines: bool,

    /// What makes processing and executing work together
    #[arg(long, value_enum, default_value_t = SchedulerKind::Concurrent)]
    pub(crate) scheduler: SchedulerKind,

    /// How many handlers run at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: u16,

    /// Writes metrics and traces into DIR, as metrics.jsonl and traces.jsonl
    ///
    /// Each line is one JSON object: a finished span, or the value of a metric every 10 seconds
    /// and at the end. Files of an earlier run are replaced. A file that reaches 64 MiB goes on as
    /// a new one, and one older file is kept beside it. [default: target/telemetry; none with
    /// --drain]
    #[arg(long, value_name = "DIR", conflicts_with = "no_telemetry")]
    pub(crate) telemetry: Option<PathBuf>,

    /// Writes no metrics and no traces
    #[arg(long)]
    pub(crate) no_telemetry: bool,
}

fn lease(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.1..=86400.0).contains(seconds));
    let lease = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    lease.ok_or_else(|| "write a number of seconds from 0.1 to 86400".to_owned())
}

const AFTER_HELP: &str = "\
Signals: Ctrl-C or SIGTERM lets running handlers end, writes the rest of the telemetry and stops, \
within 10 seconds; a second one stops at once.

Exit codes: 0 all went well, or stopped as asked; 1 something failed; 2 the command line or the \
input is wrong; 130 or 143 a signal came before --drain was done, or a second time.

Environment: TIDINGS_STORE is the URL of --store; RUST_LOG chooses what is logged to standard error, for example RUST_LOG=tidings=debug.";

/// What else the demo can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bench(BenchOptions),
    #[command(hide = true)]
    BenchPart(PartOptions),
    #[cfg(unix)]
    Attack(AttackOptions),
    #[cfg(unix)]
    #[command(hide = true)]
    AttackWorker(WorkerOptions),
}

/// Where events are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl From<OsString> for Input {
    fn from(text: OsString) -> Self {
        if text == "-" {
            Self::Stdin
        } else {
            Self::File(text.into())
        }
    }
}

/// How the summary is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Which scheduler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchedulerKind {
    /// One loop that alternates between processing and executing
    Cooperative,
    /// Processing and executing at the same time
    Concurrent,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["demo"], arguments].concat())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_lone_dash_is_standard_input_and_not_a_file() {
        assert_eq!(parse(&["--input", "-"]).unwrap().input, Some(Input::Stdin));
        assert_eq!(
            parse(&["--input", "./-"]).unwrap().input,
            Some(Input::File("./-".into()))
        );
    }

    #[test]
    fn a_lease_may_be_shorter_than_a_second() {
        let arguments = parse(&["--lease", "0.5"]).unwrap();
        assert_eq!(arguments.lease, Duration::from_millis(500));
        assert_eq!(parse(&[]).unwrap().lease, Duration::from_secs(30));
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        for useless in [
            &["--drain"] as &[&str],
            &["--skip-bad-lines"],
            &["--format", "json"],
            &["--input", "x", "--format", "json"],
            &["--telemetry", "x", "--no-telemetry"],
            &["--workers", "0"],
            &["--workers", "1025"],
            &["--lease", "0"],
            &["--lease", "inf"],
            &["--lease", "-1"],
        ] {
            assert!(parse(useless).is_err(), "{useless:?}");
        }
        assert!(parse(&["--input", "x", "--drain", "--format", "json"]).is_ok());
    }
}
