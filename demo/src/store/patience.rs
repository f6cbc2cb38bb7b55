//! Waiting for a database that is away: it restarts, fails over, or has not been started yet.

use std::time::{Duration, Instant};

use tidings::{Backoff, ErrorChain, Result, StoreError};

/// The wait after the first failure, and the longest one: short enough to go on soon after an
/// outage, with a random part so that several demos do not come back together.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long calls that fail in passing are made again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(pub(crate) Duration);

/// It has come to an end, or there was no use in it.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed{}", after(*.waited))]
pub(crate) struct Impatience {
    doing: &'static str,
    /// How long it was tried again, if it was.
    waited: Option<Duration>,
    #[source]
    source: StoreError,
}

fn after(waited: Option<Duration>) -> String {
    waited.map_or_else(String::new, |waited| {
        format!(", and again for {} s", waited.as_secs())
    })
}

impl Impatience {
    /// A call was not made again.
    pub(crate) const fn at_once(doing: &'static str, source: StoreError) -> Self {
        Self {
            doing,
            waited: None,
            source,
        }
    }
}

impl Patience {
    /// Makes a call until it succeeds, fails for good, or has failed for too long. Each call has a
    /// time limit of its own.
    pub(crate) async fn retry<T>(
        self,
        doing: &'static str,
        mut call: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T, Impatience> {
        let start = Instant::now();
        let mut pauses = Pauses::default();
        loop {
            let source = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let waited = (pauses.0 > 0).then(|| start.elapsed());
            if !source.is_transient() || start.elapsed() >= self.0 {
                return Err(Impatience {
                    doing,
                    waited,
                    source,
                });
            }
            // One that lost against another transaction is worth another try at once, and no news.
            if waited.is_none() && !source.is_conflict() {
                tracing::warn!(error = %ErrorChain(&source), "{doing} failed; trying again");
            }
            pauses.pause().await;
        }
    }
}

/// Pauses that grow up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Pauses(u32);

impl Pauses {
    /// The pause after another failure.
    pub(crate) async fn pause(&mut self) {
        self.0 = self.0.saturating_add(1);
        let pause = Backoff::exponential(PAUSE, PAUSE_MAX).after(self.0);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> StoreError {
        StoreError::Unavailable {
            operation: "look",
            source: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_made_again_until_it_succeeds() {
        let mut left = 5;
        let answer = Patience(Duration::from_secs(60))
            .retry("looking", async || {
                left -= 1;
                if left > 0 { Err(away()) } else { Ok("there") }
            })
            .await;
        assert_eq!((answer.unwrap(), left), ("there", 0));
    }

    #[tokio::test]
    async fn an_error_for_good_is_no_reason_to_wait() {
        let mut calls = 0;
        let failed = Patience(Duration::from_secs(60))
            .retry("looking", async || {
                calls += 1;
                Err::<(), _>(StoreError::invalid("it", "is wrong", "mend it"))
            })
            .await;
        assert_eq!(failed.unwrap_err().to_string(), "looking failed");
        assert_eq!(calls, 1);
    }

    #[tokio::test]
    async fn patience_ends() {
        let mut calls = 0;
        let failed = Patience(Duration::from_millis(60))
            .retry("looking", async || {
                calls += 1;
                Err::<(), _>(away())
            })
            .await;
        assert_eq!(
            failed.unwrap_err().to_string(),
            "looking failed, and again for 0 s"
        );
        assert!((2..10).contains(&calls), "{calls}");
    }
}
