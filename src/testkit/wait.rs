//! Waiting until the handlers of one event have ended.

use std::time::Duration;

use super::{Unfinished, watch::Watch};
use crate::{
    error::{Result, StoreError},
    id::EventId,
    model::HandlerRequest,
    store::{StoredEvent, Storer},
};

/// Waits until an event is processed and all its handler requests have ended, completed, dead or
/// canceled, and answers them in the order of their handlers' names. Somebody else must run a
/// scheduler. The event may be raised later than the wait begins.
///
/// It looks again at each of the store's signals, and now and then by itself, so that it also sees
/// what other processes did.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use tidings::{
///     ConcurrentScheduler, ConfigMap, Context, Event, Handler, HandlerResult, MemoryStore,
///     RequestState, Scheduler, store::{Storer, StorerExt}, testkit::wait_for_event,
/// };
///
/// async fn greet(_: Arc<Event>, _: Context) -> HandlerResult {
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = MemoryStore::new();
/// let store: Arc<dyn Storer> = Arc::new(memory.clone());
/// let config = ConfigMap::builder().handler(Handler::new("greet", greet).on("guest.came")).build()?;
/// let scheduler = ConcurrentScheduler::builder(Arc::clone(&store), config).build()?;
/// scheduler.start().await?;
///
/// let came = Event::new("guest.came", &"Ada")?;
/// let id = came.id;
/// let raiser = memory.raiser();
/// store.transaction(|tx| Box::pin(async move { raiser.raise(tx, came).await })).await?;
///
/// let requests = wait_for_event(&*store, id, Duration::from_secs(5)).await?;
/// assert!(requests[0].completed_at.is_some());
/// # scheduler.shutdown(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
///
/// Cancellation safe.
///
/// # Errors
/// [`WaitError`] says what was not reached in time, and why.
pub async fn wait_for_event<S: Storer + ?Sized>(
    store: &S,
    event: EventId,
    timeout: Duration,
) -> Result<Vec<HandlerRequest>, WaitError> {
    let mut last = None;
    let waiting = async {
        let signals = store.signals();
        loop {
            let watch = Watch::begin(&signals);
            match look(store, event).await {
                Ok(Some((stored, requests))) => {
                    if stored.processed_at.is_some()
                        && !requests.iter().any(HandlerRequest::is_open)
                    {
                        return Ok(requests);
                    }
                    last = Some((stored, requests));
                }
                Ok(None) => {}
                // A store that is away may come back in time.
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "waiting for an event: the store cannot be read now");
                }
                Err(error) => return Err(WaitError::Store(error)),
            }
            watch.changed().await;
        }
    };
    match tokio::time::timeout(timeout, waiting).await {
        Ok(result) => result,
        Err(_) => Err(match last {
            None => WaitError::NotRaised { event, timeout },
            Some((stored, requests)) => WaitError::Unfinished {
                timeout,
                unfinished: unfinished(stored, requests),
            },
        }),
    }
}

async fn look<S: Storer + ?Sized>(
    store: &S,
    event: EventId,
) -> Result<Option<(StoredEvent, Vec<HandlerRequest>)>> {
    let mut session = store.session().await?;
    let Some(stored) = session.events().find(event).await? else {
        return Ok(None);
    };
    let requests = session.handler_requests().of_event(event).await?;
    Ok(Some((stored, requests)))
}

fn unfinished(stored: StoredEvent, requests: Vec<HandlerRequest>) -> Unfinished {
    Unfinished {
        events: if stored.processed_at.is_none() {
            vec![stored]
        } else {
            Vec::new()
        },
        requests: requests
            .into_iter()
            .filter(HandlerRequest::is_open)
            .collect(),
        unlisted: 0,
    }
}

/// Why a wait for an event ended without what was waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There is no such event in the store.
    #[error(
        "event {event} was not in the store within {timeout:?}; was its transaction committed?"
    )]
    NotRaised {
        /// The event.
        event: EventId,
        /// How long was waited.
        timeout: Duration,
    },
    /// It was not processed, or not all of its requests have ended.
    #[error("the handlers did not end within {timeout:?}; does a scheduler run?{unfinished}")]
    Unfinished {
        /// How long was waited.
        timeout: Duration,
        /// What was left.
        unfinished: Unfinished,
    },
    /// The store failed for good.
    #[error("the store cannot be read")]
    Store(#[source] StoreError),
}
