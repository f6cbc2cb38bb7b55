//! Takes back what lost processes held.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::Executor;
use crate::{
    error::Result,
    handler::{ErrorReport, ReportKind},
    model::{Backoff, Rescue, SUSPECT_FROM_RESCUES},
    store::{RescueLost, RescuedRequest},
};

impl Executor {
    /// Rescues until the executor stops.
    pub(crate) async fn rescue_loop(self) {
        loop {
            let interval = self.settings().rescue_interval();
            // Random, so that many processes do not ask together.
            let pause = interval.mul_f64(rand::random_range(0.75..1.0));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stopped() => return,
            }
            // While the store is away, and for a moment after, other owners that live must be
            // given the chance to renew first.
            let interval = self.settings().renewal_interval();
            let renewals_are_sound = self.0.renewal_outages.is_over(interval, Instant::now());
            if renewals_are_sound && self.0.calls.has_been_sound_for(interval) {
                // The next round tries again, and the failure has been noted.
                drop(self.rescue_all().await);
            }
        }
    }

    /// Rescues everything whose lease has run out; answers how many requests.
    pub(crate) async fn rescue_all(&self) -> Result<usize> {
        let rescue = RescueLost {
            limit: self.settings().batch_size,
            backoff: Backoff::default(),
        };
        let mut total = 0;
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
            total += rescued.len();
            for request in &rescued {
                self.note_rescue(request);
            }
            if rescued.len() < rescue.limit {
                return Ok(total);
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
