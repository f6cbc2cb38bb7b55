//! One handler in isolation.

use std::{sync::Arc, time::Duration};

use tidings::{
    CancellationCause, Context, Event, EventData, Handler, HandlerError, HandlerResult,
    MemoryStore, Payload, Raiser,
    store::Storer,
    testkit::{Executed, Expected, given, given_event, raised_events},
};

use crate::shop::{OrderPaid, OrderPlaced, async_failure, failure, raise_typed};

const WAIT: Duration = Duration::from_secs(30);

async fn charge(placed: OrderPlaced, context: Context) -> HandlerResult {
    context.raise_typed(&OrderPaid::new(&placed.order, placed.total))?;
    match placed.order.as_str() {
        "good" => Ok(()),
        "failing" => Err(std::io::Error::other("the line is down").into()),
        "busy" => Err(HandlerError::retry_after(WAIT, "the bank is closed")),
        "early" => Err(HandlerError::snooze(WAIT)),
        "declined" => Err(HandlerError::discard("the card was declined")),
        "withdrawn" => Err(HandlerError::cancel("the order was withdrawn")),
        other => panic!("no such order: {other}"),
    }
}

async fn charged(order: &str, errors: u32) -> Executed {
    let handler = Handler::new("charge", charge);
    given(&OrderPlaced::new(order, 12))
        .errors(errors)
        .when(&handler)
        .await
}

type Assertion = fn(&Executed) -> &Executed;

/// Each order, the assertion that holds for it, and how its end is told.
const OUTCOMES: [(&str, Assertion, &str); 6] = [
    ("good", |it| it.then_completed(), "it completed"),
    (
        "failing",
        |it| it.then_failed("line is down"),
        "it failed: the line is down",
    ),
    (
        "busy",
        |it| it.then_retried_after(WAIT),
        "it asked for a retry after 30s: the bank is closed",
    ),
    ("early", |it| it.then_snoozed(WAIT), "it snoozed for 30s"),
    (
        "declined",
        |it| it.then_discarded("declined"),
        "it discarded: the card was declined",
    ),
    (
        "withdrawn",
        |it| it.then_canceled("withdrawn"),
        "it canceled: the order was withdrawn",
    ),
];

#[tokio::test]
async fn each_result_is_told_from_every_other() {
    for (order, _, told) in OUTCOMES {
        let executed = charged(order, 0).await;
        for (other, assertion, _) in OUTCOMES {
            if order == other {
                assertion(&executed);
            } else {
                let message = failure(|| assertion(&executed));
                assert!(message.starts_with(r#"handler "charge" of event "order.placed" was to "#));
                assert!(message.ends_with(told), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn the_text_and_the_time_count_as_well() {
    let failing = charged("failing", 0).await;
    assert_eq!(
        failure(|| failing.then_failed("timeout")),
        "handler \"charge\" of event \"order.placed\" was to fail with \"timeout\", but it failed: \
         the line is down"
    );
    let declined = charged("declined", 0).await;
    assert!(failure(|| declined.then_discarded("expired")).contains("the card was declined"));
    let withdrawn = charged("withdrawn", 0).await;
    assert!(failure(|| withdrawn.then_canceled("expired")).contains("the order was withdrawn"));
    let second = Duration::from_secs(1);
    let early = charged("early", 0).await;
    assert!(failure(|| early.then_snoozed(second)).contains("was to snooze for 1s"));
    let busy = charged("busy", 0).await;
    assert!(failure(|| busy.then_retried_after(second)).contains("a retry after 1s"));
    busy.then_failed("closed");
}

#[tokio::test]
async fn the_last_error_is_dead_and_a_snooze_never_is() {
    charged("failing", 4).await.then_failed("line").then_dead();
    charged("busy", 4).await.then_dead();
    charged("declined", 0).await.then_dead();
}

#[tokio::test]
async fn what_is_not_dead_is_told() {
    for (order, errors) in [("failing", 3), ("early", 4), ("good", 4), ("withdrawn", 4)] {
        let executed = charged(order, errors).await;
        let message = failure(|| executed.then_dead());
        assert!(message.contains("was to be dead, but it "), "{message}");
    }
    let executed = charged("failing", 4).await;
    let message = failure(|| executed.then_completed());
    assert!(
        message.ends_with("the line is down (the last of 5 errors)"),
        "{message}"
    );
}

#[tokio::test]
async fn raised_events_count_only_when_the_handler_completes() {
    let executed = charged("good", 0).await;
    executed.then_raised(&[Expected::of(&OrderPaid::new("good", 12))]);
    assert_eq!(executed.raised::<OrderPaid>(), [OrderPaid::new("good", 12)]);
    assert_eq!(executed.raised::<OrderPlaced>(), []);
    for (order, ..) in &OUTCOMES[1..] {
        charged(order, 0).await.then_raised(&[]);
    }
}

#[tokio::test]
async fn raised_events_belong_to_the_flow_of_the_given_one() {
    let event = Event::of(&OrderPlaced::new("good", 12)).unwrap();
    let (id, flow) = (event.id, event.correlation_id);
    let executed = given_event(event)
        .when(&Handler::new("charge", charge))
        .await;
    let raised = executed.raised_events();
    assert_eq!(raised.in_flow(flow).caused_by(id).events().len(), 1);
}

#[tokio::test]
async fn the_past_of_the_request_is_what_was_given() {
    async fn look(_: Arc<Event>, context: Context) -> HandlerResult {
        context.raise(Event::new(
            "looked",
            &(
                context.errors(),
                context.executions(),
                context.attempt(),
                context.rescues(),
            ),
        )?);
        Ok(())
    }
    let handler = Handler::new("look", look).on("*").max_errors(9).priority(3);
    let seen = |past: (u32, u32, u64, u32)| [Expected::named("looked").with_data(&past)];
    let event = || given(&OrderPlaced::new("good", 12));

    event()
        .when(&handler)
        .await
        .then_raised(&seen((0, 0, 1, 0)));
    event()
        .errors(2)
        .when(&handler)
        .await
        .then_raised(&seen((2, 2, 3, 0)));
    event()
        .errors(2)
        .executions(5)
        .rescues(1)
        .when(&handler)
        .await
        .then_raised(&seen((2, 5, 7, 1)));
    event()
        .attempt(40)
        .when(&handler)
        .await
        .then_raised(&seen((0, 0, 40, 0)));
}

#[tokio::test]
async fn the_mapping_of_the_handler_is_what_it_sees() {
    async fn look(_: Arc<Event>, context: Context) -> HandlerResult {
        assert_eq!((context.handler(), context.max_errors()), ("look", 9));
        assert_eq!(context.priority().get(), 3);
        Ok(())
    }
    let handler = Handler::new("look", look).on("*").max_errors(9).priority(3);
    given(&OrderPlaced::new("good", 12))
        .when(&handler)
        .await
        .then_completed();
}

#[tokio::test]
async fn what_hooks_left_and_a_cancellation_reach_the_handler() {
    async fn look(_: Arc<Event>, context: Context) -> HandlerResult {
        match (
            context.extension::<u32>().as_deref(),
            context.canceled().await,
        ) {
            (Some(7), CancellationCause::Shutdown) => Ok(()),
            other => Err(HandlerError::new(format!("{other:?}"))),
        }
    }
    given(&OrderPlaced::new("good", 12))
        .extension(7_u32)
        .canceled(CancellationCause::Shutdown)
        .when(&Handler::new("look", look).on("*"))
        .await
        .then_completed();
}

#[tokio::test]
async fn data_that_does_not_decode_fails_as_in_production() {
    let data = EventData::from_json(r#"{"order":"good"}"#).unwrap();
    given_event(Event::from_data("order.placed", data))
        .when(&Handler::new("charge", charge))
        .await
        .then_failed("missing field `total`");
}

#[tokio::test]
async fn a_raised_event_that_no_store_accepts_is_an_error() {
    async fn raise_nameless(_: Arc<Event>, context: Context) -> HandlerResult {
        context.raise(Event::new("", &())?);
        Ok(())
    }
    given(&OrderPlaced::new("good", 12))
        .when(&Handler::new("raise", raise_nameless).on("*"))
        .await
        .then_failed("is empty")
        .then_raised(&[]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_answers_times_out() {
    let hang = |_: Arc<Event>, _: Context| std::future::pending::<HandlerResult>();
    given(&OrderPlaced::new("good", 12))
        .when(&Handler::new("hang", hang).on("*").timeout(WAIT))
        .await
        .then_failed("timed out after 30s");
}

#[tokio::test]
async fn a_panic_in_the_handler_fails_the_test() {
    assert_eq!(
        async_failure(charged("unknown", 0)).await,
        "no such order: unknown"
    );
}

#[tokio::test]
async fn an_event_that_the_handler_is_not_mapped_to_is_refused() {
    async fn any(_: Payload<serde_json::Value>, _: Context) -> HandlerResult {
        Ok(())
    }
    let paid = || given(&OrderPaid::new("good", 12));
    let mail = Handler::new("mail", any).on("order.placed").on("invoice.*");
    assert_eq!(
        failure(|| paid().when(&mail)),
        r#"handler "mail" is not mapped to event "order.paid", but to ["order.placed", "invoice.*"]"#
    );
    let message = failure(|| paid().when(&Handler::new("charge", charge)));
    assert!(
        message.contains(r#""order.paid""#),
        "a typed handler takes its own event: {message}"
    );
    paid()
        .when(&Handler::new("mail", any).on("order.*"))
        .await
        .then_completed();
}

// Transactional handlers.

async fn add(placed: OrderPlaced, _: Context, sum: &mut u64) -> HandlerResult {
    *sum += placed.total;
    if placed.order == "good" {
        Ok(())
    } else {
        Err(HandlerError::new("refused"))
    }
}

#[tokio::test]
async fn a_transactional_handler_gets_the_connection() {
    let add = Handler::transactional("add", add);
    let mut sum = 1_u64;
    given(&OrderPlaced::new("good", 12))
        .when_with(&add, &mut sum)
        .await
        .then_completed();
    given(&OrderPlaced::new("bad", 12))
        .when_with(&add, &mut sum)
        .await
        .then_failed("refused");
    assert_eq!(sum, 25);
}

#[tokio::test]
async fn the_wrong_way_to_run_a_handler_is_refused() {
    let placed = || given(&OrderPlaced::new("good", 12));
    let (add, charge) = (
        Handler::transactional("add", add),
        Handler::new("charge", charge),
    );
    let mut text = String::new();
    let store = MemoryStore::new();
    assert_eq!(
        failure(|| placed().when(&add)),
        r#"handler "add" is transactional; run it with `when_with` or `when_in`"#
    );
    assert_eq!(
        failure(|| placed().when_with(&charge, &mut text)),
        r#"handler "charge" is not transactional; run it with `when`"#
    );
    assert_eq!(
        failure(|| placed().when_with(&add, &mut text)),
        r#"handler "add" takes a u64, but the test gives it a alloc::string::String"#
    );
    let message = failure(|| placed().when_in(&store, &add));
    assert!(
        message.contains("takes a u64, but the test gives it a tidings::"),
        "{message}"
    );
}

async fn pay(
    raiser: Raiser,
    placed: OrderPlaced,
    context: Context,
    connection: &mut tidings::MemoryConnection,
) -> HandlerResult {
    raiser
        .raise_typed(connection, &OrderPaid::new(&placed.order, 1))
        .await?;
    context.raise_typed(&OrderPaid::new(&placed.order, 2))?;
    if placed.order == "good" {
        Ok(())
    } else {
        Err(HandlerError::new("refused"))
    }
}

#[tokio::test]
async fn what_a_transactional_handler_wrote_commits_only_on_ok() {
    let store = MemoryStore::new();
    raise_typed(&store, &OrderPaid::new("earlier", 0)).await;
    let pay = Handler::transactional_with_state("pay", store.raiser(), pay);

    let refused = given(&OrderPlaced::new("bad", 12))
        .when_in(&store, &pay)
        .await
        .unwrap();
    refused.then_failed("refused").then_raised(&[]);
    assert_eq!(
        raised_events(&store).await.unwrap().events().len(),
        1,
        "rolled back"
    );

    let paid = given(&OrderPlaced::new("good", 12))
        .when_in(&store, &pay)
        .await
        .unwrap();
    let both = [1, 2].map(|total| Expected::of(&OrderPaid::new("good", total)));
    paid.then_completed().then_raised(&both);
    let stored = raised_events(&store).await.unwrap();
    assert_eq!(stored.events().len(), 3);
    both.iter().for_each(|event| stored.assert_contains(event));
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_of_the_test() {
    let store = crate::wait::Wrapped::failing(1);
    let pay = Handler::transactional_with_state("pay", store.inner.raiser(), pay);
    let error = given(&OrderPlaced::new("good", 12))
        .when_in(&store, &pay)
        .await
        .unwrap_err();
    assert!(error.is_transient());
    drop(store.begin().await.unwrap());
}
