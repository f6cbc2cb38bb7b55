//! Running everything that is due to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidings::{
    Backoff, ConfigMap, Context, Event, Handler, HandlerError, HandlerResult, ManualClock,
    MemoryStore, RequestState,
    store::{RequestFilter, Storer},
    testkit::{DrainError, Drained, Expected, drain, raised_events},
};

use crate::shop::{OrderPaid, OrderPlaced, OrderShipped, raise, raise_typed, store};

async fn charge(placed: OrderPlaced, context: Context) -> HandlerResult {
    Ok(context.raise_typed(&OrderPaid::new(&placed.order, placed.total))?)
}

async fn ship(paid: OrderPaid, context: Context) -> HandlerResult {
    Ok(context.raise_typed(&OrderShipped::new(&paid.order, paid.total))?)
}

async fn fail(_: OrderPlaced, context: Context) -> HandlerResult {
    Err(HandlerError::new(format!(
        "error number {}",
        context.errors() + 1
    )))
}

fn config(handlers: impl IntoIterator<Item = Handler>) -> ConfigMap {
    let builder = ConfigMap::builder();
    handlers
        .into_iter()
        .fold(builder, |map, handler| map.handler(handler))
        .build()
        .unwrap()
}

/// The counts of a drain, by name.
fn counts(drained: &Drained) -> [(&'static str, u64); 5] {
    [
        ("processed", drained.processed),
        ("completed", drained.completed),
        ("dead", drained.dead),
        ("canceled", drained.canceled),
        ("backing off", drained.backing_off),
    ]
    .map(|(name, count)| (name, count))
}

fn expect(drained: Drained, processed: u64, completed: u64, dead: u64, backing_off: u64) {
    let expected = [
        ("processed", processed),
        ("completed", completed),
        ("dead", dead),
        ("canceled", 0),
        ("backing off", backing_off),
    ];
    assert_eq!(counts(&drained), expected);
}

#[tokio::test]
async fn an_empty_store_is_drained_at_once() {
    let (_, store) = store();
    let drained = drain(&store, &config([Handler::new("charge", charge)]))
        .await
        .unwrap();
    assert_eq!(drained, Drained::default());
    let drained = drain(&store, &config([])).run_backing_off().await.unwrap();
    assert_eq!(drained, Drained::default());
}

#[tokio::test]
async fn a_flow_is_run_to_its_end() {
    let (memory, store) = store();
    let config = config([Handler::new("charge", charge), Handler::new("ship", ship)]);
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    expect(drain(&store, &config).await.unwrap(), 3, 2, 0, 0);
    raised_events(&memory).await.unwrap().assert_exactly(&[
        Expected::of(&OrderPlaced::new("4711", 12)),
        Expected::of(&OrderPaid::new("4711", 12)),
        Expected::of(&OrderShipped::new("4711", 12)),
    ]);
    expect(drain(&store, &config).await.unwrap(), 0, 0, 0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drain_does_not_end_between_two_links_of_a_chain() {
    let (memory, store) = store();
    let config = config([Handler::new("charge", charge), Handler::new("ship", ship)]);
    for round in 0..100 {
        raise_typed(&memory, &OrderPlaced::new(&round.to_string(), 12)).await;
        expect(drain(&store, &config).await.unwrap(), 3, 2, 0, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_are_drained_whatever_the_number_of_workers() {
    for workers in [1, 64] {
        let (memory, store) = store();
        let config = config([Handler::new("charge", charge), Handler::new("ship", ship)]);
        let placed = |n: u64| Event::of(&OrderPlaced::new("4711", n)).unwrap();
        raise(&memory, (0..2000).map(placed)).await;
        let drained = drain(&store, &config).workers(workers).await.unwrap();
        expect(drained, 6000, 4000, 0, 0);
    }
}

#[tokio::test]
async fn two_drains_of_one_store_share_the_work() {
    let (memory, store) = store();
    let config = config([Handler::new("charge", charge), Handler::new("ship", ship)]);
    let placed = |n: u64| Event::of(&OrderPlaced::new("4711", n)).unwrap();
    raise(&memory, (0..200).map(placed)).await;
    let drains = async { tokio::try_join!(drain(&store, &config), drain(&store, &config)) };
    let (one, other) = drains.await.unwrap();
    let events = raised_events(&memory).await.unwrap();
    assert_eq!(events.events().len(), 600);
    assert!(
        one.processed == 600 || other.processed == 600,
        "{one:?} {other:?}"
    );
}

#[tokio::test]
async fn backing_off_requests_are_left_or_run_until_they_are_dead() {
    let (memory, store) = store();
    let config = config([
        Handler::new("fail", fail).max_errors(3),
        Handler::new("charge", charge),
    ]);
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    expect(drain(&store, &config).await.unwrap(), 2, 1, 0, 1);
    expect(drain(&store, &config).await.unwrap(), 0, 0, 0, 1);
    expect(
        drain(&store, &config).run_backing_off().await.unwrap(),
        0,
        0,
        1,
        0,
    );

    let mut session = store.session().await.unwrap();
    let all = RequestFilter::default();
    let dead = session
        .handler_requests()
        .dead(&all, &Default::default())
        .await
        .unwrap();
    let errors: Vec<_> = dead[0]
        .last_errors
        .iter()
        .map(|error| error.message.as_str())
        .collect();
    assert_eq!(
        errors,
        ["error number 1", "error number 2", "error number 3"]
    );
}

#[tokio::test]
async fn what_is_due_again_at_once_is_run_to_its_end() {
    let (memory, store) = store();
    let failing = Handler::new("fail", fail).backoff(Backoff::constant(Duration::ZERO));
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    expect(drain(&store, &config([failing])).await.unwrap(), 1, 0, 1, 0);
}

#[tokio::test]
async fn a_moved_clock_makes_requests_due() {
    let clock = ManualClock::default();
    let memory = MemoryStore::with_clock(clock.clone());
    let store: Arc<dyn Storer> = Arc::new(memory.clone());
    let failing = Handler::new("fail", fail).backoff(Backoff::constant(Duration::from_secs(60)));
    let config = config([failing.max_errors(2)]);
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    expect(drain(&store, &config).await.unwrap(), 1, 0, 0, 1);
    clock.advance(Duration::from_secs(59));
    expect(drain(&store, &config).await.unwrap(), 0, 0, 0, 1);
    clock.advance(Duration::from_secs(1));
    expect(drain(&store, &config).await.unwrap(), 0, 0, 1, 0);
}

#[tokio::test(start_paused = true)]
async fn slow_handlers_cost_no_time_when_time_is_paused() {
    async fn sleep(_: OrderPlaced, _: Context) -> HandlerResult {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(())
    }
    let (memory, store) = store();
    let config = config([Handler::new("sleep", sleep).timeout(Duration::from_secs(7200))]);
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    let drained = drain(&store, &config)
        .deadline(Duration::from_secs(4000))
        .await
        .unwrap();
    expect(drained, 1, 1, 0, 0);
}

#[tokio::test]
async fn requests_of_handlers_elsewhere_do_not_hold_it_up() {
    let (memory, store) = store();
    let here = config([Handler::new("charge", charge)]);
    let elsewhere = config([Handler::new("ship", ship)]);
    expect(drain(&store, &elsewhere).await.unwrap(), 0, 0, 0, 0);
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    expect(
        drain(&store, &here).run_backing_off().await.unwrap(),
        2,
        1,
        0,
        0,
    );
    expect(drain(&store, &elsewhere).await.unwrap(), 1, 1, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_tells_which_handler_snoozes_for_ever() {
    async fn snooze(_: OrderPlaced, _: Context) -> HandlerResult {
        Err(HandlerError::snooze(Duration::from_secs(3600)))
    }
    let (memory, store) = store();
    let config = config([Handler::new("snooze", snooze)]);
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    expect(drain(&store, &config).await.unwrap(), 1, 0, 0, 1);
    let deadline = Duration::from_millis(200);
    let error = drain(&store, &config)
        .run_backing_off()
        .deadline(deadline)
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with(
        "not everything ended within 200ms:\n  handler snooze of event order.placed ("
    ));
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_tells_what_executes_and_what_backs_off_and_why() {
    let (memory, store) = store();
    let hang = Handler::new("hang", |_: OrderPlaced, _: Context| {
        std::future::pending::<HandlerResult>()
    });
    let failing = Handler::new("fail", fail).backoff(Backoff::constant(Duration::from_secs(3600)));
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    let config = config([hang, failing, Handler::new("charge", charge)]);
    let error = drain(&store, &config)
        .deadline(Duration::from_millis(300))
        .await
        .unwrap_err();
    let DrainError::Unfinished { unfinished, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((unfinished.requests.len(), unfinished.events.len()), (2, 0));
    let message = error.to_string();
    assert!(
        message.contains("\n  handler hang of event order.placed ("),
        "{message}"
    );
    assert!(message.contains(") executes, leased to "), "{message}");
    assert!(message.contains(") backs off until "), "{message}");
    assert!(
        message.contains(", after 1 of 5 errors, the last: error number 1"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_drain_left_can_be_drained_again() {
    let (memory, store) = store();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let hang_once = Handler::new("hang_once", move |_: OrderPlaced, _: Context| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            HandlerResult::Ok(())
        }
    });
    let config = config([hang_once]);
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    drain(&store, &config)
        .deadline(Duration::from_millis(100))
        .await
        .unwrap_err();
    expect(drain(&store, &config).await.unwrap(), 0, 1, 0, 0);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn only_the_first_of_many_are_listed() {
    let (memory, store) = store();
    let hang = Handler::new("hang", |_: OrderPlaced, _: Context| {
        std::future::pending::<HandlerResult>()
    });
    let placed = |n: u64| Event::of(&OrderPlaced::new("4711", n)).unwrap();
    raise(&memory, (0..50).map(placed)).await;
    let deadline = Duration::from_millis(200);
    let error = drain(&store, &config([hang]))
        .deadline(deadline)
        .await
        .unwrap_err();
    let DrainError::Unfinished { unfinished, .. } = &error else {
        panic!("{error}")
    };
    let listed = unfinished.events.len() + unfinished.requests.len();
    assert_eq!(listed as u64 + unfinished.unlisted, 50);
    assert!(unfinished.unlisted >= 10);
    assert!(
        error
            .to_string()
            .ends_with(&format!("\n  and {} more", unfinished.unlisted))
    );
}

#[tokio::test]
async fn a_transactional_handler_for_another_database_is_refused() {
    async fn add(_: OrderPlaced, _: Context, _: &mut u64) -> HandlerResult {
        Ok(())
    }
    let (_, store) = store();
    let error = drain(&store, &config([Handler::transactional("add", add)]))
        .await
        .unwrap_err();
    assert!(matches!(error, DrainError::Build(_)), "{error:?}");
}

#[tokio::test]
async fn canceled_requests_are_counted() {
    async fn withdraw(_: OrderPlaced, _: Context) -> HandlerResult {
        Err(HandlerError::cancel("withdrawn"))
    }
    let (memory, store) = store();
    raise_typed(&memory, &OrderPlaced::new("4711", 12)).await;
    let drained = drain(&store, &config([Handler::new("withdraw", withdraw)]))
        .await
        .unwrap();
    assert_eq!((drained.processed, drained.canceled), (1, 1));
    let canceled = RequestFilter::default().in_states([RequestState::Canceled]);
    let mut session = store.session().await.unwrap();
    assert_eq!(
        session.handler_requests().count(&canceled).await.unwrap(),
        1
    );
}
