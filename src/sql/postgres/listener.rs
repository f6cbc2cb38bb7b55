//! Hearing of other processes' work by LISTEN.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use sqlx::{
    AssertSqlSafe, Executor as _,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use uuid::Uuid;

use crate::{
    error::{Result, StoreError},
    signal::Signals,
    sql::error::Limits,
    store::Listener,
};

/// After so long without anything heard the connection is tested through. Looks of an idle
/// scheduler test it too, at no cost of a statement, so this comes only if there are none.
const SILENCE: Duration = Duration::from_secs(12);
/// How long the answer to a test may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The channel by which a living listener is tested, while there is one.
pub(super) type TestChannel = Arc<Mutex<Option<String>>>;

/// A connection of its own that listens.
pub(super) struct PostgresListener {
    listener: PgListener,
    /// On which it hears of events.
    raised: String,
    /// On which it hears of requests.
    ready: String,
    /// On which it is notified to see that it still hears.
    test: String,
    shared_test: TestChannel,
    signals: Signals,
    limits: Limits,
}

impl PostgresListener {
    /// Listens on the channels of this prefix; from now on everything is heard.
    pub(super) async fn connect(
        options: PgConnectOptions,
        prefix: &str,
        shared_test: TestChannel,
        signals: Signals,
        limits: Limits,
    ) -> Result<Self> {
        // Of one connection, for this listener alone.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(limits.acquire)
            .connect_lazy_with(options);
        // The server keeps 63 bytes of a name.
        let (_, random) = Uuid::now_v7().as_u64_pair();
        let test = format!("{prefix}test_{random:x}");
        let (raised, ready) = (format!("{prefix}raised"), format!("{prefix}ready"));
        let error = |error| limits.error("begin to listen", error);
        let mut listener = PgListener::connect_with(&pool).await.map_err(error)?;
        // It is the scheduler that makes another one, and polls until then.
        listener.eager_reconnect(false);
        let channels = [&*raised, &*ready, &*test];
        listener.listen_all(channels).await.map_err(error)?;
        *shared_test.lock() = Some(test.clone());
        Ok(Self {
            listener,
            raised,
            ready,
            test,
            shared_test,
            signals,
            limits,
        })
    }

    /// Notifies itself, and waits until it hears of it.
    async fn test_through(&mut self) -> Result<()> {
        let notify = AssertSqlSafe(format!("NOTIFY \"{}\"", self.test));
        let test = async {
            self.listener.execute(sqlx::raw_sql(notify)).await?;
            self.listener.try_recv().await
        };
        let heard = match tokio::time::timeout(ANSWER, test).await {
            Ok(heard) => heard,
            Err(_) => return Err(silent(ANSWER)),
        };
        let heard = heard.map_err(|error| self.limits.error("listen", error))?;
        self.hear(heard)
    }

    fn hear(&self, heard: Option<sqlx::postgres::PgNotification>) -> Result<()> {
        let Some(heard) = heard else {
            return Err(StoreError::Unavailable {
                operation: "listen",
                source: Some("the connection was lost".into()),
            });
        };
        if heard.channel() == self.raised {
            self.signals.raised.raise();
        } else if heard.channel() == self.ready {
            self.signals.ready.raise();
        }
        Ok(())
    }
}

fn silent(limit: Duration) -> StoreError {
    StoreError::TimedOut {
        operation: "test the listener",
        limit,
    }
}

#[async_trait]
impl Listener for PostgresListener {
    async fn listen(&mut self) -> Result<()> {
        loop {
            match tokio::time::timeout(SILENCE, self.listener.try_recv()).await {
                Ok(heard) => {
                    let heard = heard.map_err(|error| self.limits.error("listen", error))?;
                    self.hear(heard)?;
                }
                Err(_) => self.test_through().await?,
            }
        }
    }
}

impl Drop for PostgresListener {
    fn drop(&mut self) {
        let mut shared = self.shared_test.lock();
        // Another one may have taken its place.
        if shared.as_ref() == Some(&self.test) {
            *shared = None;
        }
    }
}
