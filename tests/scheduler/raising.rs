//! What handlers raise is stored with the settlement, or not at all.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tidings::{
    Backoff, Context, Event, Handler, HandlerError, RequestState, StoreError,
    store::{EventFilter, Page, StoredEvent, Storer},
};

use crate::rig::{KINDS, Rig, config};

async fn events(rig: &Rig, name: &str) -> Vec<StoredEvent> {
    let filter = EventFilter::default().named([name]);
    let mut session = rig.store.session().await.unwrap();
    session
        .events()
        .list(&filter, &Page::first(1000))
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn raised_events_are_stored_only_on_ok_and_name_their_cause() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("raises", |_: Arc<Event>, context: Context| async move {
            context
                .raise(Event::new("raised.event", &json!({ "errors": context.errors() })).unwrap());
            if context.errors() == 0 {
                Err(HandlerError::new("once"))
            } else {
                Ok(())
            }
        });
        let handler = handler
            .on("thing.happened")
            .backoff(Backoff::constant(Duration::from_secs(1)));
        let _scheduler = rig.scheduler(config([handler])).kind(kind).start().await;
        let cause = rig.raise("thing.happened").await;
        rig.until_completed(1).await;
        let raised = events(&rig, "raised.event").await;
        assert_eq!(raised.len(), 1, "not what the failed execution raised");
        assert_eq!(raised[0].event.data.as_str(), r#"{"errors":1}"#);
        assert_eq!(raised[0].event.causation_id, Some(cause));
        assert_eq!(raised[0].event.correlation_id, cause.into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_flow_of_a_hundred_steps_keeps_its_correlation() {
    for kind in KINDS {
        let rig = Rig::paused();
        let handler = Handler::new("steps", |event: Arc<Event>, context: Context| async move {
            let step: u32 = event.data.decode::<serde_json::Value>()?["n"]
                .as_u64()
                .unwrap_or(0) as u32;
            if step < 100 {
                context.raise(Event::new("step.taken", &json!({ "n": step + 1 }))?);
            }
            Ok::<_, HandlerError>(())
        });
        let begun = tokio::time::Instant::now();
        let _scheduler = rig
            .scheduler(config([handler.on("step.taken")]))
            .kind(kind)
            .start()
            .await;
        let first = rig.raise("step.taken").await;
        rig.until_completed(101).await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "each step wakes the next, {:?}",
            begun.elapsed()
        );
        let all = events(&rig, "step.taken").await;
        assert_eq!(all.len(), 101);
        assert!(
            all.iter()
                .all(|stored| stored.event.correlation_id == first.into())
        );
        let causes: std::collections::BTreeSet<_> = all
            .iter()
            .filter_map(|stored| stored.event.causation_id)
            .collect();
        assert_eq!(causes.len(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_raised_event_that_no_store_takes_is_the_handlers_error() {
    let rig = Rig::paused();
    let handler = Handler::new("raises", |_: Arc<Event>, context: Context| async move {
        context.raise(Event::new("", &json!(null)).unwrap());
        Ok::<_, HandlerError>(())
    });
    let _scheduler = rig
        .scheduler(config([handler.on("*").max_errors(1)]))
        .start()
        .await;
    rig.raise("thing.happened").await;
    let request = rig.until_only(RequestState::Dead).await;
    assert!(
        request.last_errors[0].message.contains("is empty"),
        "{:?}",
        request.last_errors
    );
}

#[tokio::test]
async fn bad_events_are_refused_with_name_and_remedy_and_nothing_is_stored() {
    let rig = Rig::real();
    let raiser = rig.store.raiser().max_data_len(100).max_batch(3);
    let good = || Event::new("good.event", &json!({})).unwrap();
    let bad = [
        (
            vec![good(), Event::new("", &json!({})).unwrap()],
            "is empty",
        ),
        (
            vec![good(), Event::new("x".repeat(256), &json!({})).unwrap()],
            "longer than 255 bytes",
        ),
        (
            vec![good(), Event::new("a\0b", &json!({})).unwrap()],
            "control character",
        ),
        (
            vec![good(), Event::new("big", &json!("x".repeat(100))).unwrap()],
            "102 bytes, more than the limit of 100",
        ),
        (
            vec![good(), good(), good(), good()],
            "4 events, more than the limit of 3",
        ),
        (
            vec![good(), good().with_entity(tidings::Entity::new("", "1"))],
            "entity name",
        ),
        (
            vec![good(), good().with_header("h", "x".repeat(70_000))],
            "headers",
        ),
    ];
    for (events, reason) in bad {
        let mut session = rig.store.session().await.unwrap();
        let error = raiser.raise_all(&mut *session, events).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }));
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(session.events().count_unprocessed().await.unwrap(), 0);
    }
    let exactly = Event::new("fits", &json!("x".repeat(98))).unwrap();
    let mut session = rig.store.session().await.unwrap();
    raiser.raise(&mut *session, exactly).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_the_schedulers_raiser_hold_in_handlers() {
    use tidings::Scheduler;
    let rig = Rig::paused();
    let handler = Handler::new("raises", |_: Arc<Event>, context: Context| async move {
        context.raise(Event::new(
            "raised.event",
            &"x".repeat(98 + context.event().name.len() - 5),
        )?);
        Ok::<_, HandlerError>(())
    });
    let map = config([handler.on("*").max_errors(1)]);
    let store = Arc::new(rig.store.clone());
    let scheduler = tidings::ConcurrentScheduler::builder(store, map)
        .raiser(rig.store.raiser().max_data_len(100))
        .renew_on_runtime()
        .build()
        .unwrap();
    scheduler.start().await.unwrap();
    rig.raise("longer").await;
    let request = rig.until_only(RequestState::Dead).await;
    let error = &request.last_errors[0].message;
    assert!(
        error.contains("101 bytes, more than the limit of 100"),
        "{error}"
    );
}
