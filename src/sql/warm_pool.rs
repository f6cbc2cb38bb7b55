//! A pool whose connections are handed on while they are in use.
//!
//! A connection that comes back to its pool is tested there, which is a round trip for each call, and
//! the next call gets the one that has rested longest, whose process on the server has the coldest caches.
//! So one that comes back is kept for a moment, and the next call gets the one that its task used last:
//! a loop makes the same call again and again, and the server has planned it for that connection. A
//! task that has none gets the one that was used last of all.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{Connection as _, Database, Pool, pool::PoolConnection};
use tokio::{task, time::Instant};

use super::{pool::FRESH, reach::InUse};

/// After so long a connection goes back to its pool all the same, which looks to its age.
const LONGEST: Duration = Duration::from_secs(60);
/// How long a connection that goes back may take to answer.
const PING_LIMIT: Duration = Duration::from_secs(2);

/// A pool. Clones share everything.
pub(super) struct WarmPool<DB: Database>(Arc<Inner<DB>>);

struct Inner<DB: Database> {
    pool: Pool<DB>,
    /// Whether connections are kept: not those of an application, which wants them, too.
    keeps: bool,
    /// The one that was used last is the last.
    kept: Mutex<Vec<Kept<DB>>>,
    /// How many wait for a connection of the pool.
    waiting: AtomicUsize,
    /// Whether a task gives back what is not used any more.
    is_watched: AtomicBool,
}

struct Kept<DB: Database> {
    connection: PoolConnection<DB>,
    /// When it left the pool.
    since: Instant,
    /// When it was last used.
    used_at: Instant,
    /// By which task.
    used_by: Option<task::Id>,
}

impl<DB: Database> Kept<DB> {
    /// Gives it back to the pool, or closes it if nothing answers: the pool would ask as well, and wait for
    /// as long as a network that loses packets lets it, with a place taken meanwhile.
    async fn give_back(mut self) {
        let answer = tokio::time::timeout(PING_LIMIT, self.connection.ping()).await;
        if !matches!(answer, Ok(Ok(()))) {
            self.connection.close_on_drop();
        }
    }
}

/// A connection; it is kept for others when it is dropped.
pub(super) struct Warm<DB: Database> {
    /// Until it is dropped.
    connection: Option<PoolConnection<DB>>,
    since: Instant,
    is_spoiled: bool,
    home: Arc<Inner<DB>>,
}

impl<DB: Database> Clone for WarmPool<DB> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<DB: Database> WarmPool<DB> {
    /// A pool that is the store's own, or the application's.
    pub(super) fn new(pool: Pool<DB>, is_own: bool) -> Self {
        Self(Arc::new(Inner {
            pool,
            keeps: is_own,
            kept: Mutex::new(Vec::new()),
            waiting: AtomicUsize::new(0),
            is_watched: AtomicBool::new(false),
        }))
    }

    pub(super) fn connect_options(&self) -> Arc<<DB::Connection as sqlx::Connection>::Options> {
        self.0.pool.connect_options()
    }

    pub(super) fn in_use(&self) -> InUse {
        InUse::of(&self.0.pool)
    }

    /// A connection. Cancellation safe.
    pub(super) async fn acquire(&self) -> sqlx::Result<Warm<DB>> {
        if let Some(kept) = self.take() {
            return Ok(kept);
        }
        // Whoever brings one back from now on gives it to the pool.
        let _waiting = Waiting::begin(&self.0.waiting);
        if let Some(kept) = self.take() {
            return Ok(kept);
        }
        // What has rested too long may be all that there is, and need not answer.
        if !self.0.kept.lock().is_empty() {
            let inner = Arc::clone(&self.0);
            tokio::spawn(async move { inner.give_back().await });
        }
        let connection = self.0.pool.acquire().await?;
        Ok(self.warm(connection, Instant::now()))
    }

    fn take(&self) -> Option<Warm<DB>> {
        let task = task::try_id();
        let mut all = self.0.kept.lock();
        let is_fresh = |kept: &Kept<DB>| kept.used_at.elapsed() < FRESH;
        let is_own = |kept: &Kept<DB>| kept.used_by == task && is_fresh(kept);
        let kept = match all.iter().rposition(is_own) {
            Some(own) => all.remove(own),
            // Those before it have rested longer.
            None => all.pop_if(|last| is_fresh(last))?,
        };
        drop(all);
        Some(self.warm(kept.connection, kept.since))
    }

    fn warm(&self, connection: PoolConnection<DB>, since: Instant) -> Warm<DB> {
        Warm {
            connection: Some(connection),
            since,
            is_spoiled: false,
            home: Arc::clone(&self.0),
        }
    }

    pub(super) async fn close(&self) {
        // Nothing is kept any more once it is marked as closed.
        let closing = self.0.pool.close();
        let kept = std::mem::take(&mut *self.0.kept.lock());
        drop(kept);
        closing.await;
    }
}

/// Somebody waits for a connection of the pool.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<DB: Database> Drop for Inner<DB> {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err() {
            for kept in self.kept.get_mut().drain(..) {
                drop(kept.connection.detach());
            }
        }
    }
}

impl<DB: Database> Inner<DB> {
    fn keep(self: &Arc<Self>, kept: Kept<DB>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // It cannot go back to its pool either, which takes a task.
            drop(kept.connection.detach());
            return;
        };
        let mut all = self.kept.lock();
        all.push(kept);
        let is_wanted = self.waiting.load(Ordering::SeqCst) > 0 || self.pool.is_closed();
        let given_back = if is_wanted { all.pop() } else { None };
        drop(all);
        drop(given_back);
        if !self.is_watched.swap(true, Ordering::SeqCst) {
            let inner = Arc::downgrade(self);
            runtime.spawn(watch(Watch {
                inner,
                has_ended: false,
            }));
        }
    }

    /// Gives back what was not used lately; answers whether something is still kept.
    async fn give_back(&self) -> bool {
        let given_back: Vec<_> = {
            let mut all = self.kept.lock();
            let is_old = |kept: &Kept<DB>| kept.used_at.elapsed() >= FRESH;
            let old = all.iter().take_while(|kept| is_old(kept)).count();
            all.drain(..old).collect()
        };
        futures_util::future::join_all(given_back.into_iter().map(Kept::give_back)).await;
        !self.kept.lock().is_empty()
    }
}

/// The task that gives connections back; whoever keeps one starts another when it has ended, be it with
/// its runtime.
struct Watch<DB: Database> {
    inner: Weak<Inner<DB>>,
    has_ended: bool,
}

impl<DB: Database> Drop for Watch<DB> {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(inner) = self.inner.upgrade()
        {
            inner.is_watched.store(false, Ordering::SeqCst);
        }
    }
}

async fn watch<DB: Database>(mut watch: Watch<DB>) {
    loop {
        tokio::time::sleep(FRESH).await;
        let Some(inner) = watch.inner.upgrade() else {
            return;
        };
        if !inner.give_back().await {
            inner.is_watched.store(false, Ordering::SeqCst);
            // One that was kept in between found that it is watched.
            let is_left_alone = inner.kept.lock().is_empty();
            if is_left_alone || inner.is_watched.swap(true, Ordering::SeqCst) {
                watch.has_ended = true;
                return;
            }
        }
    }
}

impl<DB: Database> Warm<DB> {
    #[expect(
        clippy::expect_used,
        reason = "it is there until this is dropped, or closed, which takes it"
    )]
    pub(super) fn get(&mut self) -> &mut DB::Connection {
        self.connection.as_mut().expect("a connection")
    }

    /// Whether it is closed when it is dropped, as one is in the middle of a reply.
    pub(super) const fn spoil(&mut self, is_spoiled: bool) {
        self.is_spoiled = is_spoiled;
    }

    pub(super) async fn close(mut self) -> sqlx::Result<()> {
        match self.connection.take() {
            Some(connection) => connection.close().await,
            None => Ok(()),
        }
    }
}

impl<DB: Database> Drop for Warm<DB> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if self.is_spoiled {
            connection.close_on_drop();
            return;
        }
        let is_kept = self.home.keeps && self.since.elapsed() < LONGEST;
        if is_kept {
            self.home.keep(Kept {
                connection,
                since: self.since,
                used_at: Instant::now(),
                used_by: task::try_id(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Executor as _, Postgres, Row as _, postgres::PgPoolOptions};
    use tokio::{
        io::copy_bidirectional,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::signal::Signal;

    fn pool(most: u32) -> (WarmPool<Postgres>, sqlx::PgPool) {
        let url = std::env::var("TIDINGS_TEST_POSTGRES_URL").unwrap_or_else(|_| {
            panic!("TIDINGS_TEST_POSTGRES_URL is not set; run the tests with tests/run")
        });
        let options = PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(Duration::from_secs(10));
        let pool = options.connect_lazy(&url).unwrap();
        (WarmPool::new(pool.clone(), true), pool)
    }

    /// The process of the server behind a connection.
    async fn process(connection: &mut Warm<Postgres>) -> i32 {
        let row = connection.get().fetch_one("SELECT pg_backend_pid()").await;
        row.unwrap().get(0)
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_comes_next_and_not_the_coldest() {
        let (warm, _pool) = pool(3);
        let mut first = warm.acquire().await.unwrap();
        let mut second = warm.acquire().await.unwrap();
        let (_, last) = (process(&mut first).await, process(&mut second).await);
        drop(first);
        drop(second);
        for _ in 0..5 {
            let mut next = warm.acquire().await.unwrap();
            assert_eq!(process(&mut next).await, last);
        }
    }

    #[tokio::test]
    async fn each_task_gets_the_connection_back_that_it_used_and_not_the_last_one() {
        let (warm, _pool) = pool(2);
        let turns = Arc::new(tokio::sync::Barrier::new(2));
        let tasks = [0, 1].map(|number| {
            let (warm, turns) = (warm.clone(), Arc::clone(&turns));
            tokio::spawn(async move {
                let mut held = warm.acquire().await.unwrap();
                let own = process(&mut held).await;
                turns.wait().await;
                // Whoever gives back first finds the other one's as the last.
                if number == 1 {
                    turns.wait().await;
                }
                drop(held);
                if number == 0 {
                    turns.wait().await;
                }
                turns.wait().await;
                if number == 1 {
                    turns.wait().await;
                }
                let mut again = warm.acquire().await.unwrap();
                assert_eq!(process(&mut again).await, own);
                if number == 0 {
                    turns.wait().await;
                }
                turns.wait().await;
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_the_pool_gets_what_comes_back() {
        let (warm, _pool) = pool(1);
        watch_nothing(&warm);
        for _ in 0..20 {
            let only = warm.acquire().await.unwrap();
            let mut waits = std::pin::pin!(warm.acquire());
            assert!(futures_util::poll!(&mut waits).is_pending());
            drop(only);
            // It would be in vain, and not before ten seconds.
            let waited = tokio::time::timeout(Duration::from_secs(5), waits).await;
            drop(waited.expect("it is kept from who waits for it").unwrap());
        }
    }

    #[tokio::test]
    async fn what_nobody_uses_goes_back_to_the_pool() {
        let (warm, pool) = pool(4);
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(warm.acquire().await.unwrap());
        }
        drop(all);
        assert_eq!(pool.num_idle(), 0);
        let is_back = async {
            while pool.num_idle() < 4 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(10 * FRESH, is_back).await.unwrap();
        // And again, by another watch.
        drop(warm.acquire().await.unwrap());
        let is_back = async {
            while pool.num_idle() < 4 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(10 * FRESH, is_back).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_in_the_middle_of_a_reply_is_closed() {
        let (warm, _pool) = pool(1);
        let mut connection = warm.acquire().await.unwrap();
        let spoiled = process(&mut connection).await;
        connection.spoil(true);
        drop(connection);
        let mut next = warm.acquire().await.unwrap();
        assert_ne!(process(&mut next).await, spoiled);
    }

    #[tokio::test]
    async fn a_pool_that_closes_waits_for_no_connection_that_is_kept() {
        let (warm, pool) = pool(2);
        watch_nothing(&warm);
        let (first, second) = (warm.acquire().await.unwrap(), warm.acquire().await.unwrap());
        drop(first);
        let mut closing = std::pin::pin!(warm.close());
        assert!(futures_util::poll!(&mut closing).is_pending());
        drop(second);
        let closed = tokio::time::timeout(Duration::from_secs(5), closing).await;
        closed.expect("it waits for what it keeps");
        assert_eq!(pool.size(), 0);
        assert!(warm.acquire().await.is_err());
    }

    #[tokio::test]
    async fn the_connections_of_an_application_are_not_kept_from_it() {
        let (_, pool) = pool(1);
        let warm = WarmPool::new(pool.clone(), false);
        drop(warm.acquire().await.unwrap());
        let its_own = tokio::time::timeout(Duration::from_secs(5), pool.acquire()).await;
        its_own.expect("it is kept").unwrap();
    }

    /// No task gives back what is kept, which would hide that nobody else does.
    fn watch_nothing(warm: &WarmPool<Postgres>) {
        warm.0.is_watched.store(true, Ordering::SeqCst);
    }

    /// Lets a pool rest for so long that what is kept is not taken any more, with nobody to give it back.
    async fn rest(warm: &WarmPool<Postgres>) {
        watch_nothing(warm);
        drop(warm.acquire().await.unwrap());
        tokio::time::sleep(FRESH + Duration::from_millis(50)).await;
        assert_eq!(warm.0.kept.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_has_rested_is_not_waited_for() {
        let (warm, _pool) = pool(1);
        rest(&warm).await;
        let acquired = tokio::time::timeout(Duration::from_secs(5), warm.acquire()).await;
        acquired.expect("all there is has rested too long").unwrap();
    }

    /// A way to the server, on which nothing comes through any more once the signal was raised; new
    /// connections do.
    async fn way_to(upstream: String) -> (u16, Signal) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lost = Signal::new();
        let loses = lost.clone();
        tokio::spawn(async move {
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                let mut there = TcpStream::connect(&upstream).await.unwrap();
                let (loses, seen) = (loses.clone(), loses.seen());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut here, &mut there) => {}
                        () = loses.changed_since(seen) => std::future::pending().await,
                    }
                });
            }
        });
        (port, lost)
    }

    #[tokio::test]
    async fn a_network_that_loses_packets_takes_the_places_of_the_pool_for_a_moment_only() {
        let (_, direct) = pool(1);
        let options = (*direct.connect_options()).clone();
        let upstream = format!("{}:{}", options.get_host(), options.get_port());
        let (port, lost) = way_to(upstream).await;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PING_LIMIT + Duration::from_secs(5))
            .connect_lazy_with(options.host("127.0.0.1").port(port));
        let warm = WarmPool::new(pool, true);
        let before = process(&mut warm.acquire().await.unwrap()).await;
        lost.raise();
        tokio::time::sleep(FRESH + Duration::from_millis(50)).await;
        let after = process(&mut warm.acquire().await.unwrap()).await;
        assert_ne!(before, after);
    }

    #[test]
    fn a_store_can_be_dropped_where_there_is_no_runtime() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (warm, _pool) = runtime.block_on(async {
            let (warm, pool) = pool(1);
            rest(&warm).await;
            (warm, pool)
        });
        drop(runtime);
        drop(warm);
    }
}
