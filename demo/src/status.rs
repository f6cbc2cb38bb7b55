//! How much is waiting, done and dead, as the store has it.

use std::{fmt, time::Duration};

use tidings::{
    RequestState, Result,
    store::{RequestFilter, Session, Storer},
};

/// The counts of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Events that have not been fanned out.
    pub(crate) unprocessed: u64,
    /// Handler requests that have not ended.
    pub(crate) unexecuted: u64,
    /// Those of them that wait for their next execution.
    pub(crate) backing_off: u64,
    /// Handler requests that were completed.
    pub(crate) completed: u64,
    /// Handler requests that ended without success.
    pub(crate) dead: u64,
}

impl Status {
    /// Asks the store.
    pub(crate) async fn read(store: &dyn Storer) -> Result<Self> {
        let mut session = store.session().await?;
        // Events before requests: what leaves the first count has its requests by then.
        let unprocessed = session.events().count_unprocessed().await?;
        let unexecuted = session.handler_requests().count_unexecuted().await?;
        let dead = session.handler_requests().count_dead().await?;
        let backing_off = count_in(&mut *session, RequestState::BackingOff).await?;
        let completed = count_in(&mut *session, RequestState::Completed).await?;
        Ok(Self {
            unprocessed,
            unexecuted,
            backing_off,
            completed,
            dead,
        })
    }
}

/// Looks at the store that cost more as it grows are made at most this part of the time: after one
/// there is a pause that is so many times as long as it was.
const LOOK_SHARE: u32 = 10;

/// The pause after a look that took so long, if it is to be no shorter than `least`.
pub(crate) fn pause(took: Duration, least: Duration) -> Duration {
    least.max(took * LOOK_SHARE)
}

/// How much is left: events that are not fanned out, and requests that have not ended.
pub(crate) async fn count_open(store: &dyn Storer) -> Result<u64> {
    let mut session = store.session().await?;
    // Events before requests, as above.
    let unprocessed = session.events().count_unprocessed().await?;
    Ok(unprocessed + session.handler_requests().count_unexecuted().await?)
}

/// How many requests are in a state.
pub(crate) async fn count_in(session: &mut dyn Session, state: RequestState) -> Result<u64> {
    let filter = RequestFilter::default().in_states([state]);
    session.handler_requests().count(&filter).await
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unprocessed,
            unexecuted,
            backing_off,
            completed,
            dead,
        } = self;
        write!(f, "{unprocessed} unprocessed · {unexecuted} unexecuted")?;
        if *backing_off > 0 {
            write!(f, " ({backing_off} backing off)")?;
        }
        write!(f, " · {completed} completed · {dead} dead")
    }
}
