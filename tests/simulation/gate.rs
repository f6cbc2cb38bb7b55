//! What lets a process freeze or crash: all its tasks are polled through a gate.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Runs,
    /// No task goes on, and all do when it runs again; time goes on meanwhile.
    Frozen,
    /// All tasks are dropped, at once.
    Crashed,
}

/// The gate of one process. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    /// Of all tasks that live, in the order in which they began.
    wakers: BTreeMap<u64, Waker>,
    tasks: u64,
}

impl Gate {
    pub(crate) fn mode(&self) -> Mode {
        self.0.lock().mode
    }

    /// Changes the mode; nothing leads out of a crash.
    pub(crate) fn set(&self, mode: Mode) {
        let wakers: Vec<_> = {
            let mut state = self.0.lock();
            if state.mode == Mode::Crashed {
                return;
            }
            state.mode = mode;
            state.wakers.values().cloned().collect()
        };
        if mode != Mode::Frozen {
            for waker in wakers {
                waker.wake();
            }
        }
    }

    pub(crate) fn wrap(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(Gated {
            gate: self.clone(),
            task: Some(task),
            number: None,
        })
    }
}

struct Gated {
    gate: Gate,
    task: Option<BoxFuture<'static, ()>>,
    number: Option<u64>,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.number.is_none() {
            let mut state = self.gate.0.lock();
            state.tasks += 1;
            let number = state.tasks;
            // A task is always woken by the same waker.
            state.wakers.insert(number, cx.waker().clone());
            drop(state);
            self.number = Some(number);
        }
        let polled = match (self.gate.mode(), &mut self.task) {
            (Mode::Runs, Some(task)) => task.as_mut().poll(cx),
            (Mode::Frozen, Some(_)) => return Poll::Pending,
            (Mode::Crashed, _) | (_, None) => Poll::Ready(()),
        };
        if polled.is_ready() || self.gate.mode() == Mode::Crashed {
            // A task may have ended its own process.
            self.task = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.gate.0.lock().wakers.remove(&number);
        }
    }
}
