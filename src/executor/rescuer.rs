//! Takes back what lost processes held.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{Executor, ended::LOG_TARGET};
use crate::{
    chance,
    clock::instant_after,
    error::Result,
    handler::{ErrorReport, ReportKind},
    model::{Backoff, Rescue, SUSPECT_FROM_RESCUES},
    store::{RescueLost, RescuedRequest},
};

/// Most processes have such leases.
const USUAL_LEASE: Duration = Duration::from_secs(30);

impl Executor {
    /// Rescues until the executor stops.
    pub(crate) async fn rescue_loop(self) {
        let rescues = &self.0.rescues;
        rescues.bring_forward(Instant::now() + self.rescue_pause());
        loop {
            tokio::select! {
                biased;
                () = self.stopped() => return,
                () = rescues.due() => {}
            }
            rescues.begin();
            // Should this end early, by an error or a panic of the store, the next round tries again.
            let sent = Instant::now();
            rescues.bring_forward(sent + self.rescue_pause());
            // While the store is away, and for a moment after, other owners that live must be
            // given the chance to renew first.
            let interval = self.settings().renewal_interval();
            let renewals_are_sound = self.0.renewal_outages.is_over(interval, Instant::now());
            if renewals_are_sound
                && self.0.calls.has_been_sound_for(interval)
                && let Ok(next_expiry) = self.rescue_all().await
            {
                self.plan_rescue(sent, next_expiry);
            }
        }
    }

    /// Whether a rescue is to come within this time, so that a look had better tell of leases.
    pub(crate) fn rescue_is_near(&self, within: Duration) -> bool {
        let at = self.0.rescues.at();
        at.is_some_and(|at| at <= instant_after(Instant::now(), within))
    }

    /// A look that was sent then tells when the earliest lease runs out.
    pub(crate) fn leases_seen(&self, sent: Instant, next_expiry: Option<Duration>) {
        if next_expiry.is_some_and(|expiry| expiry.is_zero()) {
            self.0.rescues.bring_forward(Instant::now());
        } else {
            self.plan_rescue(sent, next_expiry);
        }
    }

    /// The next rescue comes soon after the earliest lease runs out, and one lease from now at the
    /// latest: what somebody takes from now on lasts so long. Others may have shorter leases than this
    /// process.
    fn plan_rescue(&self, sent: Instant, next_expiry: Option<Duration>) {
        let lease = self.settings().lease.min(USUAL_LEASE);
        let pause = self.rescue_pause();
        let wait = next_expiry.map_or(lease, |expiry| expiry.saturating_add(pause));
        self.0.rescues.set(sent + wait.min(lease).max(pause));
    }

    /// The least time between two rescues, and the most between the end of a lease and its rescue;
    /// random, so that many processes do not ask together.
    fn rescue_pause(&self) -> Duration {
        let most = self.settings().rescue_pause();
        most.mul_f64(0.5 + 0.5 * chance::fraction())
    }

    /// Rescues everything whose lease has run out; answers how long it is until the next one does.
    async fn rescue_all(&self) -> Result<Option<Duration>> {
        let rescue = RescueLost {
            limit: self.settings().batch_size,
            backoff: Backoff::default(),
        };
        loop {
            let call = async {
                self.store()
                    .session()
                    .await?
                    .handler_requests()
                    .rescue(&rescue)
                    .await
            };
            let rescued = self.call("rescue handler requests", call).await?;
            for request in &rescued.requests {
                self.note_rescue(request);
            }
            // There may be more; and what is told as due at once may be so only because a store does
            // so much in one call. What somebody has locked is not worth the next call at once.
            let is_due = rescued.next_expiry.is_some_and(|expiry| expiry.is_zero());
            if rescued.requests.is_empty() || (rescued.requests.len() < rescue.limit && !is_due) {
                return Ok(rescued.next_expiry);
            }
        }
    }

    fn note_rescue(&self, request: &RescuedRequest) {
        tracing::warn!(
            request = %request.id,
            handler = %request.handler,
            event = %request.event_name,
            owner = %request.owner,
            rescues = request.rescues,
            "rescued a request from a lost process"
        );
        self.telemetry().request_rescued(request);
        if request.rescues >= SUSPECT_FROM_RESCUES {
            self.0.suspects_known.store(true, Ordering::Release);
        }
        if request.rescue == Rescue::Dead {
            tracing::error!(
                target: LOG_TARGET,
                handler = %request.handler,
                event = %request.event_id,
                event_name = %request.event_name,
                request = %request.id,
                errors = request.errors,
                error = "worker lost",
                "a request lost process after process; it is dead"
            );
        }
        if request.rescue != Rescue::Ready {
            let (event, name) = (request.event_id, request.event_name.clone());
            let mut report = ErrorReport::new(
                ReportKind::WorkerLost,
                request.id,
                request.handler.clone(),
                event,
                name,
            );
            report.errors = request.errors;
            report.is_final = request.rescue == Rescue::Dead;
            report.message = format!(
                "worker lost: {} processes disappeared while they executed it",
                request.rescues
            );
            self.0.reports.send(report);
        }
    }
}
