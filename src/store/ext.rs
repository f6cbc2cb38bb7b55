//! Comfort over the store port.

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::{
    Prune, Pruned, Renamed, Replay, Replayed, Session, Storer, Transaction, batches::Batches,
};
use crate::{
    error::{Result, StoreError},
    model::Registration,
    text::Name,
};

/// How many requests one transaction takes along after a rename. Each of them is locked until it
/// ends, and other renames wait: with so many that is a small part of every time limit, and a hundred
/// thousand take some hundred transactions.
pub(crate) const RENAME_BATCH: usize = 500;

/// Comfort for every [`Storer`], also behind `Arc<dyn Storer>`.
#[async_trait]
pub trait StorerExt: Storer {
    /// Runs `work` in a transaction: commits on `Ok`, rolls back on `Err`. The closure gets a
    /// session, so it cannot commit.
    ///
    /// Dropping the future rolls back, except while the commit is under way. Cost on SQL: two
    /// round trips beside those of `work`.
    ///
    /// # Errors
    /// What `work` gives, and what begin and commit give.
    async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send,
        E: From<StoreError> + Send,
        F: for<'s> FnOnce(&'s mut dyn Session) -> BoxFuture<'s, Result<T, E>> + Send,
    {
        let mut transaction: Box<dyn Transaction> = self.begin().await?;
        match work(&mut *transaction).await {
            Ok(value) => {
                transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                if let Err(rollback) = transaction.rollback().await {
                    tracing::debug!(error = %rollback, "rollback failed; the database undoes the transaction");
                }
                Err(error)
            }
        }
    }

    /// Replays everything that matches: [`replay`](super::HandlerRequestRepository::replay) again and
    /// again, each batch of [`limit`](Replay::limit) events a transaction and a session of its own,
    /// with other tasks let run in between. The answer adds up all batches; its `next` is `None`.
    ///
    /// It can be repeated at any time, and nothing is lost or double in the store: a second replay
    /// makes no second request, and leaves alone those that have not ended. But it reexecutes
    /// **again** what has ended meanwhile. After an error, go on from
    /// [`after`](StoreError::Stopped::after) instead: then this holds for the one batch at most that
    /// was under way.
    ///
    /// Dropping the future stops after, or in, a batch, and nobody knows where. Cost on SQL: as
    /// many transactions as there are batches. A batch that conflicts with other transactions is
    /// made again, ten times at most.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the first batch is refused: nothing was changed. Otherwise
    /// [`StoreError::Stopped`], which says how far it came, and why it did not go on.
    ///
    /// ```
    /// use tidings::{
    ///     EventId, MemoryStore, StoreError,
    ///     store::{EventFilter, Replay, Storer, StorerExt},
    /// };
    ///
    /// async fn replay_orders(store: &dyn Storer, after: Option<EventId>) -> Result<(), StoreError> {
    ///     let mut replay = Replay::new(EventFilter::default().named(["order.placed"]), 500);
    ///     replay.after = after;
    ///     match store.replay_all(replay).await {
    ///         Ok(replayed) => println!("{} ready", replayed.created + replayed.reexecuted),
    ///         Err(StoreError::Stopped { after, .. }) => println!("go on after {after:?}"),
    ///         Err(error) => return Err(error),
    ///     }
    ///     Ok(())
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), StoreError> {
    /// # replay_orders(&MemoryStore::new(), None).await
    /// # }
    /// ```
    async fn replay_all(&self, mut replay: Replay) -> Result<Replayed> {
        let mut batches = Batches::new(replay.after);
        loop {
            let batch = async {
                let mut session = self.session().await?;
                session.handler_requests().replay(&replay).await
            };
            if let Some(end) = batches.note(batch.await) {
                return end;
            }
            replay.after = batches.after;
            tokio::task::yield_now().await;
        }
    }

    /// Deletes everything that a [prune](super::EventRepository::prune) may delete, batch by batch,
    /// each of [`limit`](Prune::limit) events and in a session of its own, with other tasks let run
    /// in between. The answer adds up all batches.
    ///
    /// It can be repeated at any time. A scheduler does this by itself, see
    /// [`SchedulerBuilder::retention`](crate::SchedulerBuilder::retention).
    ///
    /// # Errors
    /// As [`replay_all`](Self::replay_all).
    async fn prune_all(&self, mut prune: Prune) -> Result<Pruned> {
        let mut batches = Batches::new(prune.after);
        loop {
            let batch = async {
                let mut session = self.session().await?;
                session.events().prune(&prune).await
            };
            if let Some(end) = batches.note(batch.await) {
                return end;
            }
            prune.after = batches.after;
            tokio::task::yield_now().await;
        }
    }

    /// Gives a handler another name, and takes its open and dead requests along: first the
    /// [registrations](super::RegistrationRepository::rename) in a transaction of their own, then
    /// [all requests](Self::rename_all_requests). Those that go by the new name from an earlier
    /// rename of that one are taken along before.
    ///
    /// It can be repeated at any time, and goes on where one before was broken off. A scheduler does
    /// this for what its [`ConfigMap`](crate::ConfigMap) renames.
    ///
    /// An old name that nobody has registered is no error, since it is what a broken off or repeated
    /// rename may meet: [`Renamed::registrations`] is 0 then, which tells a typo. If the new name is
    /// an active handler's, it takes the patterns of the old one beside its own, and keeps its terms
    /// for those that both have: the two are one from then on, and renaming back does not part them.
    ///
    /// # Errors
    /// That of the registrations, [`StoreError::Invalid`] for a bad new name: nothing was changed. A [conflict](StoreError::is_conflict) while
    /// somebody has requests locked that go by the new name from an earlier rename. Otherwise as
    /// [`rename_all_requests`](Self::rename_all_requests).
    async fn rename(&self, from: &Name, to: &Name) -> Result<Renamed> {
        if self.rename_all_requests(to).await?.skipped > 0 {
            return Err(StoreError::Conflict {
                operation: "rename a handler",
                source: None,
            });
        }
        let mut session = self.session().await?;
        session.registrations().rename(from, to).await?;
        let all = session.registrations().all().await?;
        // Its connection may be the last one.
        drop(session);
        let mut renamed = self.rename_all_requests(from).await?;
        renamed.registrations = registrations_that_go_by(&all, from, to);
        Ok(renamed)
    }

    /// Takes along whatever goes by a name of before a rename, batch by batch, each a
    /// [transaction](super::RegistrationRepository::rename_requests) and a session of its own, with
    /// other tasks let run in between. The answer adds up all batches. What somebody else has locked is
    /// not waited for, but left to another call, and [counted](Renamed::skipped).
    ///
    /// It can be repeated at any time, and goes on where one before was broken off. Every scheduler
    /// does this for all handlers that were renamed, when it starts and now and then.
    ///
    /// # Errors
    /// [`StoreError::Stopped`], which says how far it came, and why it did not go on.
    async fn rename_all_requests(&self, from: &Name) -> Result<Renamed> {
        let mut batches = Batches::new(None);
        loop {
            let batch = async {
                let mut session = self.session().await?;
                let mut registrations = session.registrations();
                registrations.rename_requests(from, RENAME_BATCH).await
            };
            if let Some(end) = batches.note(batch.await) {
                return end;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl<S: Storer + ?Sized> StorerExt for S {}

/// How many registrations of an old name go by the new one.
fn registrations_that_go_by(all: &[Registration], from: &Name, to: &Name) -> u64 {
    let today = Registration::name_today(all, from);
    if today.as_ref().unwrap_or(from) != to {
        return 0;
    }
    all.iter().filter(|one| one.handler == *from).count() as u64
}
