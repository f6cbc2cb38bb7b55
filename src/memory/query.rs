//! The statements that only read: they see the committed rows below the transaction's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::{
    event_table::EventRecord, merge::merge, overlay::StagedRequest, run_map::RunMap, scope::Scope,
};
use crate::{
    id::{EventId, HandlerRequestId},
    model::{Event, HandlerRequest, RequestState},
    store::{EventFilter, Page, RequestFilter, StoredEvent},
    text::Name,
};

/// A request as a statement sees it, and its event.
#[derive(Clone, Copy)]
pub(super) struct RequestView<'a> {
    pub(super) request: &'a HandlerRequest,
    pub(super) event: &'a Event,
}

impl<'a> From<&'a StagedRequest> for RequestView<'a> {
    fn from(staged: &'a StagedRequest) -> Self {
        Self {
            request: &staged.request,
            event: &staged.event,
        }
    }
}

type RequestIndex = RunMap<HandlerRequestId>;

impl Scope<'_> {
    pub(super) fn count_unprocessed(&self) -> u64 {
        let mut count = (self.state.events.due.len() + self.state.events.parked.len()) as u64;
        let Some(overlay) = self.overlay.as_deref() else {
            return count;
        };
        for record in overlay.events.values() {
            count += u64::from(record.processed_at.is_none());
        }
        for id in overlay.hidden_events() {
            let row = self.state.events.find(*id);
            count -= u64::from(row.is_some_and(|row| row.record.processed_at.is_none()));
        }
        count
    }

    pub(super) fn oldest_unprocessed(&self) -> Option<StoredEvent> {
        self.unprocessed_events(None)
            .next()
            .map(EventRecord::stored)
    }

    pub(super) fn count_events(&self, filter: &EventFilter) -> u64 {
        if *filter
            == (EventFilter {
                processed: Some(false),
                ..EventFilter::default()
            })
        {
            return self.count_unprocessed();
        }
        self.matching_events(filter, None).count() as u64
    }

    pub(super) fn list_events(
        &self,
        filter: &EventFilter,
        page: &Page<EventId>,
    ) -> Vec<StoredEvent> {
        let matching = self.matching_events(filter, page.after);
        matching
            .skip(page.offset)
            .take(page.limit)
            .map(EventRecord::stored)
            .collect()
    }

    pub(super) fn matching_events<'a>(
        &'a self,
        filter: &'a EventFilter,
        after: Option<EventId>,
    ) -> Box<dyn Iterator<Item = &'a EventRecord> + 'a> {
        let matching = |record: &&EventRecord| {
            event_matches(filter, record)
                && filter.has_requests.is_none_or(|wanted| {
                    self.requests_of_event(record.event.id).is_empty() != wanted
                })
        };
        if filter.processed == Some(false) {
            Box::new(self.unprocessed_events(after).filter(matching))
        } else {
            Box::new(self.all_events(after).filter(matching))
        }
    }

    /// Events in the order of their ids, whatever has become of them.
    pub(super) fn all_events(&self, after: Option<EventId>) -> impl Iterator<Item = &EventRecord> {
        let committed = self.committed_events(&self.state.events.by_id, after);
        self.with_staged_events(committed, after)
    }

    fn unprocessed_events(&self, after: Option<EventId>) -> impl Iterator<Item = &EventRecord> {
        let due = self.committed_events(&self.state.events.due, after);
        let parked = self.committed_events(&self.state.events.parked, after);
        let committed = merge(due, parked, |record| record.event.id);
        self.with_staged_events(committed, after)
            .filter(|record| record.processed_at.is_none())
    }

    fn committed_events<'a>(
        &'a self,
        index: &'a RunMap<EventId>,
        after: Option<EventId>,
    ) -> impl Iterator<Item = &'a EventRecord> {
        let overlay = self.overlay.as_deref().filter(|own| own.has_events());
        index
            .after(after)
            .filter(move |(id, _)| overlay.is_none_or(|own| !own.hides_event(id)))
            .filter_map(|(_, key)| self.state.events.rows.get(key))
            .map(|row| &row.record)
    }

    fn with_staged_events<'a>(
        &'a self,
        committed: impl Iterator<Item = &'a EventRecord>,
        after: Option<EventId>,
    ) -> impl Iterator<Item = &'a EventRecord> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let staged = self
            .overlay
            .iter()
            .flat_map(move |overlay| overlay.events.range((after, Bound::Unbounded)));
        merge(committed, staged.map(|(_, record)| record), |record| {
            record.event.id
        })
    }

    /// Requests that have not ended, in the order of their ids.
    pub(super) fn open_requests(&self) -> impl Iterator<Item = RequestView<'_>> {
        self.requests_in(&self.state.requests.open, None)
            .filter(|view| view.request.is_open())
    }

    /// Dead requests, in the order of their ids.
    pub(super) fn all_dead_requests(&self) -> impl Iterator<Item = RequestView<'_>> {
        let dead = |view: &RequestView<'_>| view.request.state(self.now) == RequestState::Dead;
        self.requests_in(&self.state.requests.dead, None)
            .filter(dead)
    }

    /// Dead requests that match, whatever states the filter asks for.
    pub(super) fn dead_requests<'a>(
        &'a self,
        filter: &'a RequestFilter,
        after: Option<HandlerRequestId>,
    ) -> impl Iterator<Item = RequestView<'a>> {
        let now = self.now;
        self.requests_in(&self.state.requests.dead, after)
            .filter(move |view| {
                view.request.state(now) == RequestState::Dead && request_matches(filter, view)
            })
    }

    pub(super) fn matching_requests<'a>(
        &'a self,
        filter: &'a RequestFilter,
        after: Option<HandlerRequestId>,
    ) -> impl Iterator<Item = RequestView<'a>> {
        let (now, states) = (self.now, &filter.states);
        let index = if states.is_empty() {
            &self.state.requests.by_id
        } else if states.iter().all(|state| *state == RequestState::Dead) {
            &self.state.requests.dead
        } else if states.iter().all(|state| !state.is_end()) {
            &self.state.requests.open
        } else {
            &self.state.requests.by_id
        };
        let in_state = move |request: &HandlerRequest| {
            states.is_empty() || states.contains(&request.state(now))
        };
        self.requests_in(index, after)
            .filter(move |view| in_state(view.request) && request_matches(filter, view))
    }

    pub(super) fn list_requests(
        &self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Vec<HandlerRequest> {
        let matching = self
            .matching_requests(filter, page.after)
            .skip(page.offset)
            .take(page.limit);
        matching.map(|view| view.request.clone()).collect()
    }

    pub(super) fn of_event(&self, id: EventId) -> Vec<HandlerRequest> {
        let ids = self.requests_of_event(id);
        let mut requests: Vec<_> = ids
            .into_iter()
            .filter_map(|id| self.request(id))
            .cloned()
            .collect();
        requests.sort_unstable_by(|left, right| left.handler.cmp(&right.handler));
        requests
    }

    /// How many requests match; those that ask for states alone are answered without looking at
    /// requests.
    pub(super) fn count_requests(&mut self, filter: &RequestFilter) -> u64 {
        let by_states_alone = RequestFilter {
            states: filter.states.clone(),
            ..RequestFilter::default()
        };
        if *filter != by_states_alone {
            return self.matching_requests(filter, None).count() as u64;
        }
        let all = filter.states.is_empty();
        RequestState::ALL
            .into_iter()
            .filter(|state| all || filter.states.contains(state))
            .fold(0, |sum, state| sum + self.count_in_state(state))
    }

    pub(super) fn count_unexecuted(&self) -> u64 {
        let committed = self.state.requests.counts.waiting + self.state.requests.counts.executing;
        self.with_staged(committed, HandlerRequest::is_open)
    }

    pub(super) fn count_open_of(&self, handler: &Name) -> u64 {
        let committed = self
            .state
            .requests
            .queue(handler)
            .map_or(0, |queue| queue.open);
        self.with_staged(committed, |request| {
            request.is_open() && request.handler == *handler
        })
    }

    /// How many requests are in a state.
    pub(super) fn count_in_state(&mut self, state: RequestState) -> u64 {
        let now = self.now;
        self.state.requests.promote_all(now);
        let counts = self.state.requests.counts;
        let backing_off = || {
            let locked = self
                .state
                .locks
                .requests()
                .filter_map(|id| self.state.requests.find(id));
            let locked = locked
                .filter(|row| row.request.state(now) == RequestState::BackingOff)
                .count() as u64;
            counts.backing_off + locked
        };
        let committed = match state {
            RequestState::Canceled => counts.canceled,
            RequestState::Completed => counts.completed,
            RequestState::Dead => counts.dead,
            RequestState::Executing => counts.executing,
            RequestState::BackingOff => backing_off(),
            RequestState::Pending => counts.waiting - backing_off(),
        };
        self.with_staged(committed, |request| request.state(now) == state)
    }

    pub(super) fn dead_names(
        &self,
        committed: &BTreeMap<Name, u64>,
        name: impl Fn(&HandlerRequest) -> &Name,
    ) -> Vec<Name> {
        let is_staged = self
            .overlay
            .as_ref()
            .is_some_and(|overlay| overlay.has_requests());
        if !is_staged {
            return committed.keys().cloned().collect();
        }
        let names: BTreeSet<_> = self
            .all_dead_requests()
            .map(|view| name(view.request).clone())
            .collect();
        names.into_iter().collect()
    }

    /// A count of committed requests, corrected by the transaction's own versions of them.
    fn with_staged(&self, committed: u64, counts: impl Fn(&HandlerRequest) -> bool) -> u64 {
        let mut count = committed;
        let Some(overlay) = self.overlay.as_deref() else {
            return count;
        };
        for staged in overlay.requests.values() {
            count += u64::from(counts(&staged.request));
        }
        for id in overlay.hidden_requests() {
            let row = self.state.requests.find(*id);
            count -= u64::from(row.is_some_and(|row| counts(&row.request)));
        }
        count
    }

    fn requests_in<'a>(
        &'a self,
        index: &'a RequestIndex,
        after: Option<HandlerRequestId>,
    ) -> impl Iterator<Item = RequestView<'a>> {
        let range = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let overlay = self.overlay.as_deref().filter(|own| own.has_requests());
        let committed = index
            .after(after)
            .filter(move |(id, _)| overlay.is_none_or(|own| !own.hides_request(id)))
            .filter_map(|(_, key)| {
                let row = self.state.requests.rows.get(key)?;
                let event = self.state.events.rows.get(row.event)?;
                Some(RequestView {
                    request: &row.request,
                    event: &event.record.event,
                })
            });
        let staged = self
            .overlay
            .iter()
            .flat_map(move |overlay| overlay.requests.range(range));
        merge(
            committed,
            staged.map(|(_, staged)| RequestView::from(staged)),
            |view| view.request.id,
        )
    }
}

/// Whether an event matches.
fn event_matches(filter: &EventFilter, record: &EventRecord) -> bool {
    let event = &record.event;
    (filter.names.is_empty() || filter.names.contains(&event.name))
        && filter
            .entity
            .as_ref()
            .is_none_or(|entity| event.entity.as_ref() == Some(entity))
        && filter.since.is_none_or(|since| event.timestamp >= since)
        && filter.until.is_none_or(|until| event.timestamp < until)
        && filter
            .processed
            .is_none_or(|processed| record.processed_at.is_some() == processed)
}

/// Whether a request matches, apart from its state.
fn request_matches(filter: &RequestFilter, view: &RequestView<'_>) -> bool {
    let request = view.request;
    let has_error = |text: &String| {
        request
            .last_errors
            .last()
            .is_some_and(|error| error.message.contains(text))
    };
    (filter.event_names.is_empty() || filter.event_names.contains(&request.event_name))
        && (filter.handlers.is_empty() || filter.handlers.contains(&request.handler))
        && filter
            .entity
            .as_ref()
            .is_none_or(|entity| view.event.entity.as_ref() == Some(entity))
        && filter.since.is_none_or(|since| request.created_at >= since)
        && filter.until.is_none_or(|until| request.created_at < until)
        && filter.error_contains.as_ref().is_none_or(has_error)
}
