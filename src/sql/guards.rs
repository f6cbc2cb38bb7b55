//! What keeps a connection of SQLite in hand while something else runs on it. There is no server that
//! would: the statement runs in this process, on a thread that waits for its end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The guards of one connection, for as long as it is out of its pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Guards {
    gave_up: Arc<AtomicBool>,
    may_commit: Arc<AtomicBool>,
    /// Whether commits are refused, as they are on connections of the store's own pools only.
    refuses: Arc<AtomicBool>,
}

impl Guards {
    /// Breaks off the statement that runs, and every long one after it: nobody waits for an answer,
    /// and the connection is closed.
    pub(super) fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    /// Whether commits that the store has not asked for are refused.
    pub(super) fn refuses_commits(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    /// Lets the transaction be committed. Until then whatever tries is rolled back instead.
    pub(super) fn allow_commit(&self) {
        self.may_commit.store(true, Ordering::Relaxed);
    }
}

#[cfg(feature = "_sqlite")]
impl Guards {
    /// Lets what runs on the connection be broken off.
    pub(super) fn watch(&self, connection: &mut sqlx::sqlite::LockedSqliteHandle<'_>) {
        // Some ten microseconds of SQLite's work, by its documentation of virtual machine codes.
        const STEPS: i32 = 10_000;
        let gave_up = Arc::clone(&self.gave_up);
        connection.set_progress_handler(STEPS, move || !gave_up.load(Ordering::Relaxed));
    }

    /// Refuses commits that the store has not asked for: once SQLite has ended the transaction by
    /// itself, each statement of a handler that does not know of it would be committed alone.
    pub(super) fn refuse_commits(&self, connection: &mut sqlx::sqlite::LockedSqliteHandle<'_>) {
        self.refuses.store(true, Ordering::Relaxed);
        let may_commit = Arc::clone(&self.may_commit);
        connection.set_commit_hook(move || may_commit.load(Ordering::Relaxed));
    }
}
