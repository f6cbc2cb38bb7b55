//! Events that were raised, and assertions on them.

use std::{fmt, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use super::store_contents;
use crate::{
    error::Result,
    id::{CorrelationId, EventId},
    model::{DomainEvent, Entity, Event, EventRaiser},
    store::Storer,
    text::Name,
};

/// All events in a store, in the order of their ids, which is the order in which one process made
/// them.
///
/// ```
/// use tidings::{Entity, Event, MemoryStore, store::Storer};
/// use tidings::testkit::{Expected, raised_events};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let order = Entity::new("order", "4711");
/// let placed = Event::new("order.placed", &12)?.with_entity(order.clone());
/// let mut tx = store.begin().await?;
/// store.raiser().raise(&mut *tx, placed).await?;
/// store.raiser().raise(&mut *tx, Event::new("night.started", &())?).await?;
/// tx.commit().await?;
///
/// let raised = raised_events(&store).await?;
/// raised.assert_exactly(&[Expected::named("order.placed"), Expected::named("night.started")]);
/// raised.about(&order).assert_exactly(&[Expected::named("order.placed").with_data(&12)]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the store gives.
pub async fn raised_events<S: Storer + ?Sized>(store: &S) -> Result<RaisedEvents> {
    let mut session = store.session().await?;
    store_contents::events(&mut *session)
        .await
        .map(RaisedEvents::new)
}

/// All events of one type in a store, in the order of their ids.
///
/// # Errors
/// What the store gives.
///
/// # Panics
/// The data of one does not decode.
pub async fn raised<E: DomainEvent, S: Storer + ?Sized>(store: &S) -> Result<Vec<E>> {
    raised_events(store).await.map(|events| events.of())
}

/// Events that were raised, in their order, by a handler, an entity, or everyone.
///
/// The assertions panic with a message that says which events differ, and where in their data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaisedEvents(Vec<Arc<Event>>);

impl RaisedEvents {
    /// These events.
    #[must_use]
    pub const fn new(events: Vec<Arc<Event>>) -> Self {
        Self(events)
    }

    /// The events that an entity has collected and that nobody has stored yet.
    #[must_use]
    pub fn collected_by<R: EventRaiser + ?Sized>(entity: &mut R) -> Self {
        entity.event_buffer().events().to_vec().into()
    }

    /// The events themselves.
    #[must_use]
    pub fn events(&self) -> &[Arc<Event>] {
        &self.0
    }

    /// The events of one type.
    ///
    /// # Panics
    /// The data of one does not decode.
    #[track_caller]
    #[must_use]
    #[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
    pub fn of<E: DomainEvent>(&self) -> Vec<E> {
        let decode = |event: &Arc<Event>| match event.data.decode() {
            Ok(typed) => typed,
            Err(error) => panic!(
                "the data of a raised event is not that of its type: {}: {error}",
                Shown::of(event)
            ),
        };
        self.0
            .iter()
            .filter(|event| event.name == E::NAME)
            .map(decode)
            .collect()
    }

    /// Those about an entity.
    #[must_use]
    pub fn about(&self, entity: &Entity) -> Self {
        self.filtered(|event| event.entity.as_ref() == Some(entity))
    }

    /// Those of a flow.
    #[must_use]
    pub fn in_flow(&self, correlation_id: CorrelationId) -> Self {
        self.filtered(|event| event.correlation_id == correlation_id)
    }

    /// Those that handlers of an event have raised.
    #[must_use]
    pub fn caused_by(&self, event: EventId) -> Self {
        self.filtered(|raised| raised.causation_id == Some(event))
    }

    fn filtered(&self, keep: impl Fn(&Event) -> bool) -> Self {
        Self(self.0.iter().filter(|event| keep(event)).cloned().collect())
    }

    /// These and no others were raised, in this order.
    ///
    /// # Panics
    /// They were not.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
    pub fn assert_exactly(&self, expected: &[Expected]) {
        let count = expected.len().max(self.0.len());
        let compared: Vec<_> = (0..count)
            .map(|n| (expected.get(n), self.0.get(n)))
            .collect();
        let same = |(expected, raised): &(Option<&Expected>, Option<&Arc<Event>>)| match (
            expected, raised,
        ) {
            (Some(expected), Some(raised)) => expected.differences(raised).is_empty(),
            _ => false,
        };
        if !compared.iter().all(same) {
            let lines: String = compared
                .into_iter()
                .enumerate()
                .map(|(n, pair)| line(n + 1, pair))
                .collect();
            panic!("the raised events are not the expected ones:{lines}");
        }
    }

    /// This was raised, among others or alone.
    ///
    /// # Panics
    /// It was not.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
    pub fn assert_contains(&self, expected: &Expected) {
        if !self
            .0
            .iter()
            .any(|raised| expected.differences(raised).is_empty())
        {
            panic!("{expected} was not raised, but {self}");
        }
    }

    /// Nothing was raised.
    ///
    /// # Panics
    /// Something was.
    #[track_caller]
    pub fn assert_none(&self) {
        self.assert_exactly(&[]);
    }
}

impl From<Vec<Event>> for RaisedEvents {
    fn from(events: Vec<Event>) -> Self {
        Self(events.into_iter().map(Arc::new).collect())
    }
}

impl fmt::Display for RaisedEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        self.0
            .iter()
            .try_for_each(|event| write!(f, "\n  {}", Shown::of(event)))
    }
}

/// What is expected of a raised event: its name, and as much more as is said.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an expectation does nothing until events are compared with it"]
pub struct Expected {
    name: Name,
    /// `None` does not care; `Some(None)` wants an application event.
    entity: Option<Option<Entity>>,
    data: Option<Value>,
}

impl Expected {
    /// An event like this typed one: its name, its entity and its data.
    ///
    /// # Panics
    /// It does not serialize.
    #[track_caller]
    pub fn of<E: DomainEvent>(event: &E) -> Self {
        let expected = Self::named(E::NAME).with_data(event);
        Self {
            entity: Some(event.entity()),
            ..expected
        }
    }

    /// An event of this name, whatever else it says.
    pub fn named(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            entity: None,
            data: None,
        }
    }

    /// It is about this entity.
    pub fn about(mut self, entity: Entity) -> Self {
        self.entity = Some(Some(entity));
        self
    }

    /// It carries this data; the order of the fields does not matter.
    ///
    /// # Panics
    /// The data does not serialize.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test kit fails tests by panicking")]
    pub fn with_data<T: Serialize + ?Sized>(mut self, data: &T) -> Self {
        match serde_json::to_value(data) {
            Ok(data) => self.data = Some(data),
            Err(error) => panic!(
                "the expected data of {:?} does not serialize: {error}",
                self.name
            ),
        }
        self
    }

    /// Where a raised event is not as expected.
    fn differences(&self, raised: &Event) -> Vec<String> {
        let mut differences = Vec::new();
        if self.name != raised.name {
            differences.push(format!(
                "name: expected {}, raised {}",
                self.name, raised.name
            ));
        }
        if let Some(entity) = &self.entity
            && *entity != raised.entity
        {
            let (expected, raised) = (About(entity.as_ref()), About(raised.entity.as_ref()));
            differences.push(format!("entity: expected {expected}, raised {raised}"));
        }
        if let Some(data) = &self.data {
            match raised.data.decode() {
                Ok(raised) => compare("data", Some(data), Some(&raised), &mut differences),
                Err(error) => {
                    differences.push(format!("data: the raised one is not JSON: {error}"))
                }
            }
        }
        differences
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entity = self.entity.as_ref().and_then(Option::as_ref);
        let data = self.data.as_ref().map(Value::to_string);
        Shown {
            name: &self.name,
            entity,
            data: data.as_deref(),
        }
        .fmt(f)
    }
}

/// One line about one place of the sequence, and what differs there below it.
fn line(number: usize, pair: (Option<&Expected>, Option<&Arc<Event>>)) -> String {
    match pair {
        (Some(expected), Some(raised)) => match expected.differences(raised) {
            differences if differences.is_empty() => format!("\n  {number}. {}", Shown::of(raised)),
            differences => {
                let heading = format!("\n  {number}. {} differs:", Shown::of(raised));
                differences.into_iter().fold(heading, |lines, difference| {
                    lines + "\n       " + &difference
                })
            }
        },
        (Some(expected), None) => format!("\n  {number}. {expected} is missing"),
        (None, Some(raised)) => format!("\n  {number}. {} was not expected", Shown::of(raised)),
        (None, None) => String::new(),
    }
}

/// Lists the places where two values differ.
fn compare(
    path: &str,
    expected: Option<&Value>,
    raised: Option<&Value>,
    differences: &mut Vec<String>,
) {
    match (expected, raised) {
        (Some(Value::Object(expected)), Some(Value::Object(raised))) => {
            let more = raised.keys().filter(|key| !expected.contains_key(*key));
            for key in expected.keys().chain(more) {
                compare(
                    &format!("{path}.{key}"),
                    expected.get(key),
                    raised.get(key),
                    differences,
                );
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(raised))) => {
            for n in 0..expected.len().max(raised.len()) {
                compare(
                    &format!("{path}[{n}]"),
                    expected.get(n),
                    raised.get(n),
                    differences,
                );
            }
        }
        (expected, raised) if expected != raised => {
            let show = |value: Option<&Value>| {
                value.map_or_else(|| "nothing".to_owned(), Value::to_string)
            };
            differences.push(format!(
                "{path}: expected {}, raised {}",
                show(expected),
                show(raised)
            ));
        }
        _ => {}
    }
}

/// An event in one line.
struct Shown<'a> {
    name: &'a Name,
    entity: Option<&'a Entity>,
    data: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            name: &event.name,
            entity: event.entity.as_ref(),
            data: Some(event.data.as_str()),
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        if self.entity.is_some() {
            write!(f, " about {}", About(self.entity))?;
        }
        self.data.map_or(Ok(()), |data| write!(f, " with {data}"))
    }
}

struct About<'a>(Option<&'a Entity>);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Entity { name, id }) => write!(f, "{name} {id}"),
            None => f.write_str("none"),
        }
    }
}
