//! A load for minutes while somebody else's transaction stays open: nothing that is deleted or replaced
//! meanwhile can be cleaned up.

use std::time::Duration;

use futures_util::future::try_join_all;
use tidings::EventId;
use tokio::time::Instant;

use super::{
    Library, Result,
    application::{self, Application},
    drain::config,
    runs::{Run, Runs, latencies},
    turn::{SHUTDOWN, Turn},
};
use crate::place::{Place, System};
use crate::{
    arguments::SchedulerKind,
    bench::{patience::patiently, sample::Sample, shape::single},
};

/// How long the beginning and the end are that are compared.
const PART: Duration = Duration::from_secs(60);

/// What the snapshot has none of, and would have if it were a new one.
const COUNT: &str = "SELECT count(*) FROM bench_events";

/// A server may end transactions in which nothing is done for long, and newer ones those that take long.
const NO_LIMITS: &str = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
     ('idle_in_transaction_session_timeout', 'transaction_timeout')";

/// What happened in a minute.
#[derive(Debug)]
pub(in crate::bench) struct Minute {
    /// How many handlers ran in each second.
    pub(in crate::bench) rate: f64,
    /// Milliseconds from the timestamps of events to the starts of their handlers.
    pub(in crate::bench) latencies: Sample,
}

impl Library {
    /// Raises so many events a second for so long while a scheduler works and a transaction is open; answers
    /// what the first and the last minute were like.
    pub(in crate::bench) async fn hold_a_snapshot(
        &self,
        rate: f64,
        time: Duration,
    ) -> Result<[Minute; 2]> {
        let turn = self.turn().await?;
        let runs = Runs::default();
        let scheduler = turn.scheduler(SchedulerKind::Concurrent, config(&runs, 1)?)?;
        scheduler.start().await?;
        let snapshot = Snapshot::take(&self.place, COUNT).await?;
        let begun = EventId::new();
        // As long as events are raised, handlers run.
        let raising = turn.raise_at(rate, time);
        let raised = patiently(turn.patience, raising, || runs.count()).await??;
        let ended = EventId::new();
        turn.until_completed(&runs, &*scheduler, &raised, 1).await?;
        snapshot.end().await?;
        scheduler.shutdown(SHUTDOWN).await;
        let all = runs.all();
        turn.check(&raised, 1, &all).await?;
        turn.end().await?;
        let (begun, ended) = (millis_of(begun), millis_of(ended));
        let part = PART.as_secs_f64() * 1000.0;
        Ok([
            minute(&all, begun, begun + part),
            minute(&all, ended - part, ended),
        ])
    }
}

impl Turn {
    /// Raises so many events a second, one at a time on as many connections as others do, for so long.
    async fn raise_at(&self, rate: f64, time: Duration) -> Result<Vec<EventId>> {
        let connections = single(self.place.system);
        let every = Duration::from_secs_f64(connections as f64 / rate);
        let begun = Instant::now();
        let parts = (0..connections).map(|number| async move {
            let mut connection = application::connect(&self.place).await?;
            let (raiser, mut raised) = (self.raiser(), Vec::new());
            let mut next = begun + every.mul_f64(number as f64 / connections as f64);
            while next < begun + time {
                tokio::time::sleep_until(next).await;
                let event = self.event();
                raised.push(event.id);
                connection.raise(&raiser, event).await?;
                next += every;
            }
            connection.close().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(raised)
        });
        Ok(try_join_all(parts).await?.concat())
    }
}

/// A transaction that stays open, and keeps what was there when it began.
struct Snapshot {
    connection: Box<dyn Application>,
    count: &'static str,
    counted: i64,
}

impl Snapshot {
    /// Takes one, in which a statement counts what others change.
    async fn take(place: &Place, count: &'static str) -> Result<Self> {
        let mut connection = application::connect(place).await?;
        let (no_limits, begin) = match place.system {
            System::Postgres => (NO_LIMITS, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
            System::MySql => (
                "SET SESSION wait_timeout = 31536000",
                "START TRANSACTION WITH CONSISTENT SNAPSHOT",
            ),
            System::Sqlite => ("", "BEGIN"),
        };
        // Each alone: several at once are a transaction of their own.
        connection.run(no_limits.to_owned()).await?;
        connection.run(begin.to_owned()).await?;
        let counted = connection.number(count).await?;
        Ok(Self {
            connection,
            count,
            counted,
        })
    }

    /// Ends it; an error if it was not held until now, as then nothing stood in anybody's way.
    async fn end(self) -> Result<()> {
        let Self {
            mut connection,
            count,
            counted,
        } = self;
        let lost = |error| format!("the snapshot was not held to the end: {error}");
        let found = connection.number(count).await.map_err(lost)?;
        connection.run("COMMIT".to_owned()).await.map_err(lost)?;
        if found != counted {
            return Err(lost(format!("it had {counted} rows, and has {found}").into()).into());
        }
        connection.close().await
    }
}

/// The milliseconds since 1970 that an id begins with.
fn millis_of(id: EventId) -> f64 {
    let millis = (id.as_uuid().as_u128() >> 80) as u64;
    millis as f64
}

/// Of the runs that began between these milliseconds.
fn minute(all: &[Run], from: f64, to: f64) -> Minute {
    let is_in = |run: &&Run| {
        let at = millis_of(run.event) + f64::from(run.latency);
        (from..to).contains(&at)
    };
    let runs: Vec<_> = all.iter().filter(is_in).copied().collect();
    Minute {
        rate: runs.len() as f64 * 1000.0 / (to - from),
        latencies: latencies(&runs),
    }
}

#[cfg(test)]
mod tests {
    use tidings::uuid::Uuid;

    use super::*;

    const TABLES: &str = "SELECT count(*) FROM pg_class";

    /// The server that tests share, with a limit for transactions that do nothing.
    fn impatient_server() -> Place {
        let url = std::env::var("TIDINGS_TEST_POSTGRES_URL").expect("run the tests with tests/run");
        let sign = if url.contains('?') { '&' } else { '?' };
        let limit = "options[idle_in_transaction_session_timeout]=60000";
        Place {
            system: System::Postgres,
            url: format!("{url}{sign}{limit}"),
        }
    }

    #[tokio::test]
    async fn a_server_does_not_end_a_snapshot_because_nothing_is_done_in_it() {
        let place = impatient_server();
        let limit = "SELECT setting::bigint FROM pg_settings \
             WHERE name = 'idle_in_transaction_session_timeout'";
        let mut other = application::connect(&place).await.unwrap();
        assert_eq!(other.number(limit).await.unwrap(), 60_000);
        let mut snapshot = Snapshot::take(&place, TABLES).await.unwrap();
        assert_eq!(snapshot.connection.number(limit).await.unwrap(), 0);
        snapshot.end().await.unwrap();
    }

    #[tokio::test]
    async fn a_snapshot_that_was_lost_is_an_error() {
        let place = impatient_server();
        let mut snapshot = Snapshot::take(&place, TABLES).await.unwrap();
        let own = "SELECT pg_backend_pid()::bigint";
        let process = snapshot.connection.number(own).await.unwrap();
        let mut other = application::connect(&place).await.unwrap();
        let end = format!("SELECT pg_terminate_backend({process}, 10000)");
        other.run(end).await.unwrap();
        let text = snapshot.end().await.unwrap_err().to_string();
        assert!(text.contains("not held to the end"), "{text}");
    }

    #[tokio::test]
    async fn a_snapshot_that_is_another_one_by_now_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of_file(directory.path());
        let mut other = application::connect(&place).await.unwrap();
        other
            .run("CREATE TABLE notes (id)".to_owned())
            .await
            .unwrap();
        let count = "SELECT count(*) FROM notes";
        for (is_lost, rows) in [(false, 0), (true, 1)] {
            let mut snapshot = Snapshot::take(&place, count).await.unwrap();
            assert_eq!(snapshot.counted, rows);
            other
                .run("INSERT INTO notes VALUES (1)".to_owned())
                .await
                .unwrap();
            if is_lost {
                let connection = &mut snapshot.connection;
                connection.run("COMMIT; BEGIN".to_owned()).await.unwrap();
            }
            assert_eq!(snapshot.end().await.is_err(), is_lost);
        }
    }

    #[test]
    fn a_run_belongs_to_the_minute_in_which_it_began_and_not_to_that_of_its_event() {
        let run = |millis: u128, latency| Run {
            event: EventId::from(Uuid::from_u128(millis << 80)),
            handler: 1,
            latency,
        };
        let all = [
            run(900, 50.0),
            run(990, 20.0),
            run(1000, 5.0),
            run(1990, 50.0),
        ];
        let minute = minute(&all, 1000.0, 2000.0);
        assert_eq!(minute.rate, 2.0);
        assert_eq!(minute.latencies.range(), (5.0, 20.0));
    }
}
