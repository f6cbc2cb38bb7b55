//! One statement: what it sees, what it locks, and where it writes.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    event_table::{EventRecord, EventRow, EventTable},
    lock_table::{LockKey, LockTable},
    overlay::{Effects, Overlay, StagedRequest},
    registration_table::{Match, RegistrationTable, Registrations, find_matches},
    request_table::{RequestRow, RequestTable},
};
use crate::{
    clock::Clock,
    error::StoreError,
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest, RequestState},
    store::{LockMode, Raised},
    text::Name,
};

/// All tables and locks: what the mutex guards.
pub(super) struct State {
    pub(super) events: EventTable,
    pub(super) requests: RequestTable,
    pub(super) registrations: RegistrationTable,
    pub(super) locks: LockTable,
    /// The latest time that the store has seen.
    latest: DateTime<Utc>,
}

impl State {
    /// The time of a statement: the clock's, but never earlier than that of an earlier statement,
    /// since what was due must stay so.
    pub(super) fn time(&mut self, clock: &dyn Clock) -> DateTime<Utc> {
        self.latest = self.latest.max(clock.now());
        self.latest
    }

    pub(super) fn new() -> Self {
        Self {
            events: EventTable::new(),
            requests: RequestTable::new(),
            registrations: RegistrationTable::default(),
            locks: LockTable::default(),
            latest: DateTime::UNIX_EPOCH,
        }
    }
}

/// Why a statement did not end.
pub(super) enum Stop {
    /// Another transaction has locked this; nothing has been written, and the statement is to begin
    /// anew when the lock is free.
    Blocked(LockKey),
    /// Nothing has been written, and the statement is over.
    Failed(StoreError),
}

/// What a statement answers.
pub(super) type Statement<T> = Result<T, Stop>;

/// One statement's view.
pub(super) struct Scope<'s> {
    pub(super) state: &'s mut State,
    /// The transaction's; without one, the statement is a transaction of its own and writes to the
    /// tables directly.
    pub(super) overlay: Option<&'s mut Overlay>,
    /// The time of the statement.
    pub(super) now: DateTime<Utc>,
    pub(super) effects: Effects,
}

impl Scope<'_> {
    /// Whether no other transaction is in the way and this statement is one by itself: the hot
    /// path, in which there is nothing to lock and nothing to merge.
    pub(super) fn is_alone(&self) -> bool {
        self.overlay.is_none() && self.state.locks.is_empty()
    }

    /// Locks what is not a row.
    pub(super) fn lock(&mut self, key: LockKey) -> Statement<()> {
        let transaction = self.overlay.as_ref().map(|overlay| overlay.transaction);
        if self.state.locks.is_held(key, transaction) {
            return Err(Stop::Blocked(key));
        }
        if let Some(overlay) = self.overlay.as_mut() {
            self.state.locks.lock(key, overlay.transaction);
            overlay.holds_names |= key == LockKey::Names;
            overlay.holds_registrations |= key == LockKey::Registrations;
        }
        Ok(())
    }

    /// Keeps handlers' names as they are until the transaction ends.
    pub(super) fn share_names(&mut self) -> Statement<()> {
        let transaction = self.overlay.as_ref().map(|overlay| overlay.transaction);
        if self
            .state
            .locks
            .is_held_exclusively(LockKey::Names, transaction)
        {
            return Err(Stop::Blocked(LockKey::Names));
        }
        if let Some(overlay) = self.overlay.as_mut() {
            self.state
                .locks
                .lock_shared(LockKey::Names, overlay.transaction);
            overlay.shares_names = true;
        }
        Ok(())
    }

    /// The key of a committed event that this transaction has not deleted.
    fn event_key(&self, id: EventId) -> Option<usize> {
        let pruned = self.overlay.as_ref().map(|overlay| &overlay.pruned_events);
        if pruned.is_some_and(|pruned| pruned.contains(&id)) {
            return None;
        }
        self.state.events.by_id.get(&id)
    }

    /// The key of a committed request that this transaction has not deleted.
    fn request_key(&self, id: HandlerRequestId) -> Option<usize> {
        let pruned = (self.overlay.as_ref()).map(|overlay| &overlay.pruned_requests);
        if pruned.is_some_and(|pruned| pruned.contains(&id)) {
            return None;
        }
        self.state.requests.by_id.get(&id)
    }

    /// The committed event with this id, unless this transaction has deleted it.
    fn event_row(&self, id: EventId) -> Option<&EventRow> {
        self.state.events.rows.get(self.event_key(id)?)
    }

    /// The committed request with this id, unless this transaction has deleted it.
    fn request_row(&self, id: HandlerRequestId) -> Option<&RequestRow> {
        self.state.requests.rows.get(self.request_key(id)?)
    }

    /// Whether another transaction has locked an event.
    pub(super) fn is_event_locked_elsewhere(&self, id: EventId) -> bool {
        let own = self.overlay.as_ref().map(|overlay| &overlay.events);
        !own.is_some_and(|own| own.contains_key(&id))
            && self.event_row(id).is_some_and(|row| row.locked)
    }

    /// Whether another transaction has locked a request.
    pub(super) fn is_request_locked_elsewhere(&self, id: HandlerRequestId) -> bool {
        let own = self.overlay.as_ref().map(|overlay| &overlay.requests);
        !own.is_some_and(|own| own.contains_key(&id))
            && self.request_row(id).is_some_and(|row| row.locked)
    }

    /// Locks an event; `false` when there is none, or it is to be skipped.
    pub(super) fn lock_event(&mut self, id: EventId, lock: LockMode) -> Statement<bool> {
        if self
            .overlay
            .as_ref()
            .is_some_and(|overlay| overlay.events.contains_key(&id))
        {
            return Ok(true);
        }
        let Some(key) = self.event_key(id) else {
            return Ok(false);
        };
        let Some(row) = self.state.events.rows.get(key) else {
            return Ok(false);
        };
        if row.locked {
            return match lock {
                LockMode::Wait => Err(Stop::Blocked(LockKey::Event(id))),
                LockMode::SkipLocked => Ok(false),
            };
        }
        if let Some(overlay) = self.overlay.as_mut() {
            overlay.events.insert(id, row.record.clone());
            self.state
                .locks
                .lock(LockKey::Event(id), overlay.transaction);
            self.state
                .events
                .update(key, self.now, |row| row.locked = true);
        }
        Ok(true)
    }

    /// Locks an event's id before it is raised, if there is no such event.
    pub(super) fn reserve_event(&mut self, id: EventId) -> Statement<()> {
        if self.event_key(id).is_some() {
            return Ok(());
        }
        let transaction = self.overlay.as_ref().map(|overlay| overlay.transaction);
        if self.state.locks.is_held(LockKey::Event(id), transaction) {
            return Err(Stop::Blocked(LockKey::Event(id)));
        }
        if let Some(overlay) = self.overlay.as_mut()
            && !overlay.events.contains_key(&id)
        {
            self.state
                .locks
                .lock(LockKey::Event(id), overlay.transaction);
            overlay.reserved.push(id);
        }
        Ok(())
    }

    /// Locks a request; `false` when there is none, or it is to be skipped.
    pub(super) fn lock_request(&mut self, id: HandlerRequestId, lock: LockMode) -> Statement<bool> {
        if self
            .overlay
            .as_ref()
            .is_some_and(|overlay| overlay.requests.contains_key(&id))
        {
            return Ok(true);
        }
        let Some(key) = self.request_key(id) else {
            return Ok(false);
        };
        let Some(row) = self.state.requests.rows.get(key) else {
            return Ok(false);
        };
        if row.locked {
            return match lock {
                LockMode::Wait => Err(Stop::Blocked(LockKey::Request(id))),
                LockMode::SkipLocked => Ok(false),
            };
        }
        if let Some(overlay) = self.overlay.as_mut() {
            let Some(event) = self.state.events.rows.get(row.event) else {
                return Ok(false);
            };
            let staged = StagedRequest {
                request: row.request.clone(),
                event: Arc::clone(&event.record.event),
            };
            overlay.requests.insert(id, staged);
            self.state
                .locks
                .lock(LockKey::Request(id), overlay.transaction);
            self.state
                .requests
                .update(key, self.now, |row| row.locked = true);
        }
        Ok(true)
    }

    /// The event with this id, as this statement sees it.
    pub(super) fn event(&self, id: EventId) -> Option<&EventRecord> {
        let staged = self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.events.get(&id));
        staged.or_else(|| self.event_row(id).map(|row| &row.record))
    }

    /// The request with this id, as this statement sees it.
    pub(super) fn request(&self, id: HandlerRequestId) -> Option<&HandlerRequest> {
        let staged = self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.requests.get(&id));
        staged
            .map(|staged| &staged.request)
            .or_else(|| self.request_row(id).map(|row| &row.request))
    }

    /// The event of the request with this id.
    pub(super) fn event_of_request(&self, id: HandlerRequestId) -> Option<&Arc<Event>> {
        if let Some(staged) = self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.requests.get(&id))
        {
            return Some(&staged.event);
        }
        let row = self.request_row(id)?;
        self.state
            .events
            .rows
            .get(row.event)
            .map(|event| &event.record.event)
    }

    /// The ids of all requests of an event.
    pub(super) fn requests_of_event(&self, id: EventId) -> Vec<HandlerRequestId> {
        let mut ids = Vec::new();
        let mut next = self.event_row(id).and_then(|row| row.first_request);
        while let Some(row) = next.and_then(|key| self.state.requests.rows.get(key)) {
            ids.push(row.request.id);
            next = row.next_of_event;
        }
        if let Some(made) = self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.made.get(&id))
        {
            ids.extend(made);
        }
        ids
    }

    /// Changes an event that is locked.
    pub(super) fn update_event<T>(
        &mut self,
        id: EventId,
        change: impl FnOnce(&mut EventRecord) -> T,
    ) -> Option<T> {
        if let Some(overlay) = self.overlay.as_mut() {
            return overlay.events.get_mut(&id).map(change);
        }
        let key = self.state.events.by_id.get(&id)?;
        self.state
            .events
            .update(key, self.now, |row| change(&mut row.record))
    }

    /// Changes a request that is locked, by a transition that changes nothing when it is refused.
    pub(super) fn update_request<T, E>(
        &mut self,
        id: HandlerRequestId,
        transition: impl FnOnce(&mut HandlerRequest) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let now = self.now;
        let transition = |request: &mut HandlerRequest| {
            let answer = transition(request);
            let is_ready = answer.is_ok() && request.state(now) == RequestState::Pending;
            (answer, is_ready)
        };
        let (answer, is_ready) = match self.overlay.as_mut() {
            Some(overlay) => transition(&mut overlay.requests.get_mut(&id)?.request),
            None => {
                let key = self.state.requests.by_id.get(&id)?;
                self.state
                    .requests
                    .update(key, now, |row| transition(&mut row.request))?
            }
        };
        self.effects.ready |= is_ready;
        Some(answer)
    }

    /// Stores an event whose id is reserved.
    pub(super) fn insert_event(&mut self, event: &Event) -> Raised {
        let record = || EventRecord::new(Arc::new(event.clone()));
        let is_new = match self.overlay.as_mut() {
            None => self
                .state
                .events
                .insert(event.id, record, self.now)
                .is_some(),
            Some(overlay) => {
                let is_new = !overlay.events.contains_key(&event.id)
                    && (overlay.pruned_events.contains(&event.id)
                        || self.state.events.by_id.get(&event.id).is_none());
                if is_new {
                    overlay.events.insert(event.id, record());
                }
                is_new
            }
        };
        self.effects.raised |= is_new;
        if is_new {
            Raised::New
        } else {
            Raised::AlreadyRaised
        }
    }

    /// Stores a request of an event that is locked, or that this transaction has raised; `key` is
    /// that of the event's row, if the request is written directly.
    pub(super) fn insert_request(
        &mut self,
        queue: usize,
        request: HandlerRequest,
        event: &Arc<Event>,
        key: Option<usize>,
    ) {
        self.effects.ready |= request.lease.is_none();
        if let Some(overlay) = self.overlay.as_mut() {
            overlay
                .made
                .entry(request.event_id)
                .or_default()
                .push(request.id);
            overlay.requests.insert(
                request.id,
                StagedRequest {
                    request,
                    event: Arc::clone(event),
                },
            );
        } else if let Some(key) = key
            && let Some(row) = self.state.events.rows.get_mut(key)
        {
            let inserted =
                self.state
                    .requests
                    .insert_into(queue, request, key, row.first_request, self.now);
            row.first_request = inserted.or(row.first_request);
        }
    }

    /// The registrations, as this statement sees them.
    pub(super) fn registrations(&self) -> &Registrations {
        let staged = self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.registrations.as_ref());
        staged.unwrap_or_else(|| self.state.registrations.all())
    }

    /// The registrations, to be changed; their lock is held.
    pub(super) fn change_registrations(&mut self) -> &mut Registrations {
        match self.overlay.as_mut() {
            Some(overlay) => overlay
                .registrations
                .get_or_insert_with(|| self.state.registrations.all().clone()),
            None => self.state.registrations.change(),
        }
    }

    /// Which handlers want events of this name.
    pub(super) fn matches(&mut self, event_name: &Name) -> Arc<[Match]> {
        match self
            .overlay
            .as_ref()
            .and_then(|overlay| overlay.registrations.as_ref())
        {
            Some(staged) => find_matches(staged, event_name, &mut self.state.requests),
            None => self
                .state
                .registrations
                .matches(event_name, &mut self.state.requests),
        }
    }
}
