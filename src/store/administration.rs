//! The values of what operators and housekeeping do to many events: replay and prune.
//!
//! They can get more fields, so other crates make them with `new` and the setters, and assign the
//! fields of answers.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    clock::later,
    error::{Result, StoreError},
    id::EventId,
    model::{HandlerRequest, Registration, RegistrationState},
    store::EventFilter,
    text::Name,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Asks to run past events for handlers again, or for the first time.
///
/// ```
/// use tidings::store::{EventFilter, Replay};
///
/// let orders = EventFilter::default().named(["order.placed"]);
/// let replay = Replay::new(orders, 500).to_handlers(["statistics"]);
/// assert_eq!((replay.handlers.len(), replay.after), (1, None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replay {
    /// Which events. Unprocessed ones are left alone whatever this says: they are fanned out in any
    /// case.
    pub events: EventFilter,
    /// Only this event, if it is one of those.
    pub event: Option<EventId>,
    /// To which handlers; to all that have an active registration for the event if there are none
    /// here.
    pub handlers: Vec<Name>,
    /// Only events whose id is after this one.
    pub after: Option<EventId>,
    /// How many processed events to look at in this call; at least 1.
    pub limit: usize,
}

impl Replay {
    /// Runs matching events again for all handlers that want them, `limit` events a call.
    #[must_use]
    pub const fn new(events: EventFilter, limit: usize) -> Self {
        Self {
            events,
            event: None,
            handlers: Vec::new(),
            after: None,
            limit,
        }
    }

    /// Runs one event again for all handlers that want it. Of an event that is not there, or not
    /// processed yet, the answer is that nothing was done.
    ///
    /// ```
    /// use tidings::{EventId, store::Replay};
    ///
    /// let id = EventId::new();
    /// let replay = Replay::of(id).to_handlers(["statistics"]);
    /// assert_eq!(replay.event, Some(id));
    /// ```
    #[must_use]
    pub fn of(event: EventId) -> Self {
        Self {
            event: Some(event),
            ..Self::new(EventFilter::default(), 1)
        }
    }

    /// For these handlers alone, instead of those before; none of them does not restrict.
    #[must_use]
    pub fn to_handlers(mut self, handlers: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        self.handlers = handlers.into_iter().map(Into::into).collect();
        self
    }

    /// Goes on after this event: what [`Replayed::next`] said.
    #[must_use]
    pub const fn after(mut self, id: EventId) -> Self {
        self.after = Some(id);
        self
    }

    /// Which events to look at, if any can match: all that are processed, match this filter, come
    /// behind this id, and are no more than these. Of one event, whichever comes first from its id
    /// on is looked at, and [taken](Self::takes) if it is that one.
    pub(crate) fn events_to_look_at(&self) -> Option<(EventFilter, Option<EventId>, usize)> {
        let mut filter = self.events.clone();
        if filter.processed.replace(true) == Some(false) {
            return None;
        }
        let Some(event) = self.event else {
            return Some((filter, self.after, self.limit));
        };
        if self.after.is_some_and(|after| after >= event) {
            return None;
        }
        Some((filter, event.predecessor(), 1))
    }

    /// Whether an event that was looked at is among those that are replayed.
    pub(crate) fn takes(&self, id: EventId) -> bool {
        self.event.is_none_or(|event| event == id)
    }

    /// Behind which event to go on, when these were looked at.
    pub(crate) fn next(&self, looked_at: &[EventId]) -> Option<EventId> {
        let is_full = self.event.is_none() && looked_at.len() >= self.limit;
        looked_at.last().copied().filter(|_| is_full)
    }

    /// Checks the limit, and that every named handler has an active one among all `registrations`:
    /// what a store does before it changes anything.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] names the handler, by what name it goes if it was renamed, and the
    /// remedy.
    pub fn check<'a>(
        &self,
        registrations: impl IntoIterator<Item = &'a Registration> + Clone,
    ) -> Result<()> {
        check_limit("a replay", self.limit)?;
        self.handlers
            .iter()
            .try_for_each(|handler| check_handler(handler, registrations.clone()))
    }
}

fn check_limit(what: &str, limit: usize) -> Result<()> {
    if limit == 0 {
        let reason = "has a limit of 0 events, and would never come to an end";
        return Err(StoreError::invalid(
            what,
            reason,
            "set a limit of 1 or more",
        ));
    }
    Ok(())
}

fn check_handler<'a>(
    handler: &Name,
    registrations: impl IntoIterator<Item = &'a Registration> + Clone,
) -> Result<()> {
    let of_handler = || {
        let all = registrations.clone().into_iter();
        all.filter(|registration| registration.handler == *handler)
    };
    if of_handler().any(|registration| registration.state == RegistrationState::Active) {
        return Ok(());
    }
    let (reason, remedy) = match Registration::name_today(registrations.clone(), handler) {
        Some(today) => (
            format!("was renamed to {today:?}"),
            "replay to that handler",
        ),
        None if of_handler().next().is_some() => (
            "is retired".to_owned(),
            "start a process that has it mapped, and replay then",
        ),
        None => (
            "is not registered".to_owned(),
            "correct its name, or start a process that has it mapped, and replay then",
        ),
    };
    let thing = format!("handler {handler:?}");
    Err(StoreError::invalid(thing, reason, remedy))
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Replayed {
    /// Requests that were missing and are ready now.
    pub created: u64,
    /// Requests that had ended and are ready again.
    pub reexecuted: u64,
    /// Requests that had not ended; they were left as they were.
    pub open: u64,
    /// Go on after this event; `None` when there are no more.
    pub next: Option<EventId>,
}

/// Asks to delete events, with all their requests, that nobody needs any more. `None` keeps for ever.
///
/// ```
/// use std::time::Duration;
/// use tidings::store::Prune;
///
/// let prune = Prune::new(500).dead_for(Some(Duration::from_secs(90 * 24 * 3600)));
/// assert_eq!(prune.completed_for, Some(Duration::from_secs(7 * 24 * 3600)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prune {
    /// How long ago a completed request must have ended; for an event that nobody wanted, how long
    /// ago it must have been processed.
    pub completed_for: Option<Duration>,
    /// How long ago a canceled request must have ended.
    pub canceled_for: Option<Duration>,
    /// How long ago a dead request must have ended.
    pub dead_for: Option<Duration>,
    /// How long ago every event must have been processed, whatever became of its requests: for so
    /// long it can be replayed.
    pub keep_events_for: Duration,
    /// Only events whose id is after this one.
    pub after: Option<EventId>,
    /// How many events to look at in this call; at least 1.
    pub limit: usize,
}

impl Prune {
    /// For how long completed requests are kept if nobody says otherwise: long enough to see what
    /// happened, after a weekend, too.
    pub const DEFAULT_COMPLETED_FOR: Duration = DAY.saturating_mul(7);
    /// For how long canceled requests are kept if nobody says otherwise.
    pub const DEFAULT_CANCELED_FOR: Duration = DAY.saturating_mul(7);

    /// Deletes what completed or was canceled seven days ago, and nothing that is dead; looks at
    /// `limit` events a call.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            completed_for: Some(Self::DEFAULT_COMPLETED_FOR),
            canceled_for: Some(Self::DEFAULT_CANCELED_FOR),
            dead_for: None,
            keep_events_for: Duration::ZERO,
            after: None,
            limit,
        }
    }

    /// Keeps completed requests, and events that nobody wanted, for so long.
    #[must_use]
    pub const fn completed_for(mut self, time: Option<Duration>) -> Self {
        self.completed_for = time;
        self
    }

    /// Keeps canceled requests for so long.
    #[must_use]
    pub const fn canceled_for(mut self, time: Option<Duration>) -> Self {
        self.canceled_for = time;
        self
    }

    /// Keeps dead requests for so long.
    #[must_use]
    pub const fn dead_for(mut self, time: Option<Duration>) -> Self {
        self.dead_for = time;
        self
    }

    /// Keeps all events for so long after their processing.
    #[must_use]
    pub const fn keep_events_for(mut self, time: Duration) -> Self {
        self.keep_events_for = time;
        self
    }

    /// Goes on after this event: what [`Pruned::next`] said.
    #[must_use]
    pub const fn after(mut self, id: EventId) -> Self {
        self.after = Some(id);
        self
    }

    /// Checks the limit: what a store does before it changes anything.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] tells the remedy.
    pub fn check(&self) -> Result<()> {
        check_limit("a prune", self.limit)
    }

    /// Whether an event goes with its requests, if it has any: it was processed long enough ago,
    /// and each request has ended as long ago as its kind is kept.
    pub(crate) fn lets_go<'r>(
        &self,
        now: DateTime<Utc>,
        processed_at: DateTime<Utc>,
        requests: impl IntoIterator<Item = &'r HandlerRequest>,
    ) -> bool {
        let mut requests = requests.into_iter().peekable();
        let is_unwanted = requests.peek().is_none();
        is_over(now, processed_at, Some(self.keep_events_for))
            && (!is_unwanted || is_over(now, processed_at, self.completed_for))
            && requests.all(|request| self.lets_request_go(now, request))
    }

    /// Whether a request has ended, as long ago as its kind is kept.
    fn lets_request_go(&self, now: DateTime<Utc>, request: &HandlerRequest) -> bool {
        let (ended_at, kept_for) = if request.canceled_at.is_some() {
            (request.canceled_at, self.canceled_for)
        } else if request.completed_at.is_some() {
            (request.completed_at, self.completed_for)
        } else {
            (request.dead_at, self.dead_for)
        };
        ended_at.is_some_and(|ended_at| is_over(now, ended_at, kept_for))
    }
}

/// What a prune did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Events that are gone.
    pub events: u64,
    /// Requests that are gone with them.
    pub requests: u64,
    /// Go on after this event; `None` when there are no more.
    pub next: Option<EventId>,
}

fn is_over(now: DateTime<Utc>, since: DateTime<Utc>, time: Option<Duration>) -> bool {
    time.is_some_and(|time| later(since, time) <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventPattern, Priority};

    fn registration(handler: &str, state: RegistrationState) -> Registration {
        let pattern = EventPattern::parse("order.*").unwrap();
        let mut registration = Registration::new(pattern, handler.into(), Priority::default(), 5);
        registration.state = state;
        registration
    }

    #[test]
    fn a_handler_that_nobody_has_is_refused_with_what_became_of_it() {
        let registrations = [
            registration("active", RegistrationState::Active),
            registration("retired", RegistrationState::Retired),
            registration("first", RegistrationState::RenamedTo("second".into())),
            registration("second", RegistrationState::RenamedTo("active".into())),
        ];
        for (handler, expected) in [
            ("active", None),
            ("retired", Some("is retired")),
            ("first", Some("was renamed to \"active\"")),
            ("second", Some("was renamed to \"active\"")),
            ("nobody", Some("is not registered")),
        ] {
            let replay = Replay::new(EventFilter::default(), 1).to_handlers(["active", handler]);
            let error = replay.check(&registrations).err();
            let error = error.map(|error| error.to_string());
            assert_eq!(error.is_some(), expected.is_some(), "{error:?}");
            for part in expected.into_iter().chain([handler]) {
                let named = error.as_ref().is_none_or(|error| error.contains(part));
                assert!(named, "{error:?} does not say {part:?}");
            }
        }
    }

    #[test]
    fn a_limit_of_0_which_would_never_end_is_refused() {
        assert!(Replay::new(EventFilter::default(), 0).check(&[]).is_err());
        assert!(Prune::new(0).check().is_err());
        assert!(Prune::new(1).check().is_ok());
    }
}
