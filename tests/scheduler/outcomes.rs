//! What becomes of a request for each thing that a handler can do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidings::{
    Backoff, Context, DomainEvent, Entity, Event, Handler, HandlerError, HandlerRequest,
    HandlerResult, Payload, RequestState, store::Storer,
};

use crate::rig::{KINDS, Rig, config};

/// Runs one event through a handler that answers by the number of its execution, from 0.
async fn run_by_execution<F, Fut>(states: RequestState, answer: F) -> (HandlerRequest, Duration)
where
    F: Fn(u32, Context) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    let mut last = None;
    for kind in KINDS {
        let rig = Rig::paused();
        let executions = Arc::new(AtomicU32::new(0));
        let answer = answer.clone();
        let handler = Handler::new("answer", move |_: Arc<Event>, context: Context| {
            answer(executions.fetch_add(1, Ordering::SeqCst), context)
        });
        let handler = handler
            .on("*")
            .max_errors(3)
            .timeout(Duration::from_secs(60))
            .backoff(Backoff::constant(Duration::from_secs(10)));
        let begun = tokio::time::Instant::now();
        let scheduler = rig.scheduler(config([handler])).kind(kind).start().await;
        rig.raise("thing.happened").await;
        let request = rig.until_only(states).await;
        let took = begun.elapsed();
        assert!(scheduler.is_operational());
        scheduler.shutdown(Duration::from_secs(1)).await;
        assert_eq!(rig.only().await, request, "nothing changes afterwards");
        last = Some((request, took));
    }
    last.expect("two runs")
}

#[tokio::test(start_paused = true)]
async fn ok_completes() {
    let (request, took) = run_by_execution(RequestState::Completed, |_, _| async { Ok(()) }).await;
    assert_eq!(
        (request.errors, request.executions, request.attempt),
        (0, 1, 1)
    );
    assert!(request.lease.is_none() && request.last_execution_at.is_some());
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn errors_back_off_and_the_last_one_kills() {
    let (request, took) = run_by_execution(RequestState::Dead, |n, _| async move {
        Err(HandlerError::new(format!("error {n}")))
    })
    .await;
    assert_eq!((request.errors, request.executions), (3, 3));
    let messages: Vec<_> = request
        .last_errors
        .iter()
        .map(|error| error.message.as_str())
        .collect();
    assert_eq!(messages, ["error 0", "error 1", "error 2"]);
    assert!(
        took >= Duration::from_secs(20) && took < Duration::from_secs(21),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_then_success_completes_and_keeps_the_error() {
    let (request, _) = run_by_execution(RequestState::Completed, |n, _| async move {
        if n == 0 {
            Err(HandlerError::new("once"))
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!((request.errors, request.executions), (1, 2));
    assert_eq!(request.last_errors[0].message, "once");
}

#[tokio::test(start_paused = true)]
async fn a_short_backoff_is_not_stretched_to_the_next_poll() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("answer", |_: Arc<Event>, context: Context| async move {
            if context.errors() < 4 {
                return Err(HandlerError::new("not yet"));
            }
            Ok(())
        });
        let handler = handler
            .on("*")
            .backoff(Backoff::constant(Duration::from_millis(100)));
        let map = config([handler]);
        let _scheduler = rig.scheduler(map).kind(kind).start().await;
        // The loops sleep by now.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let begun = tokio::time::Instant::now();
        rig.raise("thing.happened").await;
        rig.until_completed(1).await;
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(400) && took < Duration::from_millis(600),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_replaces_the_backoff_and_counts() {
    let (request, took) = run_by_execution(RequestState::Completed, |n, _| async move {
        if n == 0 {
            Err(HandlerError::retry_after(Duration::from_secs(100), "busy"))
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(request.errors, 1);
    assert!(
        took >= Duration::from_secs(100) && took < Duration::from_secs(101),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_snooze_waits_and_does_not_count_however_often() {
    let (request, took) = run_by_execution(RequestState::Completed, |n, _| async move {
        if n < 20 {
            Err(HandlerError::snooze(Duration::from_secs(30)))
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!((request.errors, request.executions), (0, 21));
    assert!(request.last_errors.is_empty());
    assert!(took >= Duration::from_secs(600), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_discard_kills_at_once_and_a_cancel_cancels() {
    let (request, _) = run_by_execution(RequestState::Dead, |_, _| async {
        Err(HandlerError::discard("nonsense"))
    })
    .await;
    assert_eq!((request.errors, request.executions), (1, 1));
    assert_eq!(request.last_errors[0].message, "nonsense");
    let (request, _) = run_by_execution(RequestState::Canceled, |_, _| async {
        Err(HandlerError::cancel("too late"))
    })
    .await;
    assert_eq!((request.errors, request.executions), (0, 1));
    assert_eq!(request.last_errors[0].message, "too late");
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_its_sources() {
    let (request, _) = run_by_execution(RequestState::Dead, |_, _| async {
        let inner = "x".parse::<u32>().expect_err("not a number");
        Err(HandlerError::discard(std::io::Error::other(inner)))
    })
    .await;
    assert_eq!(
        request.last_errors[0].message,
        "invalid digit found in string"
    );
}

#[tokio::test(start_paused = true)]
async fn panics_are_errors_with_message_place_and_backtrace() {
    let (request, _) = run_by_execution(RequestState::Completed, |n, _| async move {
        assert!(n > 1, "too early for {n}");
        Ok(())
    })
    .await;
    assert_eq!((request.errors, request.executions), (2, 3));
    let message = &request.last_errors[1].message;
    assert!(message.contains("too early for 1"), "{message}");
    assert!(message.contains("outcomes.rs"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_await_or_while_being_dropped_is_caught() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let rig = Rig::paused();
    let at_once = Handler::new(
        "at_once",
        |_: Arc<Event>, _: Context| -> std::future::Ready<HandlerResult> {
            panic!("before any future")
        },
    );
    let in_drop = Handler::new("in_drop", |_: Arc<Event>, _: Context| async {
        let _held = PanicsInDrop;
        std::future::pending::<HandlerResult>().await
    });
    let handlers = [
        at_once.on("*").max_errors(1),
        in_drop
            .on("*")
            .max_errors(1)
            .timeout(Duration::from_secs(1)),
    ];
    let scheduler = rig.scheduler(config(handlers)).workers(1).start().await;
    rig.raise("thing.happened").await;
    rig.until_all_ended().await;
    assert_eq!(rig.count(RequestState::Dead).await, 2);
    let message = rig.requests_of("at_once").await[0].last_errors[0]
        .message
        .clone();
    assert!(message.contains("before any future"), "{message}");
    let message = rig.requests_of("in_drop").await[0].last_errors[0]
        .message
        .clone();
    assert!(message.contains("timed out after 1s"), "{message}");
    assert_eq!(scheduler.status().executing, 0, "no slot is lost");
}

#[tokio::test(start_paused = true)]
async fn a_handler_past_its_timeout_is_an_error_and_is_dropped() {
    let (request, took) = run_by_execution(RequestState::Completed, |n, _| async move {
        if n == 0 {
            std::future::pending::<HandlerResult>().await
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!((request.errors, request.executions), (1, 2));
    assert_eq!(request.last_errors[0].message, "timed out after 60s");
    assert!(
        took >= Duration::from_secs(70) && took < Duration::from_secs(71),
        "{took:?}"
    );
}

#[derive(Serialize, Deserialize)]
struct Placed {
    total: u64,
}

impl DomainEvent for Placed {
    const NAME: &'static str = "order.placed";

    fn entity(&self) -> Option<Entity> {
        Some(Entity::new("order", "1"))
    }
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_payload_names_event_handler_and_field_and_harms_no_other() {
    async fn typed(_: Placed, _: Context) -> HandlerResult {
        Ok(())
    }
    async fn enveloped(Payload(placed): Payload<Placed>, _: Context) -> HandlerResult {
        assert_eq!(placed.total, 12);
        Ok(())
    }
    let rig = Rig::paused();
    let handlers = [
        Handler::new("typed", typed).max_errors(1),
        Handler::new("enveloped", enveloped)
            .on("order.*")
            .max_errors(1),
    ];
    let scheduler = rig.scheduler(config(handlers)).start().await;
    let raiser = rig.store.raiser();
    let mut session = rig.store.session().await.unwrap();
    let bad = Event::new("order.placed", &serde_json::json!({ "total": "twelve" })).unwrap();
    let good = Event::of(&Placed { total: 12 }).unwrap();
    raiser
        .raise_all(&mut *session, vec![bad.clone(), good])
        .await
        .unwrap();
    drop(session);
    rig.until_all_ended().await;
    assert_eq!(
        (
            rig.count(RequestState::Dead).await,
            rig.count(RequestState::Completed).await
        ),
        (2, 2)
    );
    for request in rig.requests().await {
        if let Some(error) = request.last_errors.first() {
            assert_eq!(request.event_id, bad.id);
            for part in ["order.placed", &*request.handler, "twelve", "u64"] {
                assert!(error.message.contains(part), "{part} in {}", error.message);
            }
        }
    }
    drop(scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_function_is_used_and_may_panic() {
    let rig = Rig::paused();
    let fails = |_: Arc<Event>, _: Context| async { Err::<(), _>(HandlerError::new("no")) };
    let handlers = [
        Handler::new("own", fails)
            .on("*")
            .max_errors(2)
            .backoff_with(|errors| Duration::from_secs(1000 * u64::from(errors))),
        Handler::new("panics", fails)
            .on("*")
            .max_errors(2)
            .backoff_with(|_| panic!("in the backoff")),
    ];
    let begun = tokio::time::Instant::now();
    let _scheduler = rig.scheduler(config(handlers)).start().await;
    rig.raise("thing.happened").await;
    rig.until_all_ended().await;
    assert!(begun.elapsed() >= Duration::from_secs(1000));
    assert_eq!(rig.count(RequestState::Dead).await, 2);
}

#[tokio::test(start_paused = true)]
async fn lower_priorities_run_first_and_equal_ones_by_age() {
    let rig = Rig::paused();
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let note = |name: &'static str, priority| {
        let order = Arc::clone(&order);
        Handler::new(name, move |event: Arc<Event>, _: Context| {
            order.lock().push((priority, event.id));
            async { Ok::<_, HandlerError>(()) }
        })
        .on("*")
        .priority(priority)
        .concurrency(1)
    };
    let handlers = [note("later", 90), note("first", 0), note("between", 50)];
    let ids = rig.raise_many("thing.happened", 100).await;
    let _scheduler = rig.scheduler(config(handlers)).workers(1).start().await;
    rig.until_completed(300).await;
    let order = order.lock().clone();
    let expected: Vec<_> = [0, 50, 90]
        .into_iter()
        .flat_map(|p| ids.iter().map(move |id| (p, *id)))
        .collect();
    assert_eq!(order.len(), 300);
    // The first statement goes out before the run times are known, so a few requests come first.
    let in_order = order.windows(2).filter(|pair| pair[0] <= pair[1]).count();
    let places: Vec<_> = order
        .iter()
        .map(|(p, id)| (*p, ids.iter().position(|i| i == id)))
        .collect();
    assert!(
        in_order >= 290,
        "{in_order} of 299 pairs are in order: {places:?}"
    );
    let mut sorted = order;
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
}

#[tokio::test(start_paused = true)]
async fn durations_without_an_end_are_taken_as_such() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("patient", |_: Arc<Event>, context: Context| async move {
            if context.errors() == 0 {
                return Err(HandlerError::retry_after(Duration::from_secs(1), "once"));
            }
            Ok(())
        });
        let forever = Handler::new("forever", |_: Arc<Event>, _: Context| async {
            Err::<(), _>(HandlerError::snooze(Duration::MAX))
        });
        let handlers = [
            handler.on("*").timeout(Duration::MAX),
            forever.on("*").timeout(Duration::MAX),
        ];
        let scheduler = rig.scheduler(config(handlers)).kind(kind).start().await;
        rig.raise("thing.happened").await;
        rig.until_completed(1).await;
        assert_eq!(rig.count(RequestState::BackingOff).await, 1);
        scheduler.shutdown(Duration::MAX).await;
    }
}

/// An error whose text cannot be made, or which cannot be dropped.
#[derive(Debug)]
struct Vicious {
    in_drop: bool,
}

impl std::fmt::Display for Vicious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.in_drop {
            panic!("in the text");
        }
        f.write_str("vicious")
    }
}

impl std::error::Error for Vicious {}

impl Drop for Vicious {
    fn drop(&mut self) {
        assert!(!self.in_drop, "in the drop");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_that_panic_harm_neither_their_request_nor_others() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("vicious", |event: Arc<Event>, _: Context| async move {
            match event.data.decode::<serde_json::Value>()?["n"].as_u64() {
                Some(3) => Err(HandlerError::new(Vicious { in_drop: false })),
                Some(4) => Err(HandlerError::new(Vicious { in_drop: true })),
                _ => Ok(()),
            }
        });
        let handler = handler.on("*").concurrency(1).max_errors(1);
        rig.raise_many("thing.happened", 40).await;
        let _scheduler = rig.scheduler(config([handler])).kind(kind).start().await;
        rig.until_all_ended().await;
        assert_eq!(rig.count(RequestState::Completed).await, 38);
        let dead: Vec<_> = rig.requests().await;
        let messages: Vec<_> = dead
            .iter()
            .filter_map(|request| request.last_errors.first())
            .map(|error| error.message.as_str())
            .collect();
        assert_eq!(messages.len(), 2);
        assert!(messages[0].contains("in the text"), "{messages:?}");
        assert_eq!(messages[1], "vicious");
    }
}
