//! What is done in many batches, each a transaction of its own: where it is, what it has done, and
//! how it ends.

use super::{Pruned, Renamed, Replayed};
use crate::{
    error::{Result, StoreError},
    id::EventId,
};

/// How often a batch that lost against another transaction is made again before the whole stops: a
/// conflict is over as soon as the other transaction is, so more of them have another cause.
const MAX_CONFLICTS: u32 = 10;

/// What one batch did, or all of them.
pub(super) trait Batch: Default {
    const OPERATION: &'static str;

    /// Adds what another batch did.
    fn add(&mut self, other: &Self);
    /// After which event the next batch begins.
    fn next(&self) -> Option<EventId>;
    /// Whether there is no next batch.
    fn is_last(&self) -> bool {
        self.next().is_none()
    }
    /// What was done, in numbers.
    fn done(&self) -> String;
}

pub(super) struct Batches<B> {
    total: B,
    /// Everything up to this event is done.
    pub(super) after: Option<EventId>,
    /// Whether a batch has been done.
    has_begun: bool,
    /// How often the batch that is under way has lost.
    conflicts: u32,
}

impl<B: Batch> Batches<B> {
    pub(super) fn new(after: Option<EventId>) -> Self {
        Self {
            total: B::default(),
            after,
            has_begun: false,
            conflicts: 0,
        }
    }

    /// Takes the answer of a batch; `Some` is the answer of the whole, which has ended with it.
    pub(super) fn note(&mut self, answer: Result<B>) -> Option<Result<B>> {
        match answer {
            Ok(batch) => {
                self.total.add(&batch);
                if batch.is_last() {
                    return Some(Ok(std::mem::take(&mut self.total)));
                }
                (self.after, self.has_begun, self.conflicts) = (batch.next(), true, 0);
                None
            }
            Err(error) if error.is_conflict() && self.conflicts < MAX_CONFLICTS => {
                self.conflicts += 1;
                None
            }
            Err(error @ StoreError::Invalid { .. }) if !self.has_begun => Some(Err(error)),
            Err(cause) => Some(Err(StoreError::Stopped {
                operation: B::OPERATION,
                done: self.total.done(),
                after: self.after,
                cause: Box::new(cause),
            })),
        }
    }
}

impl Batch for Replayed {
    const OPERATION: &'static str = "the replay";

    fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.reexecuted += other.reexecuted;
        self.open += other.open;
    }

    fn next(&self) -> Option<EventId> {
        self.next
    }

    fn done(&self) -> String {
        format!(
            "{} requests made, {} reexecuted and {} left open",
            self.created, self.reexecuted, self.open
        )
    }
}

impl Batch for Pruned {
    const OPERATION: &'static str = "the prune";

    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.requests += other.requests;
    }

    fn next(&self) -> Option<EventId> {
        self.next
    }

    fn done(&self) -> String {
        format!(
            "{} events and {} requests deleted",
            self.events, self.requests
        )
    }
}

/// It is told by the requests themselves where to go on: those that are done have another name.
impl Batch for Renamed {
    const OPERATION: &'static str = "the rename of requests";

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.superseded += other.superseded;
        // Each batch finds the same ones.
        self.skipped = other.skipped;
    }

    fn next(&self) -> Option<EventId> {
        None
    }

    fn is_last(&self) -> bool {
        !self.more
    }

    fn done(&self) -> String {
        format!(
            "{} requests renamed and {} canceled",
            self.requests, self.superseded
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict() -> Result<Replayed> {
        Err(StoreError::Conflict {
            operation: "replay",
            source: None,
        })
    }

    fn replayed(created: u64, next: Option<EventId>) -> Result<Replayed> {
        Ok(Replayed {
            created,
            next,
            ..Replayed::default()
        })
    }

    #[test]
    fn batches_add_up_and_the_last_one_ends_them() {
        let mut batches = Batches::new(None);
        let id = EventId::new();
        assert!(batches.note(replayed(2, Some(id))).is_none());
        assert_eq!(batches.after, Some(id));
        let total = batches.note(replayed(3, None)).unwrap().unwrap();
        assert_eq!((total.created, total.next), (5, None));
    }

    #[test]
    fn an_error_tells_where_to_go_on_and_what_was_done() {
        let mut batches = Batches::new(None);
        let id = EventId::new();
        assert!(batches.note(replayed(2, Some(id))).is_none());
        let cause = StoreError::invalid("handler", "is retired", "start it");
        let error = batches.note(Err(cause)).unwrap().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("2 requests made"), "{text}");
        assert!(text.contains(&id.to_string()), "{text}");
        assert!(matches!(error, StoreError::Stopped { after, .. } if after == Some(id)));
    }

    #[test]
    fn what_was_refused_before_anything_changed_did_not_stop_in_between() {
        let mut batches = Batches::<Pruned>::new(Some(EventId::new()));
        let refused = StoreError::invalid("a prune", "has no limit", "set one");
        let error = batches.note(Err(refused)).unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    }

    #[test]
    fn a_batch_that_lost_is_made_again_but_not_for_ever() {
        let mut batches = Batches::new(None);
        for _ in 0..MAX_CONFLICTS {
            assert!(batches.note(conflict()).is_none());
        }
        assert!(batches.note(replayed(0, Some(EventId::new()))).is_none());
        for _ in 0..MAX_CONFLICTS {
            assert!(batches.note(conflict()).is_none(), "each batch counts anew");
        }
        let error = batches.note(conflict()).unwrap().unwrap_err();
        assert!(error.is_transient() && !error.is_conflict(), "{error:?}");
    }
}
