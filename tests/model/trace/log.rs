//! Where calls are written down, in the order in which they begin.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tidings::{Result, StoreError};

use super::call::{Answer, Asked, Call, Fate};
use crate::machine::row::Now;

/// A log; clones write into the same one.
#[derive(Clone)]
pub(crate) struct Log {
    inner: Arc<Mutex<Inner>>,
    /// The store's time in microseconds.
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    sequence: u64,
    transactions: u32,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    pub(crate) fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            inner: Arc::default(),
            clock: Arc::new(clock),
        }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.with(|inner| inner.calls.clone())
    }

    pub(super) fn read(&self, read: impl FnOnce(&[Call])) {
        self.with(|inner| read(&inner.calls));
    }

    /// The number of a transaction that begins.
    pub(super) fn transaction(&self) -> u32 {
        self.with(|inner| {
            inner.transactions += 1;
            inner.transactions
        })
    }

    /// Makes a call and writes it down. One whose future is dropped has an unknown fate.
    pub(super) async fn call<T>(
        &self,
        (process, transaction): (usize, Option<u32>),
        asked: Asked,
        call: impl Future<Output = Result<T>>,
        answered: impl FnOnce(&T) -> Answer,
    ) -> Result<T> {
        let now = (self.clock)();
        let index = self.with(|inner| {
            inner.sequence += 1;
            inner.calls.push(Call {
                process,
                transaction,
                asked,
                fate: Fate::Unknown,
                begin: inner.sequence,
                end: None,
                now: Now {
                    earliest: now,
                    latest: u64::MAX,
                },
            });
            inner.calls.len() - 1
        });
        let answer = call.await;
        let latest = (self.clock)();
        let fate = match &answer {
            Ok(value) => Fate::Answered(answered(value)),
            Err(StoreError::Refused { state, .. }) => {
                Fate::Answered(Answer::Refused(state.clone()))
            }
            Err(error) if error.is_uncertain() => Fate::Unknown,
            Err(_) => Fate::Failed,
        };
        self.with(|inner| {
            inner.sequence += 1;
            let call = &mut inner.calls[index];
            call.fate = fate;
            call.end = Some(inner.sequence);
            call.now.latest = latest;
        });
        answer
    }

    fn with<T>(&self, with: impl FnOnce(&mut Inner) -> T) -> T {
        with(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
