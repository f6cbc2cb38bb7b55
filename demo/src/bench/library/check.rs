//! Whether each event was handled exactly as often as it should be: by the notes of the handlers, and by
//! what the database says.

use std::collections::BTreeMap;

use chrono::Utc;
use tidings::{
    EventId, HandlerRequest, HandlerRequestId, RequestState,
    store::{Page, RequestFilter},
    uuid::Uuid,
};

use super::{runs::Run, turn::Turn};
use crate::bench::Result;

/// The bits of an id that are not its time, by which requests and their events agree.
const REST: u128 = (1 << 80) - 1;
/// How many requests are read at a time.
const PAGE: usize = 5000;
/// How many are named when something is wrong.
const NAMED: usize = 3;

/// How often each handler did something with each event.
type Counts = BTreeMap<(EventId, u32), u64>;

impl Turn {
    /// Each of the first handlers has run once for each event, and nothing else has run; their requests are
    /// completed and executed as often as they should be, once most of the time, and there are no others.
    pub(super) async fn check(
        &self,
        events: &[EventId],
        handlers: u32,
        runs: &[Run],
    ) -> Result<()> {
        check_ran(events, handlers, runs)?;
        self.check_stored(events, handlers).await
    }

    /// What each of the two checks finds, in words for people.
    pub(super) async fn findings(&self, events: &[EventId], handlers: u32, runs: &[Run]) -> String {
        let ran = check_ran(events, handlers, runs);
        let stored = self.check_stored(events, handlers).await;
        let wrong = [ran, stored].into_iter().filter_map(Result::err);
        let wrong: Vec<_> = wrong.map(|error| error.to_string()).collect();
        match wrong.is_empty() {
            true => "all are completed as they should".to_owned(),
            false => wrong.join("; "),
        }
    }

    /// The requests of these events are completed and executed so often, and there are no others.
    pub(super) async fn check_stored(&self, events: &[EventId], handlers: u32) -> Result<()> {
        let should = pairs(events, handlers);
        let completed = self.completed_since(events).await?;
        compare(&should, completed)
            .map_err(|text| format!("requests are not completed as they should: {text}").into())
    }

    /// The events and handlers of all requests since the first of these events, or of all there are; all are
    /// completed. Tables may be full of what was there before, all of smaller ids.
    async fn completed_since(&self, events: &[EventId]) -> Result<Vec<(EventId, u32)>> {
        let mut completed = Vec::new();
        let mut session = self.storer().session().await?;
        let mut page = match before(events) {
            Some(before) => Page::after(before, PAGE),
            None => Page::first(PAGE),
        };
        loop {
            let mut requests = session.handler_requests();
            let found = requests.list(&RequestFilter::default(), &page).await?;
            let Some(last) = found.last() else {
                return Ok(completed);
            };
            page = Page::after(last.id, PAGE);
            for request in found {
                completed.push((
                    request.event_id,
                    number_of(&request, (self.executions)(request.event_id))?,
                ));
            }
        }
    }
}

/// Each of the first handlers has run once for each event, and nothing else has run.
fn check_ran(events: &[EventId], handlers: u32, runs: &[Run]) -> Result<()> {
    let found = runs.iter().map(|run| (run.event, run.handler));
    compare(&pairs(events, handlers), found)
        .map_err(|text| format!("handlers did not run as they should: {text}").into())
}

/// Which handler has completed a request, with so many executions.
fn number_of(request: &HandlerRequest, executions: u32) -> Result<u32> {
    let state = request.state(Utc::now());
    if state != RequestState::Completed || request.executions != executions {
        let (event, executions) = (request.event_id, request.executions);
        return Err(
            format!("a request of event {event} is {state} after {executions} executions").into(),
        );
    }
    let number = request.handler.as_str().strip_prefix("handler-");
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("handler {} is not known", request.handler).into())
}

/// A request id before those of all these events.
fn before(events: &[EventId]) -> Option<HandlerRequestId> {
    let first = events.iter().min()?.as_uuid().as_u128() & !REST;
    let before = Uuid::from_u128(first.checked_sub(1)?);
    Some(HandlerRequestId::from(before))
}

fn pairs(events: &[EventId], handlers: u32) -> Counts {
    let of_event = |&event| (1..=handlers).map(move |handler| ((event, handler), 0));
    events.iter().flat_map(of_event).collect()
}

/// Each of these pairs once, and no other one; else words for people.
fn compare(should: &Counts, found: impl IntoIterator<Item = (EventId, u32)>) -> Result<(), String> {
    let mut counts = should.clone();
    let mut unknown = 0_u64;
    for pair in found {
        match counts.get_mut(&pair) {
            Some(count) => *count += 1,
            None => unknown += 1,
        }
    }
    let wrong: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    if wrong.is_empty() && unknown == 0 {
        return Ok(());
    }
    let named = wrong.iter().take(NAMED).map(|((event, handler), count)| {
        format!("handler {handler} of event {event} {count} times")
    });
    let named: Vec<_> = named.collect();
    Err(format!(
        "of {} requests {} not once, and {unknown} that there should not be: {}",
        counts.len(),
        wrong.len(),
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(count: u128) -> Vec<EventId> {
        (0..count)
            .map(|number| EventId::from(Uuid::from_u128(number)))
            .collect()
    }

    #[test]
    fn each_pair_once_is_right_in_any_order() {
        let events = events(2);
        let found = [
            (events[1], 2),
            (events[0], 1),
            (events[1], 1),
            (events[0], 2),
        ];
        assert_eq!(compare(&pairs(&events, 2), found), Ok(()));
    }

    #[test]
    fn one_twice_and_another_never_does_not_add_up() {
        let events = events(2);
        let found = [(events[0], 1), (events[0], 1)];
        let text = compare(&pairs(&events, 1), found).unwrap_err();
        assert!(
            text.starts_with("of 2 requests 2 not once, and 0"),
            "{text}"
        );
        assert!(
            text.contains("2 times") && text.contains("0 times"),
            "{text}"
        );
    }

    #[test]
    fn requests_of_the_first_event_are_looked_at_and_those_of_an_earlier_time_are_not() {
        let event = EventId::new();
        let request = HandlerRequestId::derive(event, "handler-1");
        let before = before(&[EventId::new(), event]).unwrap();
        let millis = |id: HandlerRequestId| id.as_uuid().as_u128() >> 80;
        assert!(before < request);
        assert_eq!(millis(before) + 1, millis(request));
    }

    #[test]
    fn one_that_nobody_raised_is_wrong() {
        let events = events(2);
        let found = [(events[0], 1), (events[1], 1)];
        let text = compare(&pairs(&events[..1], 1), found).unwrap_err();
        assert!(text.contains("and 1 that there should not be"), "{text}");
    }
}
