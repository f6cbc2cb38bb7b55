//! Claims handler requests for the buffer.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::Executor;
use crate::{
    error::Result,
    model::Outcome,
    store::{Claim, ClaimedBatch, ClaimedRequest, Settlement, UnreadableRequest},
};

/// Claims, and remembers when to look for requests under suspicion.
#[derive(Debug, Default)]
pub(crate) struct Claimer {
    /// When a claim last told whether there are any.
    told_of_suspects_at: Option<Instant>,
}

/// What a claim came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refill {
    /// So many requests were claimed.
    pub(crate) claimed: usize,
    /// There may be more: ask again as soon as there is room.
    pub(crate) more: bool,
    /// There was no room to claim for.
    pub(crate) no_room: bool,
    /// When nothing more is due: how long until the next request is.
    pub(crate) next_due: Option<Duration>,
}

impl Claimer {
    /// Fills the buffer once.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn refill(&mut self, executor: &Executor) -> Result<Refill> {
        let mut suspects = 0;
        if self.is_time_for_suspects(executor) {
            suspects += self.claim_suspect(executor).await;
        }
        let Some(reservation) = executor.0.buffer.reserve_for_claim() else {
            return Ok(Refill {
                claimed: suspects,
                no_room: true,
                ..Refill::default()
            });
        };
        let claim = Claim {
            owner: executor.owner(),
            lease: executor.settings().lease,
            limit: reservation.total(),
            handlers: reservation.rooms(),
        };
        let round = executor.telemetry().execute_round();
        let sent = Instant::now();
        let batch = executor
            .call("claim handler requests", executor.claim(&claim))
            .await
            .inspect_err(|error| executor.note_failure(error))?;
        let claimed = batch.requests.len() + batch.unreadable.len();
        let more = claimed > 0 && (claimed >= claim.limit || fills_a_room(&batch.requests, &claim));
        let next_due = batch.next_due;
        if claimed < claim.limit {
            self.told_of_suspects_at = Some(sent);
        }
        let suspect_waits = batch.suspect_waits;
        executor.note_backlog(more);
        if claimed > 0 {
            round.claimed(claimed);
            executor.accept(batch.requests, &round.link(), sent);
            executor.settle_unreadable(batch.unreadable).await;
        }
        drop(reservation);
        if suspect_waits {
            suspects += self.claim_suspect(executor).await;
        }
        Ok(Refill {
            claimed: claimed + suspects,
            more,
            no_room: false,
            next_due,
        })
    }

    /// Whether somebody told of requests under suspicion, or no claim has told lately whether there
    /// are any, because all of them were full.
    fn is_time_for_suspects(&mut self, executor: &Executor) -> bool {
        let told_at = *self.told_of_suspects_at.get_or_insert_with(Instant::now);
        executor.0.suspects_known.swap(false, Ordering::AcqRel)
            || told_at.elapsed() >= executor.settings().poll_interval
    }

    /// Claims one request under suspicion, if none runs here. Answers how many. Should it fail,
    /// others are claimed all the same.
    async fn claim_suspect(&mut self, executor: &Executor) -> usize {
        if !executor.begin_suspect() {
            return 0;
        }
        let alone = Alone(executor);
        self.told_of_suspects_at = Some(Instant::now());
        let handlers = executor.config().handler_names();
        let claim = Claim {
            owner: executor.owner(),
            lease: executor.settings().lease,
            limit: 1,
            handlers: handlers
                .into_iter()
                .map(|handler| crate::store::HandlerRoom { handler, room: 1 })
                .collect(),
        };
        let round = executor.telemetry().execute_round();
        let sent = Instant::now();
        let call = async {
            executor
                .store()
                .session()
                .await?
                .handler_requests()
                .claim_suspect(&claim)
                .await
        };
        match executor.call("claim a request under suspicion", call).await {
            Ok(batch) => {
                let claimed = batch.requests.len();
                if claimed > 0 {
                    round.claimed(claimed);
                    executor.accept(batch.requests, &round.link(), sent);
                    // Whoever runs it says when it has ended.
                    std::mem::forget(alone);
                }
                executor.settle_unreadable(batch.unreadable).await;
                claimed
            }
            Err(_) => 0,
        }
    }
}

/// Whether some handler got as much as there was room for, so that it may have more.
fn fills_a_room(claimed: &[ClaimedRequest], claim: &Claim) -> bool {
    claim.handlers.iter().any(|room| {
        claimed.len() >= room.room
            && claimed
                .iter()
                .filter(|request| request.handler == room.handler)
                .count()
                >= room.room
    })
}

/// The right of this process to run a request under suspicion, until it has claimed one.
struct Alone<'a>(&'a Executor);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.end_suspect();
    }
}

impl Executor {
    async fn claim(&self, claim: &Claim) -> Result<ClaimedBatch> {
        self.store()
            .session()
            .await?
            .handler_requests()
            .claim(claim)
            .await
    }

    /// A request whose event cannot be read gets that as its error, and delays nobody.
    async fn settle_unreadable(&self, unreadable: Vec<UnreadableRequest>) {
        if unreadable.is_empty() {
            return;
        }
        let settlements: Vec<_> = unreadable
            .into_iter()
            .map(|request| {
                tracing::error!(request = %request.id, handler = %request.handler, error = request.error, "unreadable");
                let errors = request.errors.saturating_add(1);
                let backoff = self
                    .config()
                    .handler(&request.handler)
                    .and_then(|handler| super::panic_capture::caught(|| handler.backoff.after(errors)).ok())
                    .unwrap_or_else(|| crate::model::Backoff::default().after(errors));
                Settlement {
                    id: request.id,
                    attempt: request.attempt,
                    owner: self.owner(),
                    outcome: Outcome::Failed { error: request.error, backoff },
                    executed: false,
                    raised: Vec::new(),
                    batch: None,
                }
            })
            .collect();
        let call = async {
            self.store()
                .session()
                .await?
                .handler_requests()
                .settle(&settlements)
                .await
        };
        // Should this fail, their leases run out.
        drop(self.call("settle unreadable requests", call).await);
    }
}
