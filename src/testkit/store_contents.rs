//! Reads what a test wants to know of a store.

use std::{collections::HashSet, sync::Arc};

use futures_util::TryStreamExt;

use crate::{
    error::Result,
    id::EventId,
    model::Event,
    store::{EventFilter, Session},
};

/// All events, in the order of their ids.
pub(super) async fn events(session: &mut dyn Session) -> Result<Vec<Arc<Event>>> {
    let mut events = session.events();
    events
        .stream(&EventFilter::default())
        .map_ok(|stored| stored.event)
        .try_collect()
        .await
}

/// The ids of all events.
pub(super) async fn event_ids(session: &mut dyn Session) -> Result<HashSet<EventId>> {
    let mut events = session.events();
    events
        .stream(&EventFilter::default())
        .map_ok(|stored| stored.event.id)
        .try_collect()
        .await
}
