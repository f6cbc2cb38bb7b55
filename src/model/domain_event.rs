//! Typed events at the edge: what an application raises and what its handlers take.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{Entity, Event};
use crate::text::cut;

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
            .map_err(|source| DecodeError::new::<E>(event, source))
    }
}

impl<T: DeserializeOwned + Send + 'static> FromEvent for Payload<T> {
    const EVENT_NAME: Option<&'static str> = None;

    fn from_event(event: &Arc<Event>) -> Result<Self, DecodeError> {
        event
            .data
            .decode()
            .map(Self)
            .map_err(|source| DecodeError::new::<T>(event, source))
    }
}

impl FromEvent for Arc<Event> {
    const EVENT_NAME: Option<&'static str> = None;

    fn from_event(event: &Arc<Event>) -> Result<Self, DecodeError> {
        Ok(Self::clone(event))
    }
}

/// A payload that is not what a handler takes. It names the field, and its source what is wrong
/// there; of a field that is missing the source has the name.
#[derive(Debug, thiserror::Error)]
#[error("the data of event {event} ({id}, version {version}) does not decode{}", At(.path))]
pub struct DecodeError {
    event: String,
    id: crate::id::EventId,
    version: u16,
    /// Where in the data, if that is below its top.
    path: Option<String>,
    #[source]
    source: serde_json::Error,
}

struct At<'a>(&'a Option<String>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " at `{path}`"),
            None => Ok(()),
        }
    }
}

impl DecodeError {
    /// The most bytes of a path that are told; its keys are part of the data.
    const MAX_PATH_LEN: usize = 200;

    fn new<T: DeserializeOwned>(event: &Event, source: serde_json::Error) -> Self {
        Self {
            event: event.name.to_string(),
            id: event.id,
            version: event.version,
            path: path_of_error::<T>(event).map(|path| cut(&path, Self::MAX_PATH_LEN)),
            source,
        }
    }
}

/// Where the data stops being a `T`: decoded once more, so that only errors pay for it.
fn path_of_error<T: DeserializeOwned>(event: &Event) -> Option<String> {
    let mut json = serde_json::Deserializer::from_str(event.data.as_str());
    let error = serde_path_to_error::deserialize::<_, T>(&mut json).err()?;
    let path = error.path();
    path.iter().next().map(|_| path.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorChain;

    #[derive(Debug, serde::Deserialize)]
    struct Order {
        #[expect(dead_code, reason = "only decoded")]
        lines: Vec<Line>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Line {
        #[expect(dead_code, reason = "only decoded")]
        cents: u32,
    }

    fn error_of(data: &serde_json::Value) -> String {
        let event = Arc::new(Event::new("order.placed", data).unwrap());
        let error = Payload::<Order>::from_event(&event).err().unwrap();
        ErrorChain(&error).to_string()
    }

    #[test]
    fn an_error_names_event_and_field() {
        let error = error_of(&json!({ "lines": [{ "cents": 1 }, { "cents": "2" }] }));
        assert!(error.contains("event order.placed"), "{error}");
        assert!(
            error.contains("does not decode at `lines[1].cents`: invalid type"),
            "{error}"
        );
        let error = error_of(&json!({ "lines": [{}] }));
        assert!(
            error.contains("at `lines[0]`: missing field `cents`"),
            "{error}"
        );
        let error = error_of(&json!({}));
        assert!(
            error.contains("does not decode: missing field `lines`"),
            "{error}"
        );
    }
}
