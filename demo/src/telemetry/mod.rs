//! Where the demo's metrics and traces go: files of JSON lines, for people with `less` and `jq`.
//! A service would send them to a collector instead; for the library that makes no difference.

mod attributes;
mod json_lines;
mod metrics;
mod spans;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};
use tidings::Telemetry;
use tokio::{sync::oneshot, time::timeout};

use self::{json_lines::JsonLines, metrics::MetricLines, spans::SpanLines};
use crate::arguments::Arguments;

/// Where telemetry goes if nobody says: where builds go, so that it reaches no repository.
const DEFAULT_DIRECTORY: &str = "target/telemetry";
/// Directories that are tried if others are taken by other demos.
const MAX_DIRECTORIES: usize = 100;
/// When a file goes on as a new one.
const MAX_FILE_LEN: u64 = 64 * 1024 * 1024;
/// How often the values of metrics are written.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// How long writing the rest may take: the end of the demo has ten seconds altogether.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Why telemetry is missing or not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error(
        "cannot write telemetry to {path:?}; choose a directory with --telemetry, or --no-telemetry"
    )]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "another demo writes its telemetry to {directory:?}; choose another directory with --telemetry"
    )]
    Taken { directory: PathBuf },
    #[error("the last metrics and spans could not be written within {} s", FINISH_TIMEOUT.as_secs())]
    TimedOut,
}

/// Where a run's telemetry goes.
#[derive(Debug)]
pub(crate) struct Exports {
    directory: PathBuf,
    files: [Arc<JsonLines>; 2],
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
}

impl Exports {
    /// Opens the files that the arguments ask for; `None` if they ask for none.
    pub(crate) fn open(arguments: &Arguments) -> Result<Option<Self>, TelemetryError> {
        if let Some(directory) = &arguments.telemetry {
            let taken = || TelemetryError::Taken {
                directory: directory.clone(),
            };
            return Self::open_in(directory)?.ok_or_else(taken).map(Some);
        }
        if arguments.no_telemetry || arguments.drain {
            return Ok(None);
        }
        for number in 1..=MAX_DIRECTORIES {
            let directory = match number {
                1 => DEFAULT_DIRECTORY.to_owned(),
                _ => format!("{DEFAULT_DIRECTORY}-{number}"),
            };
            if let Some(exports) = Self::open_in(Path::new(&directory))? {
                return Ok(Some(exports));
            }
        }
        Err(TelemetryError::Taken {
            directory: DEFAULT_DIRECTORY.into(),
        })
    }

    fn open_in(directory: &Path) -> Result<Option<Self>, TelemetryError> {
        let failed = |source| TelemetryError::Write {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let open = |name| JsonLines::create(directory.join(name), MAX_FILE_LEN).map_err(failed);
        let (Some(traces), Some(metrics)) = (open("traces.jsonl")?, open("metrics.jsonl")?) else {
            return Ok(None);
        };
        let (traces, metrics) = (Arc::new(traces), Arc::new(metrics));
        let resource = Resource::builder()
            .with_service_name("tidings-demo")
            .build();
        // Spans are written one by one when they end: the queue of a batch would drop some of them
        // in a burst.
        let tracers = SdkTracerProvider::builder()
            .with_simple_exporter(SpanLines(Arc::clone(&traces)))
            .with_resource(resource.clone())
            .build();
        let reader = PeriodicReader::builder(MetricLines(Arc::clone(&metrics)))
            .with_interval(METRICS_INTERVAL);
        let meters = SdkMeterProvider::builder()
            .with_reader(reader.build())
            .with_resource(resource)
            .build();
        Ok(Some(Self {
            directory: directory.to_owned(),
            files: [traces, metrics],
            tracers,
            meters,
        }))
    }

    /// What a scheduler takes.
    pub(crate) fn telemetry(&self) -> Telemetry {
        Telemetry::builder()
            .prefix("demo")
            .meter_provider(self.meters.clone())
            .tracer_provider(self.tracers.clone())
            .build()
    }

    /// Where the files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the rest and closes everything. To be called when nothing makes spans any more.
    pub(crate) async fn finish(self) -> Result<(), TelemetryError> {
        let (answer, answered) = oneshot::channel();
        // A thread that nobody waits for: the file system may hang.
        let writing = thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || {
                drop(answer.send(self.finish_blocking()));
            });
        writing.map_err(|source| TelemetryError::Write {
            path: PathBuf::new(),
            source,
        })?;
        match timeout(FINISH_TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(TelemetryError::TimedOut),
        }
    }

    fn finish_blocking(&self) -> Result<(), TelemetryError> {
        // Spans first: ending them may still count in a metric. Errors of the providers come from
        // the files, which tell theirs with their path below.
        drop(self.tracers.shutdown());
        drop(self.meters.shutdown());
        for file in &self.files {
            let path = file.path().to_owned();
            file.finish()
                .map_err(|source| TelemetryError::Write { path, source })?;
        }
        Ok(())
    }
}
