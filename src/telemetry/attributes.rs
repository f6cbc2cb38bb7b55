//! Names of attributes, and the attribute sets that every event and request needs: made once for
//! each thread and kept, so that recording neither allocates nor locks.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use opentelemetry::{KeyValue, StringValue};

use crate::text::Name;

pub(super) const CORRELATION_ID: &str = "correlation_id";
pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const EVENT_ENTITY_ID: &str = "event.entity.id";
pub(super) const EVENT_ENTITY_NAME: &str = "event.entity.name";
pub(super) const EVENT_ID: &str = "event.id";
pub(super) const EVENT_TYPE: &str = "event.type";
pub(super) const HANDLER_ERROR: &str = "event_handler.error";
pub(super) const HANDLER_NAME: &str = "event_handler.name";
pub(super) const OPERATION: &str = "db.operation.name";
pub(super) const REQUEST_ERRORS: &str = "request.errors";
pub(super) const REQUEST_EVENT_ID: &str = "request.event.id";
pub(super) const REQUEST_EVENT_TYPE: &str = "request.event.type";
pub(super) const REQUEST_ID: &str = "request.id";
pub(super) const REQUEST_RESCUE: &str = "request.rescue";
pub(super) const REQUEST_RETRYABLE: &str = "request.retryable";
pub(super) const REQUEST_TYPE: &str = "request.type";
pub(super) const SCHEDULER_NUMBER: &str = "events.scheduler.number";
pub(super) const SCHEDULER_STATE: &str = "events.scheduler.state";
pub(super) const WORKER_STATE: &str = "events.scheduler.worker.state";

/// The most sets that a thread keeps; when there are more, it begins anew. Sets are needed per
/// event name and per pair of handler and event name, and exporters give up at 2,000 of them, so
/// only an application that puts ids into names gets here, and it pays some allocations.
const MAX_SETS: usize = 2_000;

/// The attributes of a handler request's metrics.
#[derive(Debug)]
pub(super) struct RequestAttributes {
    /// `request.event.type` and `request.type`.
    pub(super) request: [KeyValue; 2],
    /// `event_handler.name` and `event_handler.error`, for a run without an error.
    pub(super) handler_ok: [KeyValue; 2],
    /// The same for a run with an error.
    pub(super) handler_error: [KeyValue; 2],
}

impl RequestAttributes {
    fn new(event: &Name, handler: &Name) -> Self {
        let (event, handler) = (text(event), text(handler));
        Self {
            request: [
                KeyValue::new(REQUEST_EVENT_TYPE, event),
                KeyValue::new(REQUEST_TYPE, handler.clone()),
            ],
            handler_ok: [
                KeyValue::new(HANDLER_NAME, handler.clone()),
                KeyValue::new(HANDLER_ERROR, false),
            ],
            handler_error: [
                KeyValue::new(HANDLER_NAME, handler),
                KeyValue::new(HANDLER_ERROR, true),
            ],
        }
    }
}

#[derive(Default)]
struct Sets {
    count: usize,
    events: HashMap<Name, Rc<[KeyValue; 1]>>,
    /// By handler, then by event.
    requests: HashMap<Name, HashMap<Name, Rc<RequestAttributes>>>,
}

thread_local! {
    static SETS: RefCell<Sets> = RefCell::default();
}

/// The attributes of an event's metrics: `event.type`.
pub(super) fn of_event(event: &Name) -> Rc<[KeyValue; 1]> {
    let make = || Rc::new([KeyValue::new(EVENT_TYPE, text(event))]);
    kept(|sets| {
        if let Some(set) = sets.events.get(event.as_str()) {
            return Rc::clone(set);
        }
        sets.make_room();
        let set = make();
        sets.events.insert(event.clone(), Rc::clone(&set));
        set
    })
    .unwrap_or_else(make)
}

/// The attributes of a request's metrics.
pub(super) fn of_request(event: &Name, handler: &Name) -> Rc<RequestAttributes> {
    let make = || Rc::new(RequestAttributes::new(event, handler));
    kept(|sets| {
        if let Some(set) = sets
            .requests
            .get(handler.as_str())
            .and_then(|events| events.get(event.as_str()))
        {
            return Rc::clone(set);
        }
        sets.make_room();
        let set = make();
        sets.requests
            .entry(handler.clone())
            .or_default()
            .insert(event.clone(), Rc::clone(&set));
        set
    })
    .unwrap_or_else(make)
}

/// A name as a value, one allocation for all its copies.
pub(super) fn text(name: &Name) -> StringValue {
    Arc::<str>::from(name.as_str()).into()
}

/// Uses the thread's sets; `None` while the thread ends.
fn kept<T>(use_sets: impl FnOnce(&mut Sets) -> T) -> Option<T> {
    SETS.try_with(|sets| {
        sets.try_borrow_mut()
            .ok()
            .map(|mut sets| use_sets(&mut sets))
    })
    .ok()
    .flatten()
}

impl Sets {
    fn make_room(&mut self) {
        if self.count >= MAX_SETS {
            *self = Self::default();
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_end_do_not_fill_the_memory() {
        for n in 0..3 * MAX_SETS {
            let name = Name::from(format!("order.{n}"));
            assert_eq!(of_event(&name)[0].value.as_str(), name.as_str());
            assert_eq!(
                of_request(&name, &name).request[0].value.as_str(),
                name.as_str()
            );
        }
        let kept = kept(|sets| {
            sets.events.len() + sets.requests.values().map(HashMap::len).sum::<usize>()
        });
        assert!(kept.is_some_and(|kept| kept <= MAX_SETS), "{kept:?}");
    }

    #[test]
    fn a_set_is_made_once_and_belongs_to_its_pair() {
        let (placed, paid) = (Name::from("order.placed"), Name::from("order.paid"));
        let (ship, bill) = (Name::from("ship"), Name::from("bill"));
        let first = of_request(&placed, &ship);
        assert!(Rc::ptr_eq(
            &first,
            &of_request(&Name::from("order.placed"), &Name::from("ship"))
        ));
        for (event, handler) in [(&paid, &ship), (&placed, &bill)] {
            let other = of_request(event, handler);
            assert_eq!(other.request[0].value.as_str(), event.as_str());
            assert_eq!(other.request[1].value.as_str(), handler.as_str());
        }
        assert!(Rc::ptr_eq(&of_event(&placed), &of_event(&placed)));
    }
}
