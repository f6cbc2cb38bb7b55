//! Fanning out what the store refuses together: events are claimed, and the batch is halved until
//! the culprit is alone and backs off, so that it stops no other.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Prepared, Processed, Processor, fences};
use crate::{
    error::{Chain, Result, StoreError},
    model::Backoff,
    store::{ClaimedEvent, EventFailure, FanOut, FannedOut, Selection},
};

/// The most events that are claimed to find a culprit among them: a store that refuses everything is
/// asked for each alone, so they are few.
const MAX_APART: usize = 64;
/// The longest wait of an event that the store refuses: short, as an operator who mends the cause
/// may not know that events wait for it.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

impl Processor {
    /// Fans out in parts what was `refused` together.
    ///
    /// # Errors
    /// The store failed, or refuses everything; nothing is lost, but what is claimed then waits for
    /// its claim to run out, or backs off.
    pub(super) async fn fan_out_apart(
        &self,
        prepared: &Prepared,
        most: usize,
        refused: StoreError,
    ) -> Result<Processed> {
        let round = &prepared.round;
        let claimed = match prepared.passed.clone() {
            Some(passed) => passed,
            None => self.claim_less(most.min(MAX_APART)).await?,
        };
        let sent = Instant::now();
        let mut failed = Vec::new();
        let mut fanned_out = FannedOut::default();
        let mut parts = vec![claimed];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let fan_out = FanOut::new(Selection::Claimed(fences(&part)));
            match self.send(&fan_out).await {
                Ok(answer) => fanned_out.processed.extend(answer.processed),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) if part.len() == 1 => {
                    failed.extend(part.into_iter().map(|culprit| back_off(culprit, &error)));
                }
                Err(_) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
        }
        let next_due = failed.iter().map(|(_, failure)| failure.backoff).min();
        let failures = self.let_back_off(failed, round).await;
        if fanned_out.processed.is_empty() {
            // Not one was the culprit, but the call; or there are no events at all.
            return Err(refused);
        }
        self.note(&fanned_out, round);
        failures?;
        Ok(Processed {
            any: true,
            events: fanned_out.processed.len(),
            is_any_ready: fanned_out.processed.iter().any(|event| event.requests > 0),
            ready_handlers: None,
            held_back: false,
            contended: false,
            partial: true,
            more: true,
            next_due,
            born_leased: Vec::new(),
            sent,
        })
    }

    /// Claims events; fewer, down to one, when the store refuses.
    async fn claim_less(&self, mut limit: usize) -> Result<Vec<ClaimedEvent>> {
        loop {
            match self.claim(limit).await {
                Err(error) if !error.is_transient() && limit > 1 => limit /= 2,
                answer => return answer,
            }
        }
    }
}

fn back_off(culprit: ClaimedEvent, error: &StoreError) -> super::Failed {
    let error = format!("its fan-out was refused: {}", Chain(error));
    let ClaimedEvent {
        event,
        attempt,
        errors,
    } = culprit;
    tracing::error!(event = %event.id, name = %event.name, error, "the store refuses to fan an event out");
    let backoff = Backoff::exponential(Duration::from_secs(1), LONGEST_BACKOFF);
    let backoff = backoff.after(errors.saturating_add(1));
    let failure = EventFailure::new(event.id, attempt, error, backoff);
    (Arc::clone(&event), failure)
}
