//! The loops that find work.
//!
//! Each notes the signals before it looks, so that a wake-up while it looks is not lost, and drains
//! before it waits. It waits for signals, for rows that become due, and for what the
//! [lookout](super::lookout) finds; only where commits are not seen, it polls by its [pace](Pace).

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{
    engine::Inner,
    hold_back::{HoldBack, Patience},
    pace::{Pace, Woken},
};
use crate::{
    clock::instant_after,
    error::Result,
    executor::{Claimer, Refill},
    processor::{Offer, Prepared, Processor},
    signal::{Signal, Signals},
    store_calls::LoopBackoff,
};

/// When no more events are due, they are fanned out also behind requests that wait to be claimed: one that
/// matters more than those may be among them, and few do not turn all that follow into claims. So many
/// are when there is no room for their requests, too.
const MAX_BEHIND_BACKLOG: usize = 64;
/// A call that brought so many, and left more, is worth a second one beside the next.
const WORTH_A_SECOND: usize = 32;
/// Rows become due at the microsecond, timers fire at the millisecond: a wait of zero would ask
/// again before anything can be due.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Fans events out.
pub(super) async fn process(inner: Arc<Inner>) {
    let mut fan_outs = FanOuts::new(&inner);
    let mut backoff = LoopBackoff::default();
    let mut hold_back = HoldBack::default();
    while !inner.executor.is_stopped() {
        let state = inner.changed.seen();
        inner.running().await;
        match fan_outs.turn(&mut hold_back).await {
            Ok(true) => {
                backoff.reset();
                hold_back.passed(&inner.executor).await;
            }
            Ok(false) => {
                backoff.reset();
                tokio::select! {
                    biased;
                    () = inner.executor.stopped() => {}
                    () = inner.changed.changed_since(state) => {}
                    () = fan_outs.due() => {}
                }
            }
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// Claims requests.
pub(super) async fn claim(inner: Arc<Inner>) {
    let mut claims = Claims::new(&inner);
    let mut backoff = LoopBackoff::default();
    while !inner.executor.is_stopped() {
        let state = inner.changed.seen();
        inner.running().await;
        match claims.turn().await {
            Ok(true) => backoff.reset(),
            Ok(false) => {
                backoff.reset();
                tokio::select! {
                    biased;
                    () = inner.executor.stopped() => {}
                    () = inner.changed.changed_since(state) => {}
                    () = claims.due() => {}
                }
            }
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// Fans out and claims by turns.
pub(super) async fn cooperate(inner: Arc<Inner>) {
    let (mut fan_outs, mut claims) = (FanOuts::new(&inner), Claims::new(&inner));
    let (mut fan_out, mut claim) = (Activity::default(), Activity::default());
    let mut hold_back = HoldBack::default();
    while !inner.executor.is_stopped() {
        let state = inner.changed.seen();
        inner.running().await;
        if fan_out.is_next() && !hold_back.rests() {
            fan_out.ended(fan_outs.turn(&mut hold_back).await);
        }
        claim.is_due |= claims.due().now_or_never().is_some();
        if claim.is_next() {
            claim.ended(claims.turn().await);
        }
        if claim.is_next() {
            // Events wait no longer than one claim.
            fan_out.is_due |= fan_outs.due().now_or_never().is_some();
            continue;
        }
        let goes_on = fan_out.is_next();
        tokio::select! {
            biased;
            // What was left ready is claimed first, or it would hold fan-outs back in vain.
            () = claims.due(), if !claim.is_due => {
                claim.is_due = true;
                if goes_on {
                    claim.ended(claims.turn().await);
                }
            }
            () = hold_back.passed(&inner.executor), if goes_on => {}
            () = fan_outs.due(), if !fan_out.is_due => fan_out.is_due = true,
            // One that fails keeps the other from nothing.
            () = reached(fan_out.not_before), if fan_out.is_due && !goes_on => fan_out.not_before = None,
            () = reached(claim.not_before), if claim.is_due => claim.not_before = None,
            () = inner.changed.changed_since(state) => {
                (fan_out, claim) = (Activity::default(), Activity::default());
            }
            () = inner.executor.stopped() => {}
        }
    }
}

/// Whether one of two that take turns is to be called.
struct Activity {
    is_due: bool,
    backoff: LoopBackoff,
    /// After failures.
    not_before: Option<Instant>,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            is_due: true,
            backoff: LoopBackoff::default(),
            not_before: None,
        }
    }
}

impl Activity {
    fn is_next(&self) -> bool {
        self.is_due && self.not_before.is_none()
    }

    /// A call ended, and answered whether there may be more.
    fn ended(&mut self, answer: Result<bool>) {
        if let Ok(more) = answer {
            self.backoff.reset();
            self.is_due = more;
        } else {
            self.not_before = Some(instant_after(Instant::now(), self.backoff.next()));
        }
    }
}

/// Fan-outs, and when the next one is worth its call.
struct FanOuts {
    inner: Arc<Inner>,
    processor: Processor,
    signals: Signals,
    raised_seen: u64,
    uncommitted_seen: u64,
    found_seen: u64,
    again_seen: u64,
    pace: Pace,
    woken: Woken,
}

impl FanOuts {
    fn new(inner: &Arc<Inner>) -> Self {
        let signals = inner.executor.store().signals();
        Self {
            inner: Arc::clone(inner),
            processor: inner.processor.clone(),
            raised_seen: signals.raised.seen(),
            uncommitted_seen: signals.uncommitted.seen(),
            found_seen: inner.events.found.seen(),
            again_seen: inner.events.again.seen(),
            signals,
            pace: Pace::default(),
            woken: Woken::Told,
        }
    }

    /// Fans out once; answers whether there may be more.
    async fn turn(&mut self, hold_back: &mut HoldBack) -> Result<bool> {
        let woken = std::mem::take(&mut self.woken);
        self.raised_seen = self.signals.raised.seen();
        self.found_seen = self.inner.events.found.seen();
        self.again_seen = self.inner.events.again.seen();
        let appointment = self.inner.events.due.at();
        self.inner.events.due.begin();
        let sent = Instant::now();
        let way = Way {
            woken,
            patience: hold_back.patience(),
            beside: false,
        };
        let Some(found) = process_once(&self.inner, &self.processor, way).await? else {
            return Ok(false);
        };
        hold_back.answered(found);
        if !found.looked {
            return Ok(true);
        }
        let (known, now) = (&self.inner.events, Instant::now());
        if !found.partial && !found.held_back {
            known.looked(sent);
        }
        if let Some(due) = found.next_due {
            known
                .due
                .bring_forward(instant_after(now, due.max(SHORTEST_WAIT)));
        } else if woken == Woken::Poll
            && let Some(due) = appointment
        {
            // A poll may not have asked for it.
            known.due.bring_forward(due);
        }
        self.pace.called(now, woken, found.any, self.inner.heed());
        let is_alone = !self.inner.contention.is_felt();
        if found.more && found.events >= WORTH_A_SECOND && is_alone {
            known.more.raise();
        }
        Ok(found.more)
    }

    /// Waits until there may be something to fan out. Cancellation safe.
    async fn due(&mut self) {
        let (inner, signals) = (&self.inner, &self.signals);
        loop {
            self.woken = tokio::select! {
                // What is known before what is only hoped for. All of them end the wait for the same
                // call, but the last: it makes polls closer, which nobody needs while there is a reason
                // to call.
                biased;
                () = signals.raised.changed_since(self.raised_seen) => {
                    inner.executor.telemetry().notification_received();
                    Woken::Told
                }
                () = inner.events.due.due() => Woken::Due,
                () = inner.events.found.changed_since(self.found_seen) => Woken::Found,
                () = inner.events.again.changed_since(self.again_seen) => Woken::Told,
                () = reached(self.pace.next()) => Woken::Poll,
                () = signals.uncommitted.changed_since(self.uncommitted_seen) => {
                    self.uncommitted_seen = signals.uncommitted.seen();
                    self.pace.uncommitted(Instant::now(), inner.heed());
                    continue;
                }
            };
            return;
        }
    }
}

/// Claims, and when the next one is worth its call.
struct Claims {
    inner: Arc<Inner>,
    claimer: Claimer,
    ready: Signal,
    room: Signal,
    ready_seen: u64,
    room_seen: u64,
    found_seen: u64,
    again_seen: u64,
    no_room: bool,
    pace: Pace,
    woken: Woken,
}

impl Claims {
    fn new(inner: &Arc<Inner>) -> Self {
        let ready = inner.executor.store().signals().ready;
        let room = inner.executor.room().clone();
        Self {
            inner: Arc::clone(inner),
            claimer: Claimer::default(),
            ready_seen: ready.seen(),
            room_seen: room.seen(),
            found_seen: inner.requests.found.seen(),
            again_seen: inner.requests.again.seen(),
            ready,
            room,
            no_room: false,
            pace: Pace::default(),
            woken: Woken::Told,
        }
    }

    /// Claims once; answers whether there may be more.
    async fn turn(&mut self) -> Result<bool> {
        let woken = std::mem::take(&mut self.woken);
        self.ready_seen = self.ready.seen();
        self.room_seen = self.room.seen();
        self.found_seen = self.inner.requests.found.seen();
        self.again_seen = self.inner.requests.again.seen();
        self.inner.requests.due.begin();
        let sent = Instant::now();
        let Some(refill) = claim_once(&self.inner, &mut self.claimer).await? else {
            return Ok(false);
        };
        let (known, now) = (&self.inner.requests, Instant::now());
        self.no_room = refill.no_room;
        if !refill.no_room {
            known.looked(sent);
        }
        if let Some(due) = refill.next_due {
            known
                .due
                .bring_forward(instant_after(now, due.max(SHORTEST_WAIT)));
        }
        self.pace
            .called(now, woken, refill.claimed > 0, self.inner.heed());
        if refill.more && refill.claimed >= WORTH_A_SECOND {
            known.more.raise();
        }
        Ok(refill.more)
    }

    /// Waits until there may be something to claim. Cancellation safe.
    async fn due(&mut self) {
        let known = &self.inner.requests;
        self.woken = tokio::select! {
            // What is known before what is only hoped for; all of them lead to the same call.
            biased;
            // With no room, more ready requests change nothing.
            () = self.ready.changed_since(self.ready_seen), if !self.no_room => Woken::Told,
            () = self.room.changed_since(self.room_seen) => Woken::Told,
            () = known.due.due() => Woken::Due,
            () = known.found.changed_since(self.found_seen) => Woken::Found,
            () = known.again.changed_since(self.again_seen) => Woken::Told,
            () = reached(self.pace.next()) => Woken::Poll,
        };
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How to fan out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) woken: Woken,
    pub(super) patience: Patience,
    /// Another fan-out of this process is under way.
    pub(super) beside: bool,
}

/// What a fan-out came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The store was asked.
    looked: bool,
    /// But not for everything there is.
    partial: bool,
    /// Events wait for requests to be claimed.
    pub(super) held_back: bool,
    /// There was something.
    any: bool,
    /// How many events were processed.
    events: usize,
    /// There may be more.
    pub(super) more: bool,
    /// When nothing more is due: how long until the next event is.
    next_due: Option<Duration>,
}

impl Found {
    /// There is no room for what there may be.
    const NO_ROOM: Self = Self {
        looked: false,
        partial: true,
        held_back: false,
        any: false,
        events: 0,
        more: true,
        next_due: None,
    };
}

#[cfg(test)]
impl Found {
    /// A fan-out that left more, or was held back, or neither.
    pub(super) const fn of(more: bool, held_back: bool) -> Self {
        Self {
            more,
            held_back,
            ..Self::NO_ROOM
        }
    }
}

/// `None` when the scheduler does not run.
///
/// Hooks run without the gate, as they may take long. What was claimed for them is fanned out also
/// when the scheduler has been paused or shut down meanwhile, but not to run here.
pub(super) async fn process_once(
    inner: &Inner,
    processor: &Processor,
    way: Way,
) -> Result<Option<Found>> {
    let _round = inner.rounds.read().await;
    if !inner.is_running() {
        return Ok(None);
    }
    let prepared = processor.prepare().await?;
    if way.woken == Woken::Poll && prepared.is_empty() {
        // A poll is one call; the others ask when the next event is due.
        return Ok(Some(Found {
            looked: true,
            partial: false,
            held_back: false,
            any: false,
            events: 0,
            more: false,
            next_due: None,
        }));
    }
    let mut backoff = LoopBackoff::default();
    loop {
        match fan_out_once(inner, processor, &prepared, way).await {
            // Its events would wait for their claims to run out.
            Err(error) if error.is_transient() => {
                let pause = backoff.next();
                if !prepared.holds_claims_for(pause) {
                    return Err(error);
                }
                tokio::time::sleep(pause).await;
            }
            found => return found,
        }
    }
}

/// `None` when the scheduler does not run, and nothing is claimed.
async fn fan_out_once(
    inner: &Inner,
    processor: &Processor,
    prepared: &Prepared,
    way: Way,
) -> Result<Option<Found>> {
    let executor = &inner.executor;
    let gate = pass(inner).await;
    let is_running = gate.is_some();
    if !is_running && !prepared.holds_claims() {
        return Ok(None);
    }
    let room = if is_running {
        executor.reserve_for_offer()
    } else {
        None
    };
    let may_wait = match way.patience {
        Patience::Fresh => executor.room_is_promised(),
        Patience::InTime => true,
        Patience::Over => false,
    };
    if room.is_none() && may_wait && !prepared.holds_claims() && executor.has_handlers() {
        return Ok(Some(Found::NO_ROOM));
    }
    let few = (way.patience != Patience::Over).then_some(MAX_BEHIND_BACKLOG);
    let offer = room.as_ref().map(|room| Offer {
        lease_offer: room.lease_offer.clone(),
        largest_room: room.largest_room,
        max_behind_backlog: few,
    });
    let most = match &offer {
        None if executor.has_handlers() => few,
        _ => None,
    };
    let processed = processor
        .fan_out(prepared, offer, most, way.beside)
        .await
        .inspect_err(|error| executor.note_failure(error))?;
    if !processed.born_leased.is_empty() {
        let round = executor.telemetry().execute_round();
        round.claimed(processed.born_leased.len());
        executor.accept(processed.born_leased, &round.link(), processed.sent);
    }
    drop(room);
    let is_any_ready =
        processed.is_any_ready && executor.is_for_claims(processed.ready_handlers.as_deref());
    if is_any_ready || processed.held_back {
        // While they wait, none is born leased; claimed before more are made, they are few. A claim
        // may have had them already, and the next one says so.
        executor.note_backlog(true);
        executor.store().signals().ready.raise();
    }
    drop(gate);
    if !way.beside {
        inner.contention.met(processed.contended);
    }
    Ok(Some(Found {
        looked: true,
        partial: processed.partial,
        held_back: processed.held_back,
        any: processed.any,
        events: processed.events,
        more: processed.more,
        next_due: processed.next_due,
    }))
}

/// Passes the gate, behind which requests are taken in; `None` when the scheduler does not run.
async fn pass(inner: &Inner) -> Option<tokio::sync::RwLockReadGuard<'_, ()>> {
    loop {
        let state = inner.changed.seen();
        if !inner.is_running() {
            return None;
        }
        tokio::select! {
            // A gate that was passed is left again if the scheduler does not run any more.
            biased;
            gate = inner.gate.read() => return inner.is_running().then_some(gate),
            () = inner.changed.changed_since(state) => {}
        }
    }
}

/// `None` when the scheduler does not run.
pub(super) async fn claim_once(inner: &Inner, claimer: &mut Claimer) -> Result<Option<Refill>> {
    let _gate = inner.gate.read().await;
    if !inner.is_running() {
        return Ok(None);
    }
    claimer.refill(&inner.executor).await.map(Some)
}
