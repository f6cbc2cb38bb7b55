//! The instruments: their names, units and bounds, made once for each provider and prefix.

use std::{borrow::Cow, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Counter, Histogram, Meter, UpDownCounter},
};

use super::{
    Reading,
    attributes::{REQUEST_TYPE, text},
    observed::Observed,
};

/// From an event's timestamp on: from a wake-up in the same process to a backlog of minutes.
const AGE_BOUNDS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// Handlers and calls to the store; the bounds that OpenTelemetry recommends for short durations.
const DURATION_BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Up to the default batch size of 1,000, and beyond.
const SIZE_BOUNDS: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0,
];

/// All instruments of one provider and prefix. What they mean is told in `telemetry.md`.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) events_successes: Counter<u64>,
    pub(super) events_failures: Counter<u64>,
    pub(super) events_unhandled: Counter<u64>,
    pub(super) events_processing_time: Histogram<f64>,
    pub(super) requests_successes: Counter<u64>,
    pub(super) requests_failures: Counter<u64>,
    pub(super) requests_snoozes: Counter<u64>,
    pub(super) requests_cancellations: Counter<u64>,
    pub(super) requests_execution_time: Histogram<f64>,
    pub(super) requests_rescued: Counter<u64>,
    pub(super) requests_fenced: Counter<u64>,
    pub(super) events_pruned: Counter<u64>,
    pub(super) requests_pruned: Counter<u64>,
    pub(super) handler_executions: Counter<u64>,
    pub(super) handler_execution_time: Histogram<f64>,
    pub(super) scheduler_status: UpDownCounter<i64>,
    pub(super) workers: UpDownCounter<i64>,
    pub(super) notifications: Counter<u64>,
    pub(super) batch_size: Histogram<u64>,
    pub(super) store_duration: Histogram<f64>,
    pub(super) store_errors: Counter<u64>,
    pub(super) observed: Arc<Observed>,
}

impl Metrics {
    /// `prefix` is empty or ends with a dot.
    pub(super) fn new(meter: &Meter, prefix: &str) -> Self {
        let make = Make { meter, prefix };
        let observed = Arc::new(Observed::default());
        make.gauges(&observed);
        Self {
            events_successes: make.counter(
                "events.processed.successes",
                "{event}",
                "Events that were fanned out",
            ),
            events_failures: make.counter(
                "events.processed.failures",
                "{event}",
                "Failures to process an event, each of which backs off",
            ),
            events_unhandled: make.counter(
                "events.processed.unhandled",
                "{event}",
                "Events that were fanned out and that no registration wants",
            ),
            events_processing_time: make.time(
                "events.processing_time",
                AGE_BOUNDS,
                "Time from an event's timestamp until it was fanned out",
            ),
            requests_successes: make.counter(
                "requests.executed.successes",
                "{request}",
                "Handler requests that were completed",
            ),
            requests_failures: make.counter(
                "requests.executed.failures",
                "{request}",
                "Executions of handler requests that counted an error",
            ),
            requests_snoozes: make.counter(
                "requests.executed.snoozes",
                "{request}",
                "Executions of handler requests that were put off without an error",
            ),
            requests_cancellations: make.counter(
                "requests.executed.cancellations",
                "{request}",
                "Handler requests that their handler canceled",
            ),
            requests_execution_time: make.time(
                "requests.execution_time",
                AGE_BOUNDS,
                "Time from an event's timestamp until a handler request was completed",
            ),
            requests_rescued: make.counter(
                "requests.rescued",
                "{request}",
                "Handler requests that were taken back from a lost process",
            ),
            requests_fenced: make.counter(
                "requests.settlements.refused",
                "{settlement}",
                "Settlements that the fence refused",
            ),
            events_pruned: make.counter(
                "events.pruned",
                "{event}",
                "Events that a scheduler deleted, since nobody needed them any more",
            ),
            requests_pruned: make.counter(
                "requests.pruned",
                "{request}",
                "Handler requests that a scheduler deleted with their events",
            ),
            handler_executions: make.counter(
                "event_handlers.executions",
                "{execution}",
                "Runs of event handlers",
            ),
            handler_execution_time: make.time(
                "event_handlers.execution_time",
                DURATION_BOUNDS,
                "Time that an event handler ran",
            ),
            scheduler_status: make.up_down_counter(
                "events.scheduler.status",
                "{scheduler}",
                "Schedulers by the state that they are in",
            ),
            workers: make.up_down_counter(
                "events.scheduler.workers",
                "{worker}",
                "Workers that are busy and idle",
            ),
            notifications: make.counter(
                "events.store.notifications",
                "{notification}",
                "Wake-ups of a waiting scheduler by raised events",
            ),
            batch_size: make
                .meter
                .u64_histogram(make.name("events.store.batch.size"))
                .with_unit("{item}")
                .with_description(
                    "Events or handler requests in one call to the store that had some",
                )
                .with_boundaries(SIZE_BOUNDS.into())
                .build(),
            store_duration: make.time(
                "events.store.operation.duration",
                DURATION_BOUNDS,
                "Time that a successful call to the store took",
            ),
            store_errors: make.counter(
                "events.store.errors",
                "{error}",
                "Calls to the store that failed",
            ),
            observed,
        }
    }
}

/// How long it is from `from` to `to` in seconds; clocks of two processes may disagree, but no
/// time is negative.
pub(super) fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    // Several times as fast as subtracting the calendar's dates.
    let microseconds = to
        .timestamp_micros()
        .saturating_sub(from.timestamp_micros());
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    let microseconds = microseconds.max(0) as f64;
    microseconds / 1e6
}

/// Makes instruments.
struct Make<'a> {
    meter: &'a Meter,
    prefix: &'a str,
}

impl Make<'_> {
    fn name(&self, name: &'static str) -> Cow<'static, str> {
        if self.prefix.is_empty() {
            name.into()
        } else {
            format!("{}{name}", self.prefix).into()
        }
    }

    fn counter(
        &self,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Counter<u64> {
        self.meter
            .u64_counter(self.name(name))
            .with_unit(unit)
            .with_description(description)
            .build()
    }

    fn up_down_counter(
        &self,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> UpDownCounter<i64> {
        self.meter
            .i64_up_down_counter(self.name(name))
            .with_unit(unit)
            .with_description(description)
            .build()
    }

    fn time<const N: usize>(
        &self,
        name: &'static str,
        bounds: [f64; N],
        description: &'static str,
    ) -> Histogram<f64> {
        self.meter
            .f64_histogram(self.name(name))
            .with_unit("s")
            .with_description(description)
            .with_boundaries(bounds.into())
            .build()
    }

    fn gauges(&self, observed: &Arc<Observed>) {
        let (event, request) = ("{event}", "{request}");
        self.count(
            observed,
            "events.unprocessed.count",
            event,
            "Events that are unprocessed",
            |r| r.unprocessed,
        );
        self.age(
            observed,
            "events.unprocessed.max_age",
            "Age of the oldest unprocessed event",
            |r| r.unprocessed_max_age_ms,
        );
        self.count(
            observed,
            "requests.unexecuted.count",
            request,
            "Handler requests that have not ended",
            |r| r.unexecuted,
        );
        self.age(
            observed,
            "requests.unexecuted.max_age",
            "Age of the oldest handler request that has not ended",
            |r| r.unexecuted_max_age_ms,
        );
        self.count(
            observed,
            "requests.dead.count",
            request,
            "Handler requests that are dead",
            |r| r.dead,
        );
        let observed = Arc::clone(observed);
        let callback = move |instrument: &dyn AsyncInstrument<u64>| {
            for (scheduler, gauges) in observed.living() {
                for (handler, requests) in gauges.absent().iter().flat_map(|absent| absent.iter()) {
                    let handler = KeyValue::new(REQUEST_TYPE, text(handler));
                    let attributes: Vec<_> = scheduler.iter().cloned().chain([handler]).collect();
                    instrument.observe(*requests, &attributes);
                }
            }
        };
        let _ = self
            .meter
            .u64_observable_gauge(self.name("requests.handler_absent.count"))
            .with_unit(request)
            .with_description("Open requests of handlers that no living process has")
            .with_callback(callback)
            .build();
    }

    fn count(
        &self,
        observed: &Arc<Observed>,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        read: impl Fn(Reading) -> u64 + Send + Sync + 'static,
    ) {
        let callback = each(
            observed,
            move |instrument: &dyn AsyncInstrument<u64>, reading, attributes| {
                instrument.observe(read(reading), attributes);
            },
        );
        let gauge = self.meter.u64_observable_gauge(self.name(name));
        let _ = gauge
            .with_unit(unit)
            .with_description(description)
            .with_callback(callback)
            .build();
    }

    fn age(
        &self,
        observed: &Arc<Observed>,
        name: &'static str,
        description: &'static str,
        read: impl Fn(Reading) -> u64 + Send + Sync + 'static,
    ) {
        let callback = each(
            observed,
            move |instrument: &dyn AsyncInstrument<f64>, reading, attributes| {
                instrument.observe(
                    Duration::from_millis(read(reading)).as_secs_f64(),
                    attributes,
                );
            },
        );
        let gauge = self.meter.f64_observable_gauge(self.name(name));
        let _ = gauge
            .with_unit("s")
            .with_description(description)
            .with_callback(callback)
            .build();
    }
}

/// A callback that reports something of every living scheduler that has counted. A provider keeps
/// callbacks as long as it lives, so what they hold must hold no scheduler.
fn each<T: 'static>(
    observed: &Arc<Observed>,
    report: impl Fn(&dyn AsyncInstrument<T>, Reading, &[KeyValue]) + Send + Sync + 'static,
) -> impl Fn(&dyn AsyncInstrument<T>) + Send + Sync + 'static {
    let observed = Arc::clone(observed);
    move |instrument| {
        for (scheduler, gauges) in observed.living() {
            if let Some(reading) = gauges.get() {
                report(instrument, reading, scheduler.as_slice());
            }
        }
    }
}
