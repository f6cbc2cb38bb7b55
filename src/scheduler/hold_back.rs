//! How long fan-outs wait for room, so that requests are born leased.
//!
//! A request that is born ready has to be claimed, which costs as much again. And while one waits, no
//! process lets others of its priority be born leased, so a single batch that is born ready can
//! turn all that follow into claims. Events that wait, in turn, keep their priorities to themselves. So
//! fan-outs wait for room, but not for long.

use std::time::Duration;

use tokio::time::Instant;

use super::loops::Found;
use crate::clock::instant_after;
use crate::executor::{Executor, Started};

/// How long events wait for room in any case: long enough for it to return, short enough not to delay
/// an event that matters more than what fills the buffer.
const HOLD_BACK: Duration = Duration::from_millis(50);
/// How long they wait for a buffer that is being emptied fast enough to have room by then. What it
/// holds are handlers that cost less than their claims, so nothing starts sooner by being ready.
const LONGEST_HOLD_BACK: Duration = Duration::from_secs(1);
/// The same while requests wait to be claimed as well: these take the room that returns, so events might
/// wait for all of them.
const LONGEST_BEHIND_BACKLOG: Duration = Duration::from_millis(250);
/// The pause before the next fan-out when one was held back: who has the requests that wait may
/// be about to commit.
const HELD_BACK_PAUSE: Duration = Duration::from_millis(5);

/// The patience of one loop that fans out.
#[derive(Debug, Default)]
pub(super) struct HoldBack {
    wait: Option<Wait>,
    patience: Patience,
    /// Since when all fan-outs have been held back.
    held_since: Option<Instant>,
    /// The next one comes no sooner.
    not_before: Option<Instant>,
}

/// How a fan-out treats events for whose requests there is no room, or behind whom others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Patience {
    /// Nobody has waited for room: a few go on, as one that matters more may be among them.
    #[default]
    Fresh,
    /// There is room, or was a moment ago: they wait for it.
    InTime,
    /// They have waited long enough: all go on.
    Over,
}

/// A wait for room.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    /// When it was last asked how far the workers have come.
    asked: Instant,
    started: Started,
}

impl HoldBack {
    /// Waits until requests can be born leased: there is room, and no others wait to be claimed. Or
    /// until that has taken too long. Cancellation safe: called again, it goes on waiting.
    pub(super) async fn passed(&mut self, executor: &Executor) {
        if let Some(not_before) = self.not_before {
            tokio::time::sleep_until(not_before).await;
            self.not_before = None;
        }
        loop {
            let now = Instant::now();
            let wait = *self.wait.get_or_insert_with(|| Wait {
                since: now,
                asked: now,
                started: executor.started(),
            });
            let until = wait.asked + HOLD_BACK;
            let in_time = tokio::time::timeout_at(until, executor.room_for_offers()).await;
            let (now, started) = (Instant::now(), executor.started());
            let is_near = || {
                let longest = if executor.has_backlog() {
                    LONGEST_BEHIND_BACKLOG
                } else {
                    LONGEST_HOLD_BACK
                };
                let left = (wait.since + longest).saturating_duration_since(now);
                executor.room_is_near(wait.started, now - wait.asked, left)
            };
            if in_time.is_err() && is_near() {
                self.wait = Some(Wait {
                    asked: now,
                    started,
                    ..wait
                });
                continue;
            }
            self.wait = None;
            self.patience = match in_time {
                Ok(()) => Patience::InTime,
                Err(_) => Patience::Over,
            };
            return;
        }
    }

    /// How the fan-out is to be made that follows.
    pub(super) fn patience(&mut self) -> Patience {
        let patience = std::mem::take(&mut self.patience);
        match self.held_since {
            Some(since) if since.elapsed() >= HOLD_BACK => Patience::Over,
            _ => patience,
        }
    }

    /// Whether a fan-out that was held back is too short a while ago for another one.
    pub(super) fn rests(&self) -> bool {
        self.not_before.is_some_and(|at| Instant::now() < at)
    }

    /// A fan-out was made.
    pub(super) fn answered(&mut self, found: Found) {
        self.not_before = found
            .held_back
            .then(|| instant_after(Instant::now(), HELD_BACK_PAUSE));
        // Whoever goes on before room has returned is not the first.
        self.patience = if found.more {
            Patience::InTime
        } else {
            Patience::Fresh
        };
        self.held_since = match self.held_since {
            _ if !found.held_back => None,
            None => Some(Instant::now()),
            since => since,
        };
        if !found.more {
            self.wait = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;
    use crate::{
        Context, Event, Handler, HandlerError, HandlerRequestId, MemoryStore,
        config_map::ConfigMap, settings::Settings, store::ClaimedRequest, store_calls::StoreCalls,
        telemetry::Telemetry,
    };

    const MILLISECOND: Duration = Duration::from_millis(1);

    const WORKERS: usize = 16;

    /// An executor whose workers take so many milliseconds for each request.
    fn executor(takes: u64) -> Executor {
        executor_of(Arc::new(takes.into()))
    }

    fn executor_of(takes: Arc<AtomicU64>) -> Executor {
        let handler = Handler::new("h", move |_: Arc<Event>, _: Context| {
            let takes = Duration::from_millis(takes.load(Ordering::Relaxed));
            async move {
                tokio::time::sleep(takes).await;
                Ok::<_, HandlerError>(())
            }
        });
        let config = ConfigMap::builder()
            .handler(handler.on("*"))
            .build()
            .unwrap();
        let settings = Settings {
            workers: WORKERS,
            batch_size: 200,
            ..Settings::default()
        };
        let calls = StoreCalls::new(Arc::new(MemoryStore::new()), &settings);
        Executor::new(calls, config, settings)
    }

    /// Fills its buffer, of which half is room enough; the first requests run.
    async fn fill(executor: &Executor) {
        let request = |_| {
            let event = Arc::new(Event::new("e", &()).unwrap());
            let id = HandlerRequestId::derive(event.id, "h");
            ClaimedRequest::new(id, event, "h", 1, 5)
        };
        let requests = (0..800).map(request).collect();
        let link = Telemetry::default().execute_round().link();
        executor.accept(requests, &link, Instant::now());
        tokio::task::yield_now().await;
    }

    /// How long it is waited, and whether that was too long.
    async fn waited(executor: &Executor, hold_back: &mut HoldBack) -> (Duration, bool) {
        let begun = Instant::now();
        hold_back.passed(executor).await;
        let patience = hold_back.patience();
        assert_ne!(patience, Patience::Fresh);
        (begun.elapsed(), patience == Patience::Over)
    }

    #[tokio::test(start_paused = true)]
    async fn with_room_nothing_waits() {
        let executor = executor(1);
        let answer = waited(&executor, &mut HoldBack::default()).await;
        assert_eq!(answer, (Duration::ZERO, false));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_nobody_claims_hold_events_back_for_a_moment() {
        let executor = executor(1);
        executor.note_backlog(true);
        let mut hold_back = HoldBack::default();
        let (took, is_over) = waited(&executor, &mut hold_back).await;
        assert!(is_over && took < HOLD_BACK + 5 * MILLISECOND, "{took:?}");
        assert_eq!(hold_back.patience(), Patience::Fresh, "for one fan-out");
        executor.note_backlog(false);
        let answer = waited(&executor, &mut hold_back).await;
        assert_eq!(answer, (Duration::ZERO, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffer_that_empties_soon_is_waited_for() {
        let executor = executor(3);
        fill(&executor).await;
        let (took, is_over) = waited(&executor, &mut HoldBack::default()).await;
        assert!(!is_over);
        assert!(took > HOLD_BACK && took < 4 * HOLD_BACK, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffer_that_empties_late_holds_urgent_events_back_for_a_moment_only() {
        for takes in [100, 10_000] {
            let executor = executor(takes);
            fill(&executor).await;
            let (took, is_over) = waited(&executor, &mut HoldBack::default()).await;
            assert!(
                is_over && took < HOLD_BACK + 5 * MILLISECOND,
                "{takes}: {took:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_turns_slow_meanwhile_ends_the_wait() {
        let takes = Arc::new(AtomicU64::new(3));
        let executor = executor_of(Arc::clone(&takes));
        fill(&executor).await;
        let mut hold_back = HoldBack::default();
        let begun = Instant::now();
        let wait = tokio::time::timeout(60 * MILLISECOND, hold_back.passed(&executor));
        assert!(wait.await.is_err(), "room is near");
        takes.store(10_000, Ordering::Relaxed);
        // The wait that was dropped goes on.
        let (_, is_over) = waited(&executor, &mut hold_back).await;
        let took = begun.elapsed();
        assert!(is_over && took < 4 * HOLD_BACK, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_again_and_again_goes_on_after_a_moment() {
        let executor = executor(1);
        let mut hold_back = HoldBack::default();
        let held_back = Found::of(true, true);
        let (begun, mut calls) = (Instant::now(), 0);
        // The claims say each time that nothing waits: somebody has locked it.
        while hold_back.patience() != Patience::Over {
            hold_back.answered(held_back);
            hold_back.passed(&executor).await;
            calls += 1;
        }
        let took = begun.elapsed();
        assert!(took < HOLD_BACK + 10 * MILLISECOND, "{took:?}");
        assert!(calls <= 12, "{calls} calls for nothing");
        hold_back.answered(Found::of(true, false));
        assert_eq!(hold_back.patience(), Patience::InTime);
        hold_back.answered(Found::of(false, false));
        assert_eq!(hold_back.patience(), Patience::Fresh);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backlog_shortens_the_wait_for_a_buffer_that_empties() {
        let executor = executor(3);
        executor.note_backlog(true);
        for _ in 0..2 {
            fill(&executor).await;
        }
        let (took, is_over) = waited(&executor, &mut HoldBack::default()).await;
        assert!(
            is_over && took <= LONGEST_BEHIND_BACKLOG + HOLD_BACK,
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_came_to_its_end_does_not_count_for_the_next_one() {
        let executor = executor(1);
        executor.note_backlog(true);
        let mut hold_back = HoldBack::default();
        let wait = tokio::time::timeout(10 * MILLISECOND, hold_back.passed(&executor));
        assert!(wait.await.is_err());
        hold_back.answered(Found::of(false, false));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let (took, _) = waited(&executor, &mut hold_back).await;
        assert!(took >= HOLD_BACK, "{took:?}");
    }
}
