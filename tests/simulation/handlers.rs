//! What handlers do: mostly what they should.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use serde_json::json;
use tidings::{
    Backoff, CancellationCause, Context, Event, Handler, HandlerError, HandlerResult,
    MemoryConnection, Raiser,
    store::{Raised, Session},
};
use tokio::time::{sleep, sleep_until};

use crate::{
    gate::Mode,
    history::{Claimed, Short, What},
    plan::{HandlerPlan, Kind, ms, pick},
    state::{End, LastEnd, Run, State, later},
    verdict::Wrong,
    world::World,
};

/// What a transactional handler writes: an event, as the in-memory store has nothing else to write.
pub(crate) const WRITTEN: &str = "written.row";
/// What ordinary handlers raise.
const RAISED: &str = "order.paid";

/// In which process a handler runs.
#[derive(Clone)]
struct Place {
    world: World,
    process: usize,
    handler: usize,
}

pub(crate) fn handler(plan: &HandlerPlan, world: &World, process: usize, number: usize) -> Handler {
    let place = Place {
        world: world.clone(),
        process,
        handler: number,
    };
    let name = plan.name.as_str();
    let handler = match plan.kind {
        Kind::Ordinary => Handler::with_state(name, place, ordinary),
        Kind::Transactional => Handler::transactional_with_state(name, place, transactional),
        Kind::Shared => {
            Handler::transactional_with_state(name, place, transactional).shared_transactions()
        }
    };
    let handler = handler
        .on(plan.pattern)
        .priority(plan.priority)
        .max_errors(plan.max_errors)
        .backoff(Backoff::exponential(plan.backoff, plan.backoff * 4))
        .timeout(plan.timeout);
    match plan.concurrency {
        Some(limit) => handler.concurrency(limit),
        None => handler,
    }
}

async fn ordinary(place: Place, _: Arc<Event>, context: Context) -> HandlerResult {
    let running = Running::begin(&place, &context);
    let doing = place.world.lock().draw_doing();
    let result = tokio::select! {
        biased;
        result = doing.carry_out(&place, &context, None) => result,
        () = running.watch_lease(&context) => Ok(()),
    };
    running.end(&context, result)
}

async fn transactional(
    place: Place,
    _: Arc<Event>,
    context: Context,
    connection: &mut MemoryConnection,
) -> HandlerResult {
    let running = Running::begin(&place, &context);
    let doing = place.world.lock().draw_doing();
    let result = tokio::select! {
        biased;
        result = doing.carry_out(&place, &context, Some(connection)) => result,
        () = running.watch_lease(&context) => Ok(()),
    };
    running.end(&context, result)
}

/// What a handler does in one run.
#[derive(Clone, Copy, Debug)]
struct Doing {
    lasting: Duration,
    /// It ends when its context is canceled.
    heeds: bool,
    raises: bool,
    kills: bool,
    end: End,
    again_in: Duration,
}

impl State {
    fn draw_doing(&mut self) -> Doing {
        let (mood, lease) = (self.mood, self.lease);
        let rng = &mut self.rng;
        let mut doing = Doing {
            lasting: ms(pick(rng, &[0, 0, 0, 1, 30])),
            heeds: rng.random_bool(0.5),
            raises: rng.random_bool(0.1),
            kills: mood.kills > 0.0 && rng.random_bool(mood.kills),
            end: End::Ok,
            again_in: ms(pick(rng, &[0, 1, 300])),
        };
        if mood.odd == 0.0 || !rng.random_bool(mood.odd) {
            return doing;
        }
        match rng.random_range(0..10) {
            0..3 => doing.end = End::Failed,
            3 => doing.end = End::Panicked,
            4 => doing.end = End::Snoozed,
            5 => doing.end = End::Discarded,
            6 => doing.end = End::Canceled,
            _ => doing.lasting = lease.mul_f64(rng.random_range(0.0..2.5)),
        }
        doing
    }
}

impl Doing {
    async fn carry_out(
        self,
        place: &Place,
        context: &Context,
        connection: Option<&mut MemoryConnection>,
    ) -> HandlerResult {
        if let Some(connection) = connection {
            write(place, context, connection).await?;
        }
        if self.raises && context.event().causation_id.is_none() {
            let event = Event::new(RAISED, &json!({})).expect("JSON");
            context.raise(event);
        }
        let half = self.lasting / 2;
        tokio::select! {
            biased;
            _ = context.canceled(), if self.heeds => {
                return Err(HandlerError::new("canceled"));
            }
            () = sleep_if(half) => {}
        }
        if self.kills {
            place.world.crash(place.process);
            std::future::pending::<()>().await;
        }
        sleep_if(self.lasting - half).await;
        match self.end {
            End::Ok | End::Dropped(_) => Ok(()),
            End::Failed if self.again_in.is_zero() => Err(HandlerError::new("failed")),
            End::Failed | End::Stopped => Err(HandlerError::retry_after(self.again_in, "failed")),
            End::Panicked => std::panic::panic_any("simulated"),
            End::Snoozed => Err(HandlerError::snooze(self.again_in)),
            End::Discarded => Err(HandlerError::discard("discarded")),
            End::Canceled => Err(HandlerError::cancel("canceled")),
        }
    }
}

async fn write(
    place: &Place,
    context: &Context,
    connection: &mut MemoryConnection,
) -> Result<(), HandlerError> {
    let event = Event::new(WRITTEN, &json!(context.request_id())).expect("JSON");
    let id = event.id;
    let raiser = Raiser::new(connection_signals(place));
    let raised = raiser.raise(connection, event).await?;
    assert_eq!(raised, Raised::New);
    let claim = (context.request_id(), context.attempt());
    place.world.lock().written.insert(claim, id);
    // It sees its own writes.
    let unprocessed = connection.events().find(id).await?;
    assert!(unprocessed.is_some());
    Ok(())
}

fn connection_signals(_: &Place) -> tidings::Signals {
    // What is written is seen with the commit.
    tidings::Signals::new()
}

/// A run, from its beginning to its end, however that comes.
struct Running {
    place: Place,
    claim: Claimed,
    ended: bool,
}

impl Running {
    fn begin(place: &Place, context: &Context) -> Self {
        let claim = (context.request_id(), context.attempt());
        let mut state = place.world.lock();
        state.log(Some(place.process), What::Started(Short(claim.0), claim.1));
        state.begins(place.process, place.handler, claim, context);
        Self {
            place: place.clone(),
            claim,
            ended: false,
        }
    }

    fn end(mut self, context: &Context, result: HandlerResult) -> HandlerResult {
        let was_told_to_stop = matches!(
            context.cancellation_cause(),
            Some(CancellationCause::Shutdown | CancellationCause::LeaseExpired)
        );
        let end = match &result {
            Ok(()) => End::Ok,
            Err(error) => match format!("{error:?}") {
                text if text.starts_with("Snooze") => End::Snoozed,
                text if text.starts_with("Discard") => End::Discarded,
                text if text.starts_with("Cancel") => End::Canceled,
                _ if was_told_to_stop => End::Stopped,
                _ => End::Failed,
            },
        };
        self.finish(end);
        result
    }

    fn finish(&mut self, end: End) {
        self.ended = true;
        let mut state = self.place.world.lock();
        let text = match end {
            End::Ok => "ok",
            End::Failed => "failed",
            End::Stopped => "stopped",
            End::Panicked => "panicked",
            End::Snoozed => "snoozed",
            End::Discarded => "discarded",
            End::Canceled => "canceled",
            End::Dropped(_) => "dropped",
        };
        let (process, claim) = (self.place.process, self.claim);
        state.log(Some(process), What::Ended(Short(claim.0), claim.1, text));
        let now = state.now;
        let process = &mut state.processes[process];
        process.running -= 1;
        process.idle_since = now;
        if let Some(run) = state.runs.get_mut(&claim).and_then(|runs| runs.last_mut()) {
            run.end = Some(end);
        }
    }

    /// Never ends. One lease after the last renewal that was answered was sent, the context must be
    /// canceled.
    async fn watch_lease(&self, context: &Context) {
        /// Timers fire at the next millisecond.
        const TIMERS: Duration = ms(3);
        let key = (self.place.process, self.claim);
        let valid_until = || {
            let state = self.place.world.lock();
            (state.valid_until.get(&key).copied(), state.now)
        };
        let mut seen = None;
        loop {
            let (Some(until), now) = valid_until() else {
                let detail = format!("{:?} runs without a lease", Short(self.claim.0));
                let world = &self.place.world;
                world.with(|state| state.object(Wrong::GivenTwice, detail));
                return std::future::pending().await;
            };
            if context.is_canceled() {
                let what = What::Canceled(Short(self.claim.0), self.claim.1);
                let world = &self.place.world;
                world.with(|state| state.log(Some(self.place.process), what));
                return std::future::pending().await;
            }
            let due = later(until, TIMERS);
            if now < due {
                let wait = (due - now).to_std().unwrap_or_default();
                tokio::select! {
                    biased;
                    _ = context.canceled() => {}
                    () = sleep_until(tokio::time::Instant::now() + wait) => {}
                }
                continue;
            }
            if seen == Some(until) {
                let detail = format!("{:?} attempt {}", Short(self.claim.0), self.claim.1);
                let world = &self.place.world;
                world.with(|state| state.object(Wrong::NotCanceled, detail));
                return std::future::pending().await;
            }
            // What stood still has its timers run now, in any order.
            seen = Some(until);
            sleep(TIMERS).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let end = if std::thread::panicking() {
            End::Panicked
        } else {
            let state = self.place.world.lock();
            let runs = state.runs.get(&self.claim);
            let began = runs.and_then(|runs| runs.last()).map(|run| run.started_at);
            let lasted = began.map(|began| (state.now - began).to_std().unwrap_or_default());
            End::Dropped(lasted.unwrap_or_default())
        };
        self.finish(end);
    }
}

impl State {
    /// A handler begins: it must be for a reason that is allowed.
    fn begins(&mut self, process: usize, handler: usize, claim: Claimed, context: &Context) {
        let (id, attempt) = claim;
        let now = self.now;
        let is_ordinary = self.wanted[handler].kind == Kind::Ordinary;
        let again = self.runs.get(&claim).map_or(0, Vec::len);
        if is_ordinary && again > 0 {
            let detail = format!("{:?} attempt {attempt} began again", Short(id));
            self.object(Wrong::Duplicated, detail);
        }
        if self.processes[process].gate.mode() != Mode::Runs {
            self.object(
                Wrong::Duplicated,
                "a process that does not run began a handler",
            );
        }
        let earlier = self.runs.range((id, 0)..(id, attempt)).count();
        if let Some(entry) = self.requests.get(&id) {
            let why = match entry.last_end {
                LastEnd::None => "nothing",
                LastEnd::Retried => "its outcome",
                LastEnd::Rescued(why) => why,
                LastEnd::HandedBack => "it was handed back",
                LastEnd::Operator => "an operator",
            };
            let leased_at = entry.leased_at;
            if earlier > 0 && again == 0 {
                if why == "nothing" {
                    let detail = format!("{:?} attempt {attempt} after {earlier}", Short(id));
                    self.object(Wrong::Duplicated, detail);
                } else if is_ordinary {
                    *self.again.entry(why).or_default() += 1;
                }
            }
            self.check_begun_soon(process, leased_at, claim, context);
        }
        self.runs.entry(claim).or_default().push(Run {
            started_at: now,
            end: None,
        });
        self.processes[process].running += 1;
    }

    /// What was given to an idle process begins soon.
    fn check_begun_soon(
        &mut self,
        process: usize,
        leased_at: chrono::DateTime<chrono::Utc>,
        claim: Claimed,
        context: &Context,
    ) {
        const SOON: Duration = Duration::from_secs(2);
        let Some(healthy_since) = self.healthy_since(process) else {
            return;
        };
        let known = &self.processes[process];
        let from = leased_at.max(healthy_since).max(known.idle_since);
        if known.running == 0 && !context.is_canceled() && self.now > later(from, SOON) {
            let detail = format!(
                "{:?} began {} after it could",
                Short(claim.0),
                self.now - from
            );
            self.object(Wrong::Stuck, detail);
        }
    }
}

async fn sleep_if(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
