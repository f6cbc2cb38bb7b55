//! Settlements, hand-backs, renewals and rescues: rows are locked, changed by the pure transitions,
//! and written back.

use std::collections::{HashMap, HashSet};

use super::{
    arg::args,
    link::Link,
    records::{HANDLER_REQUESTS, Requests, UnreadableRow},
    statement::Statement,
};
use crate::{
    clock::{between, later},
    error::Result,
    id::{HandlerRequestId, LeaseOwner},
    model::HandlerRequest,
    store::{LockMode, Renewal, Renewed, RescueLost, Rescued, RescuedRequest, Settled, Settlement},
};

/// After how long a request that cannot be read is tried again.
const UNREADABLE_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);

/// Requests whose lease ran out.
#[derive(Default)]
pub(super) struct Expired {
    pub(super) requests: Requests,
    /// Where the store looked for them, if it keeps notes of leases.
    pub(super) looked_at: Vec<i64>,
}

/// Whose execution of a request it is, and which.
type Fence = (HandlerRequestId, LeaseOwner, u64);

/// Requests that are locked, and the time.
pub(super) struct Locked {
    pub(super) by_id: HashMap<HandlerRequestId, HandlerRequest>,
    pub(super) now: chrono::DateTime<chrono::Utc>,
    changed: HashSet<HandlerRequestId>,
}

impl Locked {
    /// Changes a request; answers nothing if there is none, and writes nothing if the change is
    /// refused.
    pub(super) fn change<T, E>(
        &mut self,
        id: HandlerRequestId,
        change: impl FnOnce(&mut HandlerRequest) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let answer = change(self.by_id.get_mut(&id)?);
        if answer.is_ok() {
            self.changed.insert(id);
        }
        Some(answer)
    }

    /// Writes what was changed.
    pub(super) async fn write(mut self, link: &mut Link<'_>) -> Result<()> {
        let mut changed: Vec<_> = self
            .changed
            .iter()
            .filter_map(|id| self.by_id.remove(id))
            .collect();
        changed.sort_unstable_by_key(|request| request.id);
        if changed.is_empty() {
            return Ok(());
        }
        link.shared.dialect.write_requests(link, &changed).await
    }
}

/// Locks requests in the order of their ids. One that cannot be read is as if it were not there: it
/// does not take the others along, and its lease runs out.
pub(super) async fn lock(
    link: &mut Link<'_>,
    ids: impl IntoIterator<Item = HandlerRequestId>,
    mode: LockMode,
) -> Result<Option<Locked>> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(None);
    }
    let requests = link.shared.dialect.lock_requests(link, &ids, mode).await?;
    Ok(locked(requests))
}

/// As [`lock`], where every request is needed: it is an error that one cannot be read.
pub(super) async fn lock_all(
    link: &mut Link<'_>,
    ids: impl IntoIterator<Item = HandlerRequestId>,
) -> Result<Option<Locked>> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    let dialect = &link.shared.dialect;
    let mut requests = dialect.lock_requests(link, &ids, LockMode::Wait).await?;
    match requests.unreadable.pop() {
        Some(row) => Err(row.error),
        None => Ok(locked(requests)),
    }
}

fn locked(requests: Requests) -> Option<Locked> {
    Some(Locked {
        now: requests.now?,
        by_id: requests.readable.into_iter().map(by_id).collect(),
        changed: HashSet::new(),
    })
}

fn by_id(request: HandlerRequest) -> (HandlerRequestId, HandlerRequest) {
    (request.id, request)
}

/// See [`HandlerRequestRepository::settle`](crate::store::HandlerRequestRepository::settle).
pub(super) async fn settle(
    link: &mut Link<'_>,
    settlements: &[Settlement],
) -> Result<Vec<Settled>> {
    let all: Vec<_> = settlements.iter().collect();
    let answers = write(link, &all).await?;
    conclude(link, settlements, &answers).await?;
    Ok(answers)
}

/// Writes outcomes without what was raised, as [`settle`] does; [`conclude`] follows.
pub(super) async fn write(
    link: &mut Link<'_>,
    settlements: &[&Settlement],
) -> Result<Vec<Settled>> {
    // A transaction waits, since its owner settles nothing else beside.
    let mode = if link.is_in_transaction() {
        LockMode::Wait
    } else {
        LockMode::SkipLocked
    };
    let ids = settlements.iter().map(|settlement| settlement.id);
    let mut locked = lock(link, ids, mode).await?;
    let mut changes = Vec::with_capacity(settlements.len());
    for settlement in settlements {
        let Settlement {
            id, attempt, owner, ..
        } = **settlement;
        let change = locked.as_mut().and_then(|locked| {
            let now = locked.now;
            locked.change(id, |request| {
                request.settle(
                    now,
                    owner,
                    attempt,
                    &settlement.outcome,
                    settlement.executed,
                )
            })
        });
        changes.push(((id, owner, attempt), change));
    }
    let answers = answers(link, changes).await?;
    if let Some(locked) = locked {
        locked.write(link).await?;
    }
    Ok(answers)
}

/// Stores what was raised with the settlements that took effect, in one order with all others that
/// raise, and notes what was settled.
pub(super) async fn conclude(
    link: &mut Link<'_>,
    settlements: &[Settlement],
    answers: &[Settled],
) -> Result<()> {
    let answered = || settlements.iter().zip(answers);
    let applied = || answered().filter(|(_, answer)| **answer == Settled::Applied);
    let raised = applied().flat_map(|(settlement, _)| settlement.raised.iter().cloned());
    let raised: Vec<_> = raised.collect();
    super::raise::raise(link, &raised).await?;
    link.effects.settled |= applied().next().is_some();
    link.settled = count_batches(applied().filter_map(|(settlement, _)| settlement.batch));
    Ok(())
}

/// How many of these batches each is, which come in runs.
pub(super) fn count_batches(batches: impl Iterator<Item = u64>) -> Vec<(u64, usize)> {
    let mut counts: Vec<(u64, usize)> = Vec::new();
    for batch in batches {
        match counts.iter_mut().rev().find(|(one, _)| *one == batch) {
            Some((_, count)) => *count += 1,
            None => counts.push((batch, 1)),
        }
    }
    counts
}

/// See [`HandlerRequestRepository::hand_back`](crate::store::HandlerRequestRepository::hand_back).
pub(super) async fn hand_back(
    link: &mut Link<'_>,
    owner: LeaseOwner,
    requests: &[(HandlerRequestId, u64)],
) -> Result<Vec<Settled>> {
    let ids = requests.iter().map(|(id, _)| *id);
    let mut locked = lock(link, ids, LockMode::SkipLocked).await?;
    let mut changes = Vec::with_capacity(requests.len());
    for &(id, attempt) in requests {
        let change = locked
            .as_mut()
            .and_then(|locked| locked.change(id, |request| request.hand_back(owner, attempt)));
        changes.push(((id, owner, attempt), change));
    }
    let answers = answers(link, changes).await?;
    if let Some(locked) = locked {
        locked.write(link).await?;
    }
    link.effects.ready |= answers.contains(&Settled::Applied);
    Ok(answers)
}

/// What changes of locked requests came to, none for a request that was skipped: those are looked at
/// together, since somebody may have locked a whole batch.
async fn answers<E>(
    link: &mut Link<'_>,
    changes: Vec<(Fence, Option<Result<(), E>>)>,
) -> Result<Vec<Settled>> {
    let mut skipped: Vec<_> = changes
        .iter()
        .filter(|(_, change)| change.is_none())
        .map(|((id, ..), _)| *id)
        .collect();
    skipped.sort_unstable();
    skipped.dedup();
    let mut found = HashMap::new();
    if !skipped.is_empty() {
        let requests = link.shared.dialect.find_requests(link, &skipped).await?;
        found.extend(requests.readable.into_iter().map(by_id));
    }
    let answer = |((id, owner, attempt), change)| match change {
        Some(Ok(())) => Settled::Applied,
        Some(Err(_)) => Settled::Fenced,
        None => match found.get(&id) {
            Some(request) if request.check_fence(owner, attempt).is_ok() => Settled::Locked,
            // In other hands, or gone.
            _ => Settled::Fenced,
        },
    };
    Ok(changes.into_iter().map(answer).collect())
}

/// See [`LeaseRenewer::renew`](crate::store::LeaseRenewer::renew).
pub(super) async fn renew(link: &mut Link<'_>, renewal: &Renewal) -> Result<Renewed> {
    let ids = renewal.requests.iter().map(|(id, _)| *id);
    let mut locked = lock(link, ids, LockMode::SkipLocked).await?;
    let mut changes = Vec::with_capacity(renewal.requests.len());
    for &(id, attempt) in &renewal.requests {
        let change = locked.as_mut().and_then(|locked| {
            let now = locked.now;
            locked.change(id, |request| {
                request.renew(now, renewal.owner, attempt, renewal.lease)
            })
        });
        changes.push(((id, renewal.owner, attempt), change));
    }
    let answers = answers(link, changes).await?;
    if let Some(locked) = locked {
        locked.write(link).await?;
    }
    let mut renewed = Renewed::default();
    for (claim, answer) in renewal.requests.iter().zip(answers) {
        match answer {
            Settled::Applied => {}
            Settled::Locked => renewed.skipped.push(*claim),
            Settled::Fenced => renewed.lost.push(*claim),
        }
    }
    Ok(renewed)
}

/// See [`HandlerRequestRepository::rescue`](crate::store::HandlerRequestRepository::rescue).
pub(super) async fn rescue(link: &mut Link<'_>, asked: &RescueLost) -> Result<Rescued> {
    let limit = super::limit(asked.limit);
    let dialect = &link.shared.dialect;
    let Expired {
        requests,
        looked_at,
    } = dialect.lock_expired(link, limit).await?;
    let put_off = &link.shared.common.put_off_rescue;
    put_off_unreadable(link, put_off, &requests.unreadable).await?;
    let Some(now) = requests.now else {
        dialect.tidy_leases(link, &looked_at).await?;
        return complete(link, asked, Rescued::default()).await;
    };
    let mut rescued = Vec::with_capacity(requests.readable.len());
    let mut changed = Vec::with_capacity(requests.readable.len());
    let mut misplaced = Vec::new();
    for mut request in requests.readable {
        if !request.is_open() {
            // Nobody executes what has ended. With the lease it would be found again, for ever.
            request.lease = None;
            misplaced.push(request);
            continue;
        }
        let owner = request.lease.map(|lease| lease.owner);
        let backoff = asked.backoff.after(request.errors.saturating_add(1));
        if let (Some(owner), Ok(rescue)) = (owner, request.rescue(now, backoff)) {
            let mut answer = RescuedRequest::new(
                request.id,
                request.event_id,
                request.event_name.clone(),
                request.handler.clone(),
                owner,
                rescue,
            );
            answer.errors = request.errors;
            answer.rescues = request.rescues;
            rescued.push(answer);
            changed.push(request);
        }
    }
    if !misplaced.is_empty() {
        super::claim::put_right(link, &misplaced).await?;
    }
    if !changed.is_empty() {
        link.shared.dialect.write_requests(link, &changed).await?;
        link.effects.settled = true;
        link.effects.ready = true;
    }
    dialect.tidy_leases(link, &looked_at).await?;
    let answer = Rescued {
        requests: rescued,
        ..Rescued::default()
    };
    complete(link, asked, answer).await
}

/// Puts off requests that cannot be read, so that they stand in nobody's way; they are tried again,
/// and told of again, until somebody has mended them.
pub(super) async fn put_off_unreadable(
    link: &mut Link<'_>,
    statement: &Statement,
    unreadable: &[UnreadableRow],
) -> Result<()> {
    if unreadable.is_empty() {
        return Ok(());
    }
    let again_at = later(super::now(link).await?, UNREADABLE_PAUSE);
    for row in unreadable {
        let args = args![again_at, row.id.as_uuid()];
        link.execute(statement, args).await?;
    }
    Ok(())
}

/// Tells when the next lease runs out, if there was nothing more to take back.
async fn complete(
    link: &mut Link<'_>,
    asked: &RescueLost,
    mut rescued: Rescued,
) -> Result<Rescued> {
    if rescued.requests.len() >= asked.limit {
        return Ok(rescued);
    }
    let row = link.row(&link.shared.common.next_expiry, args![]).await?;
    if let Some(row) = row {
        let mut columns = row.reader(HANDLER_REQUESTS);
        let now = columns.time("now")?;
        let next = columns.optional_due("lease_until")?;
        rescued.next_expiry = next.map(|next| between(now, next));
    }
    Ok(rescued)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_in_any_order() {
        assert_eq!(count_batches([5, 5, 6, 5].into_iter()), [(5, 3), (6, 1)]);
    }
}
