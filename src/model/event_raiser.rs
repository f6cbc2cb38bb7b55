//! Entities that collect events until they are saved.

use super::{DomainEvent, Event};

/// The events that an entity has collected and that nobody has stored yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "the events of an entity are lost unless a Raiser stores them"]
pub struct EventBuffer(Vec<Event>);

impl EventBuffer {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Collects an event.
    pub fn push(&mut self, event: Event) {
        self.0.push(event);
    }

    /// The events collected so far, in their order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.0
    }

    /// Takes the events out.
    #[must_use]
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.0)
    }

    /// Whether nothing has been collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many events have been collected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// An entity whose methods raise events: it collects them in an [`EventBuffer`], and whoever saves
/// the entity stores them in the same transaction with
/// [`Raiser::raise_collected`](crate::Raiser::raise_collected).
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidings::{DomainEvent, Entity, EventBuffer, EventRaiser};
///
/// #[derive(Serialize, Deserialize)]
/// struct OrderCanceled { order: String }
/// impl DomainEvent for OrderCanceled {
///     const NAME: &'static str = "order.canceled";
///     fn entity(&self) -> Option<Entity> { Some(Entity::new("order", self.order.as_str())) }
/// }
///
/// struct Order { id: String, open: bool, events: EventBuffer }
/// impl EventRaiser for Order {
///     fn event_buffer(&mut self) -> &mut EventBuffer { &mut self.events }
/// }
/// impl Order {
///     fn cancel(&mut self) -> Result<(), serde_json::Error> {
///         self.open = false;
///         self.collect(&OrderCanceled { order: self.id.clone() })
///     }
/// }
///
/// let mut order = Order { id: "4711".into(), open: true, events: EventBuffer::new() };
/// order.cancel()?;
/// assert_eq!(order.events.events()[0].name, "order.canceled");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub trait EventRaiser {
    /// Where this entity keeps its events.
    fn event_buffer(&mut self) -> &mut EventBuffer;

    /// Collects a typed event.
    ///
    /// # Errors
    /// The value does not serialize.
    fn collect<E: DomainEvent>(&mut self, event: &E) -> Result<(), serde_json::Error>
    where
        Self: Sized,
    {
        let event = Event::of(event)?;
        self.event_buffer().push(event);
        Ok(())
    }
}
