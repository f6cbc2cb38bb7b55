//! The gauges of living schedulers, as the callbacks of observable instruments see them.

use std::sync::{Arc, Weak};

use opentelemetry::KeyValue;
use parking_lot::Mutex;

use super::{Gauges, attributes::SCHEDULER_NUMBER};

/// The gauges of the schedulers that share one set of instruments.
///
/// An observable instrument cannot be taken back, and two callbacks that report the same
/// attributes overwrite each other. So the callbacks are registered once, look here for who is
/// alive, and tell the schedulers apart: the first has no attribute, every further one the lowest
/// number that is free, from 2 on. A scheduler that takes the place of an ended one continues its
/// series.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The place in the list is the scheduler's number minus one.
    places: Mutex<Vec<Weak<Gauges>>>,
}

impl Observed {
    /// Shows these gauges while they live. Showing them again changes nothing.
    pub(super) fn add(&self, gauges: &Arc<Gauges>) {
        let mut places = self.places.lock();
        if places
            .iter()
            .any(|place| place.as_ptr() == Arc::as_ptr(gauges))
        {
            return;
        }
        let is_free = |place: &&mut Weak<Gauges>| {
            let gauges = place.upgrade();
            gauges.is_none_or(|gauges| gauges.has_ended())
        };
        match places.iter_mut().find(is_free) {
            Some(place) => *place = Arc::downgrade(gauges),
            None => places.push(Arc::downgrade(gauges)),
        }
    }

    /// The living gauges, each with the attributes that tell it apart.
    pub(super) fn living(&self) -> Vec<(Option<KeyValue>, Arc<Gauges>)> {
        let places = self.places.lock();
        (1_i64..)
            .zip(places.iter())
            .filter_map(|(number, place)| {
                let attribute = (number > 1).then(|| KeyValue::new(SCHEDULER_NUMBER, number));
                let gauges = place.upgrade().filter(|gauges| !gauges.has_ended());
                gauges.map(|gauges| (attribute, gauges))
            })
            .collect()
    }
}
