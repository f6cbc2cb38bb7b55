//! Renews the leases of everything that is held, on a thread of its own.
//!
//! The thread has its own runtime and its own connection, so that neither handlers that block all
//! threads of the application's runtime nor an exhausted pool can make this process lose what it
//! works on.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Executor, held::Claimed};
use crate::{
    error::{Chain, Result, StoreError},
    handler::{Context, ErrorReport, ReportKind},
    store::{LeaseRenewer, Renewal},
};

/// Past its time-out by so much, a handler that yields has long been ended: this one blocks.
const STUCK_GRACE: Duration = Duration::from_millis(500);
/// The most leases of one statement.
const MAX_BATCH: usize = 1000;
/// What was skipped, because a transaction had locked it, is renewed again after this part of a
/// lease: so soon that a rescue, which may come as soon as the lock is gone, rarely comes first.
const SKIPPED_PAUSE: u32 = 10;

/// What a round of renewals came to.
struct Round {
    /// No part of it failed.
    succeeded: bool,
    skipped: Vec<Claimed>,
}

impl Executor {
    /// Starts the renewal of leases, which ends when the executor stops.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(crate) fn start_renewal(&self) -> std::io::Result<()> {
        let this = self.clone();
        if !self.settings().renewal_thread {
            self.settings().spawn(this.renewal_loop());
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("tidings-leases".to_owned())
            .spawn(move || runtime.block_on(this.renewal_loop()))
            .map(drop)
    }

    /// Renews and watches until the executor stops. A store that panics ends neither.
    async fn renewal_loop(self) {
        let renewing = async {
            let mut renewer = None;
            let interval = self.settings().renewal_interval();
            let mut all_at = Instant::now() + interval;
            let mut skipped = Vec::new();
            while !self.is_stopped() {
                let soon = Instant::now() + self.settings().lease / SKIPPED_PAUSE;
                let wake = if skipped.is_empty() {
                    all_at
                } else {
                    all_at.min(soon)
                };
                tokio::select! {
                    biased;
                    () = self.stopped() => return,
                    () = tokio::time::sleep_until(wake) => {}
                }
                let is_all = wake == all_at;
                let claims = if is_all {
                    self.0.held.renewable()
                } else {
                    self.0.held.still_renewable(&skipped)
                };
                let renewed = AssertUnwindSafe(self.renew_each(&mut renewer, &claims))
                    .catch_unwind()
                    .await;
                let round = renewed.unwrap_or_else(|_| {
                    tracing::error!("the store panicked while leases were renewed");
                    Round {
                        succeeded: false,
                        skipped: Vec::new(),
                    }
                });
                skipped = round.skipped;
                if !is_all && claims.is_empty() {
                    // The store was not asked.
                    continue;
                }
                self.0.renewal_outages.note(round.succeeded, Instant::now());
                if !round.succeeded {
                    // Sooner, so that two more tries fit into the lease.
                    let again_at = Instant::now() + interval / 4;
                    all_at = if is_all {
                        again_at
                    } else {
                        all_at.min(again_at)
                    };
                } else if is_all {
                    all_at = Instant::now() + interval;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.stopped() => {}
            // A lease that has run out is told of before it is renewed.
            () = self.keep_watching() => {}
            () = renewing => {}
        }
    }

    /// Watches for ever: what application code does that is told of it must not end the renewals.
    async fn keep_watching(&self) {
        loop {
            let watched = AssertUnwindSafe(self.watch()).catch_unwind().await;
            if watched.is_err() {
                tracing::error!("a panic while leases were watched");
                tokio::time::sleep(self.watch_interval()).await;
            }
        }
    }

    /// Cancels what has run out and reports what is stuck, however long a renewal takes.
    async fn watch(&self) {
        let most = self.watch_interval();
        loop {
            let short = self.0.held.short.seen();
            let now = Instant::now();
            let next_expiry = self.0.held.cancel_expired(now);
            self.report_stuck();
            let wake = next_expiry.map_or(now + most, |expiry| expiry.min(now + most));
            tokio::select! {
                biased;
                // Its answer took so long that its lease has all but run out.
                () = self.0.held.short.changed_since(short) => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// How often leases are looked at, if none is known to run out sooner.
    pub(super) fn watch_interval(&self) -> Duration {
        self.settings().renewal_interval() / 4
    }

    /// Renews these leases. A part that fails keeps no other from being renewed.
    async fn renew_each(
        &self,
        renewer: &mut Option<Box<dyn LeaseRenewer>>,
        claims: &[Claimed],
    ) -> Round {
        let mut round = Round {
            succeeded: true,
            skipped: Vec::new(),
        };
        for claims in claims.chunks(MAX_BATCH) {
            match self.renew(renewer, claims).await {
                Ok(skipped) => round.skipped.extend(skipped),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), requests = claims.len(), "leases could not be renewed");
                    // A connection in an unknown state is not used again.
                    *renewer = None;
                    round.succeeded = false;
                }
            }
        }
        round
    }

    /// Renews some leases; answers which were skipped.
    async fn renew(
        &self,
        renewer: &mut Option<Box<dyn LeaseRenewer>>,
        claims: &[Claimed],
    ) -> Result<Vec<Claimed>> {
        let limit = self
            .settings()
            .renewal_interval()
            .min(self.settings().call_timeout);
        let lease = self.settings().lease;
        let renewal = Renewal {
            owner: self.owner(),
            lease,
            requests: claims.to_vec(),
        };
        let sent = Instant::now();
        let call = async {
            let mut open = match renewer.take() {
                Some(open) => open,
                None => self.store().lease_renewer().await?,
            };
            let renewed = open.renew(&renewal).await?;
            *renewer = Some(open);
            Ok(renewed)
        };
        let renewed = match tokio::time::timeout(limit, call).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(StoreError::TimedOut {
                    operation: "renew leases",
                    limit,
                });
            }
        };
        self.0.held.renewed(claims, &renewed, sent, lease);
        Ok(renewed.skipped)
    }

    /// Reports handlers that block their threads past their time-outs. They are not renewed any
    /// more, so somebody else will have the request.
    fn report_stuck(&self) {
        for context in self
            .0
            .held
            .newly_stuck(self.milliseconds(Instant::now()), STUCK_GRACE)
        {
            let request = context.request();
            tracing::error!(
                request = %request.id,
                handler = %request.handler,
                "a handler blocks its thread past its time-out; its lease is not renewed any more"
            );
            self.0.reports.send(stuck(&context));
        }
    }
}

fn stuck(context: &Context) -> ErrorReport {
    let request = context.request();
    let (event, name) = (request.event.id, request.event.name.clone());
    let mut report = ErrorReport::new(
        ReportKind::Stuck,
        request.id,
        request.handler.clone(),
        event,
        name,
    );
    report.errors = request.errors;
    report.message = "the handler blocks its thread past its time-out".to_owned();
    report
}
