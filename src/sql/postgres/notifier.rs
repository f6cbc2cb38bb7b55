//! Telling other processes of new work by NOTIFY: seldom, and not forgetting anybody.
//!
//! The commits of transactions that notify queue behind one lock of the whole database, so a process
//! notifies a few dozen times a second at most. What was suppressed is made up for by a task of its
//! own. Of a transaction of the application's that was suppressed it is not known when it commits,
//! so the task then goes on for a while.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::{Executor as _, Postgres, SqlStr};
use tokio::{sync::watch, time::Instant};

use crate::sql::warm_pool::WarmPool;

/// The least time between two notifications of a process: 25 a second.
const GAP: Duration = Duration::from_millis(40);
/// How long after a raise in a transaction of the application's its commit is made known within
/// [`REPEAT`].
const UNCOMMITTED_FOR: Duration = Duration::from_millis(1250);
/// How often it is notified while such commits are expected.
const REPEAT: Duration = Duration::from_millis(250);

/// Notifies, within limits.
pub(super) struct Notifier {
    /// When this process last notified.
    last: Arc<Mutex<Option<Instant>>>,
    /// What is left for the task.
    wanted: Mutex<Option<watch::Sender<Wanted>>>,
    pool: WarmPool<Postgres>,
    texts: Texts,
    limit: Duration,
}

/// What notifies of which work: those who hear of events have nothing to claim, and the other way
/// round.
#[derive(Clone)]
pub(super) struct Texts {
    pub(super) raised: SqlStr,
    pub(super) ready: SqlStr,
    pub(super) both: SqlStr,
}

/// What is left for the task: a notification, and more of them, of events, until a time.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    until: Instant,
    /// How often it was told of events and of requests that others can see.
    raised: u64,
    ready: u64,
}

impl Notifier {
    /// A notifier that sends these texts through connections of this pool, each within a limit.
    pub(super) fn new(pool: WarmPool<Postgres>, texts: Texts, limit: Duration) -> Self {
        Self {
            last: Arc::default(),
            wanted: Mutex::new(None),
            pool,
            texts,
            limit,
        }
    }

    /// Whether a transaction of the application's, in which events are being raised, may notify
    /// itself. If not, it is made up for.
    pub(super) fn admits(&self) -> bool {
        if take_turn(&self.last).is_ok() {
            return true;
        }
        self.want(Some(Instant::now() + UNCOMMITTED_FOR), false, false);
        false
    }

    /// There are events to fan out, or requests to claim, that others can see.
    pub(super) fn tell(&self, raised: bool, ready: bool) {
        if raised || ready {
            self.want(None, raised, ready);
        }
    }

    fn want(&self, until: Option<Instant>, raised: bool, ready: bool) {
        let mut wanted = self.wanted.lock();
        // The task has ended if the runtime has on which it was started.
        if wanted.as_ref().is_some_and(watch::Sender::is_closed) {
            *wanted = None;
        }
        let sender = wanted.get_or_insert_with(|| self.start());
        sender.send_if_modified(|wanted| {
            // Until then the task looks again by itself: thousands of raises a second need not wake it.
            let rests = wanted.until <= Instant::now();
            wanted.until = until.map_or(wanted.until, |until| wanted.until.max(until));
            wanted.raised += u64::from(raised);
            wanted.ready += u64::from(ready);
            rests || raised || ready
        });
    }

    /// Starts the task, which ends when the notifier is dropped.
    fn start(&self) -> watch::Sender<Wanted> {
        let (sender, receiver) = watch::channel(Wanted {
            until: Instant::now(),
            raised: 0,
            ready: 0,
        });
        let task = Task {
            last: Arc::clone(&self.last),
            pool: self.pool.clone(),
            texts: self.texts.clone(),
            limit: self.limit,
        };
        tokio::spawn(task.run(receiver));
        sender
    }
}

/// Takes the turn to notify, or tells how long to wait for it.
fn take_turn(last: &Mutex<Option<Instant>>) -> Result<(), Duration> {
    let now = Instant::now();
    let mut last = last.lock();
    let since = last.map_or(GAP, |last| now.saturating_duration_since(last));
    if since < GAP {
        return Err(GAP.saturating_sub(since));
    }
    *last = Some(now);
    Ok(())
}

/// What makes up for suppressed notifications.
struct Task {
    last: Arc<Mutex<Option<Instant>>>,
    pool: WarmPool<Postgres>,
    texts: Texts,
    limit: Duration,
}

impl Task {
    async fn run(self, mut wanted: watch::Receiver<Wanted>) {
        // Of so much others have been told.
        let (mut raised, mut ready) = (0, 0);
        let mut told_of_events_at = Instant::now();
        while wanted.changed().await.is_ok() {
            loop {
                while let Err(wait) = take_turn(&self.last) {
                    tokio::time::sleep(wait).await;
                }
                let now = *wanted.borrow_and_update();
                // Others are told of events, too, while there may be some that commit about now.
                let has_events = now.raised != raised || now.until > told_of_events_at;
                let text = match (has_events, now.ready != ready) {
                    (true, true) => &self.texts.both,
                    (false, true) => &self.texts.ready,
                    (_, false) => &self.texts.raised,
                };
                if has_events || now.ready == ready {
                    told_of_events_at = Instant::now();
                }
                self.send(text).await;
                (raised, ready) = (now.raised, now.ready);
                if wanted.borrow().until <= Instant::now() {
                    break;
                }
                // What others can see by now is told sooner.
                let is_new = |wanted: &Wanted| wanted.raised != raised || wanted.ready != ready;
                let newly_told = wanted.wait_for(is_new);
                if let Ok(Err(_)) = tokio::time::timeout(REPEAT, newly_told).await {
                    return;
                }
            }
        }
    }

    async fn send(&self, text: &SqlStr) {
        let send = async {
            let mut connection = self.pool.acquire().await?;
            connection.spoil(true);
            let text = sqlx::raw_sql(text.clone());
            connection.get().execute(text).await?;
            connection.spoil(false);
            Ok::<_, sqlx::Error>(())
        };
        // Whoever is not told polls.
        match tokio::time::timeout(self.limit, send).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not notify"),
            Err(_) => tracing::debug!("could not notify in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;

    #[test]
    fn whoever_tells_on_another_runtime_is_heard_all_the_same() {
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap()
        };
        let first = runtime();
        let notifier = first.block_on(async {
            let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
            let pool = WarmPool::new(pool, true);
            let texts = Texts {
                raised: SqlStr::from_static("SELECT 1"),
                ready: SqlStr::from_static("SELECT 1"),
                both: SqlStr::from_static("SELECT 1"),
            };
            let notifier = Notifier::new(pool, texts, Duration::from_secs(1));
            notifier.tell(true, false);
            notifier
        });
        drop(first);
        let second = runtime();
        second.block_on(async { notifier.tell(true, false) });
        let wanted = notifier.wanted.lock();
        assert!(!wanted.as_ref().unwrap().is_closed(), "nobody notifies");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_notifies_a_few_dozen_times_a_second_at_most() {
        let last = Mutex::new(None);
        let end = Instant::now() + Duration::from_secs(1);
        let mut turns = 0;
        while Instant::now() < end {
            turns += u32::from(take_turn(&last).is_ok());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!((20..=26).contains(&turns), "{turns}");
    }
}
