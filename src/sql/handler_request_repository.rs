//! The port to handler requests.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{
    arg::args,
    claim,
    connection::{Needs, SqlConnection},
    event_repository::STREAM_PAGE,
    link::Link,
    operations::{operate, reexecute_dead},
    query::RequestArgs,
    records::request,
    replay,
    row::Row,
    settle,
    statement::Statement,
};
use crate::{
    error::Result,
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::HandlerRequest,
    store::{
        Claim, ClaimedBatch, HandlerRequestRepository, HandlerRequestStream, LockMode, Page,
        Replay, Replayed, RequestFilter, RescueLost, Rescued, Settled, Settlement,
    },
    text::Name,
};

pub(super) struct SqlRequests<'c>(pub(super) &'c mut SqlConnection);

#[async_trait]
impl HandlerRequestRepository for SqlRequests<'_> {
    async fn claim(&mut self, asked: &Claim) -> Result<ClaimedBatch> {
        let needs = self.0.shared().dialect.claim_needs();
        let mut link = self.0.open("claim", needs).await?;
        let answer = link.shared.dialect.claim(&mut link, asked).await;
        link.close(answer).await
    }

    async fn claim_suspect(&mut self, asked: &Claim) -> Result<ClaimedBatch> {
        let mut link = self.0.open("claim a suspect", Needs::Atomicity).await?;
        let answer = claim::claim_suspect(&mut link, asked).await;
        link.close(answer).await
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let needs = self.0.shared().dialect.settle_needs(settlements);
        let mut link = self.0.open_last("settle", needs).await?;
        let answer = link.shared.dialect.settle(&mut link, settlements).await;
        link.close(answer).await
    }

    async fn hand_back(
        &mut self,
        owner: LeaseOwner,
        requests: &[(HandlerRequestId, u64)],
    ) -> Result<Vec<Settled>> {
        let mut link = self.0.open("hand back", Needs::Atomicity).await?;
        let answer = settle::hand_back(&mut link, owner, requests).await;
        link.close(answer).await
    }

    async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued> {
        let mut link = self.0.open("rescue", Needs::Atomicity).await?;
        let answer = settle::rescue(&mut link, rescue).await;
        link.close(answer).await
    }

    async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>> {
        self.find_with(id, "find a request", |common| &common.find_request)
            .await
    }

    async fn find_for_update(
        &mut self,
        id: HandlerRequestId,
        lock: LockMode,
    ) -> Result<Option<HandlerRequest>> {
        self.find_with(id, "lock a request", move |common| match lock {
            LockMode::Wait => &common.lock_request,
            LockMode::SkipLocked => &common.lock_request_skip,
        })
        .await
    }

    async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>> {
        let mut link = self.0.open("list requests", Needs::OneStatement).await?;
        let answer = super::requests_of_event(&mut link, event).await;
        link.close(answer).await
    }

    async fn count_unexecuted(&mut self) -> Result<u64> {
        self.count_with(|common| &common.count_open, args![]).await
    }

    async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>> {
        let mut link = self.0.open("find a request", Needs::OneStatement).await?;
        let answer = oldest_unexecuted(&mut link).await;
        link.close(answer).await
    }

    async fn count_dead(&mut self) -> Result<u64> {
        self.count_with(|common| &common.count_dead, args![]).await
    }

    async fn dead(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        let mut link = self.0.open("list requests", Needs::OneStatement).await?;
        let args = RequestArgs::new(filter).page(page);
        let answer = link.rows(&link.shared.common.list_dead, args).await;
        let answer = answer.and_then(|rows| requests(&rows));
        link.close(answer).await
    }

    async fn dead_event_names(&mut self) -> Result<Vec<Name>> {
        self.names_with(|common| &common.dead_event_names).await
    }

    async fn dead_handler_names(&mut self) -> Result<Vec<Name>> {
        self.names_with(|common| &common.dead_handler_names).await
    }

    async fn count(&mut self, filter: &RequestFilter) -> Result<u64> {
        let args = RequestArgs::new(filter).count();
        self.count_with(|common| &common.count_requests, args).await
    }

    async fn list(
        &mut self,
        filter: &RequestFilter,
        page: &Page<HandlerRequestId>,
    ) -> Result<Vec<HandlerRequest>> {
        let mut link = self.0.open("list requests", Needs::OneStatement).await?;
        let answer = list(&mut link, filter, page).await;
        let answer = answer.and_then(|rows| requests(&rows));
        link.close(answer).await
    }

    fn stream(&mut self, filter: &RequestFilter) -> HandlerRequestStream<'_> {
        let filter = filter.clone();
        let pages = stream::unfold(
            (&mut *self.0, Some(Page::first(STREAM_PAGE))),
            move |(connection, page)| {
                let filter = filter.clone();
                async move {
                    let page = page?;
                    let (requests, next) = next_page(connection, &filter, &page).await;
                    Some((stream::iter(requests), (connection, next)))
                }
            },
        );
        pages.flatten().boxed()
    }

    async fn cancel(&mut self, id: HandlerRequestId) -> Result<()> {
        let mut link = self.0.open("cancel", Needs::Atomicity).await?;
        let answer = operate(&mut link, "cancel", id, HandlerRequest::cancel).await;
        link.effects.settled = true;
        link.close(answer).await
    }

    async fn reexecute(&mut self, id: HandlerRequestId) -> Result<()> {
        let mut link = self.0.open("reexecute", Needs::Atomicity).await?;
        let answer = operate(&mut link, "reexecute", id, HandlerRequest::reexecute).await;
        link.effects.settled = true;
        link.effects.ready = true;
        link.close(answer).await
    }

    async fn reexecute_dead(&mut self, filter: &RequestFilter, limit: usize) -> Result<u64> {
        let mut link = self.0.open("reexecute the dead", Needs::Atomicity).await?;
        let answer = reexecute_dead(&mut link, filter, limit).await;
        link.close(answer).await
    }

    async fn replay(&mut self, asked: &Replay) -> Result<Replayed> {
        let mut link = self.0.open("replay", Needs::Atomicity).await?;
        let answer = replay::replay(&mut link, asked).await;
        link.close(answer).await
    }

    async fn run_now(&mut self, id: HandlerRequestId) -> Result<()> {
        let mut link = self.0.open("run now", Needs::Atomicity).await?;
        let answer = operate(&mut link, "run now", id, HandlerRequest::run_now).await;
        link.effects.ready = true;
        link.close(answer).await
    }
}

impl SqlRequests<'_> {
    async fn find_with(
        &mut self,
        id: HandlerRequestId,
        operation: &'static str,
        statement: impl FnOnce(&super::common::Common) -> &Statement + Send,
    ) -> Result<Option<HandlerRequest>> {
        let mut link = self.0.open(operation, Needs::OneStatement).await?;
        let statement = statement(&link.shared.common);
        let answer = link.row(statement, args![id.as_uuid()]).await;
        let answer = answer.and_then(|row| {
            let found = row.as_ref().map(request).transpose()?;
            Ok(found.map(|(request, _)| request))
        });
        link.close(answer).await
    }

    async fn count_with(
        &mut self,
        statement: impl FnOnce(&super::common::Common) -> &Statement + Send,
        args: Vec<super::arg::Arg<'_>>,
    ) -> Result<u64> {
        let mut link = self.0.open("count requests", Needs::OneStatement).await?;
        let statement = statement(&link.shared.common);
        let answer = super::count(&mut link, statement, args).await;
        link.close(answer).await
    }

    async fn names_with(
        &mut self,
        statement: impl FnOnce(&super::common::Common) -> &Statement + Send,
    ) -> Result<Vec<Name>> {
        let mut link = self.0.open("list names", Needs::OneStatement).await?;
        let statement = statement(&link.shared.common);
        let answer = link.rows(statement, args![]).await;
        let answer = answer.and_then(|rows| {
            let name = |row: &Row| row.reader("handler_requests").text("name").map(Name::from);
            rows.iter().map(name).collect()
        });
        link.close(answer).await
    }
}

fn requests(rows: &[Row]) -> Result<Vec<HandlerRequest>> {
    rows.iter()
        .map(|row| request(row).map(|(request, _)| request))
        .collect()
}

async fn list(
    link: &mut Link<'_>,
    filter: &RequestFilter,
    page: &Page<HandlerRequestId>,
) -> Result<Vec<Row>> {
    let args = RequestArgs::new(filter).page(page);
    link.rows(&link.shared.common.list_requests, args).await
}

/// A page of a stream, and the page after it. A row that cannot be read is an error among others.
async fn next_page(
    connection: &mut SqlConnection,
    filter: &RequestFilter,
    page: &Page<HandlerRequestId>,
) -> (Vec<Result<HandlerRequest>>, Option<Page<HandlerRequestId>>) {
    let rows = async {
        let mut link = connection
            .open("list requests", Needs::OneStatement)
            .await?;
        let answer = list(&mut link, filter, page).await;
        link.close(answer).await
    };
    match rows.await {
        Ok(rows) => {
            let last = rows.last().filter(|_| rows.len() == STREAM_PAGE);
            let last = last.and_then(|row| row.reader("handler_requests").uuid("id").ok());
            let next = last.map(|id| Page::after(HandlerRequestId::from_uuid(id), STREAM_PAGE));
            let read = |row: &Row| request(row).map(|(request, _)| request);
            (rows.iter().map(read).collect(), next)
        }
        Err(error) => (vec![Err(error)], None),
    }
}

async fn oldest_unexecuted(link: &mut Link<'_>) -> Result<Option<HandlerRequest>> {
    let oldest = &link.shared.common.oldest_open;
    let Some(row) = link.row(oldest, args![]).await? else {
        return Ok(None);
    };
    let Some(id) = row.reader("handler_requests").optional_uuid("id")? else {
        return Ok(None);
    };
    let find = &link.shared.common.find_request;
    let row = link.row(find, args![id]).await?;
    let found = row.as_ref().map(request).transpose()?;
    Ok(found.map(|(request, _)| request))
}
