//! Gauges of schedulers that come and go.

use std::sync::Arc;

use super::{Collector, Value};
use crate::telemetry::{Gauges, Reading};

fn gauges(unprocessed: u64) -> Arc<Gauges> {
    let gauges = Arc::new(Gauges::default());
    gauges.set(Reading {
        unprocessed,
        unprocessed_max_age_ms: 1500,
        unexecuted: 20,
        unexecuted_max_age_ms: 250,
        dead: 3,
    });
    gauges
}

fn unprocessed(collector: &Collector, attributes: &[(&str, &str)]) -> Option<f64> {
    collector
        .value("events.unprocessed.count", attributes)
        .map(|value| match value {
            Value::Gauge(value) => value,
            other => panic!("{other:?}"),
        })
}

#[test]
fn gauges_show_the_latest_reading() {
    let collector = Collector::new();
    let gauges = gauges(10);
    collector.telemetry().observe(&gauges);
    for (name, value) in [
        ("events.unprocessed.count", 10.0),
        ("events.unprocessed.max_age", 1.5),
        ("requests.unexecuted.count", 20.0),
        ("requests.unexecuted.max_age", 0.25),
        ("requests.dead.count", 3.0),
    ] {
        assert_eq!(
            collector.value(name, &[]),
            Some(Value::Gauge(value)),
            "{name}"
        );
    }
    gauges.set(Reading::default());
    assert_eq!(unprocessed(&collector, &[]), Some(0.0));
}

#[test]
fn nothing_is_shown_before_anybody_has_counted() {
    let collector = Collector::new();
    let gauges = Arc::new(Gauges::default());
    collector.telemetry().observe(&gauges);
    assert_eq!(collector.points(), []);
    gauges.set(Reading::default());
    assert_eq!(collector.metric_names().len(), 5);
}

#[test]
fn nothing_is_shown_after_the_scheduler_is_gone() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let gauges = gauges(10);
    gauges.set_absent(&[("bill".into(), 1)]);
    telemetry.observe(&gauges);
    assert_eq!(collector.metric_names().len(), 6);
    drop(gauges);
    assert_eq!(collector.points(), []);
}

#[test]
fn a_scheduler_that_has_stopped_is_gone_although_others_hold_its_gauges() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let (stopped, next) = (gauges(10), gauges(20));
    telemetry.observe(&stopped);
    stopped.end();
    assert_eq!(collector.points(), []);
    telemetry.observe(&next);
    assert_eq!(unprocessed(&collector, &[]), Some(20.0));
    drop(stopped);
    assert_eq!(unprocessed(&collector, &[]), Some(20.0));
}

#[test]
fn a_scheduler_is_shown_although_nobody_keeps_the_telemetry() {
    let collector = Collector::new();
    let gauges = gauges(10);
    let telemetry = collector.telemetry();
    telemetry.observe(&gauges);
    drop(telemetry);
    assert_eq!(unprocessed(&collector, &[]), Some(10.0));
}

#[test]
fn nobody_counts_for_nobody_and_old_values_are_not_shown() {
    let collector = Collector::new();
    let gauges = gauges(10);
    collector.telemetry().observe(&gauges);
    let refreshes = || {
        (0..10 * Gauges::UNSEEN_REFRESHES)
            .filter(|_| gauges.are_watched())
            .count()
    };
    let bound = usize::try_from(Gauges::UNSEEN_REFRESHES).unwrap();
    assert_eq!(refreshes(), 0, "nobody has ever looked");
    assert_eq!(unprocessed(&collector, &[]), None, "too old");
    assert_eq!(refreshes(), bound, "somebody looked");
    for _ in 0..3 {
        assert!(!gauges.are_watched());
    }
    drop(collector.points());
    assert!(gauges.are_watched());
    gauges.set(Reading::default());
    assert_eq!(unprocessed(&collector, &[]), Some(0.0));
}

#[test]
fn several_schedulers_are_told_apart() {
    let collector = Collector::new();
    let telemetry = collector.telemetry();
    let (first, second, third) = (gauges(1), gauges(2), gauges(3));
    for gauges in [&first, &second, &third] {
        telemetry.observe(gauges);
    }
    let number = |number| [("events.scheduler.number", number)];
    assert_eq!(unprocessed(&collector, &[]), Some(1.0));
    assert_eq!(unprocessed(&collector, &number("2")), Some(2.0));
    assert_eq!(unprocessed(&collector, &number("3")), Some(3.0));

    // Who comes next continues the series of the one that is gone.
    drop(second);
    let next = gauges(4);
    telemetry.observe(&next);
    telemetry.observe(&next);
    assert_eq!(unprocessed(&collector, &[]), Some(1.0));
    assert_eq!(unprocessed(&collector, &number("2")), Some(4.0));
    assert_eq!(unprocessed(&collector, &number("3")), Some(3.0));
    assert_eq!(unprocessed(&collector, &number("4")), None);
}

#[test]
fn a_handler_that_is_back_is_absent_no_more() {
    let collector = Collector::new();
    let gauges = gauges(0);
    collector.telemetry().observe(&gauges);
    let absent = |handler| {
        collector.value(
            "requests.handler_absent.count",
            &[("request.type", handler)],
        )
    };
    gauges.set_absent(&[("bill".into(), 7), ("ship".into(), 2)]);
    assert_eq!(absent("bill"), Some(Value::Gauge(7.0)));
    assert_eq!(absent("ship"), Some(Value::Gauge(2.0)));
    gauges.set_absent(&[("ship".into(), 2)]);
    assert_eq!(absent("bill"), None);
    assert_eq!(absent("ship"), Some(Value::Gauge(2.0)));
}
