//! The requests that a worker runs in one slot, in shared transactions.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Executor,
    buffer::Runnable,
    ended::{Ended, RunResult},
    held::{Claimed, Held, key},
    run::not_to_run,
    shared_transaction::{MOST, OPEN_FOR, SharedTransaction},
    worker::Slot,
};
use crate::{
    clock::instant_after,
    handler::{Context, ErasedTransactionalHandler, Handler, HandlerKind},
    model::Event,
    telemetry::ExecutionSpan,
};

/// What telemetry says of a run that is to be run again.
const UNDONE: &str = "its shared transaction was rolled back; it runs again";

/// How long those that run again wait for the locks of a transaction that was dropped, maybe in the
/// middle of a statement: PostgreSQL looks once a second whether its client is still there. Whoever
/// met these locks could be past its time for the sake of another.
const UNTIL_LOCKS_ARE_GONE: Duration = Duration::from_millis(1500);

/// A request that is run in a shared transaction.
pub(super) struct Member {
    pub(super) held: Held,
    pub(super) span: ExecutionSpan,
    /// What it raised through its context.
    pub(super) raised: Vec<Event>,
    begun: Instant,
    /// None if nothing of it ran.
    took: Option<Duration>,
}

impl Member {
    /// Its run has ended; what it waits for from now on is its neighbours.
    pub(super) fn ran(&mut self) {
        self.took = Some(self.begun.elapsed());
    }
}

/// Requests of one handler, from when they are taken from the buffer until they are settled or given
/// back to it.
pub(super) struct Group<'a> {
    executor: &'a Executor,
    handler: &'a Arc<Handler>,
    number: usize,
    /// Those that were taken along with the one that has the slot.
    along: Vec<Claimed>,
    /// Those that are to run next. Their hooks have run.
    ready: VecDeque<Member>,
    /// Nothing is taken along any more.
    is_gathered: bool,
    finished: Vec<(Member, RunResult)>,
    undone: Vec<Member>,
    /// The server may still have locks of a transaction that was dropped.
    pub(super) keeps_locks: bool,
}

impl Executor {
    /// The handler to run in a shared transaction, if this request of it may share one.
    pub(super) fn shares_transactions<'h>(
        &self,
        handler: &'h Handler,
        context: &Context,
    ) -> Option<&'h dyn ErasedTransactionalHandler> {
        match &handler.kind {
            HandlerKind::Transactional(transactional, _)
                if handler.shares_transactions
                    && may_share(context)
                    && self.store().capabilities().savepoints =>
            {
                Some(&**transactional)
            }
            _ => None,
        }
    }

    /// Runs a request, and others of its handler with it; answers whether that woke another task of
    /// ours.
    pub(super) async fn execute_shared(
        &self,
        slot: Slot<'_>,
        first: Held,
        handler: &Arc<Handler>,
        transactional: &dyn ErasedTransactionalHandler,
    ) -> bool {
        let begun = Instant::now();
        let mut group = Group::new(self, slot.handler, handler);
        group.prepare(first).await;
        group.gather(begun).await;
        while let Some(member) = group.ready.pop_front() {
            if self.is_breaking_off() {
                group.finish(member, RunResult::BrokenOff);
                continue;
            }
            match self
                .call("begin a shared transaction", self.store().begin())
                .await
            {
                Ok(transaction) => {
                    SharedTransaction::new(self, handler, transactional, transaction)
                        .run(member, &mut group)
                        .await;
                }
                Err(error) => {
                    // The others would wait for as long, one after the other.
                    let rest = std::mem::take(&mut group.ready);
                    for member in std::iter::once(member).chain(rest) {
                        group.finish(member, self.not_begun(&error));
                    }
                }
            }
        }
        group.end(slot, begun.elapsed()).await;
        true
    }
}

/// Whether a request may share a transaction: what may have been its fault troubles no neighbour.
fn may_share(context: &Context) -> bool {
    let request = context.request();
    let is_new = request.errors == 0 && request.rescues == 0;
    is_new && !context.run().alone.load(Ordering::Relaxed)
}

impl<'a> Group<'a> {
    fn new(executor: &'a Executor, number: usize, handler: &'a Arc<Handler>) -> Self {
        Self {
            executor,
            handler,
            number,
            along: Vec::new(),
            ready: VecDeque::new(),
            is_gathered: false,
            finished: Vec::new(),
            undone: Vec::new(),
            keeps_locks: false,
        }
    }

    /// Takes along all that are to be taken along, where hooks come first.
    async fn gather(&mut self, begun: Instant) {
        if self.executor.settings().before_execute.is_empty() {
            return;
        }
        while self.along.len() + 1 < MOST && begun.elapsed() < OPEN_FOR {
            let Some(held) = self.take_along().await else {
                break;
            };
            self.prepare(held).await;
        }
        self.is_gathered = true;
    }

    /// The next that is to run.
    pub(super) async fn next(&mut self) -> Option<Member> {
        loop {
            if let Some(member) = self.ready.pop_front() {
                return Some(member);
            }
            if self.is_gathered {
                return None;
            }
            let held = self.take_along().await?;
            self.prepare(held).await;
        }
    }

    async fn take_along(&mut self) -> Option<Held> {
        let executor = self.executor;
        if executor.is_breaking_off() {
            return None;
        }
        let (runnable, woke) = executor.0.buffer.next_of(self.number, may_share)?;
        self.along.push(key(&runnable.held.context));
        if woke {
            // As between other runs: whoever was woken must not wait for a handler that blocks.
            tokio::task::yield_now().await;
        }
        Some(runnable.held)
    }

    /// Runs the hooks of a request.
    async fn prepare(&mut self, held: Held) {
        let executor = self.executor;
        let begun = Instant::now();
        let member = Member {
            span: executor
                .telemetry()
                .execution(&held.round, held.context.request()),
            held,
            raised: Vec::new(),
            begun,
            took: None,
        };
        let context = &member.held.context;
        let answer = match not_to_run(context) {
            Some(result) => Some(result),
            None => {
                let deadline = instant_after(begun, self.handler.timeout);
                executor
                    .run_hooks(self.handler, context, deadline, &member.span)
                    .await
            }
        };
        match answer {
            None => self.ready.push_back(member),
            Some(result) => {
                let mut member = member;
                member.ran();
                self.finish(member, result);
            }
        }
    }

    /// What one has come to, but for its settlement.
    pub(super) fn finish(&mut self, member: Member, result: RunResult) {
        self.finished.push((member, result));
    }

    /// These were rolled back, and run again, each alone.
    pub(super) fn run_again(&mut self, members: Vec<Member>, error: &str) {
        if members.is_empty() {
            return;
        }
        tracing::debug!(
            handler = self.handler.name(),
            requests = members.len(),
            error,
            "a shared transaction was rolled back; its requests run again, each alone"
        );
        self.undone.extend(members);
    }

    /// Gives the slot back, and passes on what has come of each request.
    async fn end(mut self, mut slot: Slot<'_>, took: Duration) {
        let executor = self.executor;
        let mut ran = 0;
        for (member, result) in std::mem::take(&mut self.finished) {
            if !matches!(result, RunResult::Lost | RunResult::NotBegun { .. }) {
                ran += 1;
            }
            let ended = self.tell(member, result);
            executor.0.settler.push(ended, &executor.0.stop).await;
        }
        if self.keeps_locks && !self.undone.is_empty() {
            tokio::select! {
                biased;
                () = executor.broken_off() => {}
                () = tokio::time::sleep(UNTIL_LOCKS_ARE_GONE) => {}
            }
        }
        let undone = std::mem::take(&mut self.undone);
        ran += u32::try_from(undone.len()).unwrap_or(u32::MAX);
        let undone = undone.into_iter().map(|member| self.give_back(member));
        let undone: Vec<_> = undone.collect();
        slot.took = took.checked_div(ran);
        executor.0.buffer.finished_along(self.along.len());
        self.along.clear();
        slot.end();
        executor.enqueue(undone);
    }

    /// Tells telemetry of a run, as of one alone.
    fn tell(&self, member: Member, result: RunResult) -> Ended {
        let Member {
            held, span, took, ..
        } = member;
        let context = held.context.clone();
        let ran = !matches!(result, RunResult::Lost | RunResult::NotBegun { .. });
        let ended = Ended::new(held, self.handler, self.executor.owner(), result);
        let error = ended.error();
        if ran {
            let telemetry = self.executor.telemetry();
            telemetry.handler_ran(context.request(), took.unwrap_or_default(), error);
        }
        span.finish(error);
        ended
    }

    /// Back to the buffer, as if it had not run.
    fn give_back(&self, member: Member) -> Runnable {
        let Member {
            held, span, took, ..
        } = member;
        let context = &held.context;
        let telemetry = self.executor.telemetry();
        if let Some(took) = took {
            telemetry.handler_ran(context.request(), took, Some(UNDONE));
        }
        span.finish(Some(UNDONE));
        // Its hooks run again as well.
        context.set_raised(Vec::new());
        context.run().alone.store(true, Ordering::Relaxed);
        Runnable {
            held,
            handler: self.number,
        }
    }
}

impl Drop for Group<'_> {
    /// As for a slot: what is dropped with the runtime is settled by nobody, so nobody renews it, and
    /// it is rescued.
    fn drop(&mut self) {
        if !self.along.is_empty() {
            let executor = self.executor;
            executor.0.buffer.finished_along(self.along.len());
            executor.0.held.remove(self.along.drain(..));
        }
    }
}
