//! The prefix before every metric, and prefixes that metrics refuse.

use super::{
    Collector,
    metrics::{documented, record_everything},
};

#[test]
fn the_prefix_is_before_every_metric() {
    let collector = Collector::new();
    let _gauges = record_everything(&collector.telemetry_with_prefix("shop"));
    let expected: Vec<_> = documented()
        .into_keys()
        .map(|name| format!("shop.{name}"))
        .collect();
    assert_eq!(collector.metric_names(), expected);
}

#[test]
fn a_prefix_that_metrics_refuse_does_not_lose_them() {
    for (prefix, used) in [
        ("my shop.", "my_shop"),
        ("1a", "x1a"),
        ("größe", "gr__e"),
        ("..", ""),
        ("a/b-c_d", "a/b-c_d"),
    ] {
        let collector = Collector::new();
        collector
            .telemetry_with_prefix(prefix)
            .notification_received();
        let dot = if used.is_empty() { "" } else { "." };
        assert_eq!(
            collector.metric_names(),
            [format!("{used}{dot}events.store.notifications")],
            "{prefix:?}"
        );
    }
    let collector = Collector::new();
    let _gauges = record_everything(&collector.telemetry_with_prefix(&"ä".repeat(1000)));
    assert_eq!(collector.metric_names().len(), 27);
}
