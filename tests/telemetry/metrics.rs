//! Every metric of a running application.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidings::{
    Backoff, ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerError, HandlerResult,
    LeaseOwner, MemoryStore, ProcessContext, Retention, Scheduler,
    store::{Claim, FanOut, HandlerRoom, Storer},
};

use crate::{
    brisk,
    collector::{Collector, Value},
    cooperate_until_drained, drained, event, eventually, raise, run, run_until_drained, succeed,
};

const PLACED: (&str, &str) = ("request.event.type", "order.placed");

/// Handlers that do everything that a handler can do, all mapped to one event.
fn config() -> ConfigMap {
    async fn fail_once(_: Arc<Event>, context: Context) -> HandlerResult {
        match context.errors() {
            0 => Err(HandlerError::new("not yet")),
            _ => Ok(()),
        }
    }
    async fn fail(_: Arc<Event>, _: Context) -> HandlerResult {
        Err(HandlerError::new("never"))
    }
    async fn panics(_: Arc<Event>, _: Context) -> HandlerResult {
        panic!("out of paper");
    }
    async fn discard(_: Arc<Event>, _: Context) -> HandlerResult {
        Err(HandlerError::discard("no such customer"))
    }
    async fn snooze_once(_: Arc<Event>, context: Context) -> HandlerResult {
        match context.executions() {
            0 => Err(HandlerError::snooze(Duration::from_millis(1))),
            _ => Ok(()),
        }
    }
    async fn cancel(_: Arc<Event>, _: Context) -> HandlerResult {
        Err(HandlerError::cancel("the order was withdrawn"))
    }
    async fn never_end(_: Arc<Event>, _: Context) -> HandlerResult {
        std::future::pending().await
    }
    let soon = Backoff::constant(Duration::from_millis(1));
    ConfigMap::builder()
        .handler(Handler::new("succeeds", succeed).on("order.placed"))
        .handler(
            Handler::new("fails_once", fail_once)
                .on("order.placed")
                .backoff(soon),
        )
        .handler(
            Handler::new("fails", fail)
                .on("order.placed")
                .backoff(soon)
                .max_errors(2),
        )
        .handler(
            Handler::new("panics", panics)
                .on("order.placed")
                .max_errors(1),
        )
        .handler(Handler::new("discards", discard).on("order.placed"))
        .handler(Handler::new("snoozes_once", snooze_once).on("order.placed"))
        .handler(Handler::new("cancels", cancel).on("order.placed"))
        .handler(
            Handler::new("never_ends", never_end)
                .on("order.placed")
                .max_errors(1)
                .timeout(Duration::from_millis(20)),
        )
        .build()
        .unwrap()
}

/// What those handlers leave for each `order.placed`.
fn assert_counts_of(collector: &Collector, events: u64) {
    for handler in ["succeeds", "fails_once", "snoozes_once"] {
        let attributes = [PLACED, ("request.type", handler)];
        assert_eq!(
            collector.count("requests.executed.successes", &attributes),
            events,
            "{handler}"
        );
        assert_eq!(
            collector
                .histogram("requests.execution_time", &attributes)
                .0,
            events,
            "{handler}"
        );
    }
    for (handler, retryable, errors) in [
        ("fails_once", "true", "1"),
        ("fails", "true", "1"),
        ("fails", "false", "2"),
        ("panics", "false", "1"),
        ("discards", "false", "1"),
        ("never_ends", "false", "1"),
    ] {
        let attributes = [
            PLACED,
            ("request.type", handler),
            ("request.retryable", retryable),
            ("request.errors", errors),
        ];
        assert_eq!(
            collector.count("requests.executed.failures", &attributes),
            events,
            "{handler}"
        );
    }
    let of = |handler| [PLACED, ("request.type", handler)];
    assert_eq!(
        collector.count("requests.executed.snoozes", &of("snoozes_once")),
        events
    );
    assert_eq!(
        collector.count("requests.executed.cancellations", &of("cancels")),
        events
    );
    for (handler, error, runs) in [
        ("succeeds", "false", 1),
        ("fails_once", "true", 1),
        ("fails_once", "false", 1),
        ("fails", "true", 2),
        ("panics", "true", 1),
        ("discards", "true", 1),
        ("snoozes_once", "true", 1),
        ("snoozes_once", "false", 1),
        ("cancels", "true", 1),
        ("never_ends", "true", 1),
    ] {
        let attributes = [
            ("event_handler.name", handler),
            ("event_handler.error", error),
        ];
        assert_eq!(
            collector.count("event_handlers.executions", &attributes),
            runs * events,
            "{handler}"
        );
        let (timed, seconds) = collector.histogram("event_handlers.execution_time", &attributes);
        assert_eq!(timed, runs * events, "{handler}");
        if handler == "never_ends" {
            assert!(seconds >= 0.02, "{seconds}");
        }
    }
    let executed: u64 = ["requests.executed.successes", "requests.executed.failures"]
        .into_iter()
        .flat_map(|name| {
            collector
                .points()
                .into_iter()
                .filter(move |point| point.name == name)
        })
        .map(|point| match point.value {
            Value::Counter(count) => count,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(executed, 9 * events, "no other handler or event is counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_request_is_counted_once() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    raise(&store, (0..3).map(|_| event("order.placed")).collect()).await;
    run_until_drained(&store, config(), collector.telemetry()).await;

    assert_eq!(
        collector.count(
            "events.processed.successes",
            &[("event.type", "order.placed")]
        ),
        3
    );
    assert_eq!(
        collector
            .histogram("events.processing_time", &[("event.type", "order.placed")])
            .0,
        3
    );
    assert_counts_of(&collector, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cooperative_scheduler_counts_the_same() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    raise(&store, vec![event("order.placed"), event("order.placed")]).await;
    cooperate_until_drained(&store, config(), collector.telemetry()).await;
    assert_counts_of(&collector, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_nobody_wants_is_counted_beside_the_processed_ones() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    raise(&store, vec![event("order.lost"), event("order.placed")]).await;
    run_until_drained(&store, config(), collector.telemetry()).await;
    let lost = [("event.type", "order.lost")];
    assert_eq!(collector.count("events.processed.successes", &lost), 1);
    assert_eq!(collector.count("events.processed.unhandled", &lost), 1);
    assert_eq!(
        collector.value(
            "events.processed.unhandled",
            &[("event.type", "order.placed")]
        ),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vetoed_event_is_a_failure_until_it_passes() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let config = ConfigMap::builder()
        .handler(Handler::new("ship", succeed).on("order.placed"))
        .build()
        .unwrap();
    raise(&store, vec![event("order.placed")]).await;
    let veto_once = |context: ProcessContext| async move {
        match context.errors {
            0 => Err(HandlerError::new("the flag is off")),
            _ => Ok(()),
        }
    };
    let builder =
        ConcurrentScheduler::builder(Arc::new(store.clone()), config).before_process(veto_once);
    run(&brisk(builder, collector.telemetry()), drained(&store)).await;
    let placed = [("event.type", "order.placed")];
    assert_eq!(collector.count("events.processed.failures", &placed), 1);
    assert_eq!(collector.count("events.processed.successes", &placed), 1);
    let vetoed = collector.spans_named("process order.placed event");
    let errors: Vec<_> = vetoed
        .iter()
        .filter_map(crate::collector::SpanExt::error)
        .collect();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("the flag is off"), "{errors:?}");
    assert_eq!(vetoed.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_lost_process_is_rescued_and_then_executed() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let config = ConfigMap::builder()
        .handler(Handler::new("ship", succeed).on("order.placed"))
        .build()
        .unwrap();
    // Another process has registered the handler, claimed the request, and is gone.
    let mut session = store.session().await.unwrap();
    session
        .registrations()
        .register(config.registrations())
        .await
        .unwrap();
    raise(&store, vec![event("order.placed")]).await;
    let fan_out = FanOut::due(10);
    session.events().fan_out(&fan_out).await.unwrap();
    let claim = Claim::new(
        LeaseOwner::new(),
        Duration::from_millis(1),
        10,
        vec![HandlerRoom::new("ship", 10)],
    );
    let claimed = session.handler_requests().claim(&claim).await.unwrap();
    assert_eq!(claimed.requests.len(), 1);
    drop(session);

    run_until_drained(&store, config, collector.telemetry()).await;
    let ship = [PLACED, ("request.type", "ship")];
    let [event, handler] = ship;
    assert_eq!(
        collector.count(
            "requests.rescued",
            &[event, handler, ("request.rescue", "ready")]
        ),
        1
    );
    assert_eq!(collector.count("requests.executed.successes", &ship), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scheduler_deletes_is_counted() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let config = ConfigMap::builder()
        .handler(Handler::new("ship", succeed).on("order.placed"))
        .build()
        .unwrap();
    raise(&store, vec![event("order.placed"), event("unwanted")]).await;
    // The shortest interval, so that the test takes no longer than that.
    let retention = Retention::default()
        .completed_for(Some(Duration::ZERO))
        .every(Duration::from_secs(1));
    let builder = ConcurrentScheduler::builder(Arc::new(store.clone()), config);
    let scheduler = brisk(builder.retention(retention), collector.telemetry());
    let deleted = async {
        while collector.value("events.pruned", &[]) != Some(Value::Counter(2)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    run(&scheduler, deleted).await;
    assert_eq!(collector.count("requests.pruned", &[]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_comes_too_late_is_counted_as_refused_and_as_nothing_else() {
    async fn is_withdrawn(store: MemoryStore, _: Arc<Event>, context: Context) -> HandlerResult {
        let mut session = store.session().await?;
        session
            .handler_requests()
            .cancel(context.request_id())
            .await?;
        Ok(())
    }
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let handler = Handler::with_state("ship", store.clone(), is_withdrawn).on("order.placed");
    raise(&store, vec![event("order.placed")]).await;
    run_until_drained(
        &store,
        ConfigMap::builder().handler(handler).build().unwrap(),
        collector.telemetry(),
    )
    .await;
    let ship = [PLACED, ("request.type", "ship")];
    assert_eq!(collector.count("requests.settlements.refused", &ship), 1);
    assert_eq!(collector.value("requests.executed.successes", &ship), None);
    let run = [
        ("event_handler.name", "ship"),
        ("event_handler.error", "false"),
    ];
    assert_eq!(collector.count("event_handlers.executions", &run), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_and_its_workers_are_counted_while_they_live() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let config = ConfigMap::builder()
        .handler(Handler::new("ship", succeed).on("order.placed"))
        .build()
        .unwrap();
    let status = |state| match collector.value(
        "events.scheduler.status",
        &[("events.scheduler.state", state)],
    ) {
        None => 0,
        Some(Value::UpDownCounter(count)) => count,
        other => panic!("{other:?}"),
    };
    let workers = |state| {
        collector.value(
            "events.scheduler.workers",
            &[("events.scheduler.worker.state", state)],
        )
    };
    let scheduler = brisk(
        ConcurrentScheduler::builder(Arc::new(store.clone()), config),
        collector.telemetry(),
    );
    assert_eq!((status("created"), status("running")), (1, 0));
    scheduler.start().await.unwrap();
    assert_eq!(
        (status("created"), status("starting"), status("running")),
        (0, 0, 1)
    );
    assert_eq!(workers("idle"), Some(Value::UpDownCounter(4)));
    scheduler.pause().await.unwrap();
    assert_eq!((status("running"), status("paused")), (0, 1));
    scheduler.resume().await.unwrap();
    raise(&store, vec![event("order.placed")]).await;
    drained(&store).await;
    scheduler.shutdown(Duration::from_secs(10)).await;
    assert_eq!(
        (
            status("running"),
            status("shutting down"),
            status("stopped")
        ),
        (0, 0, 1)
    );
    assert_eq!(workers("idle"), Some(Value::UpDownCounter(0)));
    assert_eq!(workers("busy"), Some(Value::UpDownCounter(0)));
    drop(scheduler);
    for state in [
        "created",
        "starting",
        "running",
        "paused",
        "shutting down",
        "stopped",
    ] {
        assert_eq!(status(state), 0, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_runs_a_handler_is_busy() {
    let (collector, store) = (Collector::new(), MemoryStore::new());
    let (begun, go_on) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(tokio::sync::Notify::new()),
    );
    let handler = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        Handler::new("ship", move |_: Arc<Event>, _: Context| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.store(true, Ordering::SeqCst);
                go_on.notified().await;
                HandlerResult::Ok(())
            }
        })
    };
    let config = ConfigMap::builder()
        .handler(handler.on("order.placed"))
        .build()
        .unwrap();
    let scheduler = brisk(
        ConcurrentScheduler::builder(Arc::new(store.clone()), config),
        collector.telemetry(),
    );
    scheduler.start().await.unwrap();
    raise(&store, vec![event("order.placed")]).await;
    eventually(|| begun.load(Ordering::SeqCst).then_some(())).await;
    let workers = |state| {
        collector.value(
            "events.scheduler.workers",
            &[("events.scheduler.worker.state", state)],
        )
    };
    assert_eq!(workers("busy"), Some(Value::UpDownCounter(1)));
    assert_eq!(workers("idle"), Some(Value::UpDownCounter(3)));
    go_on.notify_one();
    drained(&store).await;
    scheduler.shutdown(Duration::from_secs(10)).await;
    assert_eq!(workers("busy"), Some(Value::UpDownCounter(0)));
}
