//! Typed events at the edge: what an application raises and what its handlers take.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{Entity, Event};

/// A type of event.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidings::{DomainEvent, Entity};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderPlaced { order: String, total: u64 }
///
/// impl DomainEvent for OrderPlaced {
///     const NAME: &'static str = "order.placed";
///     fn entity(&self) -> Option<Entity> {
///         Some(Entity::new("order", self.order.as_str()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of event",
    note = "implement `tidings::DomainEvent` for it, or take `tidings::Payload<{Self}>` in a handler that is mapped by name"
)]
pub trait DomainEvent: Serialize + DeserializeOwned + Send + 'static {
    /// The event's name.
    const NAME: &'static str;
    /// The version of the data's schema.
    const VERSION: u16 = 1;

    /// What the event is about; `None` makes it an application event.
    fn entity(&self) -> Option<Entity>;
}

/// A payload of any serde type, for handlers that are mapped to several names or to patterns.
///
/// ```
/// use serde::Deserialize;
/// use tidings::{Context, HandlerResult, Payload};
///
/// #[derive(Deserialize)]
/// struct Labelled { labels: Vec<String> }
///
/// async fn triage(Payload(issue): Payload<Labelled>, _: Context) -> HandlerResult {
///     println!("{} labels", issue.labels.len());
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<T>(pub T);

/// What the first argument of a handler can be: a [`DomainEvent`], a [`Payload`], or the event
/// itself as `Arc<Event>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from an event",
    label = "a handler's first argument is a `DomainEvent`, a `Payload<T>` or an `Arc<Event>`",
    note = "implement `tidings::DomainEvent` for `{Self}`, or take `tidings::Payload<{Self}>`"
)]
pub trait FromEvent: Sized + Send + 'static {
    /// The one event name that this type stands for, if it does.
    const EVENT_NAME: Option<&'static str>;

    /// Makes the argument.
    ///
    /// # Errors
    /// The payload does not decode.
    fn from_event(event: &Arc<Event>) -> Result<Self, DecodeError>;
}

impl<E: DomainEvent> FromEvent for E {
    const EVENT_NAME: Option<&'static str> = Some(E::NAME);

    fn from_event(event: &Arc<Event>) -> Result<Self, DecodeError> {
        event
            .data
            .decode()
            .map_err(|source| DecodeError::new(event, source))
    }
}

impl<T: DeserializeOwned + Send + 'static> FromEvent for Payload<T> {
    const EVENT_NAME: Option<&'static str> = None;

    fn from_event(event: &Arc<Event>) -> Result<Self, DecodeError> {
        event
            .data
            .decode()
            .map(Self)
            .map_err(|source| DecodeError::new(event, source))
    }
}

impl FromEvent for Arc<Event> {
    const EVENT_NAME: Option<&'static str> = None;

    fn from_event(event: &Arc<Event>) -> Result<Self, DecodeError> {
        Ok(Self::clone(event))
    }
}

/// A payload that is not what a handler takes. The source names the field and the place.
#[derive(Debug, thiserror::Error)]
#[error("the data of event {event} ({id}, version {version}) does not decode")]
pub struct DecodeError {
    event: String,
    id: crate::id::EventId,
    version: u16,
    #[source]
    source: serde_json::Error,
}

impl DecodeError {
    fn new(event: &Event, source: serde_json::Error) -> Self {
        Self {
            event: event.name.to_string(),
            id: event.id,
            version: event.version,
            source,
        }
    }
}
