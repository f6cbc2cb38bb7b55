//! How long fan-outs wait for room, so that requests are born leased.
//!
//! A request that is born ready has to be claimed, which costs as much again. And while one waits, no
//! process lets others of its priority be born leased, so a single batch that is born ready can
//! turn all that follow into claims. Events that wait, in turn, keep their priorities to themselves. So
//! fan-outs wait for room, but not for long.

use std::time::Duration;

use tokio::time::Instant;

use crate::executor::{Executor, Started};

/// How long events wait for room in any case: long enough for it to return, short enough not to delay
/// an event that matters more than what fills the buffer.
const HOLD_BACK: Duration = Duration::from_millis(50);
/// How long they wait for a buffer that is being emptied fast enough to have room by then. What it
/// holds are handlers that cost less than their claims, so nothing starts sooner by being ready.
const LONGEST_HOLD_BACK: Duration = Duration::from_secs(1);

/// The patience of one loop that fans out.
#[derive(Debug, Default)]
pub(super) struct HoldBack {
    wait: Option<Wait>,
    is_over: bool,
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
    /// until that has taken too long; then the [next](Self::take_over) fan-out does without.
    /// Cancellation safe: called again, it goes on waiting.
    pub(super) async fn passed(&mut self, executor: &Executor) {
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
                let left = (wait.since + LONGEST_HOLD_BACK).saturating_duration_since(now);
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
            self.is_over = in_time.is_err();
            return;
        }
    }

    /// Whether the fan-out that follows is to make requests that have to be claimed, however many.
    pub(super) const fn take_over(&mut self) -> bool {
        std::mem::replace(&mut self.is_over, false)
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
        (begun.elapsed(), hold_back.take_over())
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
        assert!(!hold_back.take_over(), "for one fan-out");
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
}
