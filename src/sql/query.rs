//! What queries for operators ask, as arguments of their statements.

use super::{arg::Arg, fan_out::names, limit};
use crate::{
    id::{EventId, HandlerRequestId},
    model::RequestState,
    store::{EventFilter, Page, RequestFilter},
};

/// The arguments of a query for events.
pub(super) struct EventArgs<'f>(Vec<Arg<'f>>);

impl<'f> EventArgs<'f> {
    pub(super) fn new(filter: &'f EventFilter) -> Self {
        let entity = filter.entity.as_ref();
        Self(vec![
            names(&filter.names),
            Arg::Text(entity.map(|entity| entity.name.as_str())),
            Arg::Text(entity.map(|entity| entity.id.as_str())),
            Arg::Time(filter.since),
            Arg::Time(filter.until),
            Arg::Int(filter.processed.map(i64::from)),
            Arg::Int(filter.has_requests.map(i64::from)),
        ])
    }

    pub(super) fn count(self) -> Vec<Arg<'f>> {
        self.0
    }

    pub(super) fn page(self, page: &Page<EventId>) -> Vec<Arg<'f>> {
        with_page(self.0, page, |id| id.as_uuid())
    }
}

/// The arguments of a query for requests.
pub(super) struct RequestArgs<'f>(Vec<Arg<'f>>);

impl<'f> RequestArgs<'f> {
    pub(super) fn new(filter: &'f RequestFilter) -> Self {
        let entity = filter.entity.as_ref();
        Self(vec![
            Arg::Int(Some(states(&filter.states))),
            names(&filter.event_names),
            names(&filter.handlers),
            Arg::Text(entity.map(|entity| entity.name.as_str())),
            Arg::Text(entity.map(|entity| entity.id.as_str())),
            Arg::Time(filter.since),
            Arg::Time(filter.until),
            Arg::Text(filter.error_contains.as_deref()),
        ])
    }

    pub(super) fn count(self) -> Vec<Arg<'f>> {
        self.0
    }

    pub(super) fn page(self, page: &Page<HandlerRequestId>) -> Vec<Arg<'f>> {
        with_page(self.0, page, |id| id.as_uuid())
    }
}

fn with_page<'f, Id: Copy>(
    mut args: Vec<Arg<'f>>,
    page: &Page<Id>,
    uuid: impl Fn(Id) -> uuid::Uuid,
) -> Vec<Arg<'f>> {
    args.push(Arg::Uuid(page.after.map(uuid)));
    args.push(Arg::Int(Some(limit(page.limit))));
    args.push(Arg::Int(Some(limit(page.offset))));
    args
}

/// States as bits, in the order of [`RequestState::ALL`]; 0 does not restrict.
fn states(states: &[RequestState]) -> i64 {
    let bit = |state: &RequestState| {
        let place = RequestState::ALL.iter().position(|one| one == state);
        place.map_or(0, |place| 1 << place)
    };
    states.iter().map(bit).fold(0, |all, bit| all | bit)
}
