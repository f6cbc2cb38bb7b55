//! A load for minutes while somebody else's transaction stays open: nothing that is deleted or replaced
//! meanwhile can be cleaned up.

use std::time::Duration;

use futures_util::future::try_join_all;
use tidings::EventId;
use tokio::time::Instant;

use super::{
    Library, Result, application,
    drain::config,
    runs::{Run, Runs, latencies},
    turn::{SHUTDOWN, Turn},
};
use crate::{
    arguments::SchedulerKind,
    bench::{
        sample::Sample,
        shape::single,
        system::{Place, System},
    },
};

/// How long the beginning and the end are that are compared.
const PART: Duration = Duration::from_secs(60);

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
        let runs = Runs::new(u64::MAX);
        let scheduler = turn.scheduler(SchedulerKind::Concurrent, config(&runs, 1)?)?;
        scheduler.start().await?;
        let mut holder = application::connect(&self.place).await?;
        holder.run(hold(&self.place)).await?;
        let begun = EventId::new();
        let raised = turn.raise_at(rate, time).await?;
        let ended = EventId::new();
        runs.reach(raised.len() as u64).await;
        turn.until_settled(&*scheduler).await;
        scheduler.shutdown(SHUTDOWN).await;
        holder.close().await?;
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

/// What opens a transaction with a snapshot, and leaves it open.
fn hold(place: &Place) -> String {
    let begin = match place.system {
        System::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        System::MySql => "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        System::Sqlite => "BEGIN",
    };
    format!("{begin}; SELECT count(*) FROM bench_registrations")
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
