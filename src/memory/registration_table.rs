//! The registrations, and what they make of an event's name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::request_table::RequestTable;
use crate::{
    id::HandlerHash,
    model::{EventPattern, Priority, Registration, RegistrationState},
    text::Name,
};

/// How many event names are remembered with their handlers; beyond that all are forgotten, so that
/// names made of data cannot fill the memory.
const MAX_REMEMBERED_NAMES: usize = 10_000;

/// Registrations by handler and pattern: one version of the whole table.
pub(super) type Registrations = BTreeMap<(Name, EventPattern), Registration>;

/// A handler that wants an event, on the terms of its most specific pattern.
pub(super) struct Match {
    pub(super) handler: Name,
    pub(super) hash: HandlerHash,
    /// The key of its queue.
    pub(super) queue: usize,
    pub(super) priority: Priority,
    pub(super) max_errors: u32,
}

/// The committed registrations.
#[derive(Default)]
pub(super) struct RegistrationTable {
    registrations: Registrations,
    /// The handlers of event names that have come by.
    matches: HashMap<Name, Arc<[Match]>>,
}

impl RegistrationTable {
    pub(super) const fn all(&self) -> &Registrations {
        &self.registrations
    }

    /// The registrations, to be changed.
    pub(super) fn change(&mut self) -> &mut Registrations {
        self.matches.clear();
        &mut self.registrations
    }

    /// Which handlers want events of this name.
    pub(super) fn matches(
        &mut self,
        event_name: &Name,
        requests: &mut RequestTable,
    ) -> Arc<[Match]> {
        if let Some(matches) = self.matches.get(event_name) {
            return Arc::clone(matches);
        }
        let matches = find_matches(&self.registrations, event_name, requests);
        if self.matches.len() >= MAX_REMEMBERED_NAMES {
            self.matches.clear();
        }
        self.matches
            .insert(event_name.clone(), Arc::clone(&matches));
        matches
    }
}

/// The union of all active registrations that match, each handler once.
pub(super) fn find_matches(
    registrations: &Registrations,
    event_name: &Name,
    requests: &mut RequestTable,
) -> Arc<[Match]> {
    let mut best: Vec<&Registration> = Vec::new();
    for registration in registrations.values() {
        if registration.state != RegistrationState::Active
            || !registration.pattern.matches(event_name)
        {
            continue;
        }
        // Registrations of one handler are neighbours.
        match best.last_mut() {
            Some(last) if last.handler == registration.handler => {
                if registration.pattern.specificity() > last.pattern.specificity() {
                    *last = registration;
                }
            }
            _ => best.push(registration),
        }
    }
    best.into_iter()
        .map(|registration| Match {
            handler: registration.handler.clone(),
            hash: HandlerHash::of(&registration.handler),
            queue: requests.queue_key(&registration.handler),
            priority: registration.priority,
            max_errors: registration.max_errors,
        })
        .collect()
}
