//! What the tests are about: orders that are placed, paid and shipped.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tidings::{
    DomainEvent, Entity, Event, EventBuffer, EventRaiser, MemoryStore,
    store::{Storer, StorerExt},
};

macro_rules! order_event {
    ($type:ident, $name:literal) => {
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) struct $type {
            pub(crate) order: String,
            pub(crate) total: u64,
        }

        impl $type {
            pub(crate) fn new(order: &str, total: u64) -> Self {
                Self {
                    order: order.to_owned(),
                    total,
                }
            }
        }

        impl DomainEvent for $type {
            const NAME: &'static str = $name;

            fn entity(&self) -> Option<Entity> {
                Some(order(&self.order))
            }
        }
    };
}

order_event!(OrderPlaced, "order.placed");
order_event!(OrderPaid, "order.paid");
order_event!(OrderShipped, "order.shipped");

pub(crate) fn order(id: &str) -> Entity {
    Entity::new("order", id)
}

/// An entity that collects its events.
#[derive(Default)]
pub(crate) struct Order {
    pub(crate) events: EventBuffer,
}

impl EventRaiser for Order {
    fn event_buffer(&mut self) -> &mut EventBuffer {
        &mut self.events
    }
}

/// A store, as itself and as a port.
pub(crate) fn store() -> (MemoryStore, Arc<dyn Storer>) {
    let memory = MemoryStore::new();
    (memory.clone(), Arc::new(memory))
}

/// Raises and commits events.
pub(crate) async fn raise(store: &MemoryStore, events: impl IntoIterator<Item = Event>) {
    let (raiser, events) = (store.raiser(), events.into_iter().collect());
    store
        .transaction(|tx| Box::pin(async move { raiser.raise_all(tx, events).await }))
        .await
        .unwrap();
}

pub(crate) async fn raise_typed<E: DomainEvent + Sync>(store: &MemoryStore, event: &E) {
    raise(store, [Event::of(event).unwrap()]).await;
}

/// The message of the panic that an assertion must end in.
#[track_caller]
pub(crate) fn failure<T>(assertion: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(assertion)) {
        Ok(_) => panic!("the assertion should have failed"),
        Err(panic) => message(&*panic),
    }
}

/// As [`failure`], of a future.
pub(crate) async fn async_failure<T>(assertion: impl Future<Output = T>) -> String {
    match AssertUnwindSafe(assertion).catch_unwind().await {
        Ok(_) => panic!("the assertion should have failed"),
        Err(panic) => message(&*panic),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap()
}
