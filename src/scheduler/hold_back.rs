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
