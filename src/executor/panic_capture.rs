//! Panics of handlers: caught, with their message, place and backtrace.

use std::{
    any::Any,
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    future::Future,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
};

/// What a panic left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Panicked {
    /// The message, and where it came from if that is known.
    pub(super) message: String,
    pub(super) backtrace: Option<String>,
}

thread_local! {
    /// Whether this thread is inside an execution of ours.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// What the hook has recorded since the execution was entered.
    static RECORDED: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Installs the panic hook that records panics inside executions, once per process. It calls the
/// hook that was there before, for every panic.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                record(info);
            }
            previous(info);
        }));
    });
}

fn record(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::force_capture().to_string();
    RECORDED.with(|recorded| {
        if let Ok(mut recorded) = recorded.try_borrow_mut() {
            *recorded = Some((place, backtrace));
        }
    });
}

/// Calls a function of the user's, and catches its panic.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = INSIDE.replace(true);
    if !before {
        // A panic that the user's code caught itself is no longer of interest.
        drop(take_recorded());
    }
    let result = catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(before);
    result.map_err(|payload| describe(&*payload, take_recorded()))
}

fn take_recorded() -> Option<(String, String)> {
    RECORDED.with(|recorded| recorded.try_borrow_mut().ok().and_then(|mut it| it.take()))
}

fn describe(payload: &(dyn Any + Send), recorded: Option<(String, String)>) -> Panicked {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    match recorded {
        Some((place, backtrace)) => Panicked {
            message: format!("panicked at {place}: {text}"),
            backtrace: Some(backtrace),
        },
        None => Panicked {
            message: format!("panicked: {text}"),
            backtrace: None,
        },
    }
}

/// A future whose panics, in any poll and when it is dropped, become an error.
///
/// After a panic the future is not polled again, so what it left half-done is never seen; that is
/// why asserting unwind safety is sound.
pub(super) struct CatchPanic<F>(Option<F>);

impl<F: Future + Unpin> CatchPanic<F> {
    pub(super) const fn new(future: F) -> Self {
        Self(Some(future))
    }
}

impl<F: Future + Unpin> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.0.as_mut() else {
            return Poll::Pending;
        };
        match caught(|| Pin::new(future).poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

impl<F> Drop for CatchPanic<F> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take()
            && let Err(panicked) = caught(|| drop(future))
        {
            tracing::error!(
                message = panicked.message,
                "a handler's future panicked while it was dropped"
            );
        }
    }
}
