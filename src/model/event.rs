//! The event: an immutable fact.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};

use super::{DomainEvent, EventData};
use crate::{
    clock::{Clock, SystemClock, to_microseconds},
    error::StoreError,
    id::{CorrelationId, EventId},
    text::Name,
};

/// The caller's own key-value pairs beside an event's data, and the trace context of the code that
/// raised it.
pub type Headers = BTreeMap<String, String>;

/// What a domain event is about: the aggregate root of domain-driven design.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entity {
    /// The kind of entity, for example `order`.
    pub name: Name,
    /// Which one.
    pub id: Name,
}

impl Entity {
    /// The entity `name` with the id `id`.
    pub fn new(name: impl Into<Name>, id: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            id: id.into(),
        }
    }
}

/// A fact that happened: a **domain event** if it is about an entity, else an **application
/// event**. Immutable once it is raised.
///
/// ```
/// use serde_json::json;
/// use tidings::{Entity, Event};
///
/// let placed = Event::new("order.placed", &json!({ "total": 12 }))?
///     .with_entity(Entity::new("order", "4711"))
///     .with_header("tenant", "north");
/// assert_eq!(placed.correlation_id, placed.id.into());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Its id; raising the same id twice changes nothing.
    pub id: EventId,
    /// Its name, in the past tense, for example `order.placed`.
    pub name: Name,
    /// What it is about; none for an application event.
    pub entity: Option<Entity>,
    /// What happened, as JSON.
    pub data: EventData,
    /// When it happened, by the clock of the process that raised it, in whole microseconds.
    pub timestamp: DateTime<Utc>,
    /// The same for all events of one flow.
    pub correlation_id: CorrelationId,
    /// The event whose handler raised this one.
    pub causation_id: Option<EventId>,
    /// The caller's own key-value pairs and the trace context.
    pub headers: Headers,
    /// The version of the data's schema; see [`DomainEvent::VERSION`].
    pub version: u16,
}

/// Headers by their names only: their values may be secrets, as the data may.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("entity", &self.entity)
            .field("data", &self.data)
            .field("timestamp", &self.timestamp)
            .field("correlation_id", &self.correlation_id)
            .field("causation_id", &self.causation_id)
            .field("headers", &headers)
            .field("version", &self.version)
            .finish()
    }
}

impl Event {
    /// The most that all headers together may hold, in bytes.
    pub const MAX_HEADERS_LEN: usize = 64 * 1024;

    /// The years of timestamps that every database can store and that can be read again.
    const YEARS: std::ops::RangeInclusive<i32> = -4712..=262_142;

    /// A new event named `name` that carries `data`, stamped with the system's clock.
    ///
    /// Names and sizes are checked when it is raised.
    ///
    /// # Errors
    /// The data does not serialize.
    pub fn new<T: Serialize + ?Sized>(
        name: impl Into<Name>,
        data: &T,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self::from_data(name, EventData::from_value(data)?))
    }

    /// A new event with data that is JSON already.
    #[must_use]
    pub fn from_data(name: impl Into<Name>, data: EventData) -> Self {
        let id = EventId::new();
        Self {
            id,
            name: name.into(),
            entity: None,
            data,
            timestamp: SystemClock.now(),
            correlation_id: id.into(),
            causation_id: None,
            headers: Headers::new(),
            version: 1,
        }
    }

    /// A new event from a typed one.
    ///
    /// # Errors
    /// The value does not serialize.
    pub fn of<E: DomainEvent>(event: &E) -> Result<Self, serde_json::Error> {
        let mut raised = Self::new(E::NAME, event)?;
        raised.entity = event.entity();
        raised.version = E::VERSION;
        Ok(raised)
    }

    /// The same event with another id, for example one derived from a request, so that raising it
    /// again is recognised. An event that was its own correlation stays so.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        if self.correlation_id == self.id.into() {
            self.correlation_id = id.into();
        }
        self.id = id;
        self
    }

    /// The same event about an entity.
    #[must_use]
    pub fn with_entity(mut self, entity: Entity) -> Self {
        self.entity = Some(entity);
        self
    }

    /// The same event with another timestamp, cut to microseconds.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: DateTime<Utc>) -> Self {
        self.timestamp = to_microseconds(timestamp);
        self
    }

    /// The same event as part of a flow.
    #[must_use]
    pub fn with_correlation_id(mut self, id: CorrelationId) -> Self {
        self.correlation_id = id;
        self
    }

    /// The same event as a consequence of `cause`: in its flow, and naming it.
    #[must_use]
    pub fn caused_by(mut self, cause: &Self) -> Self {
        if self.correlation_id == self.id.into() {
            self.correlation_id = cause.correlation_id;
        }
        self.causation_id = Some(cause.id);
        self
    }

    /// The same event with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The same event with another schema version.
    #[must_use]
    pub fn with_version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// Checks what not every database can store, or could not read again, in a few comparisons: so what
    /// one store refuses, all do, in the same words, also where no [`Raiser`](crate::Raiser) has checked
    /// it. Part of [`check`](Self::check).
    ///
    /// # Errors
    /// [`StoreError::Invalid`] names the field, the reason and the remedy.
    pub fn check_storable(&self) -> Result<(), StoreError> {
        let invalid = |field: &str, reason: String, remedy| {
            Err(StoreError::invalid(
                format!("the {field} of event {} ({:?})", self.id, self.name),
                reason,
                remedy,
            ))
        };
        let entity = self.entity.as_ref();
        for (field, text) in [
            ("name", Some(&self.name)),
            ("entity name", entity.map(|entity| &entity.name)),
            ("entity id", entity.map(|entity| &entity.id)),
        ] {
            if let Some(defect) = text.and_then(|text| text.unstorable()) {
                return invalid(field, defect.to_owned(), "choose a short, printable one");
            }
        }
        if self.data.is_too_deep() {
            return invalid(
                "data",
                format!("is nested deeper than {} levels", EventData::MAX_DEPTH),
                "flatten it, or keep the inner part as a text",
            );
        }
        if !Self::YEARS.contains(&self.timestamp.year()) {
            return invalid(
                "timestamp",
                format!("is {}, which not every database can store", self.timestamp),
                "choose one from 4713 BC to the year 262142",
            );
        }
        if self.timestamp != to_microseconds(self.timestamp) {
            return invalid(
                "timestamp",
                "is finer than microseconds, or a leap second".to_owned(),
                "set it with `Event::with_timestamp`, which cuts it",
            );
        }
        if self
            .headers
            .iter()
            .any(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return invalid("headers", "have a NUL character".to_owned(), "remove it");
        }
        Ok(())
    }

    /// Checks what every store demands of an event that is to be raised.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] names the field, the reason and the remedy.
    pub fn check(&self, max_data_len: usize) -> Result<(), StoreError> {
        let invalid = |field: &str, reason: String, remedy| {
            Err(StoreError::invalid(
                format!("the {field} of event {} ({:?})", self.id, self.name),
                reason,
                remedy,
            ))
        };
        if let Some(defect) = self.name.defect() {
            return invalid(
                "name",
                defect.to_owned(),
                "choose a name such as order.placed",
            );
        }
        if let Some(entity) = &self.entity {
            for (field, text) in [("entity name", &entity.name), ("entity id", &entity.id)] {
                match text.defect() {
                    Some(defect) if !defect.contains('*') => {
                        return invalid(field, defect.to_owned(), "choose a short, printable one");
                    }
                    _ => {}
                }
            }
        }
        let len = self.data.as_str().len();
        if len > max_data_len {
            return invalid(
                "data",
                format!("has {len} bytes, more than the limit of {max_data_len}"),
                "store large data elsewhere and refer to it, or raise `Raiser::max_data_len`",
            );
        }
        self.check_storable()?;
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if headers > Self::MAX_HEADERS_LEN {
            return invalid(
                "headers",
                format!(
                    "have {headers} bytes, more than the limit of {}",
                    Self::MAX_HEADERS_LEN
                ),
                "move them into the data",
            );
        }
        if self.headers.keys().any(String::is_empty) {
            return invalid("headers", "have an empty name".to_owned(), "remove it");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_an_event_has_neither_data_nor_values_of_headers() {
        let event = Event::new("card.used", "marker-of-data")
            .unwrap()
            .with_header("token", "marker-of-header");
        let shown = format!("{event:?}");
        assert!(!shown.contains("marker"), "{shown}");
        assert!(
            shown.contains("token") && shown.contains("card.used"),
            "{shown}"
        );
    }
}
