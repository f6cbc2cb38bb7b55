//! The handlers of the workers. Each writes into the ledger when it begins and when it ends.

use std::{sync::Arc, time::Duration};

use tidings::{
    Backoff, ConfigError, ConfigMap, Context, Event, Handler, HandlerError, HandlerResult,
    sqlx::{self, MySqlConnection, PgConnection},
};

use super::ledger::{How, What, Writer};
use crate::place::System;

/// What an order raises, in the transaction that stores it.
pub(super) const ORDERED: &str = "attack.ordered";
/// What the handler [`CHAINS`] raises for each of them.
pub(super) const FOLLOWED: &str = "attack.followed";

/// An ordinary handler.
pub(super) const NOTES: &str = "notes";
/// Raises one event for each that it handles.
pub(super) const CHAINS: &str = "chains";
/// Handles what [`CHAINS`] has raised.
pub(super) const FOLLOWS: &str = "follows";
/// Fails for some events, for a few of them always.
pub(super) const FAILS: &str = "fails";
/// Takes longer than a lease for some events.
pub(super) const LINGERS: &str = "lingers";
/// Writes a row in the transaction of its settlement.
pub(super) const BOOKS: &str = "books";
/// The same in transactions that several share.
pub(super) const SHARES: &str = "shares";

/// Who handles [`ORDERED`].
pub(super) const OF_ORDERS: [&str; 6] = [NOTES, CHAINS, FAILS, LINGERS, BOOKS, SHARES];
/// Whose writes are in the database.
pub(super) const TRANSACTIONAL: [&str; 2] = [BOOKS, SHARES];

/// Errors that a request of [`FAILS`] may have.
pub(super) const MAX_ERRORS: u32 = 3;

/// How an event shall be handled, which its id decides: nobody has to remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// How often [`FAILS`] fails.
    pub(super) failures: u32,
    pub(super) lingers: bool,
}

impl Fate {
    pub(super) fn of(event: sqlx::types::Uuid) -> Self {
        // The last bytes are random.
        let [.., other, dice] = event.into_bytes();
        let failures = match dice {
            0..=4 => MAX_ERRORS,
            5..=20 => 2,
            21..=60 => 1,
            _ => 0,
        };
        let lingers = other < 6;
        Self { failures, lingers }
    }
}

/// What handlers have.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) ledger: Arc<Writer>,
    /// Longer than a lease.
    pub(super) long: Duration,
}

/// A run in the ledger. It ends there however it ends here, unless its process does.
struct Run {
    ledger: Arc<Writer>,
    number: u64,
    how: How,
}

impl Run {
    fn begin(state: &State, event: &Event, context: &Context) -> Result<Self, HandlerError> {
        let began = What::Began {
            handler: context.handler().to_owned(),
            event: event.id.as_uuid(),
            request: context.request_id().as_uuid(),
            attempt: context.attempt(),
        };
        Ok(Self {
            number: state.ledger.began(began)?,
            ledger: Arc::clone(&state.ledger),
            how: How::BrokenOff,
        })
    }

    fn end(mut self, how: How) {
        self.how = how;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Without this line the run counts as one whose process was lost.
        drop(
            self.ledger
                .write(self.number, What::Ended { how: self.how }),
        );
    }
}

async fn notes(state: State, event: Arc<Event>, context: Context) -> HandlerResult {
    Run::begin(&state, &event, &context)?.end(How::Completed);
    Ok(())
}

async fn chains(state: State, event: Arc<Event>, context: Context) -> HandlerResult {
    let run = Run::begin(&state, &event, &context)?;
    context.raise(Event::new(FOLLOWED, &())?);
    run.end(How::Completed);
    Ok(())
}

async fn fails(state: State, event: Arc<Event>, context: Context) -> HandlerResult {
    let run = Run::begin(&state, &event, &context)?;
    if context.errors() < Fate::of(event.id.as_uuid()).failures {
        run.end(How::Failed);
        return Err(HandlerError::new("as it is meant to"));
    }
    run.end(How::Completed);
    Ok(())
}

async fn lingers(state: State, event: Arc<Event>, context: Context) -> HandlerResult {
    let run = Run::begin(&state, &event, &context)?;
    if Fate::of(event.id.as_uuid()).lingers {
        tokio::select! {
            () = tokio::time::sleep(state.long) => {}
            _ = context.canceled() => return Err(HandlerError::new("its context was canceled")),
        }
    }
    run.end(How::Completed);
    Ok(())
}

macro_rules! books {
    ($name:ident, $connection:ty, $insert:literal) => {
        async fn $name(
            state: State,
            event: Arc<Event>,
            context: Context,
            connection: &mut $connection,
        ) -> HandlerResult {
            let run = Run::begin(&state, &event, &context)?;
            let inserted = sqlx::query($insert)
                .bind(event.id.as_uuid())
                .bind(context.handler())
                .bind(i64::try_from(context.attempt())?)
                .execute(connection)
                .await;
            if let Err(error) = inserted {
                run.end(How::Refused);
                return Err(error.into());
            }
            run.end(How::Completed);
            Ok(())
        }
    };
}

books!(
    books_postgres,
    PgConnection,
    "INSERT INTO attack_effects (event_id, handler, attempt) VALUES ($1, $2, $3)"
);
books!(
    books_mysql,
    MySqlConnection,
    "INSERT INTO attack_effects (event_id, handler, attempt) VALUES (?, ?, ?)"
);

/// All handlers.
pub(super) fn config(system: System, state: &State) -> Result<ConfigMap, ConfigError> {
    let soon = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1));
    let books = |name| match system {
        System::MySql => Handler::transactional_with_state(name, state.clone(), books_mysql),
        _ => Handler::transactional_with_state(name, state.clone(), books_postgres),
    };
    let handlers = [
        Handler::with_state(NOTES, state.clone(), notes).on(ORDERED),
        Handler::with_state(CHAINS, state.clone(), chains).on(ORDERED),
        Handler::with_state(FOLLOWS, state.clone(), notes).on(FOLLOWED),
        Handler::with_state(FAILS, state.clone(), fails)
            .on(ORDERED)
            .max_errors(MAX_ERRORS),
        Handler::with_state(LINGERS, state.clone(), lingers).on(ORDERED),
        books(BOOKS).on(ORDERED),
        books(SHARES).shared_transactions().on(ORDERED),
    ];
    let mut config = ConfigMap::builder();
    for handler in handlers {
        // Whoever loses its database while it runs counts an error that nobody wanted: enough for all.
        let errors = if handler.name() == FAILS {
            MAX_ERRORS
        } else {
            1000
        };
        // Whose connection is dead has to hear of it before the attack is over.
        let timeout = state.long * 2;
        config = config.handler(handler.backoff(soon).max_errors(errors).timeout(timeout));
    }
    config.build()
}

#[cfg(test)]
mod tests {
    use tidings::EventId;

    use super::*;

    #[test]
    fn some_of_many_events_have_each_fate() {
        let fates: Vec<_> = (0..2000)
            .map(|_| Fate::of(EventId::new().as_uuid()))
            .collect();
        for failures in 0..=MAX_ERRORS {
            assert!(fates.iter().any(|fate| fate.failures == failures));
        }
        assert!(fates.iter().any(|fate| fate.lingers));
        assert!(fates.iter().filter(|fate| fate.lingers).count() < 200);
    }
}
