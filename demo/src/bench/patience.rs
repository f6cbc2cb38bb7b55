//! Waiting that ends when nothing goes on any more, so that a request that was lost, or a handler that never
//! runs, fails the bench and does not hang it.

use std::{pin::pin, time::Duration};

use tokio::time::Instant;

/// How long nothing may go on: longer than a lease and its rescue take, which bring back what was only delayed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks meanwhile.
const LOOKS: u32 = 60;

/// Nothing has gone on for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing has gone on for {0:?}")]
pub(super) struct Stuck(Duration);

/// Waits for something for as long as progress is made, which is whenever its mark changes.
pub(super) async fn patiently<T, M: PartialEq>(
    patience: Duration,
    waited: impl Future<Output = T>,
    mark: impl Fn() -> M,
) -> Result<T, Stuck> {
    let mut waited = pin!(waited);
    let (mut seen, mut since) = (mark(), Instant::now());
    loop {
        tokio::select! {
            // What came at the last moment has come.
            biased;
            came = &mut waited => return Ok(came),
            () = tokio::time::sleep(patience / LOOKS) => {}
        }
        let now = mark();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= patience {
            return Err(Stuck(patience));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, time::Duration};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_given_up() {
        let begun = Instant::now();
        let waited = patiently(PATIENCE, pending::<()>(), || 0).await;
        assert_eq!(waited, Err(Stuck(PATIENCE)));
        assert!(begun.elapsed() < PATIENCE + 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_makes_progress_may_take_any_time() {
        let steps = Cell::new(0);
        let work = async {
            for _ in 0..10 {
                tokio::time::sleep(PATIENCE - SECOND).await;
                steps.set(steps.get() + 1);
            }
        };
        assert_eq!(patiently(PATIENCE, work, || steps.get()).await, Ok(()));
    }
}
