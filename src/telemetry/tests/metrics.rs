//! Every metric: name, unit, attributes, bounds and value.

use std::{collections::BTreeMap, time::Duration};

use super::{Collector, Telemetry, Value, event, processed, request, timestamp};
use crate::{
    error::StoreError,
    id::LeaseOwner,
    model::{Outcome, Rescue, SchedulerState},
    store::{ClaimedRequest, Pruned, RescuedRequest},
    telemetry::{Gauges, Reading},
};

const OF_EVENT: [(&str, &str); 1] = [("event.type", "order.placed")];
const OF_REQUEST: [(&str, &str); 2] = [
    ("request.event.type", "order.placed"),
    ("request.type", "ship"),
];

fn failed(request: &ClaimedRequest) -> Outcome {
    assert!(request.max_errors > 0);
    Outcome::Failed {
        error: "the dock is closed".to_owned(),
        backoff: Duration::ZERO,
    }
}

fn rescued(request: &ClaimedRequest, rescue: Rescue) -> RescuedRequest {
    RescuedRequest {
        id: request.id,
        event_id: request.event.id,
        event_name: request.event.name.clone(),
        handler: request.handler.clone(),
        owner: LeaseOwner::new(),
        errors: 0,
        rescues: 1,
        rescue,
    }
}

/// Does everything that is recorded, once.
pub(super) fn record_everything(telemetry: &Telemetry) -> std::sync::Arc<Gauges> {
    let now = timestamp() + Duration::from_millis(1500);
    let request = request(event());
    let round = telemetry.process_round();
    let mut unwanted = processed(&request.event);
    unwanted.requests = 0;
    telemetry.event_processed(&round, &unwanted, now);
    telemetry.event_failed(&round, &request.event, "vetoed");
    telemetry.handler_ran(&request, Duration::from_millis(20), None);
    telemetry.request_settled(&request, &Outcome::Completed, now);
    telemetry.request_settled(&request, &failed(&request), now);
    telemetry.request_settled(
        &request,
        &Outcome::Snoozed {
            duration: Duration::ZERO,
        },
        now,
    );
    telemetry.request_settled(
        &request,
        &Outcome::Canceled {
            reason: String::new(),
        },
        now,
    );
    telemetry.settlement_refused(&request);
    telemetry.request_rescued(&rescued(&request, Rescue::Ready));
    telemetry.pruned(&Pruned::default());
    telemetry.workers(2);
    telemetry.workers_busy(1);
    telemetry.batch("claim", 3, Duration::from_millis(20));
    telemetry.store_failed(
        "claim",
        &StoreError::Unavailable {
            operation: "claim",
            source: None,
        },
    );
    telemetry.notification_received();
    telemetry.scheduler_state(None, Some(SchedulerState::Created));
    let gauges = std::sync::Arc::new(Gauges::default());
    gauges.set(Reading::default());
    gauges.set_absent(&[("bill".into(), 1)]);
    telemetry.observe(&gauges);
    gauges
}

/// The table of the documentation: name → unit.
pub(super) fn documented() -> BTreeMap<String, String> {
    include_str!("../telemetry.md")
        .lines()
        .filter(|line| {
            ["counter, ", "gauge, ", "histogram, "]
                .iter()
                .any(|kind| line.contains(kind))
        })
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let unit = cells[2].split('`').nth(1).unwrap();
            (cells[1].trim_matches('`').to_owned(), unit.to_owned())
        })
        .collect()
}

#[test]
fn the_documentation_lists_every_metric_with_its_unit_and_no_other() {
    let collector = Collector::new();
    let _gauges = record_everything(&collector.telemetry());
    let recorded: BTreeMap<_, _> = collector
        .points()
        .into_iter()
        .map(|point| (point.name, point.unit))
        .collect();
    assert_eq!(recorded, documented());
    assert_eq!(recorded.len(), 27);
}

#[test]
fn the_documentation_lists_the_attributes_of_every_metric() {
    let collector = Collector::new();
    let _gauges = record_everything(&collector.telemetry());
    let text = include_str!("../telemetry.md");
    for point in collector.points() {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{}`", point.name)))
            .unwrap();
        let cell = row.split('|').nth(3).unwrap();
        let listed: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        let mut recorded: Vec<_> = point.attributes.keys().map(String::as_str).collect();
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        recorded.sort_unstable();
        assert_eq!(recorded, sorted, "{}", point.name);
    }
}

#[test]
fn an_event_is_counted_and_timed_from_its_timestamp() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let round = telemetry.process_round();
    let event = processed(&event());
    telemetry.event_processed(&round, &event, timestamp() + Duration::from_millis(1500));
    telemetry.event_processed(&round, &event, timestamp() + Duration::from_millis(500));
    assert_eq!(collector.count("events.processed.successes", &OF_EVENT), 2);
    assert_eq!(
        collector.histogram("events.processing_time", &OF_EVENT),
        (2, 2.0)
    );
    assert_eq!(
        collector.value("events.processed.unhandled", &OF_EVENT),
        None,
        "somebody wanted it"
    );
    assert_eq!(
        collector.value("events.processed.failures", &OF_EVENT),
        None
    );
}

#[test]
fn a_clock_that_is_behind_gives_no_negative_time() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let early = timestamp() - Duration::from_secs(60);
    telemetry.event_processed(&telemetry.process_round(), &processed(&event()), early);
    assert_eq!(
        collector.histogram("events.processing_time", &OF_EVENT),
        (1, 0.0)
    );
}

#[test]
fn only_a_completed_request_is_a_success_and_is_timed() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let request = request(event());
    let now = timestamp() + Duration::from_secs(3);
    telemetry.request_settled(&request, &Outcome::Completed, now);
    telemetry.request_settled(&request, &failed(&request), now);
    telemetry.request_settled(
        &request,
        &Outcome::Snoozed {
            duration: Duration::ZERO,
        },
        now,
    );
    telemetry.request_settled(
        &request,
        &Outcome::Canceled {
            reason: String::new(),
        },
        now,
    );
    assert_eq!(
        collector.count("requests.executed.successes", &OF_REQUEST),
        1
    );
    assert_eq!(collector.count("requests.executed.snoozes", &OF_REQUEST), 1);
    assert_eq!(
        collector.count("requests.executed.cancellations", &OF_REQUEST),
        1
    );
    assert_eq!(
        collector.histogram("requests.execution_time", &OF_REQUEST),
        (1, 3.0)
    );
}

#[test]
fn a_failure_tells_its_errors_and_whether_it_was_the_last() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let mut request = request(event());
    let discarded = Outcome::Discarded {
        reason: String::new(),
    };
    for (errors, max_errors, outcome) in [
        (0, 3, failed(&request)),
        (1, 3, failed(&request)),
        (2, 3, failed(&request)),
        (0, 3, discarded),
        (500, 1000, failed(&request)),
    ] {
        (request.errors, request.max_errors) = (errors, max_errors);
        telemetry.request_settled(&request, &outcome, timestamp());
    }
    for (retryable, errors) in [
        ("true", "1"),
        ("true", "2"),
        ("false", "3"),
        ("false", "1"),
        ("true", "20"),
    ] {
        let [event, handler] = OF_REQUEST;
        let attributes = [
            event,
            handler,
            ("request.retryable", retryable),
            ("request.errors", errors),
        ];
        assert_eq!(
            collector.count("requests.executed.failures", &attributes),
            1
        );
    }
    assert_eq!(collector.points().len(), 5);
}

#[test]
fn runs_of_handlers_tell_errors_apart() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let request = request(event());
    telemetry.handler_ran(&request, Duration::from_millis(250), None);
    telemetry.handler_ran(&request, Duration::from_millis(250), None);
    telemetry.handler_ran(
        &request,
        Duration::from_millis(125),
        Some("the dock is closed"),
    );
    for (error, runs, seconds) in [("false", 2, 0.5), ("true", 1, 0.125)] {
        let attributes = [
            ("event_handler.name", "ship"),
            ("event_handler.error", error),
        ];
        assert_eq!(
            collector.count("event_handlers.executions", &attributes),
            runs
        );
        assert_eq!(
            collector.histogram("event_handlers.execution_time", &attributes),
            (runs, seconds)
        );
    }
}

#[test]
fn rescues_tell_what_became_of_the_request() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let request = request(event());
    for rescue in [
        Rescue::Ready,
        Rescue::Ready,
        Rescue::BackedOff,
        Rescue::Dead,
    ] {
        telemetry.request_rescued(&rescued(&request, rescue));
    }
    telemetry.settlement_refused(&request);
    let [event, handler] = OF_REQUEST;
    for (rescue, count) in [("ready", 2), ("backed off", 1), ("dead", 1)] {
        assert_eq!(
            collector.count(
                "requests.rescued",
                &[event, handler, ("request.rescue", rescue)]
            ),
            count
        );
    }
    assert_eq!(
        collector.count("requests.settlements.refused", &OF_REQUEST),
        1
    );
}

#[test]
fn busy_and_idle_workers_add_up_to_all() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let workers = |state| {
        collector.value(
            "events.scheduler.workers",
            &[("events.scheduler.worker.state", state)],
        )
    };
    telemetry.workers(16);
    telemetry.workers_busy(5);
    telemetry.workers_busy(-2);
    assert_eq!(workers("busy"), Some(Value::UpDownCounter(3)));
    assert_eq!(workers("idle"), Some(Value::UpDownCounter(13)));
    telemetry.workers_busy(-3);
    telemetry.workers(-16);
    assert_eq!(workers("busy"), Some(Value::UpDownCounter(0)));
    assert_eq!(workers("idle"), Some(Value::UpDownCounter(0)));
}

#[test]
fn a_scheduler_is_in_one_state_at_a_time_and_in_none_when_it_is_gone() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let status = |state| {
        collector.value(
            "events.scheduler.status",
            &[("events.scheduler.state", state)],
        )
    };
    telemetry.scheduler_state(None, Some(SchedulerState::Created));
    assert_eq!(status("created"), Some(Value::UpDownCounter(1)));
    telemetry.scheduler_state(
        Some(SchedulerState::Created),
        Some(SchedulerState::ShuttingDown),
    );
    assert_eq!(status("created"), Some(Value::UpDownCounter(0)));
    assert_eq!(status("shutting down"), Some(Value::UpDownCounter(1)));
    telemetry.scheduler_state(Some(SchedulerState::ShuttingDown), None);
    assert_eq!(status("shutting down"), Some(Value::UpDownCounter(0)));
}

#[test]
fn empty_batches_are_timed_but_have_no_size() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    telemetry.batch("claim", 0, Duration::from_millis(250));
    telemetry.batch("claim", 40, Duration::from_millis(250));
    let claim = [("db.operation.name", "claim")];
    assert_eq!(
        collector.histogram("events.store.operation.duration", &claim),
        (2, 0.5)
    );
    assert_eq!(
        collector.histogram("events.store.batch.size", &claim),
        (1, 40.0)
    );
}

#[test]
fn what_a_store_rightly_refuses_is_no_error_of_the_store() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let source = || "backend".into();
    for error in [
        StoreError::Unavailable {
            operation: "x",
            source: None,
        },
        StoreError::TimedOut {
            operation: "x",
            limit: Duration::ZERO,
        },
        StoreError::Conflict {
            operation: "x",
            source: None,
        },
        StoreError::Unreadable {
            table: "t",
            column: "c",
            id: String::new(),
            source: None,
        },
        StoreError::Backend {
            operation: "x",
            source: source(),
        },
        StoreError::invalid("x", "y", "z"),
        StoreError::Refused {
            action: "x",
            thing: String::new(),
            state: String::new(),
        },
        StoreError::Ended {
            operation: "x",
            thing: "y",
        },
    ] {
        telemetry.store_failed("cancel", &error);
    }
    for error in [
        "unavailable",
        "timed out",
        "conflict",
        "unreadable",
        "backend",
    ] {
        let attributes = [("db.operation.name", "cancel"), ("error.type", error)];
        assert_eq!(
            collector.count("events.store.errors", &attributes),
            1,
            "{error}"
        );
    }
    assert_eq!(collector.points().len(), 5);
}

#[test]
fn histograms_have_the_bounds_that_are_documented() {
    let collector = Collector::new();
    let _gauges = record_everything(&collector.telemetry());
    let mut seen = 0;
    for point in collector.points() {
        let Value::Histogram { bounds, .. } = point.value else {
            continue;
        };
        let ends = match point.name.as_str() {
            "events.processing_time" | "requests.execution_time" => (0.01, 300.0),
            "event_handlers.execution_time" | "events.store.operation.duration" => (0.005, 10.0),
            "events.store.batch.size" => (1.0, 5000.0),
            name => panic!("{name}"),
        };
        assert_eq!(
            (bounds[0], bounds[bounds.len() - 1]),
            ends,
            "{}",
            point.name
        );
        assert!(bounds.is_sorted());
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn two_providers_share_nothing() {
    let (one, other) = (Collector::new(), Collector::new());
    one.telemetry().notification_received();
    other.telemetry().workers(1);
    assert_eq!(one.metric_names(), ["events.store.notifications"]);
    assert_eq!(other.metric_names(), ["events.scheduler.workers"]);
}

#[test]
fn disabled_telemetry_records_nothing_and_takes_every_call() {
    let gauges = record_everything(&Telemetry::disabled());
    assert_eq!(
        std::sync::Arc::weak_count(&gauges),
        0,
        "nobody looks at them"
    );
}
