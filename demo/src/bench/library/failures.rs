//! A handler that fails now and then, and is run again at once.

use std::{sync::Arc, time::Duration};

use tidings::{ConfigMap, Context, Event, EventId, Handler, HandlerError};

use super::{Library, Result, drain::Drained, runs::Runs};
use crate::{arguments::SchedulerKind, bench::bare::EVENT};

/// One in so many events has a handler that fails at first.
const ONE_IN: u128 = 100;

impl Library {
    /// Drains with a handler that fails once for one in a hundred events.
    pub(in crate::bench) async fn drain_with_failures(&self, requests: u64) -> Result<Drained> {
        let mut turn = self.turn().await?;
        turn.executions = executions;
        let events = turn.fill(requests).await?;
        let runs = Runs::default();
        let kind = SchedulerKind::Concurrent;
        let drained = turn.drain(kind, config(&runs)?, &runs, &events, 1).await?;
        turn.end().await?;
        Ok(drained)
    }
}

/// How often the handler of an event is executed. The last bits of an id are random.
fn executions(event: EventId) -> u32 {
    match event.as_uuid().as_u128() % ONE_IN {
        0 => 2,
        _ => 1,
    }
}

/// Only what goes well is noted.
fn config(runs: &Runs) -> Result<ConfigMap> {
    let runs = runs.clone();
    let handle = move |event: Arc<Event>, context: Context| {
        let fails = context.errors() + 1 < executions(event.id);
        if !fails {
            runs.note(&event, 1);
        }
        async move {
            match fails {
                true => Err(HandlerError::retry_after(Duration::ZERO, "not at first")),
                false => Ok(()),
            }
        }
    };
    let handler = Handler::new("handler-1", handle).on(EVENT);
    Ok(ConfigMap::builder().handler(handler).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::costs::Meter;
    use crate::place::Place;

    #[test]
    fn some_fail_and_most_do_not() {
        let count = |wanted| {
            let all = (0..5000).map(|_| executions(EventId::new()));
            all.filter(|executions| *executions == wanted).count()
        };
        assert!((1..500).contains(&count(2)) && count(1) > 4500);
    }

    #[tokio::test]
    async fn who_fails_without_being_told_to_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of_file(directory.path());
        let meter = Meter::connect(&place).await.unwrap();
        let mut turn = Library::new(place, meter).turn().await.unwrap();
        let events = turn.fill(2000).await.unwrap();
        let (runs, kind) = (Runs::default(), SchedulerKind::Concurrent);
        let drained = turn.drain(kind, config(&runs).unwrap(), &runs, &events, 1);
        let text = drained.await.unwrap_err().to_string();
        assert!(text.contains("completed after 2 executions"), "{text}");
    }
}
