//! Raising events, through the store's connections and through those that the application holds.

use std::{borrow::Borrow, sync::Arc};

use async_trait::async_trait;

use super::{
    event_repository::SqlEvents,
    link::{Link, Raw},
    shared::{Purpose, Shared},
};
use crate::{
    error::{Result, StoreError},
    model::Event,
    raiser::{RaiseConnection, Raising},
    store::{EventRepository as _, Raised},
};

/// What a SQL store puts into its [`Raiser`](crate::Raiser).
pub(super) struct Backend(pub(super) Arc<Shared>);

/// Stores events in a call of the store.
pub(super) async fn raise(link: &mut Link<'_>, events: &[Event]) -> Result<Vec<Raised>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    events.iter().try_for_each(Event::check_storable)?;
    let raised = link.shared.dialect.raise(link, events).await?;
    link.effects.raised |= raised.contains(&Raised::New);
    Ok(raised)
}

/// Stores events through a connection of the application, of whose commit the store does not hear;
/// where that cannot be done, in a transaction of the store's own.
async fn raise_foreign(raw: Raw<'_>, system: &str, raising: &Raising<'_>) -> Result<Vec<Raised>> {
    let Some(Backend(shared)) = raising.backend::<Backend>() else {
        return Err(wrong_raiser(system));
    };
    if shared.dialect.system() != system {
        return Err(wrong_raiser(system));
    }
    let mut link = Link::foreign(raw, shared, "raise");
    let dialect = &shared.dialect;
    let needs = dialect.foreign_raise_needs(raising.events());
    if dialect.raises_elsewhere(&mut link, needs).await? {
        let mut connection = shared.acquire(Purpose::Session).await?;
        return SqlEvents(&mut connection).raise(raising.events()).await;
    }
    let begun = dialect.begin_foreign(&mut link, needs).await;
    let commits = matches!(begun, Ok(true));
    let raised = match begun {
        Ok(_) => raise(&mut link, raising.events()).await,
        Err(error) => Err(error),
    };
    let effects = link.effects;
    let raised = link.close(raised).await?;
    if commits {
        shared.tell(effects);
    } else if raised.contains(&Raised::New) {
        shared.signals.uncommitted.raise();
    }
    Ok(raised)
}

/// Events in parts whose data fits into one statement.
pub(super) fn chunks<E: Borrow<Event>>(events: &[E], max_len: usize) -> impl Iterator<Item = &[E]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let mut len = 0;
        let fits = |event: &&E| {
            let event: &Event = (*event).borrow();
            len += event.data.as_str().len();
            len <= max_len
        };
        // At least one, however large it is.
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (chunk, others) = rest.split_at_checked(count)?;
        rest = others;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The headers of an event as a JSON text, if it has any.
pub(super) fn headers(event: &Event) -> Option<String> {
    if event.headers.is_empty() {
        return None;
    }
    serde_json::to_string(&event.headers).ok()
}

fn wrong_raiser(system: &str) -> StoreError {
    StoreError::invalid(
        format!("a raise through a connection of {system}"),
        "was asked of the raiser of another kind of store",
        "use the raiser that the store of this database gives",
    )
}

/// Lets events be raised in a kind of connection, however the application holds it.
macro_rules! raise_connection {
    ($system:literal, $raw:ident, $database:ty, $connection:ty) => {
        #[async_trait]
        impl RaiseConnection for $connection {
            async fn store_events(&mut self, raising: &Raising<'_>) -> Result<Vec<Raised>> {
                raise_foreign(Raw::$raw(self), $system, raising).await
            }
        }

        #[async_trait]
        impl RaiseConnection for sqlx::Transaction<'_, $database> {
            async fn store_events(&mut self, raising: &Raising<'_>) -> Result<Vec<Raised>> {
                raise_foreign(Raw::$raw(&mut **self), $system, raising).await
            }
        }

        #[async_trait]
        impl RaiseConnection for sqlx::pool::PoolConnection<$database> {
            async fn store_events(&mut self, raising: &Raising<'_>) -> Result<Vec<Raised>> {
                raise_foreign(Raw::$raw(&mut **self), $system, raising).await
            }
        }
    };
}

#[cfg(feature = "postgres")]
raise_connection!("postgresql", Postgres, sqlx::Postgres, sqlx::PgConnection);
#[cfg(feature = "mysql")]
raise_connection!("mysql", MySql, sqlx::MySql, sqlx::MySqlConnection);
#[cfg(feature = "_sqlite")]
raise_connection!("sqlite", Sqlite, sqlx::Sqlite, sqlx::SqliteConnection);
