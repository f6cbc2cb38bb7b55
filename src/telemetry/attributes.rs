//! Names of attributes, and the attribute sets that every event and request needs: made once for
//! each thread and kept, so that recording neither allocates nor locks.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    rc::Rc,
    sync::Arc,
};

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
    event: Name,
    handler: Name,
    /// `request.event.type` and `request.type`.
    pub(super) request: [KeyValue; 2],
    /// `event_handler.name` and `event_handler.error`, for a run without an error.
    pub(super) handler_ok: [KeyValue; 2],
    /// The same for a run with an error.
    pub(super) handler_error: [KeyValue; 2],
}

impl RequestAttributes {
    fn new(event: &Name, handler: &Name) -> Self {
        let (names, event, handler) = ((event, handler), text(event), text(handler));
        Self {
            event: names.0.clone(),
            handler: names.1.clone(),
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

    fn is_of(&self, event: &Name, handler: &Name) -> bool {
        same(&self.event, event) && same(&self.handler, handler)
    }
}

/// Whether two names are equal; most often they are the same text in memory.
fn same(one: &Name, other: &Name) -> bool {
    std::ptr::eq(one.as_str(), other.as_str()) || one == other
}

#[derive(Default)]
struct Sets {
    count: usize,
    events: ByName<Rc<[KeyValue; 1]>>,
    /// By handler, then by event.
    requests: ByName<ByName<Rc<RequestAttributes>>>,
    /// The latest of each, which are the next ones, too, more often than not.
    last_event: Option<(Name, Rc<[KeyValue; 1]>)>,
    last_request: Option<Rc<RequestAttributes>>,
}

type ByName<T> = HashMap<Name, T, BuildHasherDefault<NameHasher>>;

/// Hashes short texts, a word at a time by multiplication: several times as fast as the default,
/// which defends against names that were chosen to collide. Here those would cost their own
/// process a search through [`MAX_SETS`] names at most.
#[derive(Default)]
struct NameHasher(u64);

impl NameHasher {
    fn mix(&mut self, word: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(ODD);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let rest = rest
            .iter()
            .fold(0, |word, byte| (word << 8) | u64::from(*byte));
        self.mix(rest);
    }

    fn write_u8(&mut self, _: u8) {
        // The mark that ends a text tells nothing about a single one.
    }

    fn finish(&self) -> u64 {
        // Multiplication leaves the low bits weak, and the map needs both ends.
        self.0 ^ (self.0 >> 32)
    }
}

thread_local! {
    static SETS: RefCell<Sets> = RefCell::default();
}

/// The attributes of an event's metrics: `event.type`.
pub(super) fn of_event(event: &Name) -> Rc<[KeyValue; 1]> {
    kept(|sets| sets.of_event(event))
        .unwrap_or_else(|| Rc::new([KeyValue::new(EVENT_TYPE, text(event))]))
}

/// The attributes of a request's metrics.
pub(super) fn of_request(event: &Name, handler: &Name) -> Rc<RequestAttributes> {
    kept(|sets| sets.of_request(event, handler))
        .unwrap_or_else(|| Rc::new(RequestAttributes::new(event, handler)))
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
    fn of_event(&mut self, event: &Name) -> Rc<[KeyValue; 1]> {
        match &self.last_event {
            Some((last, set)) if same(last, event) => return Rc::clone(set),
            _ => {}
        }
        let known = self.events.get(event.as_str()).cloned();
        let set = known.unwrap_or_else(|| {
            self.make_room();
            let set = Rc::new([KeyValue::new(EVENT_TYPE, text(event))]);
            self.events.insert(event.clone(), Rc::clone(&set));
            set
        });
        self.last_event = Some((event.clone(), Rc::clone(&set)));
        set
    }

    fn of_request(&mut self, event: &Name, handler: &Name) -> Rc<RequestAttributes> {
        match &self.last_request {
            Some(last) if last.is_of(event, handler) => return Rc::clone(last),
            _ => {}
        }
        let of_handler = self.requests.get(handler.as_str());
        let known = of_handler.and_then(|events| events.get(event.as_str()));
        let set = known.cloned().unwrap_or_else(|| {
            self.make_room();
            let set = Rc::new(RequestAttributes::new(event, handler));
            let of_handler = self.requests.entry(handler.clone()).or_default();
            of_handler.insert(event.clone(), Rc::clone(&set));
            set
        });
        self.last_request = Some(Rc::clone(&set));
        set
    }

    fn make_room(&mut self) {
        if self.count >= MAX_SETS {
            *self = Self::default();
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

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
    fn names_that_look_alike_spread_over_the_map() {
        let hash = |name: &str| BuildHasherDefault::<NameHasher>::default().hash_one(name);
        let names: Vec<_> = (0..1000)
            .map(|n| format!("com.github.issues.event_{n}"))
            .collect();
        for bits in [|hash: u64| hash >> 57, |hash: u64| hash & 0x7f] {
            let mut buckets = [0; 128];
            for name in &names {
                buckets[usize::try_from(bits(hash(name))).unwrap()] += 1;
            }
            assert!(buckets.iter().all(|names| *names < 30), "{buckets:?}");
        }
        assert_ne!(hash("a"), hash("b"));
        assert_ne!(hash("12345678a"), hash("12345678b"));
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
