//! What operators do to single requests and to the dead.

use chrono::{DateTime, Utc};

use super::{
    link::Link,
    query::RequestArgs,
    records::HANDLER_REQUESTS,
    settle::{lock, lock_all},
};
use crate::{
    error::{Result, StoreError},
    id::HandlerRequestId,
    model::{HandlerRequest, Refusal, RequestState},
    store::{LockMode, Page, RequestFilter},
};

/// A transition that an operator asks for.
type Transition = fn(&mut HandlerRequest, DateTime<Utc>) -> Result<(), Refusal>;

/// Changes one request, or tells why not.
pub(super) async fn operate(
    link: &mut Link<'_>,
    action: &'static str,
    id: HandlerRequestId,
    transition: Transition,
) -> Result<()> {
    let refused = |state: String| {
        Err(StoreError::Refused {
            action,
            thing: format!("handler request {id}"),
            state,
        })
    };
    let Some(mut locked) = lock_all(link, [id]).await? else {
        return refused("not there".to_owned());
    };
    let now = locked.now;
    match locked.change(id, |request| transition(request, now)) {
        Some(Ok(())) => locked.write(link).await,
        Some(Err(Refusal::State(state))) => refused(state.to_string()),
        Some(Err(Refusal::Fenced)) => refused("in other hands".to_owned()),
        Some(Err(Refusal::Leased)) => refused("leased".to_owned()),
        None => refused("not there".to_owned()),
    }
}

/// See [`HandlerRequestRepository::reexecute_dead`](crate::store::HandlerRequestRepository::reexecute_dead).
pub(super) async fn reexecute_dead(
    link: &mut Link<'_>,
    filter: &RequestFilter,
    limit: usize,
) -> Result<u64> {
    if limit == 0 {
        return Ok(0);
    }
    let args = RequestArgs::new(filter).page(&Page::first(limit));
    let rows = link.rows(&link.shared.common.list_dead, args).await?;
    let ids = rows
        .iter()
        .map(|row| row.reader(HANDLER_REQUESTS).uuid("id"))
        .map(|id| id.map(HandlerRequestId::from_uuid));
    let ids: Vec<_> = ids.collect::<Result<_>>()?;
    let Some(mut locked) = lock(link, ids.iter().copied(), LockMode::Wait).await? else {
        return Ok(0);
    };
    let now = locked.now;
    let mut count = 0;
    for id in ids {
        let reexecuted = locked.change(id, |request| match request.state(now) {
            RequestState::Dead => request.reexecute(now),
            // Somebody else was quicker.
            state => Err(Refusal::State(state)),
        });
        count += u64::from(matches!(reexecuted, Some(Ok(()))));
    }
    locked.write(link).await?;
    link.effects.settled |= count > 0;
    link.effects.ready |= count > 0;
    Ok(count)
}
