//! How records are read from rows.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};

use super::row::{Reader, Row};
use crate::{
    error::{Chain, Result, StoreError},
    id::{CorrelationId, EventId, HandlerRequestId, LeaseOwner},
    model::{
        Entity, Event, EventData, EventPattern, ExecutionError, HandlerRequest, Headers, Lease,
        Priority, Registration, RegistrationState,
    },
    store::StoredEvent,
    text::Name,
};

/// The table of events, as errors name it.
pub(super) const EVENTS: &str = "events";
/// The table of handler requests, as errors name it.
pub(super) const HANDLER_REQUESTS: &str = "handler_requests";
/// The table of registrations, as errors name it.
pub(super) const REGISTRATIONS: &str = "registrations";

/// An unprocessed event, and how its processing went so far.
pub(super) struct DueEvent {
    pub(super) event: Arc<Event>,
    pub(super) attempt: u64,
    pub(super) errors: u32,
    pub(super) last_error: Option<String>,
    /// Whether somebody has claimed it, perhaps too long ago.
    pub(super) is_claimed: bool,
    /// Whether it is known to be new, and to wait nowhere else.
    pub(super) is_fresh: bool,
    /// The time of the statement.
    pub(super) now: DateTime<Utc>,
}

/// An event that waits: claimed, or backing off.
pub(super) struct WaitingEvent {
    pub(super) id: EventId,
    pub(super) attempt: u64,
    pub(super) errors: u32,
    pub(super) last_error: Option<String>,
    /// Who has claimed it; nobody if it backs off.
    pub(super) owner: Option<LeaseOwner>,
    pub(super) due_at: DateTime<Utc>,
}

/// Requests that were read, often locked, and the time of the statement.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) readable: Vec<HandlerRequest>,
    pub(super) unreadable: Vec<UnreadableRow>,
    /// None if there are no requests that can be read.
    pub(super) now: Option<DateTime<Utc>>,
}

impl Requests {
    /// How many were found.
    pub(super) const fn len(&self) -> usize {
        self.readable.len() + self.unreadable.len()
    }

    /// Takes in what another statement has found, and these have not.
    pub(super) fn append(&mut self, other: Self) {
        let known: HashSet<_> = self.readable.iter().map(|request| request.id).collect();
        let is_new = |request: &HandlerRequest| !known.contains(&request.id);
        let known_unreadable: HashSet<_> = self.unreadable.iter().map(|row| row.id).collect();
        let is_new_unreadable = |row: &UnreadableRow| !known_unreadable.contains(&row.id);
        self.readable
            .extend(other.readable.into_iter().filter(is_new));
        self.unreadable
            .extend(other.unreadable.into_iter().filter(is_new_unreadable));
        self.now = other.now.or(self.now);
    }
}

/// A row of a request that cannot be read.
pub(super) struct UnreadableRow {
    pub(super) id: HandlerRequestId,
    pub(super) event_id: EventId,
    /// Unless it is the name that cannot be read.
    pub(super) handler: Option<Name>,
    pub(super) error: StoreError,
}

impl Requests {
    /// Reads rows of requests. One that cannot be read stands in nobody's way.
    pub(super) fn read(rows: &[Row]) -> Result<Self> {
        let mut read = Self::default();
        for row in rows {
            match request(row) {
                Ok((request, now)) => {
                    read.readable.push(request);
                    read.now = Some(now);
                }
                Err(error) => {
                    let mut columns = row.reader(HANDLER_REQUESTS);
                    let id = HandlerRequestId::from_uuid(columns.uuid("id")?);
                    let event_id = EventId::from_uuid(columns.uuid("event_id")?);
                    columns.skip(1);
                    let handler = columns.text("handler").ok().map(Name::from);
                    tracing::error!(request = %id, error = %Chain(&error), "a request cannot be read");
                    read.unreadable.push(UnreadableRow {
                        id,
                        event_id,
                        handler,
                        error,
                    });
                }
            }
        }
        Ok(read)
    }

    /// Reads rows of requests, every one of which is needed.
    pub(super) fn read_all(rows: &[Row]) -> Result<Vec<HandlerRequest>> {
        let one = |row| request(row).map(|(request, _)| request);
        rows.iter().map(one).collect()
    }
}

/// The columns of an event: id, name, entity_name, entity_id, data, timestamp, correlation_id,
/// causation_id, headers, version.
pub(super) fn event(columns: &mut Reader<'_>) -> Result<Event> {
    let id = EventId::from_uuid(columns.uuid("id")?);
    let name = columns.text("name")?;
    let entity_name = columns.optional_text("entity_name")?;
    let entity_id = columns.optional_text("entity_id")?;
    let data = columns.text("data")?;
    let timestamp = columns.time("timestamp")?;
    let correlation_id = columns.uuid("correlation_id")?;
    let causation_id = columns.optional_uuid("causation_id")?;
    let headers = columns.optional_text("headers")?;
    let version = columns.int("version")?;
    let mut event = Event::from_data(name, EventData::from_stored(data)).with_id(id);
    event.entity = match (entity_name, entity_id) {
        (Some(name), Some(id)) => Some(Entity::new(name, id)),
        (None, None) => None,
        _ => return Err(columns.unreadable("entity_id", "an entity needs both name and id")),
    };
    event.timestamp = timestamp;
    event.correlation_id = CorrelationId::from_uuid(correlation_id);
    event.causation_id = causation_id.map(EventId::from_uuid);
    event.headers = match headers {
        Some(text) => {
            serde_json::from_str(&text).map_err(|error| columns.unreadable("headers", error))?
        }
        None => Headers::new(),
    };
    event.version = version;
    Ok(event)
}

/// The columns of an event, then: is it unprocessed, errors, last_error, due_at if it backs off,
/// processed_at if nobody wanted it.
pub(super) fn stored_event(row: &Row) -> Result<(StoredEvent, bool)> {
    let mut columns = row.reader(EVENTS);
    let mut stored = StoredEvent::new(Arc::new(event(&mut columns)?));
    let is_unprocessed = columns.bool("is_unprocessed")?;
    stored.errors = columns.int("errors")?;
    stored.last_error = columns.optional_text("last_error")?;
    stored.backoff_until = columns.optional_time("due_at")?;
    stored.processed_at = columns.optional_time("processed_at")?;
    Ok((stored, is_unprocessed))
}

/// The columns of an event, then attempt, errors, last_error, is_claimed, now.
pub(super) fn due_event(row: &Row) -> Result<DueEvent> {
    let mut columns = row.reader(EVENTS);
    Ok(DueEvent {
        event: Arc::new(event(&mut columns)?),
        attempt: columns.attempt()?,
        errors: columns.int("errors")?,
        last_error: columns.optional_text("last_error")?,
        is_claimed: columns.bool("is_claimed")?,
        is_fresh: false,
        now: columns.time("now")?,
    })
}

/// The columns of a request: id, event_id, event_name, handler, priority, max_errors, errors,
/// attempt, executions, rescues, created_at, backoff_until, last_execution_at, last_errors,
/// completed_at, canceled_at, dead_at, owner, lease_until, now.
pub(super) fn request(row: &Row) -> Result<(HandlerRequest, DateTime<Utc>)> {
    let mut columns = row.reader(HANDLER_REQUESTS);
    let id = HandlerRequestId::from_uuid(columns.uuid("id")?);
    let event_id = EventId::from_uuid(columns.uuid("event_id")?);
    // An event that somebody has deleted has no name, and its requests can still be looked at.
    let event_name = columns.optional_text("event_name")?.unwrap_or_default();
    let handler: Name = columns.text("handler")?.into();
    let priority = priority(&mut columns)?;
    let max_errors = columns.int("max_errors")?;
    let errors = columns.int("errors")?;
    let attempt = columns.attempt()?;
    let executions = columns.int("executions")?;
    let rescues = columns.int("rescues")?;
    let created_at = columns.time("created_at")?;
    let mut request = HandlerRequest::with_id(
        id,
        event_id,
        event_name.into(),
        handler,
        priority,
        max_errors,
        created_at,
    );
    request.errors = errors;
    request.attempt = attempt;
    request.executions = executions;
    request.rescues = rescues;
    request.backoff_until = columns.optional_time("backoff_until")?;
    request.last_execution_at = columns.optional_time("last_execution_at")?;
    request.last_errors = read_last_errors(&mut columns)?;
    request.completed_at = columns.optional_time("completed_at")?;
    request.canceled_at = columns.optional_time("canceled_at")?;
    request.dead_at = columns.optional_time("dead_at")?;
    let owner = columns.optional_uuid("owner")?.map(LeaseOwner::from_uuid);
    let until = columns.optional_time("lease_until")?;
    request.lease = match (owner, until) {
        (Some(owner), Some(until)) => Some(Lease { owner, until }),
        (None, None) => None,
        _ => return Err(columns.unreadable("lease_until", "a lease needs both owner and end")),
    };
    Ok((request, columns.time("now")?))
}

pub(super) fn read_last_errors(columns: &mut Reader<'_>) -> Result<Vec<ExecutionError>> {
    match columns.optional_text("last_errors")? {
        Some(text) => {
            serde_json::from_str(&text).map_err(|error| columns.unreadable("last_errors", error))
        }
        None => Ok(Vec::new()),
    }
}

pub(super) fn priority(columns: &mut Reader<'_>) -> Result<Priority> {
    let number = columns.int("priority")?;
    Priority::new(number).map_err(|error| columns.unreadable("priority", error))
}

/// The columns of a registration: handler, pattern, priority, max_errors, state, renamed_to,
/// last_seen_at.
pub(super) fn registration(row: &Row) -> Result<Registration> {
    let mut columns = row.reader(REGISTRATIONS);
    let handler: Name = columns.text("handler")?.into();
    let pattern = EventPattern::parse(columns.text("pattern")?)
        .map_err(|error| columns.unreadable("pattern", error))?;
    let priority = priority(&mut columns)?;
    let max_errors = columns.int("max_errors")?;
    let mut registration = Registration::new(pattern, handler, priority, max_errors);
    let state: i64 = columns.int("state")?;
    let renamed_to = columns.optional_text("renamed_to")?;
    registration.state = match (state, renamed_to) {
        (0, _) => RegistrationState::Active,
        (1, _) => RegistrationState::Retired,
        (2, Some(name)) => RegistrationState::RenamedTo(name.into()),
        _ => return Err(columns.unreadable("state", "it is none that this version knows")),
    };
    registration.last_seen_at = columns.time("last_seen_at")?;
    Ok(registration)
}

/// A registration as [`registration`] reads it, if it is known which events it wants and that it is
/// active; with the defaults in the place of what cannot be read.
pub(super) fn wanted(row: &Row) -> Result<Registration> {
    let mut columns = row.reader(REGISTRATIONS);
    let handler: Name = columns.text("handler")?.into();
    let pattern = EventPattern::parse(columns.text("pattern")?)
        .map_err(|error| columns.unreadable("pattern", error))?;
    let priority = priority(&mut columns).unwrap_or_default();
    let max_errors = columns.int("max_errors");
    let max_errors = max_errors.unwrap_or(Registration::DEFAULT_MAX_ERRORS);
    match columns.int::<i64>("state")? {
        0 => Ok(Registration::new(pattern, handler, priority, max_errors)),
        _ => Err(columns.unreadable("state", "it is not active")),
    }
}

/// The state of a registration as a number.
pub(super) const fn registration_state(state: &RegistrationState) -> i64 {
    match state {
        RegistrationState::Active => 0,
        RegistrationState::Retired => 1,
        RegistrationState::RenamedTo(_) => 2,
    }
}

/// In which partial index a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Ready = 0,
    BackingOff = 1,
    Suspect = 2,
    Dead = 3,
}

/// Where a request waits; an executing, completed or canceled one nowhere.
pub(super) fn queue(request: &HandlerRequest) -> Option<Queue> {
    if request.dead_at.is_some() {
        Some(Queue::Dead)
    } else if !request.is_open() || request.lease.is_some() {
        None
    } else if request.is_suspect() {
        Some(Queue::Suspect)
    } else if request.backoff_until.is_some() {
        Some(Queue::BackingOff)
    } else {
        Some(Queue::Ready)
    }
}

/// The last errors as a JSON text.
pub(super) fn last_errors(request: &HandlerRequest) -> Option<String> {
    if request.last_errors.is_empty() {
        return None;
    }
    serde_json::to_string(&request.last_errors).ok()
}
