//! Everything that can be read, compared.

use futures_util::TryStreamExt;
use tidings::{
    RequestState,
    store::{EventFilter, Page, RequestFilter, Session},
};

use crate::{driver::*, model::Rows};

impl Driver {
    /// Compares everything that can be read, outside of the open transaction and inside.
    pub(crate) async fn compare(&mut self) {
        self.compare_view(false).await;
        if self.model.is_open() {
            self.compare_view(true).await;
        }
    }

    pub(crate) async fn compare_view(&mut self, inside: bool) {
        let (rows, now) = (self.model.view(inside), self.model.now);
        let mut session: &mut dyn Session = self.session(inside);
        compare_events(&mut session, &rows).await;
        compare_requests(&mut session, &rows, now).await;
        assert_eq!(
            session.registrations().all().await.unwrap(),
            rows.registrations
        );
    }
}

async fn compare_events(session: &mut &mut dyn Session, rows: &Rows) {
    let mut events = session.events();
    let listed = events
        .list(&EventFilter::default(), &Page::first(ALL))
        .await
        .unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|stored| {
            (
                stored.event.id,
                stored.processed_at,
                stored.errors,
                stored.backoff_until,
            )
        })
        .collect();
    let expected: Vec<_> = rows
        .events
        .iter()
        .map(|row| (row.id, row.processed_at, row.errors, row.backoff_until))
        .collect();
    assert_eq!(listed, expected);
    let unprocessed: Vec<_> = rows
        .events
        .iter()
        .filter(|row| row.processed_at.is_none())
        .map(|row| row.id)
        .collect();
    assert_eq!(
        events.count_unprocessed().await.unwrap(),
        unprocessed.len() as u64
    );
    let oldest = events
        .oldest_unprocessed()
        .await
        .unwrap()
        .map(|stored| stored.event.id);
    assert_eq!(oldest, unprocessed.first().copied());
    let filter = EventFilter::default().processed(false);
    let streamed: Vec<_> = events.stream(&filter).try_collect().await.unwrap();
    assert_eq!(
        streamed
            .iter()
            .map(|stored| stored.event.id)
            .collect::<Vec<_>>(),
        unprocessed
    );
}

async fn compare_requests(
    session: &mut &mut dyn Session,
    rows: &Rows,
    now: chrono::DateTime<chrono::Utc>,
) {
    let mut requests = session.handler_requests();
    let listed = requests
        .list(&RequestFilter::default(), &Page::first(ALL))
        .await
        .unwrap();
    assert_eq!(listed, rows.requests);
    for state in RequestState::ALL {
        let filter = RequestFilter::default().in_states([state]);
        let expected: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| row.state(now) == state)
            .cloned()
            .collect();
        assert_eq!(
            requests.count(&filter).await.unwrap(),
            expected.len() as u64,
            "{state}"
        );
        assert_eq!(
            requests.list(&filter, &Page::first(ALL)).await.unwrap(),
            expected,
            "{state}"
        );
    }
    let open: Vec<_> = rows.requests.iter().filter(|row| row.is_open()).collect();
    assert_eq!(
        requests.count_unexecuted().await.unwrap(),
        open.len() as u64
    );
    assert_eq!(
        requests.oldest_unexecuted().await.unwrap().as_ref(),
        open.first().copied()
    );
    let dead = rows
        .requests
        .iter()
        .filter(|row| row.state(now) == RequestState::Dead);
    let mut handlers: Vec<_> = dead.clone().map(|row| row.handler.clone()).collect();
    handlers.sort();
    handlers.dedup();
    assert_eq!(requests.dead_handler_names().await.unwrap(), handlers);
    let mut names: Vec<_> = dead.map(|row| row.event_name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(requests.dead_event_names().await.unwrap(), names);
    for event in rows.events.iter().take(3) {
        let mut expected: Vec<_> = rows
            .requests
            .iter()
            .filter(|row| row.event_id == event.id)
            .cloned()
            .collect();
        expected.sort_by_key(|row| row.handler.clone());
        assert_eq!(requests.of_event(event.id).await.unwrap(), expected);
    }
}
