//! Telling other processes of new work by NOTIFY: seldom, and not forgetting anybody.
//!
//! The commits of transactions that notify queue behind one lock of the whole database, so a process
//! notifies a few dozen times a second at most. What was suppressed is made up for by a task of its
//! own. Of a transaction of the application's that was suppressed it is not known when it commits,
//! so the task then goes on for a while.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::{Executor as _, PgPool, SqlStr};
use tokio::{sync::watch, time::Instant};

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
    pool: PgPool,
    notify: SqlStr,
    limit: Duration,
}

/// What is left for the task: a notification, and more of them until a time.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    until: Instant,
    /// How often it was told of what others can see.
    told: u64,
}

impl Notifier {
    /// A notifier that sends `notify` through connections of this pool, each within a limit.
    pub(super) fn new(pool: PgPool, notify: SqlStr, limit: Duration) -> Self {
        Self {
            last: Arc::default(),
            wanted: Mutex::new(None),
            pool,
            notify,
            limit,
        }
    }

    /// Whether a transaction of the application's, in which events are being raised, may notify
    /// itself. If not, it is made up for.
    pub(super) fn admits(&self) -> bool {
        if take_turn(&self.last).is_ok() {
            return true;
        }
        self.want(Instant::now() + UNCOMMITTED_FOR, 0);
        false
    }

    /// There is new work that others can see.
    pub(super) fn tell(&self) {
        self.want(Instant::now(), 1);
    }

    fn want(&self, until: Instant, told: u64) {
        let mut wanted = self.wanted.lock();
        // The task has ended if the runtime has on which it was started.
        if wanted.as_ref().is_some_and(watch::Sender::is_closed) {
            *wanted = None;
        }
        let sender = wanted.get_or_insert_with(|| self.start(until));
        sender.send_modify(|wanted| {
            wanted.until = wanted.until.max(until);
            wanted.told += told;
        });
    }

    /// Starts the task, which ends when the notifier is dropped.
    fn start(&self, until: Instant) -> watch::Sender<Wanted> {
        let (sender, receiver) = watch::channel(Wanted { until, told: 0 });
        let task = Task {
            last: Arc::clone(&self.last),
            pool: self.pool.clone(),
            notify: self.notify.clone(),
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
    pool: PgPool,
    notify: SqlStr,
    limit: Duration,
}

impl Task {
    async fn run(self, mut wanted: watch::Receiver<Wanted>) {
        while wanted.changed().await.is_ok() {
            loop {
                let Wanted { until, told } = *wanted.borrow_and_update();
                while let Err(wait) = take_turn(&self.last) {
                    tokio::time::sleep(wait).await;
                }
                self.send().await;
                if Instant::now() >= until {
                    break;
                }
                // What others can see by now is told sooner.
                let newly_told = wanted.wait_for(|wanted| wanted.told != told);
                if let Ok(Err(_)) = tokio::time::timeout(REPEAT, newly_told).await {
                    return;
                }
            }
        }
    }

    async fn send(&self) {
        let send = self.pool.execute(sqlx::raw_sql(self.notify.clone()));
        // Whoever is not told polls.
        match tokio::time::timeout(self.limit, send).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not notify"),
            Err(_) => tracing::debug!("could not notify in time"),
        }
    }
}

#[cfg(test)]
mod tests {
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
            let notify = SqlStr::from_static("SELECT 1");
            let notifier = Notifier::new(pool, notify, Duration::from_secs(1));
            notifier.tell();
            notifier
        });
        drop(first);
        let second = runtime();
        second.block_on(async { notifier.tell() });
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
