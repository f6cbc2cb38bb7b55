//! Claims handler requests for the buffer.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::Executor;
use crate::{
    error::Result,
    model::Outcome,
    store::{Claim, ClaimedBatch, ClaimedRequest, HandlerRoom, Settlement, UnreadableRequest},
};

/// Claims, and remembers when to look for requests under suspicion.
#[derive(Debug, Default)]
pub(crate) struct Claimer {
    /// Since when all claims have been full or had no room, so that none told whether there are any.
    untold_since: Option<Instant>,
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
            self.untold_since.get_or_insert_with(Instant::now);
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
        let is_full = claimed >= claim.limit;
        let filled = executor.filled_rooms(&batch.requests, &claim);
        let next_due = batch.next_due;
        if is_full {
            self.untold_since.get_or_insert(sent);
        } else {
            self.untold_since = None;
        }
        let suspect_waits = batch.suspect_waits;
        if claimed > 0 {
            round.claimed(claimed);
            executor.accept(batch.requests, &round.link(), sent);
            executor.settle_unreadable(batch.unreadable).await;
        }
        drop(reservation);
        let more = executor.0.buffer.filled(&filled) || (is_full && claimed > 0);
        executor.note_backlog(more);
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
    fn is_time_for_suspects(&self, executor: &Executor) -> bool {
        let poll_interval = executor.settings().poll_interval;
        executor.0.suspects_known.swap(false, Ordering::AcqRel)
            || self
                .untold_since
                .is_some_and(|since| since.elapsed() >= poll_interval)
    }

    /// Claims one request under suspicion, if none runs here. Answers how many. Should it fail,
    /// others are claimed all the same.
    async fn claim_suspect(&mut self, executor: &Executor) -> usize {
        if !executor.begin_suspect() {
            return 0;
        }
        let alone = Alone(executor);
        self.untold_since = None;
        let handlers = executor.config().handler_names();
        let claim = Claim {
            owner: executor.owner(),
            lease: executor.settings().lease,
            limit: 1,
            handlers: handlers
                .into_iter()
                .map(|handler| HandlerRoom { handler, room: 1 })
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
                    if executor.accept(batch.requests, &round.link(), sent) > 0 {
                        // Whoever runs it says when it has ended.
                        std::mem::forget(alone);
                    }
                }
                executor.settle_unreadable(batch.unreadable).await;
                claimed
            }
            Err(_) => 0,
        }
    }
}

/// The right of this process to run a request under suspicion, until it has claimed one.
struct Alone<'a>(&'a Executor);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.end_suspect();
    }
}

impl Executor {
    /// The handlers that got as much as there was room for, so that they may have more.
    fn filled_rooms(&self, claimed: &[ClaimedRequest], claim: &Claim) -> Vec<usize> {
        let fills = |room: &&HandlerRoom| {
            let of_handler = claimed.iter().filter(|one| one.handler == room.handler);
            claimed.len() >= room.room && of_handler.count() >= room.room
        };
        let filled = claim.handlers.iter().filter(fills);
        filled
            .filter_map(|room| self.0.buffer.number(&room.handler))
            .collect()
    }

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
