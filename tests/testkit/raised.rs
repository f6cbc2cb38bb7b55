//! Assertions on raised events.

use serde_json::json;
use tidings::{
    Event, EventRaiser, MemoryStore,
    store::Storer,
    testkit::{Expected, RaisedEvents, raised, raised_events},
};

use crate::shop::{Order, OrderPaid, OrderPlaced, OrderShipped, failure, order, raise};

fn placed_and_paid() -> RaisedEvents {
    let placed = Event::of(&OrderPlaced::new("4711", 12)).unwrap();
    let paid = Event::of(&OrderPaid::new("4711", 13)).unwrap();
    vec![placed, paid].into()
}

#[test]
fn the_expected_events_pass_in_their_order() {
    let raised = placed_and_paid();
    raised.assert_exactly(&[
        Expected::of(&OrderPlaced::new("4711", 12)),
        Expected::named("order.paid"),
    ]);
    raised.assert_exactly(&[
        Expected::named("order.placed").about(order("4711")),
        Expected::named("order.paid").with_data(&json!({ "total": 13, "order": "4711" })),
    ]);
    raised.assert_contains(&Expected::of(&OrderPaid::new("4711", 13)));
}

#[test]
fn differing_data_is_named_by_its_path() {
    let expected = [
        Expected::of(&OrderPlaced::new("4711", 12)),
        Expected::of(&OrderPaid::new("4711", 12)),
    ];
    assert_eq!(
        failure(|| placed_and_paid().assert_exactly(&expected)),
        "the raised events are not the expected ones:\n  \
         1. order.placed about order 4711 with {\"order\":\"4711\",\"total\":12}\n  \
         2. order.paid about order 4711 with {\"order\":\"4711\",\"total\":13} differs:\n       \
         data.total: expected 12, raised 13"
    );
}

#[test]
fn nested_missing_and_superfluous_data_is_named() {
    let raised = json!({ "items": [{ "n": 1 }, { "n": 2 }, 3], "more": null, "same": [1] });
    let expected = json!({ "items": [{ "n": 1 }, { "n": 5 }], "less": "x", "same": [1] });
    let raised: RaisedEvents = vec![Event::new("order.placed", &raised).unwrap()].into();
    let expected = [Expected::named("order.placed").with_data(&expected)];
    let message = failure(|| raised.assert_exactly(&expected));
    let differences: Vec<_> = message.lines().skip(2).map(str::trim).collect();
    assert_eq!(
        differences,
        [
            "data.items[1].n: expected 5, raised 2",
            "data.items[2]: expected nothing, raised 3",
            "data.less: expected \"x\", raised nothing",
            "data.more: expected nothing, raised null",
        ]
    );
}

#[test]
fn a_missing_a_superfluous_and_another_event_are_named() {
    let message = failure(|| placed_and_paid().assert_exactly(&[Expected::named("order.placed")]));
    assert!(
        message.ends_with("\"total\":13} was not expected"),
        "{message}"
    );

    let expected = ["order.placed", "order.shipped", "order.paid"].map(Expected::named);
    let message = failure(|| placed_and_paid().assert_exactly(&expected));
    let lines: Vec<_> = message.lines().collect();
    assert!(lines[2].ends_with("differs:"), "{message}");
    assert_eq!(
        lines[3].trim(),
        "name: expected order.shipped, raised order.paid"
    );
    assert_eq!(lines[4].trim(), "3. order.paid is missing");
}

#[test]
fn another_entity_or_none_is_named() {
    let about = |event: Expected| vec![event.about(order("4712")), Expected::named("order.paid")];
    let message =
        failure(|| placed_and_paid().assert_exactly(&about(Expected::named("order.placed"))));
    assert!(
        message.contains("entity: expected order 4712, raised order 4711"),
        "{message}"
    );

    let nobodys: RaisedEvents = vec![Event::new("order.placed", &()).unwrap()].into();
    let expected = Expected::of(&OrderPlaced::new("4711", 12));
    let message = failure(|| nobodys.assert_exactly(std::slice::from_ref(&expected)));
    assert!(
        message.contains("entity: expected order 4711, raised none"),
        "{message}"
    );
}

#[test]
fn order_matters() {
    let reversed = ["order.paid", "order.placed"].map(Expected::named);
    failure(|| placed_and_paid().assert_exactly(&reversed));
}

#[test]
fn what_was_not_raised_is_told_beside_what_was() {
    let message = failure(|| {
        placed_and_paid().assert_contains(&Expected::of(&OrderShipped::new("4711", 12)));
    });
    assert_eq!(
        message,
        "order.shipped about order 4711 with {\"order\":\"4711\",\"total\":12} was not raised, but \
         \n  order.placed about order 4711 with {\"order\":\"4711\",\"total\":12}\
         \n  order.paid about order 4711 with {\"order\":\"4711\",\"total\":13}"
    );
    let nothing = RaisedEvents::default();
    let message = failure(|| nothing.assert_contains(&Expected::named("order.placed")));
    assert_eq!(message, "order.placed was not raised, but nothing");
}

#[test]
fn nothing_is_asserted_as_well() {
    RaisedEvents::default().assert_none();
    let message = failure(|| placed_and_paid().assert_none());
    assert_eq!(message.matches("was not expected").count(), 2, "{message}");
}

#[test]
fn data_of_another_type_is_told() {
    let odd: RaisedEvents =
        vec![Event::new("order.placed", &json!({ "order": 1 })).unwrap()].into();
    let message = failure(|| odd.of::<OrderPlaced>());
    assert!(
        message.contains("order.placed with {\"order\":1}: invalid type"),
        "{message}"
    );
}

#[test]
fn an_entitys_collected_events_are_seen_and_stay() {
    let mut entity = Order::default();
    entity.collect(&OrderPlaced::new("4711", 12)).unwrap();
    let collected = RaisedEvents::collected_by(&mut entity);
    collected.assert_exactly(&[Expected::of(&OrderPlaced::new("4711", 12))]);
    assert_eq!(entity.events.len(), 1);
}

#[tokio::test]
async fn a_store_tells_what_was_committed_and_by_whom() {
    let store = MemoryStore::new();
    let placed = Event::of(&OrderPlaced::new("4711", 12)).unwrap();
    let paid = Event::of(&OrderPaid::new("4711", 12))
        .unwrap()
        .caused_by(&placed);
    let other = Event::of(&OrderPlaced::new("4712", 1)).unwrap();
    let (id, flow) = (placed.id, placed.correlation_id);
    raise(&store, [placed, paid, other]).await;
    let mut tx = store.begin().await.unwrap();
    store
        .raiser()
        .raise_typed(&mut *tx, &OrderPlaced::new("lost", 1))
        .await
        .unwrap();

    let all = raised_events(&store).await.unwrap();
    let names = ["order.placed", "order.paid", "order.placed"].map(Expected::named);
    all.assert_exactly(&names);
    all.about(&order("4711")).assert_exactly(&names[..2]);
    all.in_flow(flow).assert_exactly(&names[..2]);
    all.caused_by(id).assert_exactly(&names[1..2]);
    assert_eq!(
        raised::<OrderPlaced, _>(&store).await.unwrap(),
        [OrderPlaced::new("4711", 12), OrderPlaced::new("4712", 1)]
    );
}
